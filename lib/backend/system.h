// What this machine is.
#ifndef DSV32_LIB_BACKEND_SYSTEM_H_
#define DSV32_LIB_BACKEND_SYSTEM_H_

#include <cstddef>

#include "dsv32/backend.h"

namespace dsv32 {

// Memory that this process could still take: MemAvailable, and what its cgroup leaves; the smaller.
std::size_t available_memory();

BackendInfo cpu_info();

}  // namespace dsv32

#endif  // DSV32_LIB_BACKEND_SYSTEM_H_
