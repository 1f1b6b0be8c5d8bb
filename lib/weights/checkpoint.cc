// Checkpoint: open, tensors, remarks, fingerprint. (plan() and problems() are in lib/model.)
#include "dsv32/checkpoint.h"

#include <algorithm>
#include <cstdint>
#include <optional>
#include <string>
#include <utility>
#include <vector>

#include "lib/backend/backend_kind.h"
#include "lib/base/check.h"
#include "lib/base/check_enum.h"
#include "lib/base/float_state.h"
#include "lib/base/hash.h"
#include "lib/base/held.h"
#include "lib/config/logit_values.h"
#include "lib/weights/checkpoint_impl.h"

namespace dsv32 {
namespace {

constexpr std::size_t kMaxConfigBytes = 1u << 20;
constexpr std::size_t kMaxTokenizerBytes = 64u << 20;

// What a fingerprint reads of a tensor's data if not all: blocks from its first byte to its last,
// evenly spaced. Few, as each is a page of a file that may be cold.
constexpr std::size_t kBlocks = 4, kBlockBytes = 1024;

void add_blocks(Hash& hash, std::span<const std::byte> data) {
  if (data.size() <= kBlocks * kBlockBytes) return hash.add(data);
  const std::size_t last = data.size() - kBlockBytes;
  for (std::size_t i = 0; i < kBlocks; ++i)
    hash.add(data.subspan(last * i / (kBlocks - 1), kBlockBytes));
}

void say(const LogSink& log, const std::string& message, FloatState& ours) {
  if (!log || message.empty()) return;
  const CallersFloatState callers(ours);
  try {
    log(LogLevel::warning, message);
  } catch (...) {  // as types.h says
  }
}

// Those that are not mapped.
void read_files(Shards& shards, const OpenOptions& options, FloatState& ours) {
  const std::size_t all = shards.unread();
  if (all == 0) return;
  const std::optional<std::size_t> there = backend_kind(Device::cpu).available_memory({});
  DSV32_CHECK(!there || all <= *there, out_of_memory,
              "reading the files takes {}, {} are available", human_bytes(all),
              human_bytes(*there));
  std::size_t done = 0;
  shards.read_all([&](std::size_t bytes) {
    done += bytes;
    if (!options.on_progress) return;
    const double fraction = static_cast<double>(done) / static_cast<double>(all);
    const CallersFloatState callers(ours);
    DSV32_CHECK(options.on_progress(fraction), cancelled, "reading was given up by on_progress");
  });
}

}  // namespace

namespace {

// What nobody reads of config.json is a remark.
ModelConfig read_config(const Folder& folder, std::vector<std::string>& remarks) {
  constexpr std::size_t kMost = 10;
  std::vector<std::string> unread;
  ModelConfig config =
      ModelConfig::from_json(read_text(folder, "config.json", kMaxConfigBytes), &unread);
  if (unread.empty()) return config;
  std::string names;
  for (std::size_t i = 0; i < std::min(unread.size(), kMost); ++i)
    names += (i > 0 ? ", " : " ") + quote(unread[i]);
  if (unread.size() > kMost) names += ", ..";
  remarks.push_back(formatted("config.json: {} keys that nobody reads:{}", unread.size(), names));
  return config;
}

// Converters drop the MTP layer and leave config.json as it was: such a model has none.
void drop_missing_mtp(CheckpointFiles& files) {
  if (files.config.num_nextn_predict_layers == 0) return;
  const std::string prefix = formatted("model.layers.{}.", files.config.num_hidden_layers);
  const std::vector<TensorInfo>& tensors = files.shards.tensors;
  const auto first = std::lower_bound(
      tensors.begin(), tensors.end(), prefix,
      [](const TensorInfo& tensor, const std::string& name) { return tensor.name < name; });
  if (first != tensors.end() && first->name.starts_with(prefix)) return;
  files.config.num_nextn_predict_layers = 0;
  files.remarks.push_back(
      "the files lack the MTP layer that config.json's num_nextn_predict_layers calls for: the "
      "model has none");
}

}  // namespace

CheckpointFiles::CheckpointFiles(const std::filesystem::path& dir, FileAccess access,
                                 const BackendOptions& threads)
    : folder(dir),
      config(read_config(folder, remarks)),
      shards(open_shards(folder, access, threads)) {
  remarks.insert(remarks.end(), shards.remarks.begin(), shards.remarks.end());
  drop_missing_mtp(*this);
}

Checkpoint::Checkpoint(std::shared_ptr<const Impl> impl) : impl_(std::move(impl)) {}

Checkpoint Checkpoint::open(const std::filesystem::path& dir, int num_threads) {
  return open(dir, OpenOptions{.num_threads = num_threads});
}

Checkpoint Checkpoint::open(const std::filesystem::path& dir, const OpenOptions& options) {
  FloatState ours;
  DSV32_CHECK(options.access <= FileAccess::read, invalid_argument, "access is {}, not in 0..1",
              static_cast<int>(options.access));
  const auto impl = std::make_shared<Impl>(dir, options.access,
                                           BackendOptions{.num_threads = options.num_threads});
  say(options.log, impl->shards.unmapped(), ours);
  read_files(impl->shards, options, ours);
  return Checkpoint(impl);
}

const ModelConfig& Checkpoint::config() const& { return held(impl_).config; }

std::span<const TensorInfo> Checkpoint::tensors() const& noexcept {
  if (impl_ == nullptr) return {};
  return impl_->shards.tensors;
}

std::vector<std::string> Checkpoint::remarks() const { return held(impl_).remarks; }

void add_model(Hash& hash, const CheckpointFiles& files, Verify verify) {
  hash.add(logit_values(files.config));
  for (const TensorInfo& tensor : files.shards.tensors) {
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
}

std::string Checkpoint::fingerprint(Verify verify) const {
  const Impl& impl = held(impl_);
  const FloatState ours;
  check_enum("verify", verify, Verify::all);
  Hash hash;
  add_model(hash, impl, verify);
  if (impl.folder.has("tokenizer.json"))
    hash.add(read_text(impl.folder, "tokenizer.json", kMaxTokenizerBytes));
  return hash.hex();
}

}  // namespace dsv32
