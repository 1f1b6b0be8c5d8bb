// The control of sparse attention: the library with other scores than the indexer's, so that all
// else stays: top-k, attention, cache. A model that finds a fact with these has not needed its
// indexer.
// usage: dsv32_selection MODEL window|random|indexer MAX_TOKENS < lists of ids, one a line
// Prints the greedy answer of each prompt as a list of ids, one a line.
#include <cstring>
#include <iostream>
#include <limits>
#include <string>
#include <string_view>
#include <vector>

#include "dsv32/session.h"

#include "lib/base/check.h"
#include "lib/base/json.h"

#include "kernels/cpu/table.h"

namespace {

using dsv32::kernels::CpuFeatures;
using dsv32::kernels::CpuKernels;
using dsv32::kernels::CpuTables;
using dsv32::kernels::IndexScoresParams;

// The nearest keys are the best.
void window_scores(const IndexScoresParams& p) {
  for (int i = p.first; i < p.last; ++i) p.scores[i] = static_cast<float>(i);
}

std::uint64_t mix(std::uint64_t z) {
  z = (z ^ (z >> 30)) * 0xBF58476D1CE4E5B9u;
  z = (z ^ (z >> 27)) * 0x94D049BB133111EBu;
  return z ^ (z >> 31);
}

// Another draw for each query and layer: the bits of the query are the seed.
void random_scores(const IndexScoresParams& p) {
  std::uint64_t seed = 0;
  for (int i = 0; i < p.num_heads; ++i) {
    std::uint32_t bits = 0;
    std::memcpy(&bits, p.weights + i, sizeof(bits));
    seed = mix(seed + bits + 0x9E3779B97F4A7C15u);
  }
  for (int i = p.first; i < p.last; ++i) {
    p.scores[i] = static_cast<float>(mix(seed + static_cast<std::uint64_t>(i)) >> 40);
  }
}

void (*g_scores)(const IndexScoresParams&) = nullptr;

std::vector<dsv32::TokenId> ids_of(const std::string& line) {
  std::vector<dsv32::TokenId> ids;
  for (const dsv32::Json& item : dsv32::parse_json(line, "ids").items) {
    ids.push_back(static_cast<dsv32::TokenId>(dsv32::parse_i64(item.text, "id")));
  }
  return ids;
}

}  // namespace

// The linker sends the library's calls here (-Wl,--wrap): every kernel set with these scores.
extern "C" {
CpuTables real_tables(CpuFeatures) asm("__real__ZN5dsv327kernels15cpu_tables_withEj");
CpuTables control_tables(CpuFeatures) asm("__wrap__ZN5dsv327kernels15cpu_tables_withEj");
}
CpuTables control_tables(CpuFeatures have) {
  static CpuKernels copies[std::size(CpuTables{}.tables)];
  CpuTables tables = real_tables(have);
  for (int i = 0; i < tables.count && g_scores != nullptr; ++i) {
    copies[i] = *tables.tables[i];
    copies[i].index_scores = g_scores;
    tables.tables[i] = &copies[i];
  }
  return tables;
}

int main(int argc, char** argv) try {
  DSV32_CHECK(argc == 4, invalid_argument,
              "usage: dsv32_selection MODEL window|random|indexer MAX_TOKENS < lists of ids");
  const std::string_view mode = argv[2];
  DSV32_CHECK(mode == "window" || mode == "random" || mode == "indexer", invalid_argument,
              "{} is no selection", argv[2]);
  if (mode != "indexer") g_scores = mode == "window" ? window_scores : random_scores;
  const auto model = dsv32::Model::load(
      argv[1], {.backend = {.num_threads = 1}, .kv_cache_tokens = 8192, .require_sparse = true});
  dsv32::GenerateOptions options;
  options.sampling = dsv32::SamplingParams{.temperature = 0.0f};
  options.max_tokens = static_cast<std::size_t>(dsv32::parse_u64(argv[3], "MAX_TOKENS"));
  for (std::string line; std::getline(std::cin, line);) {
    dsv32::Session session(model);
    const dsv32::Generation generation = session.generate(ids_of(line), options);
    std::cout << '[';
    for (std::size_t i = 0; i < generation.tokens.size(); ++i) {
      std::cout << (i == 0 ? "" : ", ") << generation.tokens[i];
    }
    std::cout << "]\n" << std::flush;
  }
  return 0;
} catch (const dsv32::Error& error) {
  std::cerr << "dsv32_selection: " << error.what() << '\n';
  return 1;
}
