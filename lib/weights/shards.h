// All safetensors files of a checkpoint as one list of tensors.
#ifndef DSV32_LIB_WEIGHTS_SHARDS_H_
#define DSV32_LIB_WEIGHTS_SHARDS_H_

#include <filesystem>
#include <string>
#include <string_view>
#include <vector>

#include "dsv32/backend.h"
#include "dsv32/checkpoint.h"

#include "lib/base/file.h"

namespace dsv32 {

struct Shards {
  std::vector<File> files;
  std::vector<TensorInfo> tensors;   // by name, ascending
  std::vector<std::string> remarks;  // what is odd about the files, a line each

  const TensorInfo* find(std::string_view name) const;
};

// The files that model.safetensors.index.json names; without an index model.safetensors, or else
// every *.safetensors of the folder whose name does not begin with a dot. The index may be
// incomplete: what its files hold counts. It may not contradict them (mismatch), nor name a path.
// Beside an index other indexes and *.safetensors are not read, nor beside a lone model.safetensors
// those whose names begin with "model" or "consolidated": a remark names them, and one says what
// the index leaves out. One mapping a file; headers are read on `threads`: its number, or its
// Executor.
Shards open_shards(const Folder& folder, FileAccess access, const BackendOptions& threads);

// One file, or a folder as above.
Shards open_shards(const std::filesystem::path& path, FileAccess access);

}  // namespace dsv32

#endif  // DSV32_LIB_WEIGHTS_SHARDS_H_
