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
#include "lib/base/function_ref.h"

namespace dsv32 {

struct Shards {
  std::vector<File> files;
  std::vector<TensorInfo> tensors;   // by name, ascending
  std::vector<std::string> remarks;  // what is odd about the files, a line each

  const TensorInfo* find(std::string_view name) const;

  std::size_t unread() const;  // bytes of files that are not mapped, but for what was read
  // Reads them; `progress` hears of every 64 MiB, and what it throws ends the reading.
  void read_all(FunctionRef<void(std::size_t bytes)> progress);
  std::string unmapped() const;  // which were to be mapped and could not be, and why; or empty
};

// The files that model.safetensors.index.json names; without an index model.safetensors, or else
// every *.safetensors of the folder whose name does not begin with a dot. The index may be
// incomplete: what its files hold counts. It may not contradict them (mismatch), nor name a path.
// Beside an index other indexes and *.safetensors are not read, nor beside a lone model.safetensors
// those whose names begin with "model" or "consolidated": a remark names them, and one says what
// the index leaves out. One mapping a file; headers are read on `threads`: its number, or its
// Executor. Of files that are not mapped nothing else is read yet.
Shards open_shards(const Folder& folder, FileAccess access, const BackendOptions& threads);

// One file, or a folder as above; all of it.
Shards open_shards(const std::filesystem::path& path, FileAccess access);

}  // namespace dsv32

#endif  // DSV32_LIB_WEIGHTS_SHARDS_H_
