// Checkpoint: open, tensors, problems, fingerprint. (plan() is in lib/model/plan.cc.)
#include "dsv32/checkpoint.h"

#include <cstdint>
#include <string>
#include <utility>

#include "lib/base/check.h"
#include "lib/base/held.h"
#include "lib/config/logit_values.h"
#include "lib/weights/binder.h"
#include "lib/weights/checkpoint_impl.h"

namespace dsv32 {
namespace {

constexpr std::size_t kMaxConfigBytes = 1u << 20;
constexpr std::size_t kMaxTokenizerBytes = 64u << 20;

// FNV-1a over 64 bits: for telling checkpoints apart, not against forgery.
class Hash {
 public:
  void add(std::span<const std::byte> bytes) {
    for (const std::byte b : bytes)
      state_ = (state_ ^ static_cast<std::uint64_t>(b)) * 0x100000001B3u;
  }
  void add(std::string_view text) {
    add(std::as_bytes(std::span(text)));
    add(std::as_bytes(std::span("\0", 1)));
  }
  std::string hex() const { return formatted("{:016x}", state_); }

 private:
  std::uint64_t state_ = 0xCBF29CE484222325u;
};

// What a fingerprint reads of a tensor's data if not all: blocks from its first byte to its last,
// evenly spaced. Few, as each is a page of a file that may be cold.
constexpr std::size_t kBlocks = 4, kBlockBytes = 1024;

void add_blocks(Hash& hash, std::span<const std::byte> data) {
  if (data.size() <= kBlocks * kBlockBytes) return hash.add(data);
  const std::size_t last = data.size() - kBlockBytes;
  for (std::size_t i = 0; i < kBlocks; ++i)
    hash.add(data.subspan(last * i / (kBlocks - 1), kBlockBytes));
}

}  // namespace

CheckpointFiles::CheckpointFiles(const std::filesystem::path& dir, FileAccess access,
                                 const BackendOptions& threads)
    : folder(dir),
      config(ModelConfig::from_json(read_text(folder, "config.json", kMaxConfigBytes))),
      shards(open_shards(folder, access, threads)) {}

Checkpoint::Checkpoint(std::shared_ptr<const Impl> impl) : impl_(std::move(impl)) {}

Checkpoint Checkpoint::open(const std::filesystem::path& dir, int num_threads) {
  const BackendOptions threads{.num_threads = num_threads};
  return Checkpoint(std::make_shared<const Impl>(dir, FileAccess::mmap, threads));
}

const ModelConfig& Checkpoint::config() const& { return held(impl_).config; }

std::span<const TensorInfo> Checkpoint::tensors() const& noexcept {
  if (impl_ == nullptr) return {};
  return impl_->shards.tensors;
}

std::vector<Problem> Checkpoint::problems(Verify verify) const {
  const Impl& impl = held(impl_);
  Binder binder(impl.config, impl.shards,
                {.mtp = impl.config.num_nextn_predict_layers > 0, .verify = verify});
  binder.walk();
  return binder.problems();
}

std::string Checkpoint::fingerprint(Verify verify) const {
  const Impl& impl = held(impl_);
  Hash hash;
  hash.add(logit_values(impl.config));
  for (const TensorInfo& tensor : impl.shards.tensors) {
    hash.add(tensor.name);
    hash.add(tensor.dtype);
    for (const std::int64_t dim : tensor.shape) hash.add(std::to_string(dim));
    const bool scale = tensor.name.ends_with("_scale_inv") || tensor.name.ends_with("_scale");
    if (verify == Verify::headers) continue;
    if (verify == Verify::all || scale) {
      hash.add(tensor.data);
    } else {
      add_blocks(hash, tensor.data);
    }
  }
  if (impl.folder.has("tokenizer.json")) {
    hash.add(read_text(impl.folder, "tokenizer.json", kMaxTokenizerBytes));
  }
  return hash.hex();
}

}  // namespace dsv32
