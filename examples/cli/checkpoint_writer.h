// Writes a checkpoint's folder: shards that are filled by several threads, an index, small files.
#ifndef EXAMPLES_CLI_CHECKPOINT_WRITER_H_
#define EXAMPLES_CLI_CHECKPOINT_WRITER_H_

#include <cstddef>
#include <cstdint>
#include <filesystem>
#include <functional>
#include <span>
#include <string>
#include <vector>

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

// A new folder, or an empty one that was there. What was written into it goes again unless `keep`
// is called.
class OutputFolder {
 public:
  explicit OutputFolder(std::filesystem::path path);  // throws std::runtime_error
  ~OutputFolder();
  OutputFolder(const OutputFolder&) = delete;
  OutputFolder& operator=(const OutputFolder&) = delete;

  const std::filesystem::path& path() const noexcept { return path_; }
  std::filesystem::path add(const std::string& name);  // a file that belongs to it
  void add_text(const std::string& name, const std::string& text);
  void keep() noexcept { kept_ = true; }

 private:
  std::filesystem::path path_;
  std::vector<std::filesystem::path> files_;
  bool made_ = false;
  bool kept_ = false;
};

// model-00001-of-00000N.safetensors and model.safetensors.index.json. Memory: one piece of about a
// megabyte (or one step) a thread. Throws std::runtime_error for what the system refuses
// (beforehand if the disk is too small), and dsv32::Error, cancelled.
void write_shards(OutputFolder& folder, std::span<const StreamedTensor> tensors,
                  const WriteOptions& options);

}  // namespace cli

#endif  // EXAMPLES_CLI_CHECKPOINT_WRITER_H_
