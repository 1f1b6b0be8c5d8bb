// Topic mla: the whole absorbed path, step by step, against the double-precision twins.
#include "tests/kernels/data.h"

#include "kernels/numbers.h"

namespace dsv32::test {
namespace {

using kernels::CacheLayout;
using kernels::CpuKernels;
using kernels::kPageSize;
using kernels::Matrix;

struct Case {
  CacheLayout layout;
  ValueType type;
  int heads, nope, v;
  bool bf16_probabilities = false;
  bool interleave = true;
};

Bytes store(const CpuKernels& kernel, const Case& c, const Bytes& kv,
            const std::vector<float>& gain, const std::vector<float>& rope,
            const std::vector<std::int32_t>& slots, int slot_count) {
  Bytes latent(static_cast<std::size_t>(slot_count * c.layout.latent_record()));
  kernel.mla_store({.kv = kv.data(),
                    .gain = gain.data(),
                    .rope = rope.data(),
                    .slots = slots.data(),
                    .latent = latent.data(),
                    .layout = c.layout,
                    .type = c.type,
                    .pow2 = true,
                    .interleave = c.interleave,
                    .num_tokens = static_cast<int>(slots.size())});
  return latent;
}

void check_attention(Data& data, const CpuKernels& table, const CpuKernels& reference,
                     const Case& c) {
  const int latent = c.layout.latent, rope = c.layout.rope, tokens = 150, queries = 3;
  const Bytes kv = data.values(tokens * (latent + rope), c.type, 2.0f);
  const auto gain = data.floats(latent), key_rope = data.rope(tokens, rope);
  std::vector<std::int32_t> slots;
  for (int t = 0; t < tokens; ++t) slots.push_back((t + 77) % (3 * kPageSize));
  const Bytes cache = store(table, c, kv, gain, key_rope, slots, 3 * kPageSize);
  if (c.layout.format == CacheLayout::Format::f32) {  // a norm and a rotation in f32
    const Bytes twin = store(reference, c, kv, gain, key_rope, slots, 3 * kPageSize);
    CHECK(deviation(read(cache, ValueType::f32), read(twin, ValueType::f32)) < 2e-6);
  }

  const Bytes kv_b_data = data.values(c.heads * (c.nope + c.v) * latent, c.type, 0.2f);
  const Matrix kv_b{.data = kv_b_data.data(),
                    .type = c.type,
                    .stride = latent,
                    .scale = nullptr,
                    .scale_type = kernels::ScaleType::f32,
                    .scale_stride = 0};
  const Bytes q = data.values(queries * c.heads * (c.nope + rope), c.type);
  const auto query_rope = data.rope(queries, rope);
  Aligned project(4 * kernels::mla_project_scratch(c.nope, c.v, latent));
  const auto absorb = [&](const CpuKernels& kernel) {
    Bytes out(static_cast<std::size_t>(queries * c.heads * (latent + rope) * bytes_of(c.type)));
    kernel.mla_absorb({.kv_b = kv_b,
                       .q = q.data(),
                       .rope = query_rope.data(),
                       .q_latent = out.data(),
                       .scratch = project.floats(),
                       .type = c.type,
                       .interleave = c.interleave,
                       .num_tokens = queries,
                       .num_heads = c.heads,
                       .nope = c.nope,
                       .rope_dim = rope,
                       .v = c.v,
                       .latent = latent,
                       .first_head = 0,
                       .last_head = c.heads});
    return out;
  };
  const Bytes q_latent = absorb(table);
  CHECK(deviation(read(q_latent, c.type), read(absorb(reference), c.type)) < tolerance(c.type));

  const int top = 100;  // more than a group; the last list is short, one is empty
  std::vector<std::int32_t> indices(static_cast<std::size_t>(queries * top), -1);
  for (int i = 0; i < top; ++i)
    indices[static_cast<std::size_t>(i)] = slots[static_cast<std::size_t>(i)];
  for (int i = 0; i < 7; ++i)
    indices[static_cast<std::size_t>(top + i)] = slots[static_cast<std::size_t>(20 * i)];
  const auto attend = [&](const CpuKernels& kernel, int cut = 0) {
    Bytes out(static_cast<std::size_t>(queries * c.heads * latent * bytes_of(c.type)));
    std::vector<float> scratch(
        static_cast<std::size_t>(kernels::sparse_mla_scratch(c.layout, c.heads)));
    for (const auto& [first_head, last_head] : {std::pair{0, cut}, std::pair{cut, c.heads}}) {
      if (first_head == last_head) continue;
      kernel.sparse_mla({.q = q_latent.data(),
                         .latent = cache.data(),
                         .indices = indices.data(),
                         .out = out.data(),
                         .scratch = scratch.data(),
                         .layout = c.layout,
                         .type = c.type,
                         .num_tokens = queries,
                         .num_heads = c.heads,
                         .top_k = top,
                         .first_head = first_head,
                         .last_head = last_head,
                         .scale = 0.11f,
                         .bf16_probabilities = c.bf16_probabilities});
    }
    return out;
  };
  const Bytes out_latent = attend(table);
  CHECK(attend(table, 1) == out_latent);  // heads may be split anywhere
  const auto values = read(out_latent, c.type);
  // Three roundings where others have one: scores, probabilities, and the sum of values.
  CHECK(deviation(values, read(attend(reference), c.type)) < 3 * tolerance(c.type));
  for (std::size_t i = values.size() / queries * 2; i < values.size(); ++i) {
    REQUIRE(values[i] == 0.0);  // no key, no value
  }

  const auto expand = [&](const CpuKernels& kernel) {
    Bytes out(static_cast<std::size_t>(queries * c.heads * c.v * bytes_of(c.type)));
    kernel.mla_expand({.kv_b = kv_b,
                       .out_latent = out_latent.data(),
                       .out = out.data(),
                       .scratch = project.floats(),
                       .type = c.type,
                       .num_tokens = queries,
                       .num_heads = c.heads,
                       .nope = c.nope,
                       .v = c.v,
                       .latent = latent,
                       .first_head = 0,
                       .last_head = c.heads});
    return read(out, c.type);
  };
  CHECK(deviation(expand(table), expand(reference)) < tolerance(c.type));
}

TEST_CASE("MLA equals its twins in every cache format") {
  using Format = CacheLayout::Format;
  Data data(21);
  for_tables([&](const CpuKernels& table, const CpuKernels& reference) {
    for (const auto& [format, type] :
         {std::pair{Format::f32, ValueType::f32}, std::pair{Format::bf16, ValueType::bf16},
          std::pair{Format::fp8, ValueType::bf16}}) {
      for (const int latent : {32, 128, 160, 512}) {
        for (const bool interleave : {true, false}) {
          INFO("format " << static_cast<int>(format) << ", latent " << latent << ", interleave "
                         << interleave);
          check_attention(data, table, reference,
                          {.layout = {format, latent, 16, 0},
                           .type = type,
                           .heads = 3,
                           .nope = 24,
                           .v = 20,
                           .interleave = interleave});
        }
      }
    }
  });
}

enum class Scales { none, pow2, odd };

// kv_b of one kind, and its two products on BF16 activations.
struct Projections {
  int heads, nope, v, latent;
  Scales scales;
  bool interleave = true;
  static constexpr int rope = 32, tokens = 11;

  std::int64_t rows() const { return std::int64_t{heads} * (nope + v); }
  std::int64_t blocks() const { return (latent + kernels::kBlock - 1) / kernels::kBlock; }

  Bytes weights(Data& data) const {
    if (scales == Scales::none) return data.values(rows() * latent, ValueType::bf16, 0.2f);
    Bytes out(static_cast<std::size_t>(rows() * latent));
    for (std::byte& code : out) {
      code = static_cast<std::byte>(data.integer(0, 255));
      if ((code & std::byte{127}) == std::byte{127}) code ^= std::byte{1};  // no NaN
    }
    return out;
  }
  std::vector<float> scale(Data& data) const {
    std::vector<float> out(static_cast<std::size_t>((rows() / kernels::kBlock + 1) * blocks()));
    for (float& x : out) {
      x = std::ldexp(1.0f, data.integer(-9, -6));
      if (scales == Scales::odd) x *= data.integer(0, 3) == 0 ? -1.3f : 0.9f;
    }
    return out;
  }
};

void check_projections(Data& data, const CpuKernels& table, const CpuKernels& reference,
                       const Projections& c) {
  const int rope = Projections::rope, tokens = Projections::tokens;
  const Bytes weights = c.weights(data);
  const std::vector<float> scale = c.scale(data);
  const Matrix kv_b{.data = weights.data(),
                    .type = c.scales == Scales::none ? ValueType::bf16 : ValueType::e4m3,
                    .stride = c.latent,
                    .scale = reinterpret_cast<const std::byte*>(scale.data()),
                    .scale_type = kernels::ScaleType::f32,
                    .scale_stride = c.blocks(),
                    .scales_are_pow2 = c.scales == Scales::pow2};
  const Bytes q = data.values(tokens * c.heads * (c.nope + rope), ValueType::bf16);
  const Bytes x = data.values(tokens * c.heads * c.latent, ValueType::bf16);
  const auto angles = data.rope(tokens, rope);
  Aligned scratch(4 * kernels::mla_project_scratch(c.nope, c.v, c.latent));
  // Tokens [first, first + count), heads in two calls that meet at `cut`.
  const auto absorb = [&](const CpuKernels& kernel, int first, int count, int cut) {
    const std::int64_t row = c.heads * (c.latent + rope) * 2;
    Bytes out(static_cast<std::size_t>(count * row));
    for (const auto& [head, last] : {std::pair{0, cut}, std::pair{cut, c.heads}}) {
      kernel.mla_absorb({.kv_b = kv_b,
                         .q = q.data() + first * c.heads * (c.nope + rope) * 2,
                         .rope = angles.data() + first * rope,
                         .q_latent = out.data(),
                         .scratch = scratch.floats(),
                         .type = ValueType::bf16,
                         .interleave = c.interleave,
                         .num_tokens = count,
                         .num_heads = c.heads,
                         .nope = c.nope,
                         .rope_dim = rope,
                         .v = c.v,
                         .latent = c.latent,
                         .first_head = head,
                         .last_head = last});
    }
    return out;
  };
  const auto expand = [&](const CpuKernels& kernel, int first, int count, int cut) {
    Bytes out(static_cast<std::size_t>(count * c.heads * c.v * 2));
    for (const auto& [head, last] : {std::pair{0, cut}, std::pair{cut, c.heads}}) {
      kernel.mla_expand({.kv_b = kv_b,
                         .out_latent = x.data() + first * c.heads * c.latent * 2,
                         .out = out.data(),
                         .scratch = scratch.floats(),
                         .type = ValueType::bf16,
                         .num_tokens = count,
                         .num_heads = c.heads,
                         .nope = c.nope,
                         .v = c.v,
                         .latent = c.latent,
                         .first_head = head,
                         .last_head = last});
    }
    return out;
  };
  const auto check = [&](const auto& product) {
    const Bytes all = product(table, 0, tokens, 0);
    CHECK(deviation(read(all, ValueType::bf16),
                    read(product(reference, 0, tokens, 0), ValueType::bf16)) < 8e-3);
    const auto row = static_cast<std::ptrdiff_t>(all.size() / static_cast<std::size_t>(tokens));
    for (int count = 1, first = 0; first + count <= tokens; first += count, ++count) {
      const Bytes part = product(table, first, count, 1);  // the same bits in any company
      REQUIRE(std::equal(part.begin(), part.end(), all.begin() + first * row));
    }
  };
  check(absorb);
  check(expand);
}

TEST_CASE("absorb and expand equal their twins for every weight, a token alone or among others") {
  Data data(22);
  for_tables([&](const CpuKernels& table, const CpuKernels& reference) {
    for (const Scales scales : {Scales::none, Scales::pow2, Scales::odd}) {
      for (const int latent : {64, 320, 512}) {
        INFO("scales " << static_cast<int>(scales) << ", latent " << latent);
        check_projections(data, table, reference, {3, 24, 20, latent, scales});
        check_projections(data, table, reference, {3, 128, 128, latent, scales});
        check_projections(data, table, reference, {3, 128, 128, latent, scales, false});
        check_projections(data, table, reference, {2, 34, 130, latent, scales});
      }
    }
  });
}

TEST_CASE("MLA with BF16 probabilities equals its twins at the deployed widths") {
  const CacheLayout layout{CacheLayout::Format::fp8, 512, 64, 0};
  CHECK(layout.is_deployed());
  Data data(22);
  for_tables([&](const CpuKernels& table, const CpuKernels& reference) {
    for (const int heads : {3, 16, 37}) {
      INFO("heads " << heads);
      check_attention(data, table, reference,
                      {.layout = layout,
                       .type = ValueType::bf16,
                       .heads = heads,
                       .nope = 24,
                       .v = 20,
                       .bf16_probabilities = true});
    }
  });
}

// One head's first output column: `values` (e4m3, scale 1), of which the first has score 0 and the
// rest `score` = high + low, both BF16 numbers.
double attend_values(const CpuKernels& table, const std::vector<float>& values, float high,
                     float low, bool bf16_probabilities) {
  const CacheLayout layout{CacheLayout::Format::fp8, 512, 64, 0};
  const auto count = static_cast<int>(values.size());
  Bytes records(static_cast<std::size_t>(count * layout.latent_record()));
  std::vector<std::int32_t> list;
  const Bytes key = Data::stored({high, low}, ValueType::bf16);
  const float one = 1.0f;
  for (int i = 0; i < count; ++i) {
    std::byte* record = records.data() + i * layout.latent_record();
    const std::uint8_t code = kernels::to_e4m3(values[static_cast<std::size_t>(i)]);
    std::memcpy(record, &code, 1);
    for (int b = 0; b < layout.scales(); ++b) std::memcpy(record + 512 + 4 * b, &one, 4);
    if (i > 0) std::memcpy(record + 528, key.data(), 4);
    list.push_back(i);
  }
  std::vector<float> query(576);
  query[512] = query[513] = 1.0f;
  const Bytes q = Data::stored(query, ValueType::bf16);
  Bytes out(2 * 512);
  std::vector<float> scratch(static_cast<std::size_t>(kernels::sparse_mla_scratch(layout, 1)));
  table.sparse_mla({.q = q.data(),
                    .latent = records.data(),
                    .indices = list.data(),
                    .out = out.data(),
                    .scratch = scratch.data(),
                    .layout = layout,
                    .type = ValueType::bf16,
                    .num_tokens = 1,
                    .num_heads = 1,
                    .top_k = count,
                    .first_head = 0,
                    .last_head = 1,
                    .scale = 1.0f,
                    .bf16_probabilities = bf16_probabilities});
  return read(out, ValueType::bf16)[0];
}

TEST_CASE("BF16 probabilities are rounded where they meet values, not in their sum") {
  const double p = std::exp(-1.0);  // 0.367879; as BF16 0.3671875
  const std::vector<float> cancel = {1.0f, -2.75f};
  std::vector<float> many(64, 1.0f);  // probabilities 0.25095, as BF16 0.25
  many[0] = 0.0f;
  const float low = -0.00750732421875f;
  const double total = 1 + 63 * std::exp(-1.375 + low);
  for_tables([&](const CpuKernels& table, const CpuKernels& reference) {
    for (const CpuKernels* kernels : {&table, &reference}) {
      INFO(kernels->name);
      const double f32 = attend_values(*kernels, cancel, -1.0f, 0.0f, false);
      CHECK(std::abs(f32 - (1 - 2.75 * p) / (1 + p)) < 5e-5);
      const double bf16 = attend_values(*kernels, cancel, -1.0f, 0.0f, true);
      CHECK(std::abs(bf16 - (1 - 2.75 * 0.3671875) / (1 + p)) < 5e-5);
      // 15.75 / 16.81 is nearest to 0.9375; a rounded sum would give 15.75 / 16.75: 0.94140625.
      CHECK(attend_values(*kernels, many, -1.375f, low, true) == 0.9375);
      CHECK(std::abs(15.75 / total - 0.9375) < 0.001);
    }
  });
}

}  // namespace
}  // namespace dsv32::test
