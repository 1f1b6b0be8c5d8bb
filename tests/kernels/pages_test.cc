// Bytes of cache pages against the twin's: exact where every sum is exact, whatever its order; else
// equal but for the few values that lie on the edge between two codes, which are neighbours then.
#include <algorithm>

#include "tests/kernels/store_data.h"

namespace dsv32::test {
namespace {

using Format = kernels::CacheLayout::Format;
using kernels::CacheLayout;
using kernels::CpuKernels;
using kernels::kPageSize;

constexpr int kTokens = 256;

std::vector<std::int32_t> backwards() {
  std::vector<std::int32_t> slots;
  for (int t = 0; t < kTokens; ++t) slots.push_back(kTokens - 1 - t);
  return slots;
}

Bytes index_pages(const CpuKernels& kernel, const StoreInput& in, const CacheLayout& layout,
                  bool pow2, bool interleave) {
  const Bytes k = Data::stored(in.rows, ValueType::bf16);
  const auto slots = backwards();
  Bytes pages(static_cast<std::size_t>(kTokens / kPageSize * layout.index_page()));
  kernel.index_store({.k = k.data(),
                      .gain = in.gain.data(),
                      .bias = in.bias.data(),
                      .rope = in.rope.data(),
                      .slots = slots.data(),
                      .pages = pages.data(),
                      .layout = layout,
                      .type = ValueType::bf16,
                      .pow2 = pow2,
                      .interleave = interleave,
                      .num_tokens = kTokens});
  return pages;
}

Bytes latent_pages(const CpuKernels& kernel, const StoreInput& in, const CacheLayout& layout,
                   bool pow2) {
  const Bytes kv = Data::stored(in.rows, ValueType::bf16);
  const auto slots = backwards();
  Bytes pages(static_cast<std::size_t>(kTokens * layout.latent_record()));
  kernel.mla_store({.kv = kv.data(),
                    .gain = in.gain.data(),
                    .rope = in.rope.data(),
                    .slots = slots.data(),
                    .latent = pages.data(),
                    .layout = layout,
                    .type = ValueType::bf16,
                    .pow2 = pow2,
                    .num_tokens = kTokens});
  return pages;
}

// Of a hundred thousand bytes, some lie on an edge: f32 and double differ by 1e-7, and steps of
// BF16 are 4e-3 apart. An edge of BF16 before the Hadamard matrix may move a whole row by one code.
void check_nearly(const Bytes& pages, const Bytes& twin) {
  REQUIRE(pages.size() == twin.size());
  std::size_t differ = 0;
  for (std::size_t i = 0; i < pages.size(); ++i) differ += pages[i] == twin[i] ? 0 : 1;
  CHECK(static_cast<double>(differ) <= 1e-3 * static_cast<double>(pages.size()));
}

TEST_CASE("bytes of index pages are the twin's") {
  Data data(41);
  for_tables([&](const CpuKernels& table, const CpuKernels& reference) {
    for (const int dim : {32, 64, 128}) {
      const CacheLayout layout{Format::fp8, 0, dim / 2, dim};
      for (const bool pow2 : {true, false}) {
        for (const bool interleave : {true, false}) {
          INFO("width " << dim << ", pow2 " << pow2);
          const StoreInput exact = exact_input(data, kTokens, dim, dim, dim / 2);
          const bool same = index_pages(table, exact, layout, pow2, interleave) ==
                            index_pages(reference, exact, layout, pow2, interleave);
          CHECK(same);
          const StoreInput any = random_input(data, kTokens, dim, dim, dim / 2);
          check_nearly(index_pages(table, any, layout, pow2, interleave),
                       index_pages(reference, any, layout, pow2, interleave));
        }
      }
    }
  });
}

TEST_CASE("bytes of latent pages are the twin's") {
  Data data(42);
  for_tables([&](const CpuKernels& table, const CpuKernels& reference) {
    for (const int latent : {32, 160, 512}) {
      for (const Format format : {Format::fp8, Format::bf16}) {
        const CacheLayout layout{format, latent, 64, 0};
        for (const bool pow2 : {true, false}) {
          INFO("latent " << latent << ", format " << static_cast<int>(format) << ", pow2 " << pow2);
          const StoreInput exact = exact_input(data, kTokens, latent + 64, latent, 64);
          const bool same = latent_pages(table, exact, layout, pow2) ==
                            latent_pages(reference, exact, layout, pow2);
          CHECK(same);
          const StoreInput any = random_input(data, kTokens, latent + 64, latent, 64);
          check_nearly(latent_pages(table, any, layout, pow2),
                       latent_pages(reference, any, layout, pow2));
        }
      }
    }
  });
}

}  // namespace
}  // namespace dsv32::test
