// Topic mla on the emulated GPU: the absorbed path step by step, against the double-precision
// twins.
#include <algorithm>
#include <cstring>

#include "tests/cuda/kernels_machine.h"
#include "tests/kernels/store_data.h"

#include "kernels/numbers.h"

namespace dsv32::test {
namespace {

using kernels::CacheLayout;
using Format = CacheLayout::Format;
using kernels::kPageSize;
using kernels::Matrix;

// ---- mla_store
Bytes twin_pages(const StoreInput& in, const CacheLayout& layout, ValueType type,
                 const std::vector<std::int32_t>& slots, bool pow2, bool interleave, Bytes pages) {
  const Bytes kv = Data::stored(in.rows, type);
  reference_twins().mla_store({.kv = kv.data(),
                               .gain = in.gain.data(),
                               .rope = in.rope.data(),
                               .slots = slots.data(),
                               .latent = pages.data(),
                               .layout = layout,
                               .type = type,
                               .pow2 = pow2,
                               .interleave = interleave,
                               .num_tokens = static_cast<int>(slots.size())});
  return pages;
}

Bytes gpu_pages(const StoreInput& in, const CacheLayout& layout, ValueType type,
                const std::vector<std::int32_t>& slots, bool pow2, bool interleave,
                const Bytes& pages) {
  KernelMachine gpu;
  auto* to = gpu.put(pages);
  gpu.run(cuda::MlaStoreArguments{.kv = gpu.put(Data::stored(in.rows, type)),
                                  .gain = gpu.put(in.gain),
                                  .rope = gpu.put(in.rope),
                                  .slots = gpu.put(slots),
                                  .latent = to,
                                  .layout = layout,
                                  .type = type,
                                  .pow2 = pow2,
                                  .interleave = interleave,
                                  .num_tokens = static_cast<int>(slots.size())});
  return gpu.get(to, static_cast<std::int64_t>(pages.size()));
}

double part_that_differs(const Bytes& a, const Bytes& b) {
  REQUIRE(a.size() == b.size());
  std::size_t differ = 0;
  for (std::size_t i = 0; i < a.size(); ++i) differ += a[i] == b[i] ? 0 : 1;
  return static_cast<double>(differ) / static_cast<double>(a.size());
}

// Every third row is padding.
std::vector<std::int32_t> backward_slots(int tokens) {
  std::vector<std::int32_t> slots;
  for (int t = 0; t < tokens; ++t) slots.push_back(t % 3 == 2 ? -1 : tokens - 1 - t);
  return slots;
}

TEST_CASE("bytes of latent pages are the twin's, and padding is stored nowhere", "[quick]") {
  Data data(221);
  const int tokens = 60;
  const auto slots = backward_slots(tokens);
  for (const int latent : {32, 160, 512}) {
    for (const Format format : {Format::fp8, Format::bf16}) {
      const int rope = latent == 160 ? 16 : 64;
      const CacheLayout layout{format, latent, rope, 0};
      const Bytes before = data.values(tokens * layout.latent_record(), ValueType::e4m3);
      for (const bool pow2 : {true, false}) {
        INFO("latent " << latent << ", format " << int(format) << ", pow2 " << pow2);
        const StoreInput exact = exact_input(data, tokens, latent + rope, latent, rope);
        CHECK((gpu_pages(exact, layout, ValueType::bf16, slots, pow2, pow2, before) ==
               twin_pages(exact, layout, ValueType::bf16, slots, pow2, pow2, before)));
        const StoreInput any = random_input(data, tokens, latent + rope, latent, rope);
        CHECK(part_that_differs(
                  gpu_pages(any, layout, ValueType::bf16, slots, pow2, pow2, before),
                  twin_pages(any, layout, ValueType::bf16, slots, pow2, pow2, before)) <= 1e-3);
      }
    }
  }
  const CacheLayout layout{Format::f32, 33, 10, 0};
  const StoreInput any = random_input(data, tokens, 43, 33, 10);
  const Bytes before = data.values(tokens * 43, ValueType::f32);
  CHECK(deviation(
            read(gpu_pages(any, layout, ValueType::f32, slots, true, true, before), ValueType::f32),
            read(twin_pages(any, layout, ValueType::f32, slots, true, true, before),
                 ValueType::f32)) < 2e-6);
}

// ---- absorb and expand
enum class Scales { none, pow2, odd };

struct Projections {
  int heads, nope, v, latent;
  Scales scales;
  ValueType type = ValueType::bf16;
  bool interleave = true;
  static constexpr int rope = 32;

  std::int64_t rows() const { return std::int64_t{heads} * (nope + v); }
  std::int64_t blocks() const { return (latent + kernels::kBlock - 1) / kernels::kBlock; }
};

struct KvB {
  Bytes values;
  std::vector<float> scale;
  Matrix matrix{};

  KvB(Data& data, const Projections& c) {
    values = data.values(c.rows() * c.latent, c.scales == Scales::none ? c.type : ValueType::e4m3,
                         c.scales == Scales::none ? 0.2f : 40.0f);
    scale.resize(static_cast<std::size_t>((c.rows() / kernels::kBlock + 1) * c.blocks()));
    for (float& x : scale) {
      x = std::ldexp(1.0f, data.integer(-9, -6));
      if (c.scales == Scales::odd) x *= data.integer(0, 3) == 0 ? -1.3f : 0.9f;
    }
    matrix = {.data = values.data(),
              .type = c.scales == Scales::none ? c.type : ValueType::e4m3,
              .stride = c.latent,
              .scale = reinterpret_cast<const std::byte*>(scale.data()),
              .scale_type = kernels::ScaleType::f32,
              .scale_stride = c.blocks(),
              .scales_are_pow2 = c.scales == Scales::pow2};
  }
  Matrix on(KernelMachine& gpu) const {
    Matrix m = matrix;
    m.data = gpu.put(values);
    m.scale = reinterpret_cast<const std::byte*>(gpu.put(scale));
    return m;
  }
};

Bytes gpu_absorb(KernelMachine& gpu, const Projections& c, const Matrix& kv_b, const Bytes& q,
                 const std::vector<float>& angles, int tokens) {
  const std::int64_t size = std::int64_t{tokens} * c.heads * (c.latent + c.rope);
  auto* out = gpu.empty_rows(size, c.type);
  gpu.run(cuda::MlaAbsorbArguments{.kv_b = kv_b,
                                   .q = gpu.put(q),
                                   .rope = gpu.put(angles),
                                   .q_latent = out,
                                   .type = c.type,
                                   .interleave = c.interleave,
                                   .num_tokens = tokens,
                                   .num_heads = c.heads,
                                   .nope = c.nope,
                                   .rope_dim = c.rope,
                                   .v = c.v,
                                   .latent = c.latent});
  return gpu.get_rows(out, size, c.type);
}

Bytes twin_absorb(const Projections& c, const Matrix& kv_b, const Bytes& q,
                  const std::vector<float>& angles, int tokens) {
  Bytes out(static_cast<std::size_t>(tokens * c.heads * (c.latent + c.rope) * bytes_of(c.type)));
  reference_twins().mla_absorb({.kv_b = kv_b,
                                .q = q.data(),
                                .rope = angles.data(),
                                .q_latent = out.data(),
                                .scratch = nullptr,
                                .type = c.type,
                                .interleave = c.interleave,
                                .num_tokens = tokens,
                                .num_heads = c.heads,
                                .nope = c.nope,
                                .rope_dim = c.rope,
                                .v = c.v,
                                .latent = c.latent,
                                .first_head = 0,
                                .last_head = c.heads});
  return out;
}

Bytes gpu_expand(KernelMachine& gpu, const Projections& c, const Matrix& kv_b, const Bytes& x,
                 int tokens) {
  const std::int64_t size = std::int64_t{tokens} * c.heads * c.v;
  auto* out = gpu.empty_rows(size, c.type);
  gpu.run(cuda::MlaExpandArguments{.kv_b = kv_b,
                                   .out_latent = gpu.put(x),
                                   .out = out,
                                   .type = c.type,
                                   .num_tokens = tokens,
                                   .num_heads = c.heads,
                                   .nope = c.nope,
                                   .v = c.v,
                                   .latent = c.latent});
  return gpu.get_rows(out, size, c.type);
}

Bytes twin_expand(const Projections& c, const Matrix& kv_b, const Bytes& x, int tokens) {
  Bytes out(static_cast<std::size_t>(tokens * c.heads * c.v * bytes_of(c.type)));
  reference_twins().mla_expand({.kv_b = kv_b,
                                .out_latent = x.data(),
                                .out = out.data(),
                                .scratch = nullptr,
                                .type = c.type,
                                .num_tokens = tokens,
                                .num_heads = c.heads,
                                .nope = c.nope,
                                .v = c.v,
                                .latent = c.latent,
                                .first_head = 0,
                                .last_head = c.heads});
  return out;
}

// Against the twin with the most tokens, and the first token's bits with fewer.
void check_projections(Data& data, const Projections& c, std::span<const int> counts) {
  const int most = *std::max_element(counts.begin(), counts.end());
  const KvB kv_b(data, c);
  const Bytes q = data.values(std::int64_t{most} * c.heads * (c.nope + c.rope), c.type);
  const Bytes x = data.values(std::int64_t{most} * c.heads * c.latent, c.type);
  const auto angles = data.rope(most, c.rope);
  Bytes first_absorbed, first_expanded;
  for (const int tokens : counts) {
    INFO("heads " << c.heads << ", nope " << c.nope << ", v " << c.v << ", latent " << c.latent
                  << ", scales " << int(c.scales) << ", " << tokens << " tokens");
    KernelMachine gpu(static_cast<std::uint64_t>(tokens));
    const Matrix on_gpu = kv_b.on(gpu);
    const Bytes absorbed = gpu_absorb(gpu, c, on_gpu, q, angles, tokens);
    const Bytes expanded = gpu_expand(gpu, c, on_gpu, x, tokens);
    if (first_absorbed.empty()) {
      const auto rows = static_cast<std::ptrdiff_t>(tokens);
      first_absorbed.assign(absorbed.begin(), absorbed.begin() + std::ssize(absorbed) / rows);
      first_expanded.assign(expanded.begin(), expanded.begin() + std::ssize(expanded) / rows);
    }
    REQUIRE(std::memcmp(absorbed.data(), first_absorbed.data(), first_absorbed.size()) == 0);
    REQUIRE(std::memcmp(expanded.data(), first_expanded.data(), first_expanded.size()) == 0);
    if (tokens != most && tokens != counts[0]) continue;
    CHECK(deviation(read(absorbed, c.type), read(twin_absorb(c, kv_b.matrix, q, angles, tokens),
                                                 c.type)) < tolerance(c.type));
    CHECK(deviation(read(expanded, c.type), read(twin_expand(c, kv_b.matrix, x, tokens), c.type)) <
          tolerance(c.type));
  }
}

TEST_CASE("absorb and expand equal their twins, a token alone or among others", "[quick]") {
  Data data(222);
  const int counts[] = {1, 5, 33};
  check_projections(data, {2, 24, 20, 64, Scales::none}, counts);
  check_projections(data, {2, 24, 20, 64, Scales::none, ValueType::f32, false}, counts);
  check_projections(data, {2, 34, 70, 160, Scales::pow2}, counts);
  check_projections(data, {2, 34, 70, 160, Scales::odd, ValueType::bf16, false}, counts);
}

TEST_CASE("absorb and expand at every edge of a tile, and at full width") {
  Data data(223);
  check_projections(data, {1, 20, 21, 36, Scales::odd}, kOddRows);
  const int counts[] = {1, 3};
  check_projections(data, {3, 128, 128, 512, Scales::pow2}, counts);
  check_projections(data, {3, 130, 130, 320, Scales::none, ValueType::f32}, counts);
}

}  // namespace
}  // namespace dsv32::test
