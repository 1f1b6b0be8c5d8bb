// A Model comes from load(), with weights behind it.
#include "dsv32/model.h"

dsv32::Model make() {
#ifdef MISUSE
  return dsv32::Model(nullptr);
#else
  return dsv32::Model::load("model");
#endif
}
