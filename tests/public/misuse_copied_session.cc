// A Session is not copied by accident: fork() says what it costs.
#include "dsv32/session.h"

dsv32::Session twice(const dsv32::Session& session) {
#ifdef MISUSE
  return session;
#else
  return session.fork();
#endif
}
