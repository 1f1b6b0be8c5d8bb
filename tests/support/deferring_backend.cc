// Memory, order and weights; the steps are in deferring_steps.cc.
#include "tests/support/deferring_backend.h"

#include <algorithm>
#include <cstring>
#include <utility>

#include "lib/base/check.h"

namespace dsv32::test {
namespace {

constexpr int kAttentionRows = 48;  // no divisor of anything
constexpr int kBuckets[] = {1,   2,    4,    8,    16,   32,    64,    128,  256,
                            512, 1024, 2048, 4096, 8192, 16384, 32768, 65536};
constexpr const char* kFormatNames[] = {"dense", "FP8 with power-of-two scales", "FP8", "INT8",
                                        "INT4"};

std::size_t contiguous_bytes(TensorView view) {
  DSV32_CHECK(view.rows <= 1 || view.stride == view.cols, internal,
              "a copy of {} x {} with stride {}", view.rows, view.cols, view.stride);
  return extent_bytes(view);
}

// What the inner backend thinks of its handle's progress is nobody's business.
constexpr auto ignore = [](std::size_t) {};

}  // namespace

DeferringBackend::DeferringBackend(std::unique_ptr<Backend> inner, DeferringOptions options)
    : inner_(std::move(inner)),
      options_(options),
      memory_(std::make_shared<DeviceMemory>()),
      weight_bytes_(std::make_shared<std::size_t>(0)) {}

DeferringBackend::~DeferringBackend() = default;

StepShapes DeferringBackend::wanted_shapes() {
  return {.row_buckets = kBuckets, .fixed_width = true, .attention_rows = kAttentionRows};
}

void DeferringBackend::reserve(const BackendLimits& limits) {
  for (unsigned format = 0; format < std::size(kFormatNames); ++format) {
    DSV32_CHECK((options_.lacks & limits.weight_formats & 1u << format) == 0, unsupported,
                "the deferring backend has no {} weights", kFormatNames[format]);
  }
  inner_->reserve(limits);
}

// Copies through a small buffer, as a device would.
std::byte* DeferringBackend::take_over(TensorView view, Owner& owner, BindProgress progress) {
  if (view.data == nullptr) return nullptr;
  const std::size_t bytes = extent_bytes(view);
  owner.push_back(OwnedBytes(bytes, weight_bytes_).bytes);
  std::byte* out = owner.back().get();
  std::vector<std::byte> staging(std::min(bytes, options_.staging));
  for (std::size_t done = 0; done < bytes;) {
    const std::size_t piece = std::min(staging.size(), bytes - done);
    std::memcpy(staging.data(), view.data + done, piece);
    std::memcpy(out + done, staging.data(), piece);
    done += piece;
    progress(piece);
  }
  return out;
}

Linear DeferringBackend::take_over(const Linear& w, Owner& owner, BindProgress progress) {
  Linear own = w;
  own.weight.data = take_over(w.weight, owner, progress);
  own.scale.data = take_over(w.scale, owner, progress);
  return own;
}

WeightHandle DeferringBackend::bind(const Linear& w, BindProgress progress) {
  refuse_in_record("bind");
  Owner owner;
  WeightHandle inner = inner_->bind(take_over(w, owner, progress), ignore);
  return std::make_shared<const DeferredWeight>(std::move(inner), std::move(owner));
}

ExpertsHandle DeferringBackend::bind_experts(std::span<const Linear> experts,
                                             BindProgress progress) {
  refuse_in_record("bind_experts");
  Owner owner;
  std::vector<Linear> own;
  for (const Linear& w : experts) own.push_back(take_over(w, owner, progress));
  ExpertsHandle inner = inner_->bind_experts(own, ignore);
  return std::make_shared<const DeferredExperts>(std::move(inner), std::move(owner));
}

std::shared_ptr<void> DeferringBackend::allocate(std::size_t bytes) {
  refuse_in_record("allocate");
  return {memory_->take(bytes), [memory = memory_](void* p) { memory->give_back(p); }};
}

void DeferringBackend::defer(std::function<void()> call) {
  (recording_ ? *recording_ : queue_).push_back(std::move(call));
}

void DeferringBackend::refuse_in_record(const char* what) const {
  DSV32_CHECK(recording_ == nullptr, internal, "{} in a pass that is recorded", what);
}

// What is behind a call that failed never runs.
void DeferringBackend::run_queue() {
  const Calls calls = std::exchange(queue_, {});
  for (const auto& call : calls) call();
}

void DeferringBackend::upload(TensorView dst, const void* src) {
  refuse_in_record("upload");
  const auto* bytes = static_cast<const std::byte*>(src);
  defer([this, dst, copied = std::vector(bytes, bytes + contiguous_bytes(dst))] {
    inner_->upload(host(dst), copied.data());
  });
}

void DeferringBackend::download(std::span<const Download> parts) {
  refuse_in_record("download");
  run_queue();
  for (const Download& part : parts) inner_->download(part.to, host(part.from));
}

void DeferringBackend::copy(TensorView dst, TensorView src) {
  defer([this, dst, src] {
    DSV32_CHECK(!overlap(dst, src), internal, "a copy onto itself");
    inner_->copy(host(dst), host(src));
  });
}

void DeferringBackend::synchronize() {
  refuse_in_record("synchronize");
  run_queue();
  inner_->synchronize();
}

void DeferringBackend::run(std::uint64_t key, FunctionRef<void()> pass) {
  if (key == 0) {
    pass();
    return;
  }
  refuse_in_record("a pass");
  auto found = records_.find(key);
  if (found == records_.end()) {
    Calls calls;
    recording_ = &calls;
    const auto stop = [](DeferringBackend* self) { self->recording_ = nullptr; };
    const std::unique_ptr<DeferringBackend, decltype(stop)> guard(this, stop);
    pass();  // one that throws leaves no record, and no calls
    found = records_.emplace(key, std::move(calls)).first;
  } else {
    ++replayed_;
  }
  queue_.insert(queue_.end(), found->second.begin(), found->second.end());
}

Activation DeferringBackend::host(Activation a) const {
  a.dense = host(a.dense);
  a.fp8 = host(a.fp8);
  a.scale = host(a.scale);
  return a;
}

BatchView DeferringBackend::host(BatchView b) const {
  for (TensorView* view :
       {&b.tokens, &b.positions, &b.slots, &b.seq_of_token, &b.page_table, &b.rope}) {
    *view = host(*view);
  }
  return b;
}

PagedKv DeferringBackend::host(PagedKv kv) const {
  kv.latent = host(kv.latent);
  kv.index_key = host(kv.index_key);
  return kv;
}

}  // namespace dsv32::test
