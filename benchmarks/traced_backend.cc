#include "benchmarks/traced_backend.h"

#include <algorithm>
#include <cstring>

#include "benchmarks/attention.h"

namespace dsv32::bench {
namespace {

constexpr std::int64_t kNoise = 65537;

}  // namespace

TracedBackend::TracedBackend(std::unique_ptr<Backend> inner)
    : inner_(std::move(inner)), noise_(2 * kNoise) {
  fill_bf16(noise_.data(), kNoise, 23);
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

void TracedBackend::embed(const BatchView& b, TensorView table, TensorView out) {
  inner_->embed(b, table, out);
}

void TracedBackend::add_rms_norm(TensorView x, TensorView residual, TensorView gain, float eps,
                                 const Activation& out) {
  if (residual.data != nullptr) ++norms_;
  timed(rest(), [&] { inner_->add_rms_norm(x, residual, gain, eps, out); });
}

void TracedBackend::silu_mul(TensorView gate, TensorView up, const Activation& out) {
  if (!skipped()) timed(rest(), [&] { inner_->silu_mul(gate, up, out); });
}

void TracedBackend::gather_rows(TensorView x, TensorView rows, TensorView out) {
  inner_->gather_rows(x, rows, out);
}

void TracedBackend::linear(const Linear& w, const Activation& x, TensorView out) {
  if (skipped()) {
    fill(out);
  } else {
    timed(rest(), [&] { inner_->linear(w, x, out); });
  }
}

void TracedBackend::grouped_linear(std::span<const Linear> experts, const Activation& x,
                                   TensorView offsets, TensorView out) {
  if (!skipped()) timed(rest(), [&] { inner_->grouped_linear(experts, x, offsets, out); });
}

void TracedBackend::mla_store(const BatchView& b, TensorView kv_a, TensorView gain,
                              const PagedKv& kv) {
  timed(rest(), [&] { inner_->mla_store(b, kv_a, gain, kv); });
}

void TracedBackend::mla_absorb(const BatchView& b, const Linear& kv_b, const MlaShape& shape,
                               TensorView q, TensorView q_latent) {
  if (!skipped()) timed(rest(), [&] { inner_->mla_absorb(b, kv_b, shape, q, q_latent); });
}

void TracedBackend::sparse_mla(TensorView q_latent, const MlaShape& shape, const PagedKv& kv,
                               TensorView indices, float scale, TensorView out_latent) {
  if (skipped()) return;
  timed(seconds.attend,
        [&] { inner_->sparse_mla(q_latent, shape, kv, indices, scale, out_latent); });
}

void TracedBackend::mla_expand(const Linear& kv_b, const MlaShape& shape, TensorView out_latent,
                               const Activation& out) {
  if (!skipped()) timed(rest(), [&] { inner_->mla_expand(kv_b, shape, out_latent, out); });
}

void TracedBackend::index_store(const BatchView& b, const IndexerShape& shape, TensorView k,
                                TensorView gain, TensorView bias, const PagedKv& kv) {
  timed(rest(), [&] { inner_->index_store(b, shape, k, gain, bias, kv); });
}

void TracedBackend::index_select(const BatchView& b, const IndexerShape& shape, TensorView q,
                                 TensorView head_weights, const PagedKv& kv, TensorView indices) {
  if (skipped()) return;
  timed(seconds.select, [&] { inner_->index_select(b, shape, q, head_weights, kv, indices); });
}

void TracedBackend::moe_gate(TensorView scores, TensorView bias, const GateParams& gate,
                             TensorView ids, TensorView weights) {
  if (!skipped()) timed(rest(), [&] { inner_->moe_gate(scores, bias, gate, ids, weights); });
}

void TracedBackend::moe_dispatch(const Activation& x, TensorView ids, const Activation& out,
                                 TensorView offsets, TensorView rows) {
  if (skipped()) return;
  timed(rest(), [&] { inner_->moe_dispatch(x, ids, out, offsets, rows); });
  std::vector<std::int32_t> first(static_cast<std::size_t>(offsets.cols));
  inner_->download(first.data(), offsets);
  for (std::size_t e = 0; e + 1 < first.size(); ++e) distinct_experts += first[e + 1] > first[e];
}

void TracedBackend::moe_combine(TensorView x, TensorView rows, TensorView weights,
                                TensorView shared, TensorView out) {
  if (!skipped()) timed(rest(), [&] { inner_->moe_combine(x, rows, weights, shared, out); });
}

}  // namespace dsv32::bench
