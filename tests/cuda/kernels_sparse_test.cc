// sparse_mla on the emulated GPU: every cache format and width against the twin, in any company.
#include <algorithm>
#include <cstring>

#include "tests/cuda/kernels_machine.h"
#include "tests/kernels/store_data.h"

namespace dsv32::test {
namespace {

using kernels::CacheLayout;
using Format = CacheLayout::Format;

Bytes twin_pages(const StoreInput& in, const CacheLayout& layout, ValueType type,
                 const std::vector<std::int32_t>& slots) {
  const Bytes kv = Data::stored(in.rows, type);
  Bytes pages(slots.size() * static_cast<std::size_t>(layout.latent_record()));
  reference_twins().mla_store({.kv = kv.data(),
                               .gain = in.gain.data(),
                               .rope = in.rope.data(),
                               .slots = slots.data(),
                               .latent = pages.data(),
                               .layout = layout,
                               .type = type,
                               .pow2 = true,
                               .interleave = true,
                               .num_tokens = static_cast<int>(slots.size())});
  return pages;
}

struct Attention {
  CacheLayout layout;
  ValueType type;
  int heads;
  std::vector<int> lengths;  // of each query's list
  int top;
  float scale = 0.11f;

  int queries() const { return static_cast<int>(lengths.size()); }
  std::int64_t out_size() const { return std::int64_t{queries()} * heads * layout.latent; }
};

struct AttentionData {
  Bytes pages, q;
  std::vector<std::int32_t> indices;

  AttentionData(Data& data, const Attention& c, int slots, float size) {
    const int latent = c.layout.latent, rope = c.layout.rope;
    std::vector<std::int32_t> all;
    for (int i = 0; i < slots; ++i) all.push_back((i * 7 + 3) % slots);
    pages =
        twin_pages(random_input(data, slots, latent + rope, latent, rope), c.layout, c.type, all);
    q = data.values(std::int64_t{c.queries()} * c.heads * (latent + rope), c.type, size);
    for (const int length : c.lengths) {
      for (int i = 0; i < c.top; ++i) {
        indices.push_back(i < length ? all[static_cast<std::size_t>((i * 5) % slots)] : -1);
      }
    }
  }
};

// With so many heads a block on tensor cores; 0: as many as the launch says.
Bytes gpu_attend(KernelMachine& gpu, const Attention& c, const AttentionData& in,
                 int block_heads = 0) {
  auto* out = gpu.empty_rows(c.out_size(), c.type);
  const cuda::SparseMlaArguments args{.q = gpu.put(in.q),
                                      .latent = gpu.put(in.pages),
                                      .indices = gpu.put(in.indices),
                                      .out = out,
                                      .layout = c.layout,
                                      .type = c.type,
                                      .num_tokens = c.queries(),
                                      .num_heads = c.heads,
                                      .top_k = c.top,
                                      .scale = c.scale,
                                      .bf16_probabilities = c.layout.is_deployed(),
                                      .block_heads = 64};
  gpu.run(block_heads == 0 ? launch_of(args) : launch_sparse_mla_mma(args, block_heads), args);
  return gpu.get_rows(out, c.out_size(), c.type);
}

void check_attention(Data& data, const Attention& c, float size = 0.5f, std::uint64_t seed = 1,
                     int block_heads = 0) {
  INFO("format " << int(c.layout.format) << ", latent " << c.layout.latent << ", rope "
                 << c.layout.rope << ", " << c.heads << " heads, size " << size);
  const AttentionData in(data, c, 211, size);
  KernelMachine gpu(seed);
  const Bytes got = gpu_attend(gpu, c, in, block_heads);
  Bytes want(got.size());
  reference_twins().sparse_mla({.q = in.q.data(),
                                .latent = in.pages.data(),
                                .indices = in.indices.data(),
                                .out = want.data(),
                                .scratch = nullptr,
                                .layout = c.layout,
                                .type = c.type,
                                .num_tokens = c.queries(),
                                .num_heads = c.heads,
                                .top_k = c.top,
                                .first_head = 0,
                                .last_head = c.heads,
                                .scale = c.scale,
                                .bf16_probabilities = c.layout.is_deployed()});
  CHECK(deviation(read(got, c.type), read(want, c.type)) < 3 * tolerance(c.type));
  const auto row = std::ssize(got) / c.queries();
  for (int t = 0; t < c.queries(); ++t) {
    if (c.lengths[static_cast<std::size_t>(t)] > 0) continue;  // no key, no value
    CHECK(std::all_of(got.begin() + t * row, got.begin() + (t + 1) * row,
                      [](std::byte b) { return b == std::byte{0}; }));
  }
}

TEST_CASE("sparse_mla equals its twin in every cache format", "[quick]") {
  Data data(224);
  const std::vector<int> lengths = {100, 7, 0, 64};
  check_attention(data, {{Format::fp8, 128, 32, 0}, ValueType::bf16, 4, lengths, 100});
  check_attention(data, {{Format::fp8, 160, 16, 0}, ValueType::bf16, 3, lengths, 100}, 20.0f, 2);
  check_attention(data, {{Format::bf16, 32, 16, 0}, ValueType::bf16, 9, lengths, 100});
  check_attention(data, {{Format::f32, 96, 16, 0}, ValueType::f32, 5, lengths, 100}, 0.5f, 3);
  check_attention(data, {{Format::f32, 33, 10, 0}, ValueType::f32, 2, lengths, 100});
}

TEST_CASE("sparse_mla equals its twin at the deployed widths") {
  Data data(225);
  const std::vector<int> lengths = {130, 0, 63};
  check_attention(data, {{Format::fp8, 512, 64, 0}, ValueType::bf16, 16, lengths, 192});
  check_attention(data, {{Format::fp8, 512, 64, 0}, ValueType::bf16, 11, lengths, 192}, 80.0f);
  check_attention(data, {{Format::bf16, 512, 64, 0}, ValueType::bf16, 3, lengths, 192});
  check_attention(data, {{Format::f32, 512, 64, 0}, ValueType::f32, 3, lengths, 192});
}

// More heads than a block has, and fewer; heads of small and of very large scores.
TEST_CASE("sparse_mla equals its twin for any number of heads") {
  Data data(228);
  const CacheLayout layout{Format::fp8, 512, 64, 0};
  for (const int heads : {1, 17, 33, 65}) {
    check_attention(data, {layout, ValueType::bf16, heads, {70, 32, 1, 0, 31, 33}, 70},
                    heads == 33 ? 200.0f : 0.01f, static_cast<std::uint64_t>(heads),
                    heads == 17   ? 32
                    : heads == 65 ? 64
                                  : 16);
  }
}

TEST_CASE("heads of a block change no bit", "[quick]") {
  Data data(229);
  const Attention c{{Format::fp8, 512, 64, 0}, ValueType::bf16, 40, {100, 0, 37}, 100};
  const AttentionData in(data, c, 211, 0.5f);
  KernelMachine gpu;
  const Bytes wide = gpu_attend(gpu, c, in, 64);
  CHECK((gpu_attend(gpu, c, in, 32) == wide));
  CHECK((gpu_attend(gpu, c, in, 16) == wide));
}

TEST_CASE("sparse_mla equals its twin at full size") {
  Data data(230);
  Attention c{{Format::fp8, 512, 64, 0}, ValueType::bf16, 128, {2048}, 2048, 0.13f};
  for (const int heads : {16, 64}) check_attention(data, c, 0.5f, 1, heads);
}

TEST_CASE("few queries have more blocks, many have more heads a block", "[quick]") {
  cuda::SparseMlaArguments a{};
  a.num_tokens = 1, a.num_heads = 128, a.block_heads = 64;
  CHECK(sparse_mla_heads(a) == 16);
  a.num_tokens = 14;
  CHECK(sparse_mla_heads(a) == 32);
  a.num_tokens = 28;
  CHECK(sparse_mla_heads(a) == 64);
  a.block_heads = 32;
  CHECK(sparse_mla_heads(a) == 32);
  a.num_heads = 12;
  CHECK(sparse_mla_heads(a) == 16);
}

void check_company(Data& data, const CacheLayout& layout) {
  Attention c{layout, ValueType::bf16, 4, {}, 70};
  for (int t = 0; t < 9; ++t) c.lengths.push_back(t == 0 ? 70 : data.integer(0, 70));
  const AttentionData all(data, c, 211, 0.5f);
  Bytes alone;
  for (const int queries : {1, 2, 9}) {
    for (const int top : {70, 128}) {
      Attention part = c;
      part.lengths.resize(static_cast<std::size_t>(queries));
      part.top = top;
      AttentionData in = all;
      in.indices.clear();
      for (int t = 0; t < queries; ++t) {
        for (int i = 0; i < top; ++i)
          in.indices.push_back(i < 70 ? all.indices[static_cast<std::size_t>(t * 70 + i)] : -1);
      }
      KernelMachine gpu(static_cast<std::uint64_t>(queries + top));
      const Bytes got = gpu_attend(gpu, part, in);
      if (alone.empty()) alone = got;
      REQUIRE(std::memcmp(got.data(), alone.data(), alone.size()) == 0);
    }
  }
}

TEST_CASE("a query's attention is the same bits in any company and list width", "[quick]") {
  Data data(226);
  check_company(data, {Format::fp8, 64, 16, 0});
  check_company(data, {Format::fp8, 512, 64, 0});
}

void check_spoilt(Data& data, const CacheLayout& layout) {
  Attention c{layout, ValueType::bf16, 4, {100, 100, 100}, 100};
  for (const int entry : {0, 50, 99}) {
    AttentionData in(data, c, 211, 0.5f);
    for (std::int32_t& slot : in.indices) slot = slot == 7 ? 8 : slot;
    in.indices[static_cast<std::size_t>(100 + entry)] = 7;
    KernelMachine gpu;
    const auto want = read(gpu_attend(gpu, c, in), c.type);
    in.pages[static_cast<std::size_t>(7 * c.layout.latent_record() + 100)] = std::byte{0xFF};
    const auto got = read(gpu_attend(gpu, c, in), c.type);
    const std::size_t row = got.size() / 3;
    bool others = true, own = true;
    for (std::size_t i = 0; i < got.size(); ++i) {
      if (i / row == 1) own = own && std::isnan(got[i]);
      if (i / row != 1) others = others && got[i] == want[i];
    }
    INFO("entry " << entry);
    CHECK(own);
    CHECK(others);
  }
}

TEST_CASE("a record that is no number spoils the queries that read it, and no other", "[quick]") {
  Data data(227);
  check_spoilt(data, {Format::fp8, 128, 32, 0});
  check_spoilt(data, {Format::fp8, 512, 64, 0});
}

}  // namespace
}  // namespace dsv32::test
