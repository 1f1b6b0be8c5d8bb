// Which values of a config a pass can be run with.
#ifndef DSV32_LIB_CONFIG_DOMAIN_H_
#define DSV32_LIB_CONFIG_DOMAIN_H_

#include <string>

#include "dsv32/config.h"

namespace dsv32 {

// Every field that is out of its range, by name; empty if none is.
std::string range_faults(const ModelConfig& config);

}  // namespace dsv32

#endif  // DSV32_LIB_CONFIG_DOMAIN_H_
