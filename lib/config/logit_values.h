// The values of a config that a logit depends on, as text: for telling checkpoints apart.
#ifndef DSV32_LIB_CONFIG_LOGIT_VALUES_H_
#define DSV32_LIB_CONFIG_LOGIT_VALUES_H_

#include <string>

#include "dsv32/config.h"

namespace dsv32 {

// "key=value" a line. Equal for configs that differ only in what no logit sees: how config.json is
// written, the longest context, the ids that begin and end a text, YaRN's numbers without YaRN.
std::string logit_values(const ModelConfig& config);

}  // namespace dsv32

#endif  // DSV32_LIB_CONFIG_LOGIT_VALUES_H_
