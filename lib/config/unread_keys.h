// Keys of config.json that nobody reads: which of them are worth a word, and which are refused.
#ifndef DSV32_LIB_CONFIG_UNREAD_KEYS_H_
#define DSV32_LIB_CONFIG_UNREAD_KEYS_H_

#include <span>
#include <string>
#include <string_view>
#include <vector>

#include "dsv32/config.h"

#include "lib/config/fields.h"

namespace dsv32 {

// What may stand in the file's own object or a block of it and means nothing to a forward pass
// (docs/formats.md has the list).
std::span<const std::string_view> silent_keys();
std::span<const std::string_view> silent_quantization_keys();

// Throws unsupported for a key of another architecture whose value is not the neutral one.
void refuse_other_architectures(const Fields& root);

// Reads keys that repeat what others say, so that only those which contradict stay unread.
void read_derived_keys(const Fields& root, const ModelConfig& config);

// Names of unread members but those in `silent`, neutral ones, and names that begin with an
// underscore.
std::vector<std::string> unread_keys(const Fields& block, std::span<const std::string_view> silent);

}  // namespace dsv32

#endif  // DSV32_LIB_CONFIG_UNREAD_KEYS_H_
