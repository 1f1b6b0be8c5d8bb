#include "lib/sampling/logit_row.h"

namespace dsv32 {

namespace row_generic {
extern const LogitPasses passes;
}
namespace row_avx2 {
extern const LogitPasses passes;
}

const LogitPasses& logit_passes() {
#if defined(__x86_64__)
  if (__builtin_cpu_supports("avx2")) return row_avx2::passes;
#endif
  return row_generic::passes;
}

}  // namespace dsv32
