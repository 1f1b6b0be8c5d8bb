// What a Checkpoint handle points to.
#ifndef DSV32_LIB_WEIGHTS_CHECKPOINT_IMPL_H_
#define DSV32_LIB_WEIGHTS_CHECKPOINT_IMPL_H_

#include <filesystem>
#include <string>
#include <string_view>
#include <vector>

#include "dsv32/checkpoint.h"

#include "lib/base/hash.h"
#include "lib/weights/shards.h"

namespace dsv32 {

// A folder's config and tensors.
struct CheckpointFiles {
  CheckpointFiles(const std::filesystem::path& dir, FileAccess access,
                  const BackendOptions& threads);

  Folder folder;
  std::vector<std::string> remarks;  // as Checkpoint::remarks()
  ModelConfig config;                // without the MTP layer if the files lack it
  Shards shards;
};

// What a logit depends on: the values of config.json and, as Checkpoint::fingerprint() says, the
// weights. How config.json is written is no matter, nor is a tokenizer.
void add_model(Hash& hash, const CheckpointFiles& files, Verify verify);

class Checkpoint::Impl : public CheckpointFiles {
 public:
  static constexpr std::string_view kOwner = "Checkpoint";
  using CheckpointFiles::CheckpointFiles;
};

}  // namespace dsv32

#endif  // DSV32_LIB_WEIGHTS_CHECKPOINT_IMPL_H_
