// The safetensors container, strictly.
#ifndef DSV32_LIB_WEIGHTS_SAFETENSORS_H_
#define DSV32_LIB_WEIGHTS_SAFETENSORS_H_

#include <cstddef>
#include <span>
#include <string_view>
#include <vector>

#include "dsv32/checkpoint.h"

namespace dsv32 {

inline constexpr std::size_t kMaxHeaderBytes = 100'000'000;
inline constexpr std::size_t kMaxTensorName = 4096;
inline constexpr std::size_t kMaxTensorRank = 8;

// How many of a file's first bytes parse_safetensors() reads, as the first 8 say.
std::size_t header_end(std::span<const std::byte> file);

// The tensors of a file whose bytes are `file`, in the order of the header; `data` points into
// `file`, `TensorInfo::file` is left empty. The rules are those of the safetensors README, with no
// leniency: ranges tile the data exactly, no duplicate or unknown key, integers only. A tensor with
// a dimension of 0 is empty, whatever the others are. Throws bad_format, or limit for a header,
// name or rank over its cap; `what` names the file in messages.
std::vector<TensorInfo> parse_safetensors(std::span<const std::byte> file, std::string_view what);

// Bits of one element of a safetensors dtype ("F8_E4M3": 8); 0 for an unknown one.
int dtype_bits(std::string_view dtype);

}  // namespace dsv32

#endif  // DSV32_LIB_WEIGHTS_SAFETENSORS_H_
