// The passes for any machine.
#include "lib/sampling/logit_row.h"

namespace dsv32::row_generic {

#include "lib/sampling/logit_row-inl.h"

extern const LogitPasses passes;
const LogitPasses passes = {block_maxima, block_exp2};

}  // namespace dsv32::row_generic
