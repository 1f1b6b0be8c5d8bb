// The choice of keys through the seam: sets of slots, exactly. Where keys are quantised, queries
// and keys are such that every sum is exact, whatever its order, so that ties are ties for
// everybody. The exact numerics round norms, in f32 here and in double there: no two of its scores
// are close.
#include <algorithm>
#include <cmath>
#include <numeric>

#include "tests/backend/backends.h"
#include "tests/kernels/store_data.h"

namespace dsv32::test {
namespace {

using kernels::CacheLayout;
using kernels::kPageSize;

constexpr int kHeads = 16, kDim = 64, kRope = 32, kTop = 16;
constexpr int kPagesEach = 3, kStride = 5;  // of a sequence in the table

struct SelectCase {
  CacheLayout layout;
  ValueType type;
  bool ties = false;  // all keys are one

  static SelectCase of(CacheLayout::Format format, bool ties, bool int8 = false) {
    return {{format, 32, kRope, kDim, int8},
            format == CacheLayout::Format::f32 ? ValueType::f32 : ValueType::bf16,
            ties};
  }
};

StoreInput input(Data& data, const SelectCase& c, int rows) {
  return c.type == ValueType::f32 ? random_input(data, rows, kDim, kDim, kRope)
                                  : exact_input(data, rows, kDim, kDim, kRope);
}

// Two sequences, whose pages lie mixed, and their keys; queries at positions around a page and
// around index_topk, padding among them.
struct Scene {
  std::vector<std::int32_t> table, positions, sequences;
  Bytes pages, q;
  std::vector<float> rope, weights;
  int rows;

  Scene(Data& data, const SelectCase& c, int count) : rows(count) {
    const std::int32_t of[2][kPagesEach] = {{5, 0, 3}, {2, 4, 1}};
    for (const auto& list : of) {
      table.insert(table.end(), list, list + kPagesEach);
      table.insert(table.end(), kStride - kPagesEach, -1);
    }
    const int places[] = {0, -1, 14, 15, 16, 17, 62, 63, 64, 65, 126, 127, 128, 150, 191};
    for (int t = 0; t < rows; ++t) {
      positions.push_back(places[(t * 4 + rows) % 15]);
      sequences.push_back(t % 2);
    }
    store_keys(data, c);
    const StoreInput in = input(data, c, rows * kHeads);
    q = Data::stored(in.rows, c.type);
    rope = input(data, c, rows).rope;
    for (int i = 0; i < rows * kHeads; ++i)
      weights.push_back(static_cast<float>(data.integer(-3, 4)));
  }

  void store_keys(Data& data, const SelectCase& c) {
    const int tokens = 2 * kPagesEach * kPageSize;
    StoreInput in = input(data, c, tokens);
    if (c.ties) {
      for (int t = 1; t < tokens; ++t) {
        std::copy_n(in.rows.begin(), kDim, in.rows.begin() + t * kDim);
        std::copy_n(in.rope.begin(), kRope, in.rope.begin() + t * kRope);
      }
    }
    const Bytes k = Data::stored(in.rows, c.type);
    std::vector<std::int32_t> slots(static_cast<std::size_t>(tokens));
    std::iota(slots.begin(), slots.end(), 0);
    pages.resize(static_cast<std::size_t>(2 * kPagesEach * c.layout.index_page()));
    reference_table().index_store({.k = k.data(),
                                   .gain = in.gain.data(),
                                   .bias = in.bias.data(),
                                   .rope = in.rope.data(),
                                   .slots = slots.data(),
                                   .pages = pages.data(),
                                   .layout = c.layout,
                                   .type = c.type,
                                   .pow2 = true,
                                   .interleave = false,
                                   .num_tokens = tokens});
  }

  const std::int32_t* pages_of(int row) const {
    return table.data() + sequences[static_cast<std::size_t>(row)] * kStride;
  }
};

// Positions to slots, up to the first -1.
void to_slots(std::vector<std::int32_t>& list, const std::int32_t* pages) {
  for (std::int32_t& x : list) {
    if (x >= 0) x = pages[x / kPageSize] * kPageSize + x % kPageSize;
  }
}

// One row's list by the reference table; every visible key if that is not too many.
std::vector<std::int32_t> chosen(const SelectCase& c, const Scene& scene, int row, int top) {
  const int visible = scene.positions[static_cast<std::size_t>(row)] + 1;
  std::vector<std::int32_t> list(static_cast<std::size_t>(top), -1);
  if (visible <= top) {
    std::iota(list.begin(), list.begin() + visible, 0);
  } else {
    const auto first = static_cast<std::ptrdiff_t>(row) * kHeads;
    std::vector<float> q(kHeads * kDim), weights(kHeads), scores(static_cast<std::size_t>(visible)),
        scratch(static_cast<std::size_t>(kPageSize * (kDim + 1)));
    reference_table().index_query({.q = scene.q.data() + first * kDim * bytes_of(c.type),
                                   .head_weights = scene.weights.data() + first,
                                   .rope = scene.rope.data() + row * kRope,
                                   .out = q.data(),
                                   .out_weights = weights.data(),
                                   .type = c.type,
                                   .pow2 = true,
                                   .interleave = false,
                                   .int8 = c.layout.int8_index,
                                   .num_tokens = 1,
                                   .num_heads = kHeads,
                                   .index_dim = kDim,
                                   .rope_dim = kRope});
    reference_table().index_scores({.q = q.data(),
                                    .weights = weights.data(),
                                    .pages = scene.pages.data(),
                                    .page_table = scene.pages_of(row),
                                    .scores = scores.data(),
                                    .scratch = scratch.data(),
                                    .layout = c.layout,
                                    .num_heads = kHeads,
                                    .first = 0,
                                    .last = visible});
    std::vector<std::uint32_t> room(static_cast<std::size_t>(kernels::top_k_scratch(top)));
    reference_table().top_k({.scores = scores.data(),
                             .scratch = room.data(),
                             .positions = list.data(),
                             .count = visible,
                             .top_k = top});
  }
  to_slots(list, scene.pages_of(row));
  return list;
}

// `counts`, if it is given, gets what was counted up from 5.
std::vector<std::int32_t> selected(const OpenBackend& b, const SelectCase& c, const Scene& scene,
                                   int top, bool indexer,
                                   std::vector<std::int32_t>* counts = nullptr) {
  DeviceData device(*b.backend);
  const Bytes latent(2 * kPagesEach);
  const PagedKv kv{
      .latent = device.put(latent.data(), DType::u8, 2 * kPagesEach, 1),
      .index_key = device.put(scene.pages.data(), DType::u8, 2 * kPagesEach, c.layout.index_page()),
      .layout = c.layout};
  const TensorView indices = device.empty(DType::i32, scene.rows, top);
  TensorView q, weights;
  if (indexer) {
    q = device.put(scene.q, c.type, scene.rows, kHeads * kDim);
    weights = device.put(scene.weights, scene.rows, kHeads);
  }
  TensorView nan_queries;
  if (counts) nan_queries = device.put(std::vector<std::int32_t>(scene.positions.size(), 5));
  b->index_select(BatchParts{.positions = device.put(scene.positions),
                             .seq_of_token = device.put(scene.sequences),
                             .page_table = device.put(scene.table.data(), DType::i32, 2, kStride),
                             .rope = device.put(scene.rope, scene.rows, kRope)},
                  {.heads = kHeads, .dim = kDim, .top_k = kTop}, q, weights, kv, indices,
                  nan_queries);
  if (counts) *counts = device.integers(nan_queries);
  return device.integers(indices);
}

void check_chosen(Data& data, const std::vector<OpenBackend>& all, const SelectCase& c, int rows) {
  const Scene scene(data, c, rows);
  std::vector<std::int32_t> want;
  for (int row = 0; row < rows; ++row) {
    const auto list = chosen(c, scene, row, kTop);
    want.insert(want.end(), list.begin(), list.end());
  }
  for (const OpenBackend& b : all) {
    INFO(b.name << ", format " << int(c.layout.format) << ", INT8 " << c.layout.int8_index
                << ", ties " << c.ties << ", " << rows << " rows");
    CHECK(selected(b, c, scene, kTop, true) == want);
  }
}

TEST_CASE("through the seam: the chosen keys are the twin's, around a page and around index_topk") {
  Data data(141);
  const auto all = open_backends(test_limits());
  for (const bool ties : {false, true}) {
    for (const int rows : {1, 7, 64, 65}) {
      check_chosen(data, all, SelectCase::of(CacheLayout::Format::f32, ties), rows);
      check_chosen(data, all, SelectCase::of(CacheLayout::Format::fp8, ties), rows);
      check_chosen(data, all, SelectCase::of(CacheLayout::Format::fp8, ties, true), rows);
    }
  }
}

TEST_CASE("through the seam: without an indexer every visible key is chosen, padding sees none") {
  Data data(142);
  const auto all = open_backends(test_limits());
  const SelectCase c = SelectCase::of(CacheLayout::Format::fp8, false);
  for (const int rows : {1, 7, 65}) {
    Scene scene(data, c, rows);
    for (const bool padding : {false, true}) {
      if (padding) std::fill(scene.positions.begin(), scene.positions.end(), -1);
      std::vector<std::int32_t> want;
      for (int row = 0; row < rows; ++row) {
        const auto list = chosen(c, scene, row, 200);
        want.insert(want.end(), list.begin(), list.end());
      }
      for (const OpenBackend& b : all) {
        INFO(b.name << ", " << rows << " rows, all padding " << padding);
        CHECK(selected(b, c, scene, 200, false) == want);
      }
    }
  }
}

TEST_CASE("reports_W8 through the seam: queries that chose among NaNs are counted, each once") {
  Data data(143);
  const auto all = open_backends(test_limits());
  for (const auto format : {CacheLayout::Format::f32, CacheLayout::Format::fp8}) {
    const SelectCase c = SelectCase::of(format, false);
    for (const int rows : {1, 7, 65}) {
      Scene scene(data, c, rows);
      std::vector<std::int32_t> want;
      for (int row = 0; row < rows; ++row) {
        const auto i = static_cast<std::size_t>(row);
        const bool spoilt = row % 3 == 0;
        if (spoilt) scene.weights[i * kHeads + i % kHeads] = std::nanf("");
        want.push_back(5 + (spoilt && scene.positions[i] >= kTop ? 1 : 0));
      }
      for (const OpenBackend& b : all) {
        INFO(b.name << ", " << rows << " rows");
        std::vector<std::int32_t> counts;
        selected(b, c, scene, kTop, true, &counts);
        CHECK(counts == want);
      }
    }
  }
}

}  // namespace
}  // namespace dsv32::test
