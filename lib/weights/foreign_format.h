// Checkpoints of this model in formats that are not read.
#ifndef DSV32_LIB_WEIGHTS_FOREIGN_FORMAT_H_
#define DSV32_LIB_WEIGHTS_FOREIGN_FORMAT_H_

#include <optional>
#include <span>

#include "dsv32/checkpoint.h"

namespace dsv32 {

// Names the format that the tensors are in, by the names and types that such files have and ours
// have not. For tensors with which something is wrong: what it looks for would cost a load time.
// `own_scales`: of INT8 and INT4 copies, which have a weight_scale, too.
std::optional<Problem> foreign_format(std::span<const TensorInfo> tensors, bool own_scales);

}  // namespace dsv32

#endif  // DSV32_LIB_WEIGHTS_FOREIGN_FORMAT_H_
