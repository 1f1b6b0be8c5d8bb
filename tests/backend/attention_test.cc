// Topics mla and indexer through the seam: bytes of pages, then each step that reads them, against
// the double-precision twin.
#include <algorithm>

#include "tests/backend/backends.h"
#include "tests/kernels/store_data.h"

namespace dsv32::test {
namespace {

using Format = kernels::CacheLayout::Format;
using kernels::CacheLayout;
using kernels::kPageSize;

constexpr int kRowCounts[] = {1, 7, 64, 65};
constexpr int kPages = 3;

ValueType type_of(Format format) {
  return format == Format::f32 ? ValueType::f32 : ValueType::bf16;
}

// Slots from the end of the last page on; every fifth row is padding.
std::vector<std::int32_t> slots_of(int rows) {
  std::vector<std::int32_t> slots;
  for (int t = 0; t < rows; ++t) slots.push_back(t % 5 == 3 ? -1 : kPages * kPageSize - 1 - t);
  return slots;
}

TensorView put_bytes(DeviceData& device, const Bytes& bytes, std::int64_t rows) {
  return device.put(bytes.data(), DType::u8, rows, static_cast<std::int64_t>(bytes.size()) / rows);
}

// Of the exact format a norm and a rotation in f32; else every sum is exact, whatever its order.
void check_pages(const Bytes& got, const Bytes& want, Format format, double limit) {
  if (format == Format::f32) {
    CHECK(deviation(read(got, ValueType::f32), read(want, ValueType::f32)) < limit);
  } else {
    const bool same = got == want;
    CHECK(same);
  }
}

void check_latent_pages(Data& data, const std::vector<OpenBackend>& all, CacheLayout layout,
                        int rows, bool interleave) {
  const ValueType type = type_of(layout.format);
  const StoreInput in =
      exact_input(data, rows, layout.latent + layout.rope, layout.latent, layout.rope);
  const Bytes kv = Data::stored(in.rows, type);
  const std::vector<std::int32_t> slots = slots_of(rows);
  const Bytes before(static_cast<std::size_t>(kPages * kPageSize * layout.latent_record()));
  Bytes want = before;
  reference_table().mla_store({.kv = kv.data(),
                               .gain = in.gain.data(),
                               .rope = in.rope.data(),
                               .slots = slots.data(),
                               .latent = want.data(),
                               .layout = layout,
                               .type = type,
                               .pow2 = true,
                               .interleave = interleave,
                               .num_tokens = rows});
  for (const OpenBackend& b : all) {
    INFO(b.name << ", format " << int(layout.format) << ", " << rows << " rows");
    DeviceData device(*b.backend);
    const PagedKv cache{.latent = put_bytes(device, before, kPages),
                        .index_key = {},
                        .layout = layout,
                        .rope_interleave = interleave};
    b->mla_store(
        BatchParts{.slots = device.put(slots), .rope = device.put(in.rope, rows, layout.rope)},
        device.put(kv, type, rows, layout.latent + layout.rope),
        device.put(in.gain, 1, layout.latent), cache);
    check_pages(device.bytes(cache.latent), want, layout.format, 2e-6);
  }
}

void check_index_pages(Data& data, const std::vector<OpenBackend>& all, CacheLayout layout,
                       int rows, bool interleave) {
  const ValueType type = type_of(layout.format);
  const int dim = layout.index_dim;
  const StoreInput in = exact_input(data, rows, dim, dim, layout.rope);
  const Bytes k = Data::stored(in.rows, type);
  const std::vector<std::int32_t> slots = slots_of(rows);
  const Bytes before(static_cast<std::size_t>(kPages * layout.index_page()));
  Bytes want = before;
  reference_table().index_store({.k = k.data(),
                                 .gain = in.gain.data(),
                                 .bias = in.bias.data(),
                                 .rope = in.rope.data(),
                                 .slots = slots.data(),
                                 .pages = want.data(),
                                 .layout = layout,
                                 .type = type,
                                 .pow2 = true,
                                 .interleave = interleave,
                                 .num_tokens = rows});
  const Bytes latent(static_cast<std::size_t>(kPages));
  for (const OpenBackend& b : all) {
    INFO(b.name << ", format " << int(layout.format) << ", " << rows << " rows");
    DeviceData device(*b.backend);
    const PagedKv cache{.latent = put_bytes(device, latent, kPages),
                        .index_key = put_bytes(device, before, kPages),
                        .layout = layout};
    b->index_store(
        BatchParts{.slots = device.put(slots), .rope = device.put(in.rope, rows, layout.rope)},
        {.heads = 16, .dim = dim, .top_k = 16, .rope_interleave = interleave},
        device.put(k, type, rows, dim), device.put(in.gain, 1, dim), device.put(in.bias, 1, dim),
        cache);
    check_pages(device.bytes(cache.index_key), want, layout.format, 5e-6);
  }
}

TEST_CASE("through the seam: stored pages are the twin's, byte by byte, padding nowhere") {
  Data data(131);
  const auto all = open_backends(test_limits());
  for (const Format format : {Format::f32, Format::bf16, Format::fp8}) {
    for (const int rows : kRowCounts) {
      for (const int latent : {32, 160, 512})
        for (const bool interleave : {true, false})
          check_latent_pages(data, all, {format, latent, 64, 0}, rows, interleave);
      for (const bool interleave : {false, true})
        check_index_pages(data, all, {format, 32, 32, 64}, rows, interleave);
      if (format == Format::fp8)
        check_index_pages(data, all, {format, 32, 32, 64, true}, rows, false);
    }
  }
}

struct MlaCase {
  CacheLayout layout;
  MlaShape shape;
  int rows;

  ValueType type() const { return type_of(layout.format); }
};

Bytes twin_cache(Data& data, const MlaCase& c) {
  const int tokens = kPages * kPageSize, width = c.layout.latent + c.layout.rope;
  const Bytes kv = data.values(tokens * width, c.type(), 2.0f);
  const auto gain = data.floats(c.layout.latent), rope = data.rope(tokens, c.layout.rope);
  std::vector<std::int32_t> slots;
  for (int t = 0; t < tokens; ++t) slots.push_back(t);
  Bytes latent(static_cast<std::size_t>(tokens * c.layout.latent_record()));
  reference_table().mla_store({.kv = kv.data(),
                               .gain = gain.data(),
                               .rope = rope.data(),
                               .slots = slots.data(),
                               .latent = latent.data(),
                               .layout = c.layout,
                               .type = c.type(),
                               .pow2 = true,
                               .num_tokens = tokens});
  return latent;
}

// Lists of every length: none, a few, around a group of 64, all of 100.
std::vector<std::int32_t> key_lists(Data& data, int rows, int top) {
  const int lengths[] = {100, 0, 1, 63, 64, 65, 7};
  std::vector<std::int32_t> lists(static_cast<std::size_t>(rows * top), -1);
  for (int row = 0; row < rows; ++row) {
    for (int i = 0; i < lengths[row % 7]; ++i)
      lists[static_cast<std::size_t>(row * top + i)] = data.integer(0, kPages * kPageSize - 1);
  }
  return lists;
}

void check_sparse_mla(Data& data, const std::vector<OpenBackend>& all, const MlaCase& c) {
  const int top = 100, heads = c.shape.heads, width = c.layout.latent + c.layout.rope;
  const Bytes cache = twin_cache(data, c), q = data.values(c.rows * heads * width, c.type());
  const auto lists = key_lists(data, c.rows, top);
  Bytes want(static_cast<std::size_t>(c.rows * heads * c.layout.latent * bytes_of(c.type())));
  std::vector<float> scratch(
      static_cast<std::size_t>(kernels::sparse_mla_scratch(c.layout, heads)));
  reference_table().sparse_mla({.q = q.data(),
                                .latent = cache.data(),
                                .indices = lists.data(),
                                .out = want.data(),
                                .scratch = scratch.data(),
                                .layout = c.layout,
                                .type = c.type(),
                                .num_tokens = c.rows,
                                .num_heads = heads,
                                .top_k = top,
                                .first_head = 0,
                                .last_head = heads,
                                .scale = 0.11f,
                                .bf16_probabilities = c.layout.is_deployed()});
  const auto values = read(want, c.type());
  for (const OpenBackend& b : all) {
    INFO(b.name << ", format " << int(c.layout.format) << ", " << c.rows << " rows");
    DeviceData device(*b.backend);
    const PagedKv kv{
        .latent = put_bytes(device, cache, kPages), .index_key = {}, .layout = c.layout};
    const TensorView queries = device.put(q, c.type(), c.rows, heads * width),
                     out = device.empty(dtype_of(c.type()), c.rows, heads * c.layout.latent);
    b->sparse_mla(queries, c.shape, kv, device.put(lists.data(), DType::i32, c.rows, top), 0.11f,
                  out);
    const auto got = device.values(out);
    // Three roundings where others have one: scores, probabilities, and the sum of values.
    CHECK(deviation(got, values) < 3 * tolerance(c.type()));
    const auto row = static_cast<std::ptrdiff_t>(heads * c.layout.latent);
    for (int t = 1; t < c.rows; t += 7)  // no key, no value
      CHECK(std::all_of(got.begin() + t * row, got.begin() + (t + 1) * row,
                        [](double x) { return x == 0.0; }));
    // What is behind the last key decides nothing, nor how long the list is.
    std::vector<std::int32_t> wide(static_cast<std::size_t>(c.rows * 2 * top), -1);
    for (int t = 0; t < c.rows; ++t)
      std::copy_n(lists.begin() + t * top, top, wide.begin() + t * 2 * top);
    const TensorView again = device.empty(out.dtype, out.rows, out.cols);
    b->sparse_mla(queries, c.shape, kv, device.put(wide.data(), DType::i32, c.rows, 2 * top), 0.11f,
                  again);
    const bool same = device.bytes(again) == device.bytes(out);
    CHECK(same);
  }
}

TEST_CASE("through the seam: sparse attention over lists of every length, of any width") {
  Data data(132);
  const auto all = open_backends(test_limits());
  for (const Format format : {Format::f32, Format::bf16, Format::fp8}) {
    for (const int rows : kRowCounts) {
      check_sparse_mla(data, all,
                       {.layout = {format, 160, 16, 0},
                        .shape = {.heads = 3, .nope = 24, .rope = 16, .v = 20, .latent = 160},
                        .rows = rows});
    }
  }
  check_sparse_mla(data, all,
                   {.layout = {Format::fp8, 512, 64, 0},
                    .shape = {.heads = 5, .nope = 24, .rope = 64, .v = 20, .latent = 512},
                    .rows = 9});
}

void check_projections(Data& data, const std::vector<OpenBackend>& all, ValueType type,
                       const MlaShape& s, int rows) {
  const int kv_rows = s.heads * (s.nope + s.v), q_cols = s.heads * (s.nope + s.rope),
            latent_cols = s.heads * (s.latent + s.rope);
  Bytes weights = data.values(kv_rows * s.latent, type, 0.2f);
  const kernels::Matrix kv_b = plain_matrix(weights, type, s.latent);
  const Bytes q = data.values(rows * q_cols, type),
              x = data.values(rows * s.heads * s.latent, type);
  const auto angles = data.rope(rows, s.rope);
  Aligned scratch(4 * kernels::mla_project_scratch(s.nope, s.v, s.latent));
  const auto bytes = [&](int cols) {
    return static_cast<std::size_t>(rows * cols * bytes_of(type));
  };
  Bytes absorbed(bytes(latent_cols)), expanded(bytes(s.heads * s.v));
  for (int first = 0; first < rows; first += kernels::kRowTile) {
    const int count = std::min(kernels::kRowTile, rows - first), size = bytes_of(type);
    reference_table().mla_absorb({.kv_b = kv_b,
                                  .q = q.data() + first * q_cols * size,
                                  .rope = angles.data() + first * s.rope,
                                  .q_latent = absorbed.data() + first * latent_cols * size,
                                  .scratch = scratch.floats(),
                                  .type = type,
                                  .interleave = s.rope_interleave,
                                  .num_tokens = count,
                                  .num_heads = s.heads,
                                  .nope = s.nope,
                                  .rope_dim = s.rope,
                                  .v = s.v,
                                  .latent = s.latent,
                                  .first_head = 0,
                                  .last_head = s.heads});
    reference_table().mla_expand({.kv_b = kv_b,
                                  .out_latent = x.data() + first * s.heads * s.latent * size,
                                  .out = expanded.data() + first * s.heads * s.v * size,
                                  .scratch = scratch.floats(),
                                  .type = type,
                                  .num_tokens = count,
                                  .num_heads = s.heads,
                                  .nope = s.nope,
                                  .v = s.v,
                                  .latent = s.latent,
                                  .first_head = 0,
                                  .last_head = s.heads});
  }
  for (const OpenBackend& b : all) {
    INFO(b.name << ", " << rows << " rows, latent " << s.latent);
    DeviceData device(*b.backend);
    const WeightHandle handle = b->bind(
        {.weight = {weights.data(), dtype_of(type), kv_rows, s.latent, s.latent}, .scale = {}},
        kNoProgress);
    const TensorView q_latent = device.empty(dtype_of(type), rows, latent_cols);
    b->mla_absorb(BatchParts{.rope = device.put(angles, rows, s.rope)}, *handle, s,
                  device.put(q, type, rows, q_cols), q_latent);
    CHECK(deviation(device.values(q_latent), read(absorbed, type)) < tolerance(type));
    const bool fp8 = type == ValueType::bf16;
    const Activation out = device.activation(type, rows, s.heads * s.v, fp8);
    b->mla_expand(*handle, s, device.put(x, type, rows, s.heads * s.latent), out);
    CHECK(deviation(device.values(out.dense), read(expanded, type)) < tolerance(type));
    if (fp8) check_fp8_form(device, out);
  }
}

TEST_CASE("through the seam: absorb and expand, with the FP8 form of what comes out") {
  Data data(133);
  const auto all = open_backends(test_limits());
  for (const ValueType type : {ValueType::f32, ValueType::bf16}) {
    for (const int rows : kRowCounts) {
      for (const bool interleave : {true, false}) {
        check_projections(data, all, type,
                          {.heads = 3,
                           .nope = 24,
                           .rope = 16,
                           .v = 20,
                           .latent = 160,
                           .rope_interleave = interleave},
                          rows);
      }
    }
    check_projections(data, all, type,
                      {.heads = 2, .nope = 130, .rope = 32, .v = 130, .latent = 512}, 65);
  }
}

}  // namespace
}  // namespace dsv32::test
