// The logits of a Session that is gone.
#include "dsv32/session.h"

dsv32::Session make();

float first() {
#ifdef MISUSE
  return make().append(1)[0];
#else
  dsv32::Session session = make();
  return session.append(1)[0];
#endif
}
