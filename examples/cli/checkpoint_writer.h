// Writes a checkpoint's folder: shards that are filled by several threads, an index, small files.
#ifndef EXAMPLES_CLI_CHECKPOINT_WRITER_H_
#define EXAMPLES_CLI_CHECKPOINT_WRITER_H_

#include <cstddef>
#include <cstdint>
#include <filesystem>
#include <functional>
#include <memory>
#include <span>
#include <string>
#include <vector>

#include "cli/scratch.h"

namespace cli {

// Makes the bytes of a tensor from `first` on. Called by several threads at once, in any order.
using Fill = std::function<void(std::size_t first, std::span<std::byte> out)>;

// A tensor that is made while it is written.
struct StreamedTensor {
  std::string name{};
  std::string dtype{};  // safetensors' word
  std::vector<std::int64_t> shape{};
  std::size_t bytes = 0;
  std::size_t step = 8;  // pieces begin at multiples of so many bytes
  Fill fill{};
};

struct WriteOptions {
  std::size_t shard_bytes = 5'000'000'000;  // of tensor data; a larger tensor has its own shard
  int threads = 1;
  std::function<bool(double)> on_progress{};  // fraction done; false gives up
};

// A new folder, or an empty one that was there. Until `keep` its files are in a folder of another
// name, beside it or in it, that goes again on any end of the program but SIGKILL.
class OutputFolder {
 public:
  // Throws std::runtime_error with the system's reason.
  explicit OutputFolder(const std::filesystem::path& path);

  const std::filesystem::path& work() const noexcept { return work_; }  // where the files are now
  std::filesystem::path add(const std::string& name);                   // a file that belongs to it
  void add_text(const std::string& name, const std::string& text);
  void keep();  // the last that was added comes last: a model once it is whole

 private:
  struct File {
    std::string name;
    std::unique_ptr<Removed> removed;
  };

  std::filesystem::path path_;
  bool there_;
  std::filesystem::path work_;
  std::unique_ptr<Removed> removed_;
  std::vector<File> files_;  // go first
};

// model-00001-of-00000N.safetensors and model.safetensors.index.json. Memory: one piece of about a
// megabyte (or one step) a thread. Throws std::runtime_error for what the system refuses
// (beforehand if the disk is too small), and dsv32::Error, cancelled.
void write_shards(OutputFolder& folder, std::span<const StreamedTensor> tensors,
                  const WriteOptions& options);

}  // namespace cli

#endif  // EXAMPLES_CLI_CHECKPOINT_WRITER_H_
