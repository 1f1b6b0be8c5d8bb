// The tokens of a Session that is gone.
#include "dsv32/session.h"

dsv32::Session make();

std::size_t count() {
#ifdef MISUSE
  return make().tokens().size();
#else
  const dsv32::Session session = make();
  return session.tokens().size();
#endif
}
