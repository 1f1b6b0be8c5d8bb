// The passes with AVX2's registers.
#include "lib/sampling/logit_row.h"

namespace dsv32::row_avx2 {

#include "lib/sampling/logit_row-inl.h"

extern const LogitPasses passes;
const LogitPasses passes = {block_maxima, block_exp2};

}  // namespace dsv32::row_avx2
