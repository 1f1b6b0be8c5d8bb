# Compiler flags that every target of ours shares; a consumer never sees them.
add_library(dsv32_flags INTERFACE)
target_compile_features(dsv32_flags INTERFACE cxx_std_20)
target_compile_options(dsv32_flags INTERFACE -Wall -Wextra -Wpedantic -Wshadow -Wconversion)
if(DSV32_WARNINGS_AS_ERRORS)
  target_compile_options(dsv32_flags INTERFACE -Werror)
endif()
if(DSV32_SANITIZE)
  target_compile_options(dsv32_flags INTERFACE
    -fsanitize=${DSV32_SANITIZE} -fno-sanitize-recover=all -fno-omit-frame-pointer
    # GCC 12 sees uninitialised members through its own instrumentation.
    $<$<CXX_COMPILER_ID:GNU>:-Wno-maybe-uninitialized>)
  target_link_options(dsv32_flags INTERFACE -fsanitize=${DSV32_SANITIZE})
endif()
