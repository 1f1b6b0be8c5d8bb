#include "benchmarks/traced_backend.h"

#include <algorithm>
#include <cstring>

#include "benchmarks/attention.h"
#include "lib/base/format.h"

namespace dsv32::bench {
namespace {

constexpr std::int64_t kNoise = 65537;

}  // namespace

TracedBackend::TracedBackend(std::unique_ptr<Backend> inner)
    : ForwardingBackend(std::move(inner)), noise_(2 * kNoise) {
  fill_bf16(noise_.data(), kNoise, 23);
}

std::string TracedBackend::shares() const {
  double all = 0;
  std::vector<std::pair<double, std::string>> sorted;
  for (const auto& [name, time] : steps) {
    all += time;
    sorted.emplace_back(-time, name);
  }
  std::sort(sorted.begin(), sorted.end());
  std::string out;
  for (const auto& [time, name] : sorted) {
    const double share = -100 * time / all;
    if (share >= 1) out += formatted("{}{} {:.1f} %", out.empty() ? "" : ", ", name, share);
  }
  return out;
}

std::string TracedBackend::name_of(const char* step, std::int64_t out, std::int64_t in) {
  return formatted("{} {}x{}", step, out, in);
}

void TracedBackend::fill(TensorView out) const {
  if (out.dtype != DType::bf16) return;  // scores and weights of the indexer and the gate
  for (std::int64_t row = 0; row < out.rows; ++row) {
    std::byte* to = out.slice(row, 1).data;
    const std::int64_t shift = row * 977 % (kNoise / 2);  // no two rows alike
    for (std::int64_t done = 0; done < out.cols;) {
      const std::int64_t n = std::min(out.cols - done, kNoise - shift);
      std::memcpy(to + 2 * done, noise_.data() + 2 * shift, static_cast<std::size_t>(2 * n));
      done += n;
    }
  }
}

void TracedBackend::count_experts(TensorView offsets) {
  std::vector<std::int32_t> first(static_cast<std::size_t>(offsets.cols));
  inner_->download(first.data(), offsets);
  for (std::size_t e = 0; e + 1 < first.size(); ++e) distinct_experts += first[e + 1] > first[e];
}

}  // namespace dsv32::bench
