// A group of processes that run one Model together.
#ifndef DSV32_COMMUNICATOR_H_
#define DSV32_COMMUNICATOR_H_

#include "dsv32/export.h"

namespace dsv32 {

// A cheap, copyable handle. So far there is the group of one: this process alone.
class DSV32_API Communicator {
 public:
  Communicator() = default;

  int rank() const noexcept;
  int size() const noexcept;
};

}  // namespace dsv32

#endif  // DSV32_COMMUNICATOR_H_
