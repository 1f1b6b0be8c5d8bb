# The GPU's kernels: each file by itself through nvcc to PTX, which those GPUs take that come later,
# and from there to a cubin for every architecture; all of them are inside the plug-in.
set(DSV32_CUDA_ARCHITECTURES 80 86 89 90 100 120 CACHE STRING
  "Compute capabilities that get code of their own; others compile the PTX of 8.0 when they load it")
find_program(DSV32_NVCC nvcc HINTS ${PROJECT_SOURCE_DIR}/.deps/cuda/bin PATHS /usr/local/cuda/bin)
if(NOT DSV32_NVCC)
  message(FATAL_ERROR "DSV32_CUDA needs nvcc 13.0: ./scripts/cuda-toolkit.sh brings it")
endif()
execute_process(COMMAND ${DSV32_NVCC} --version OUTPUT_VARIABLE nvcc_version)
if(NOT nvcc_version MATCHES "release 13\\.0,")
  message(FATAL_ERROR "${DSV32_NVCC} is not of release 13.0: ./scripts/cuda-toolkit.sh brings it")
endif()
file(REAL_PATH ${DSV32_NVCC} nvcc)
cmake_path(GET nvcc PARENT_PATH folder)
find_path(DSV32_CUDA_INCLUDE cuda.h HINTS ${folder}/../include ${folder}/../targets/x86_64-linux/include
  NO_DEFAULT_PATH REQUIRED)

find_program(DSV32_PTXAS ptxas HINTS ${folder} NO_DEFAULT_PATH REQUIRED)

# Of each file of kernels/cuda/smxx: <folder>/<name>.ptx, and <name>.sm_<arch>.cubin of that very PTX,
# which is what the emulated GPU executes. Sets <result>_files to all of them and <result>_names to
# the names.
function(dsv32_compile_kernels result folder)
  file(GLOB sources CONFIGURE_DEPENDS ${PROJECT_SOURCE_DIR}/kernels/cuda/smxx/*.cu)
  # Products are fused where a kernel says so, and nowhere else: a sum's bits are part of its contract.
  set(flags -std=c++20 -fmad=false --expt-relaxed-constexpr -I${PROJECT_SOURCE_DIR}
    --compiler-bindir ${CMAKE_CXX_COMPILER} -ptx -arch=compute_80)
  set(assembler --warn-on-spills)
  if(DSV32_WARNINGS_AS_ERRORS)
    list(APPEND flags -Werror all-warnings)
    list(APPEND assembler --warning-as-error)
  endif()
  foreach(source IN LISTS sources)
    get_filename_component(name ${source} NAME_WE)
    set(ptx ${folder}/${name}.ptx)
    add_custom_command(OUTPUT ${ptx}
      COMMAND ${DSV32_NVCC} ${flags} -MD -MF ${ptx}.d -o ${ptx} ${source}
      DEPENDS ${source} DEPFILE ${ptx}.d COMMENT "nvcc ${name}.ptx" VERBATIM)
    list(APPEND files ${ptx})
    foreach(arch IN LISTS DSV32_CUDA_ARCHITECTURES)
      set(cubin ${folder}/${name}.sm_${arch}.cubin)
      add_custom_command(OUTPUT ${cubin}
        COMMAND ${DSV32_PTXAS} ${assembler} -arch=sm_${arch} -o ${cubin} ${ptx}
        DEPENDS ${ptx} COMMENT "ptxas ${name}.sm_${arch}.cubin" VERBATIM)
      list(APPEND files ${cubin})
    endforeach()
    list(APPEND names ${name})
  endforeach()
  set(${result}_files ${files} PARENT_SCOPE)
  set(${result}_names ${names} PARENT_SCOPE)
endfunction()

# A source that holds them all: kernel_images().
function(dsv32_write_kernel_images source folder names)
  set(bytes "")
  set(declared "")
  set(rows "")
  foreach(name IN LISTS names)
    foreach(arch 0 ${DSV32_CUDA_ARCHITECTURES})
      set(file ${name}.sm_${arch}.cubin)
      if(arch EQUAL 0)
        set(file ${name}.ptx)
      endif()
      set(symbol dsv32_image_${name}_${arch})
      string(APPEND bytes ".balign 64\\n${symbol}: .incbin \\\"${folder}/${file}\\\"\\n.byte 0\\n\"\n    \"")
      string(APPEND declared "extern const std::byte ${symbol}[];\n")
      string(APPEND rows "      {\"${name}\", ${arch}, ${symbol}},\n")
    endforeach()
  endforeach()
  file(CONFIGURE OUTPUT ${source} @ONLY CONTENT [[
// Written by cmake/cuda.cmake.
#include "lib/backend/cuda/kernel_images.h"

asm(".pushsection .rodata\n"
    "@bytes@.popsection\n");

extern "C" {
#pragma GCC visibility push(hidden)
@declared@#pragma GCC visibility pop
}

namespace dsv32::cuda {

std::span<const KernelImage> kernel_images() {
  static constexpr KernelImage kImages[] = {
@rows@  };
  return kImages;
}

}  // namespace dsv32::cuda
]])
endfunction()
