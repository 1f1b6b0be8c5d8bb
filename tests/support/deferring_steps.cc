// The steps of the deferring backend: queued, then checked, then the inner backend's.
#include <algorithm>
#include <set>

#include "lib/base/check.h"
#include "tests/support/deferring_backend.h"

namespace dsv32::test {
namespace {

template <class Own, class Inner>
const Inner& inner_of(const Inner& handle) {
  const auto* own = dynamic_cast<const Own*>(&handle);
  DSV32_CHECK(own != nullptr, internal, "a handle of another backend");
  return *own->inner;
}

const BoundWeight& own(const BoundWeight& w) { return inner_of<DeferredWeight>(w); }
const BoundExperts& own(const BoundExperts& e) { return inner_of<DeferredExperts>(e); }

// What a step writes is nothing that it reads.
void check_apart(const char* step, std::initializer_list<TensorView> written,
                 std::initializer_list<TensorView> read) {
  for (const TensorView out : written) {
    for (const TensorView in : read)
      DSV32_CHECK(!overlap(out, in), internal, "{} writes what it reads", step);
  }
}

std::int32_t at(TensorView list, std::int64_t i) {
  return reinterpret_cast<const std::int32_t*>(list.data)[i];
}

void check_range(const char* what, TensorView list, std::int64_t from, std::int64_t below) {
  for (std::int64_t row = 0; row < list.rows; ++row) {
    for (std::int64_t i = 0; i < list.cols; ++i) {
      const std::int64_t value = at(list, row * list.stride + i);
      DSV32_CHECK(value >= from && value < below, internal, "{} {} is not in {}..{}", what, value,
                  from, below - 1);
    }
  }
}

std::int64_t slots_of(const PagedKv& kv) { return kv.latent.rows * kernels::kPageSize; }

// Every key that these rows may see has a page.
void check_pages(const BatchView& b, const PagedKv& kv) {
  check_range("a sequence", b.seq_of_token, 0, b.page_table.rows);
  check_range("a position", b.positions, -1, b.page_table.cols * kernels::kPageSize);
  for (std::int64_t row = 0; row < b.positions.cols; ++row) {
    TensorView pages = b.page_table.slice(at(b.seq_of_token, row), 1);
    pages.cols = (at(b.positions, row) + kernels::kPageSize) / kernels::kPageSize;
    check_range("a page", pages, 0, kv.latent.rows);
  }
}

// Host views. No two pairs share a target, nor does one read what another writes.
void check_pairs(TensorView from, TensorView from_rows, TensorView to, TensorView to_rows) {
  const std::int64_t count = from_rows.data ? from_rows.cols
                             : to_rows.data ? to_rows.cols
                                            : to.rows;
  std::set<std::int64_t> targets;
  std::vector<TensorView> read, written;
  for (std::int64_t i = 0; i < count; ++i) {
    const std::int64_t source = from_rows.data ? at(from_rows, i) : i;
    const std::int64_t target = to_rows.data ? at(to_rows, i) : i;
    if (source < 0 || target < 0) continue;
    DSV32_CHECK(targets.insert(target).second, internal, "copy_rows: row {} is written twice",
                target);
    read.push_back(from.slice(source, 1));
    written.push_back(to.slice(target, 1));
  }
  if (!overlap(from, to)) return;
  for (const TensorView& out : written) {
    for (const TensorView& in : read)
      DSV32_CHECK(!overlap(out, in), internal, "copy_rows writes what it reads");
  }
}

}  // namespace

void DeferringBackend::embed(const BatchView& b, const BoundWeight& table, TensorView out) {
  defer([this, b, &table, out] {
    check_range("a token", host(b.tokens), 0, table.rows);
    inner_->embed(host(b), own(table), host(out));
  });
}

void DeferringBackend::add_rms_norm(TensorView x, TensorView residual, TensorView gain, float eps,
                                    const Activation& out) {
  defer([this, x, residual, gain, eps, out] {
    check_apart("add_rms_norm", {out.dense, out.fp8, out.scale, residual}, {x, gain});
    inner_->add_rms_norm(host(x), host(residual), host(gain), eps, host(out));
  });
}

void DeferringBackend::silu_mul(TensorView gate, TensorView up, const Activation& out) {
  defer([this, gate, up, out] {
    check_apart("silu_mul", {out.dense, out.fp8, out.scale}, {gate, up});
    inner_->silu_mul(host(gate), host(up), host(out));
  });
}

void DeferringBackend::copy_rows(TensorView from, TensorView from_rows, TensorView to,
                                 TensorView to_rows) {
  defer([this, from, from_rows, to, to_rows] {
    check_pairs(host(from), host(from_rows), host(to), host(to_rows));
    inner_->copy_rows(host(from), host(from_rows), host(to), host(to_rows));
  });
}

void DeferringBackend::linear(const BoundWeight& w, const Activation& x, TensorView out) {
  defer([this, &w, x, out] {
    check_apart("linear", {out}, {x.dense, x.fp8, x.scale});
    inner_->linear(own(w), host(x), host(out));
  });
}

void DeferringBackend::grouped_linear(const BoundExperts& experts, const Activation& x,
                                      TensorView offsets, TensorView out) {
  defer([this, &experts, x, offsets, out] {
    check_apart("grouped_linear", {out}, {x.dense, x.fp8, x.scale, offsets});
    check_range("an expert's row", host(offsets), 0, out.rows + 1);
    inner_->grouped_linear(own(experts), host(x), host(offsets), host(out));
  });
}

void DeferringBackend::mla_store(const BatchView& b, TensorView kv_a, TensorView gain,
                                 const PagedKv& kv) {
  defer([this, b, kv_a, gain, kv] {
    check_range("a slot", host(b.slots), -1, slots_of(kv));
    inner_->mla_store(host(b), host(kv_a), host(gain), host(kv));
  });
}

void DeferringBackend::mla_absorb(const BatchView& b, const BoundWeight& kv_b,
                                  const MlaShape& shape, TensorView q, TensorView q_latent) {
  defer([this, b, &kv_b, shape, q, q_latent] {
    check_apart("mla_absorb", {q_latent}, {q});
    inner_->mla_absorb(host(b), own(kv_b), shape, host(q), host(q_latent));
  });
}

void DeferringBackend::sparse_mla(TensorView q_latent, const MlaShape& shape, const PagedKv& kv,
                                  TensorView indices, float scale, TensorView out_latent) {
  defer([this, q_latent, shape, kv, indices, scale, out_latent] {
    check_apart("sparse_mla", {out_latent}, {q_latent, indices});
    check_range("a key", host(indices), -1, slots_of(kv));
    inner_->sparse_mla(host(q_latent), shape, host(kv), host(indices), scale, host(out_latent));
  });
}

void DeferringBackend::mla_expand(const BoundWeight& kv_b, const MlaShape& shape,
                                  TensorView out_latent, const Activation& out) {
  defer([this, &kv_b, shape, out_latent, out] {
    check_apart("mla_expand", {out.dense, out.fp8, out.scale}, {out_latent});
    inner_->mla_expand(own(kv_b), shape, host(out_latent), host(out));
  });
}

void DeferringBackend::index_store(const BatchView& b, const IndexerShape& shape, TensorView k,
                                   TensorView gain, TensorView bias, const PagedKv& kv) {
  defer([this, b, shape, k, gain, bias, kv] {
    check_range("a slot", host(b.slots), -1, slots_of(kv));
    inner_->index_store(host(b), shape, host(k), host(gain), host(bias), host(kv));
  });
}

void DeferringBackend::index_select(const BatchView& b, const IndexerShape& shape, TensorView q,
                                    TensorView head_weights, const PagedKv& kv, TensorView indices,
                                    TensorView nan_queries) {
  defer([this, b, shape, q, head_weights, kv, indices, nan_queries] {
    check_apart("index_select", {indices, nan_queries}, {q, head_weights});
    check_pages(host(b), host(kv));
    inner_->index_select(host(b), shape, host(q), host(head_weights), host(kv), host(indices),
                         host(nan_queries));
  });
}

void DeferringBackend::moe_gate(TensorView scores, TensorView bias, const GateParams& gate,
                                TensorView ids, TensorView weights) {
  defer([this, scores, bias, gate, ids, weights] {
    check_apart("moe_gate", {ids, weights}, {scores, bias});
    inner_->moe_gate(host(scores), host(bias), gate, host(ids), host(weights));
  });
}

void DeferringBackend::moe_dispatch(const Activation& x, TensorView ids, std::int32_t first_expert,
                                    const Activation& out, TensorView offsets, TensorView rows) {
  defer([this, x, ids, first_expert, out, offsets, rows] {
    check_apart("moe_dispatch", {out.dense, out.fp8, out.scale, offsets, rows},
                {x.dense, x.fp8, x.scale, ids});
    inner_->moe_dispatch(host(x), host(ids), first_expert, host(out), host(offsets), host(rows));
  });
}

void DeferringBackend::moe_combine(TensorView x, TensorView rows, TensorView weights,
                                   TensorView shared, TensorView out) {
  defer([this, x, rows, weights, shared, out] {
    check_apart("moe_combine", {out}, {x, rows, weights, shared});
    check_range("a copy's row", host(rows), -1, x.rows);
    inner_->moe_combine(host(x), host(rows), host(weights), host(shared), host(out));
  });
}

}  // namespace dsv32::test
