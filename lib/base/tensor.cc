#include "lib/base/tensor.h"

#include "lib/base/check.h"

namespace dsv32 {

void half_a_byte() {
  throw Error(ErrorCode::internal, "a place or size of half a byte in a tensor of 4-bit elements");
}

}  // namespace dsv32
