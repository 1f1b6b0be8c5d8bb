// What a Checkpoint handle points to.
#ifndef DSV32_LIB_WEIGHTS_CHECKPOINT_IMPL_H_
#define DSV32_LIB_WEIGHTS_CHECKPOINT_IMPL_H_

#include <filesystem>
#include <string_view>

#include "dsv32/checkpoint.h"

#include "lib/weights/shards.h"

namespace dsv32 {

// A folder's config and tensors.
struct CheckpointFiles {
  CheckpointFiles(const std::filesystem::path& dir, FileAccess access,
                  const BackendOptions& threads);

  Folder folder;
  ModelConfig config;
  Shards shards;
};

class Checkpoint::Impl : public CheckpointFiles {
 public:
  static constexpr std::string_view kOwner = "Checkpoint";
  using CheckpointFiles::CheckpointFiles;
};

}  // namespace dsv32

#endif  // DSV32_LIB_WEIGHTS_CHECKPOINT_IMPL_H_
