// A checkpoint's own defaults for generating.
#ifndef DSV32_LIB_MODEL_GENERATION_CONFIG_H_
#define DSV32_LIB_MODEL_GENERATION_CONFIG_H_

#include <string>

#include "dsv32/checkpoint.h"

#include "lib/base/file.h"

namespace dsv32 {

// generation_config.json, or what goes without it. Throws bad_format, naming the key.
GenerationConfig read_generation_config(const Folder& folder, int vocab_size);
// One line about what the file says and nobody applies; empty if there is nothing.
std::string not_applied(const GenerationConfig& config);

}  // namespace dsv32

#endif  // DSV32_LIB_MODEL_GENERATION_CONFIG_H_
