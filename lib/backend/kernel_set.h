// Which kernel set runs.
#ifndef DSV32_LIB_BACKEND_KERNEL_SET_H_
#define DSV32_LIB_BACKEND_KERNEL_SET_H_

#include <string>

#include "kernels/cpu/table.h"

namespace dsv32 {

// The set of that name, or the best one for an empty name, on a processor that has `have`. Throws
// unsupported if there is none, or if it needs more: then the message says what.
const kernels::CpuKernels& choose_kernels(const std::string& name, kernels::CpuFeatures have);

}  // namespace dsv32

#endif  // DSV32_LIB_BACKEND_KERNEL_SET_H_
