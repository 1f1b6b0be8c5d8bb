// Writes a checkpoint's folder.
#include "cli/checkpoint_writer.h"

#include <algorithm>
#include <array>
#include <atomic>
#include <cstdio>
#include <exception>
#include <fcntl.h>
#include <mutex>
#include <stdexcept>
#include <system_error>
#include <thread>
#include <unistd.h>

#include <nlohmann/json.hpp>

#include "dsv32/error.h"

#include "cli/safetensors_writer.h"

namespace cli {
namespace {

constexpr std::size_t kPiece = 1 << 20;  // made in the cache, then handed to the system

class OutputFile {
 public:
  explicit OutputFile(std::filesystem::path path)
      : path_(std::move(path)),
        descriptor_(open(path_.c_str(), O_WRONLY | O_CREAT | O_CLOEXEC, 0666)) {
    if (descriptor_ < 0) cannot_write(path_);
  }
  OutputFile(const OutputFile&) = delete;
  OutputFile& operator=(const OutputFile&) = delete;
  ~OutputFile() {
    if (descriptor_ >= 0) ::close(descriptor_);
  }

  void reserve(std::size_t bytes) const {
    if (ftruncate(descriptor_, static_cast<off_t>(bytes)) != 0) cannot_write(path_);
  }
  void write(std::size_t at, std::span<const std::byte> bytes) const {
    write_at(descriptor_, at, bytes, path_);
  }
  void close() {
    if (::close(std::exchange(descriptor_, -1)) != 0) cannot_write(path_);
  }

 private:
  std::filesystem::path path_;
  int descriptor_;
};

using Shard = std::span<const StreamedTensor>;

std::vector<Shard> cut(std::span<const StreamedTensor> tensors, std::size_t limit) {
  std::vector<Shard> shards;
  std::size_t first = 0;
  std::size_t bytes = 0;
  for (std::size_t i = 0; i < tensors.size(); ++i) {
    if (i > first && bytes + tensors[i].bytes > limit) {
      shards.push_back(tensors.subspan(first, i - first));
      first = i;
      bytes = 0;
    }
    bytes += tensors[i].bytes;
  }
  if (first < tensors.size()) shards.push_back(tensors.subspan(first));
  return shards;
}

std::string shard_name(std::size_t index, std::size_t count) {
  std::array<char, 64> text{};
  std::snprintf(text.data(), text.size(), "model-%05zu-of-%06zu.safetensors", index + 1, count);
  return text.data();
}

// Length and JSON, padded so that the data starts aligned.
std::string header(Shard shard) {
  nlohmann::json json = {{"__metadata__", {{"format", "pt"}}}};
  std::size_t offset = 0;
  for (const StreamedTensor& tensor : shard) {
    json[tensor.name] = {{"dtype", tensor.dtype},
                         {"shape", tensor.shape},
                         {"data_offsets", {offset, offset + tensor.bytes}}};
    offset += tensor.bytes;
  }
  std::string text = json.dump();
  text.append((64 - (text.size() + 8) % 64) % 64, ' ');
  std::string length;
  for (int i = 0; i < 8; ++i) length += static_cast<char>((text.size() >> (8 * i)) & 0xFF);
  return length + text;
}

struct Piece {
  const StreamedTensor* tensor;
  std::size_t first;  // in the tensor
  std::size_t count;
  std::size_t at;  // in the file
};

std::vector<Piece> pieces_of(Shard shard, std::size_t at) {
  std::vector<Piece> pieces;
  for (const StreamedTensor& tensor : shard) {
    const std::size_t size = std::max<std::size_t>(1, kPiece / tensor.step) * tensor.step;
    for (std::size_t first = 0; first < tensor.bytes; first += size)
      pieces.push_back({&tensor, first, std::min(size, tensor.bytes - first), at + first});
    at += tensor.bytes;
  }
  return pieces;
}

// Counts bytes of all shards; polled and reported from whatever thread made a piece.
class Counter {
 public:
  Counter(const WriteOptions& options, std::size_t total) : options_(options), total_(total) {}

  void add(std::size_t bytes) {
    const std::lock_guard guard(mutex_);
    done_ += bytes;
    if (!options_.on_progress) return;
    if (!options_.on_progress(static_cast<double>(done_) / static_cast<double>(total_)))
      throw dsv32::Error(dsv32::ErrorCode::cancelled, "writing was interrupted");
  }

 private:
  const WriteOptions& options_;
  std::mutex mutex_;
  std::size_t total_;
  std::size_t done_ = 0;
};

// Threads take the next piece until none is left or one of them fails.
void fill(const OutputFile& file, std::span<const Piece> pieces, int threads, Counter& counter) {
  std::atomic<std::size_t> next = 0;
  std::mutex mutex;
  std::exception_ptr error;
  const auto work = [&] {
    try {
      std::vector<std::byte> buffer;
      for (std::size_t i = next++; i < pieces.size(); i = next++) {
        const Piece& piece = pieces[i];
        buffer.resize(std::max(buffer.size(), piece.count));
        const std::span<std::byte> out(buffer.data(), piece.count);
        piece.tensor->fill(piece.first, out);
        file.write(piece.at, out);
        counter.add(piece.count);
      }
    } catch (...) {
      next = pieces.size();
      const std::lock_guard guard(mutex);
      if (!error) error = std::current_exception();
    }
  };
  {
    std::vector<std::jthread> helpers;
    for (int i = 1; i < threads; ++i) helpers.emplace_back(work);
    work();
  }
  if (error) std::rethrow_exception(error);
}

}  // namespace

OutputFolder::OutputFolder(const std::filesystem::path& path)
    : path_(path.has_filename() ? path : path.parent_path()),
      there_(std::filesystem::exists(path_)),
      work_(there_ ? scratch_name(path_ / "") : scratch_name(path_)) {
  if (there_ && !std::filesystem::is_directory(path_))
    throw std::runtime_error("'" + path_.string() + "' is no folder");
  if (there_ && !std::filesystem::is_empty(path_))
    throw std::runtime_error(
        "the folder '" + path_.string() + "' is not empty: it holds '" +
        std::filesystem::directory_iterator(path_)->path().filename().string() + "'");
  std::error_code error;
  if (path_.has_parent_path()) std::filesystem::create_directories(path_.parent_path(), error);
  removed_ = std::make_unique<Removed>(work_);
  if (!error) std::filesystem::create_directory(work_, error);
  if (error)
    throw std::runtime_error("cannot make the folder '" + path_.string() + "': " + error.message());
}

std::filesystem::path OutputFolder::add(const std::string& name) {
  files_.push_back({name, std::make_unique<Removed>(work_ / name)});
  return work_ / name;
}

void OutputFolder::keep() {
  for (const File& file : files_)
    if (there_ && std::rename((work_ / file.name).c_str(), (path_ / file.name).c_str()) != 0)
      cannot_write(path_ / file.name);
  if (there_ ? ::rmdir(work_.c_str()) != 0 : std::rename(work_.c_str(), path_.c_str()) != 0)
    cannot_write(path_);
  for (const File& file : files_) file.removed->let_go();
  removed_->let_go();
}

void OutputFolder::add_text(const std::string& name, const std::string& text) {
  const std::span<const std::byte> bytes = std::as_bytes(std::span(text));
  write_file(add(name), std::span(&bytes, 1));
}

void write_shards(OutputFolder& folder, std::span<const StreamedTensor> tensors,
                  const WriteOptions& options) {
  std::size_t total = 0;
  for (const StreamedTensor& tensor : tensors) total += tensor.bytes;
  check_space(folder.work(), total);
  Counter counter(options, total);
  nlohmann::json map = nlohmann::json::object();
  const std::vector<Shard> shards = cut(tensors, options.shard_bytes);
  std::vector<std::filesystem::path> paths;
  for (std::size_t i = 0; i < shards.size(); ++i) {  // what forbids their size is found at once
    paths.push_back(folder.add(shard_name(i, shards.size())));
    std::size_t bytes = header(shards[i]).size();
    for (const StreamedTensor& tensor : shards[i]) bytes += tensor.bytes;
    OutputFile(paths.back()).reserve(bytes);
  }
  for (std::size_t i = 0; i < shards.size(); ++i) {
    const std::string name = shard_name(i, shards.size());
    OutputFile file(paths[i]);
    const std::string text = header(shards[i]);
    file.write(0, std::as_bytes(std::span(text)));
    fill(file, pieces_of(shards[i], text.size()), options.threads, counter);
    file.close();
    for (const StreamedTensor& tensor : shards[i]) map[tensor.name] = name;
  }
  const nlohmann::json index = {{"metadata", {{"total_size", total}}},
                                {"weight_map", std::move(map)}};
  folder.add_text("model.safetensors.index.json", index.dump(1) + "\n");
}

}  // namespace cli
