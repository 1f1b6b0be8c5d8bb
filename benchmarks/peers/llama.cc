#include "benchmarks/peers/llama.h"

#include <chrono>
#include <cstdint>
#include <cstdlib>
#include <cstring>
#include <ctime>
#include <thread>
#include <utility>
#include <vector>

#include "benchmarks/clock.h"
#include "benchmarks/harness.h"
#include "lib/base/check.h"
#include "lib/base/thread_pool.h"

namespace dsv32::bench {
namespace {

constexpr int kSeed = 64;  // tokens that llama.cpp really computes; deeper caches repeat them

// Reads and appends plain values of a saved state.
class State {
 public:
  explicit State(std::vector<std::uint8_t> bytes) : bytes_(std::move(bytes)) {}
  template <class T>
  T take() {
    T value;
    std::memcpy(&value, take(sizeof value), sizeof value);
    return value;
  }
  const std::uint8_t* take(std::size_t count) {
    DSV32_CHECK(at_ + count <= bytes_.size(), io, "llama.cpp's state ends early");
    return bytes_.data() + std::exchange(at_, at_ + count);
  }
  bool at_end() const { return at_ == bytes_.size(); }
  template <class T>
  void put(T value) {
    put(reinterpret_cast<const std::uint8_t*>(&value), sizeof value);
  }
  void put(const std::uint8_t* data, std::size_t count) {
    bytes_.insert(bytes_.end(), data, data + count);
  }
  const std::vector<std::uint8_t>& bytes() const { return bytes_; }

 private:
  std::vector<std::uint8_t> bytes_;
  std::size_t at_ = 0;
};

// The state of a sequence that repeats `from`'s cells until it has `depth`. The format is
// llama_kv_cache::state_write's, once for the latents and once for the indexer's keys.
std::vector<std::uint8_t> deepened(std::vector<std::uint8_t> from_bytes, std::uint32_t depth) {
  State from(std::move(from_bytes)), to({});
  to.put(from.take(8), 8);  // magic and sequence
  while (!from.at_end()) {
    const auto streams = from.take<std::uint32_t>(), cells = from.take<std::uint32_t>();
    DSV32_CHECK(streams == 1 && cells == kSeed, io, "llama.cpp's state is of another version");
    to.put(streams);
    to.put(depth);
    for (std::uint32_t i = 0; i < cells; ++i) from.take(12);
    for (std::uint32_t i = 0; i < depth; ++i) {
      to.put(static_cast<std::int32_t>(i));
      to.put(std::uint32_t{1});
      to.put(std::int32_t{0});
    }
    to.put(from.take<std::uint32_t>());  // transposed values: there are none
    const auto layers = from.take<std::uint32_t>();
    to.put(layers);
    for (std::uint32_t layer = 0; layer < layers; ++layer) {
      to.put(from.take<std::int32_t>());
      const auto row = from.take<std::uint64_t>();
      to.put(row);
      const std::uint8_t* rows = from.take(row * cells);
      for (std::uint32_t i = 0; i < depth; ++i) to.put(rows + i % cells * row, row);
    }
  }
  return to.bytes();
}

}  // namespace

const char* gguf_path(GgufModel model) {
  return std::getenv(model == GgufModel::mini   ? "DSV32_BENCH_GGUF_MINI"
                     : model == GgufModel::bf16 ? "DSV32_BENCH_GGUF_BF16"
                                                : "DSV32_BENCH_GGUF");
}

Llama::Llama(const char* path, int context, int sequences) : sequences_(sequences) {
  llama_log_set([](ggml_log_level, const char*, void*) {}, nullptr);
  llama_backend_init();
  llama_model_params model = llama_model_default_params();
  // With AMX its own weight buffers lack an operation that this architecture has, and it aborts.
  model.use_extra_bufts = !__builtin_cpu_supports("amx-tile");
  model_.reset(llama_model_load_from_file(path, model));
  DSV32_CHECK(model_ != nullptr, io, "llama.cpp does not load {}", path);
  llama_context_params params = llama_context_default_params();
  params.n_ctx = static_cast<std::uint32_t>(context * sequences);
  params.n_seq_max = static_cast<std::uint32_t>(sequences);
  params.n_batch = params.n_ubatch = 512;
  params.n_threads = params.n_threads_batch = usable_cores();
  context_.reset(llama_init_from_model(model_.get(), params));
  DSV32_CHECK(context_ != nullptr, io, "llama.cpp makes no context");
  batch_.reset(new llama_batch(llama_batch_init(sequences, 0, 1)));
}

double Llama::run(llama_batch batch) {
  const double start = now();
  const int failed = llama_decode(context_.get(), batch);
  DSV32_CHECK(failed == 0, io, "llama_decode: {}", failed);
  return now() - start;
}

double Llama::step(int depth, int count) {
  std::vector<llama_token> tokens;
  for (int i = 0; i < count; ++i) tokens.push_back(next_++ % 4096);
  const double time = run(llama_batch_get_one(tokens.data(), count));
  llama_memory_seq_rm(llama_get_memory(context_.get()), 0, depth, -1);
  return time;
}

double Llama::decode() {
  batch_->n_tokens = sequences_;
  for (int i = 0; i < sequences_; ++i) {
    next_ = (next_ + 977) % 4096;
    batch_->token[i] = next_;
    batch_->pos[i] = depth_;
    batch_->n_seq_id[i] = 1;
    batch_->seq_id[i][0] = i;
    batch_->logits[i] = 1;
  }
  ++depth_;
  return run(*batch_);
}

void Llama::prompt(int depth) {
  llama_memory_clear(llama_get_memory(context_.get()), true);
  depth_ = 0;
  while (depth_ < depth) decode();
}

void Llama::fill(int depth) {
  llama_memory_clear(llama_get_memory(context_.get()), true);
  if (depth == 0) return;
  step(kSeed, kSeed);
  std::vector<std::uint8_t> state(llama_state_seq_get_size(context_.get(), 0));
  llama_state_seq_get_data(context_.get(), state.data(), state.size(), 0);
  if (depth == kSeed) return;
  state = deepened(std::move(state), static_cast<std::uint32_t>(depth));
  llama_memory_clear(llama_get_memory(context_.get()), true);
  DSV32_CHECK(llama_state_seq_set_data(context_.get(), state.data(), state.size(), 0) > 0, io,
              "llama.cpp does not take the state");
}

void settle() {
  const auto cpu = [] {
    timespec t{};
    clock_gettime(CLOCK_PROCESS_CPUTIME_ID, &t);
    return static_cast<double>(t.tv_sec) + 1e-9 * static_cast<double>(t.tv_nsec);
  };
  for (int i = 0; i < 500; ++i) {
    const double before = cpu();
    std::this_thread::sleep_for(std::chrono::milliseconds(2));
    if (cpu() - before < 2e-4) return;
  }
}

}  // namespace dsv32::bench
