// What a Checkpoint handle points to.
#ifndef DSV32_LIB_WEIGHTS_CHECKPOINT_IMPL_H_
#define DSV32_LIB_WEIGHTS_CHECKPOINT_IMPL_H_

#include <filesystem>

#include "dsv32/checkpoint.h"

#include "lib/weights/shards.h"

namespace dsv32 {

class Checkpoint::Impl {
 public:
  Impl(const std::filesystem::path& dir, FileAccess access);

  Folder folder;
  ModelConfig config;
  Shards shards;
};

}  // namespace dsv32

#endif  // DSV32_LIB_WEIGHTS_CHECKPOINT_IMPL_H_
