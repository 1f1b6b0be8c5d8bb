// Topic dense through the seam, against the double-precision twin; and rows that are copied.
#include <algorithm>

#include "tests/backend/backends.h"

namespace dsv32::test {
namespace {

constexpr ValueType kTypes[] = {ValueType::f32, ValueType::bf16};
constexpr int kRowCounts[] = {1, 7, 64, 65};

TEST_CASE("through the seam: embed copies rows of any type") {
  Data data(101);
  const auto all = open_backends(test_limits());
  for (const ValueType type : {ValueType::f32, ValueType::bf16, ValueType::f16}) {
    for (const int rows : kRowCounts) {
      const int vocab = 90, cols = 33;
      const Bytes table = data.values(vocab * cols, type);
      std::vector<std::int32_t> tokens;
      for (int i = 0; i < rows; ++i) tokens.push_back(data.integer(0, vocab - 1));
      Bytes want(static_cast<std::size_t>(rows * cols * 4));
      reference_table().embed({.tokens = tokens.data(),
                               .table = plain_matrix(table, type, cols),
                               .out = want.data(),
                               .type = ValueType::f32,
                               .num_rows = rows,
                               .cols = cols});
      for (const OpenBackend& b : all) {
        INFO(b.name << ", " << rows << " rows");
        DeviceData device(*b.backend);
        const Linear file{.weight = {.data = const_cast<std::byte*>(table.data()),
                                     .dtype = dtype_of(type),
                                     .rows = vocab,
                                     .cols = cols,
                                     .stride = cols},
                          .scale = {}};
        const WeightHandle handle = b->bind(file, kNoProgress);
        const TensorView out = device.empty(DType::f32, rows, cols);
        b->embed(BatchParts{.tokens = device.put(tokens)}, *handle, out);
        CHECK(device.bytes(out) == want);
      }
    }
  }
}

// Half of rows twice as wide, as MTP's norms take and give them.
struct NormCase {
  ValueType type;
  int rows, cols;
  bool residual, fp8;
};

void check_norm(Data& data, const std::vector<OpenBackend>& all, const NormCase& c) {
  const int rows = c.rows, cols = c.cols, wide = 2 * cols;
  const Bytes x = data.values(rows * wide, c.type), residual = data.values(rows * cols, c.type);
  const auto gain = data.floats(cols);
  Bytes want_sum = residual, want(residual.size());
  reference_table().add_rms_norm({.x = x.data() + cols * bytes_of(c.type),
                                  .residual = c.residual ? want_sum.data() : nullptr,
                                  .gain = gain.data(),
                                  .out = want.data(),
                                  .x_stride = wide,
                                  .residual_stride = cols,
                                  .out_stride = cols,
                                  .eps = 1e-6f,
                                  .x_type = c.type,
                                  .type = c.type,
                                  .num_rows = rows,
                                  .cols = cols});
  for (const OpenBackend& b : all) {
    INFO(b.name << ", " << rows << " x " << cols);
    DeviceData device(*b.backend);
    const TensorView in = device.put(x, c.type, rows, wide).columns(cols, cols);
    const TensorView sum = c.residual ? device.put(residual, c.type, rows, cols) : TensorView{};
    Activation out = device.activation(c.type, rows, cols, c.fp8);
    const TensorView around = device.empty(dtype_of(c.type), rows, wide);
    if (!c.fp8) out.dense = around.columns(cols, cols);
    b->add_rms_norm(in, sum, device.put(gain, 1, cols), 1e-6f, out);
    CHECK(deviation(device.values(out.dense), read(want, c.type)) < tolerance(c.type));
    if (c.residual)
      CHECK(deviation(device.values(sum), read(want_sum, c.type)) < tolerance(c.type));
    if (c.fp8) check_fp8_form(device, out);
    const Bytes untouched = device.bytes(around.columns(0, cols));
    CHECK(std::all_of(untouched.begin(), untouched.end(),
                      [](std::byte x_) { return x_ == std::byte{0xFF}; }));
  }
}

TEST_CASE("through the seam: norms of parts of rows, with residual and FP8 form") {
  Data data(102);
  const auto all = open_backends(test_limits());
  for (const ValueType type : kTypes) {
    for (const int rows : kRowCounts) {
      for (const int cols : {8, 100, 257}) {
        for (const bool residual : {false, true})
          check_norm(data, all, {type, rows, cols, residual, type == ValueType::bf16 && residual});
      }
    }
  }
}

TEST_CASE("through the seam: silu times up, with its FP8 form") {
  Data data(103);
  const auto all = open_backends(test_limits());
  for (const ValueType type : kTypes) {
    for (const int rows : kRowCounts) {
      for (const int cols : {7, 128, 300}) {
        const Bytes gate = data.values(rows * cols, type), up = data.values(rows * cols, type);
        Bytes want(gate.size());
        reference_table().silu_mul({.gate = gate.data(),
                                    .up = up.data(),
                                    .out = want.data(),
                                    .type = type,
                                    .num_rows = rows,
                                    .cols = cols});
        for (const OpenBackend& b : all) {
          INFO(b.name << ", " << rows << " x " << cols);
          DeviceData device(*b.backend);
          const Activation out = device.activation(type, rows, cols, type == ValueType::bf16);
          b->silu_mul(device.put(gate, type, rows, cols), device.put(up, type, rows, cols), out);
          CHECK(deviation(device.values(out.dense), read(want, type)) < tolerance(type));
          if (out.fp8.data) check_fp8_form(device, out);
        }
      }
    }
  }
}

// to[to_rows[i]] = from[from_rows[i]], by the letter.
std::vector<std::int32_t> copied(std::vector<std::int32_t> to, int cols,
                                 const std::vector<std::int32_t>& from,
                                 const std::vector<std::int32_t>& from_rows,
                                 const std::vector<std::int32_t>& to_rows, int count) {
  for (int i = 0; i < count; ++i) {
    const int source = from_rows.empty() ? i : from_rows[static_cast<std::size_t>(i)];
    const int target = to_rows.empty() ? i : to_rows[static_cast<std::size_t>(i)];
    if (source < 0 || target < 0) continue;
    std::copy_n(from.begin() + source * cols, cols, to.begin() + target * cols);
  }
  return to;
}

TEST_CASE("through the seam: rows are copied by lists, those of -1 left out") {
  Data data(104);
  const auto all = open_backends(test_limits());
  for (const int count : kRowCounts) {
    const int cols = 37, there = count + 9;
    std::vector<std::int32_t> from, to(static_cast<std::size_t>(there * cols), -3), sources,
        targets;
    for (int i = 0; i < there * cols; ++i) from.push_back(i);
    for (int i = 0; i < count; ++i) {
      sources.push_back(i % 5 == 2 ? -1 : data.integer(0, there - 1));
      targets.push_back(i % 7 == 3 ? -1 : there - 1 - i);
    }
    const std::vector<std::int32_t> none, nothing(static_cast<std::size_t>(count), -1);
    for (const auto& [reads, writes] :
         {std::pair{sources, targets}, {none, targets}, {sources, none}, {none, nothing}}) {
      const auto want = copied(to, cols, from, reads, writes, count);
      for (const OpenBackend& b : all) {
        INFO(b.name << ", " << count);
        DeviceData device(*b.backend);
        const TensorView source = device.put(from.data(), DType::i32, there, cols);
        const TensorView target = device.put(to.data(), DType::i32, there, cols);
        b->copy_rows(source, reads.empty() ? TensorView{} : device.put(reads), target,
                     writes.empty() ? TensorView{} : device.put(writes));
        CHECK(device.integers(target) == want);
      }
    }
    // Neither list: the first rows of one go to the other.
    for (const OpenBackend& b : all) {
      DeviceData device(*b.backend);
      const TensorView target = device.put(to.data(), DType::i32, there, cols);
      b->copy_rows(device.put(from.data(), DType::i32, there, cols), {}, target.slice(0, count),
                   {});
      CHECK(device.integers(target) == copied(to, cols, from, {}, {}, count));
    }
  }
}

TEST_CASE("through the seam: an upload has read its source, and calls run in order") {
  const auto all = open_backends(test_limits());
  for (const OpenBackend& b : all) {
    INFO(b.name);
    DeviceData device(*b.backend);
    const TensorView x = device.empty(DType::i32, 2, 3), y = device.empty(DType::i32, 2, 3);
    std::vector<std::int32_t> source = {1, 2, 3, 4, 5, 6};
    b->upload(x, source.data());
    source.assign(6, 9);
    b->copy(y, x);
    b->upload(x, source.data());
    source.assign(6, 0);
    CHECK(device.integers(y) == std::vector<std::int32_t>{1, 2, 3, 4, 5, 6});
    CHECK(device.integers(x) == std::vector<std::int32_t>(6, 9));
    b->synchronize();
  }
}

TEST_CASE("through the seam: a pass under a key computes with what lies there now") {
  const auto all = open_backends(test_limits());
  for (const OpenBackend& b : all) {
    INFO(b.name);
    DeviceData device(*b.backend);
    const TensorView x = device.empty(DType::i32, 3, 2), y = device.empty(DType::i32, 3, 2),
                     rows = device.empty(DType::i32, 1, 3);
    for (int round = 0; round < 3; ++round) {
      const std::vector<std::int32_t> values = {round, 1, 2, 3, 4, 5}, list = {2, -1, round % 2};
      b->upload(x, values.data());
      b->upload(rows, list.data());
      for (const std::uint64_t key : {std::uint64_t{7}, std::uint64_t{0}}) {
        const std::vector<std::int32_t> clean(6, -5);
        b->upload(y, clean.data());
        b->run(key, [&] { b->copy_rows(x, rows, y, {}); });
        CHECK(device.integers(y) == copied(clean, 2, values, list, {}, 3));
      }
    }
  }
}

}  // namespace
}  // namespace dsv32::test
