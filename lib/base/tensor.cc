#include "lib/base/tensor.h"

#include "lib/base/check.h"

namespace dsv32 {

void half_a_byte() {
  throw Error(ErrorCode::internal, "a place or size of half a byte in a tensor of 4-bit elements");
}

void throw_outside(std::int64_t first, std::int64_t count, std::int64_t there) {
  throw Error(ErrorCode::internal,
              formatted("{} rows or columns from {} on of {} that there are", count, first, there));
}

}  // namespace dsv32
