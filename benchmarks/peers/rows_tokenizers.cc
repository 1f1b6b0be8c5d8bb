// Encoding against PyPI's tokenizers and tiktoken, on the texts of the tokenizer rows, one thread.
#include <algorithm>
#include <cstdio>
#include <cstdlib>
#include <filesystem>
#include <fstream>
#include <iterator>
#include <memory>
#include <string>

#include "dsv32/tokenizer.h"

#include "benchmarks/harness.h"
#include "lib/base/check.h"

namespace dsv32::bench {
namespace {

namespace fs = std::filesystem;

struct ClosePipe {
  void operator()(std::FILE* file) const { pclose(file); }
};

// Seconds that time_tokenizer.py prints; negative if it fails.
double peer_seconds(const std::string& kind, const fs::path& tokenizer, const fs::path& text,
                    long* tokens) {
  const char* python = std::getenv("DSV32_BENCH_PYTHON");
  const std::string command =
      formatted("RAYON_NUM_THREADS=1 TOKENIZERS_PARALLELISM=false {} {} {} {} {} 2>/dev/null",
                python ? python : "python3",
                (fs::path(DSV32_SOURCE_DIR) / "benchmarks/peers/time_tokenizer.py").string(), kind,
                tokenizer.string(), text.string());
  const std::unique_ptr<std::FILE, ClosePipe> pipe(popen(command.c_str(), "r"));
  double seconds = -1;
  if (!pipe || std::fscanf(pipe.get(), "%lf %ld", &seconds, tokens) != 2) return -1;
  return seconds;
}

Result against(Bench& bench, const std::string& kind, const std::string& name) {
  if (bench.smoke()) return skipped("a peer has no smoke run");
  const char* folder = std::getenv("DSV32_BENCH_TEXTS");
  const fs::path texts =
      folder ? fs::path(folder) : fs::path(DSV32_SOURCE_DIR) / "build/bench-texts";
  const fs::path file = texts / "tokenizer.json", text_file = texts / (name + ".txt");
  if (!fs::exists(file) || !fs::exists(text_file)) return skipped("there is no " + file.string());
  std::ifstream stream(text_file, std::ios::binary);
  const std::string text{std::istreambuf_iterator<char>(stream), {}};
  const Tokenizer tokenizer = Tokenizer::load(file);
  long theirs = 0;
  if (peer_seconds(kind, file, text_file, &theirs) < 0) return skipped(kind + " does not run");
  std::size_t ours = 0;
  const Paired p = bench.compare(
      [&] { return peer_seconds(kind, file, text_file, &theirs); },
      [&] {
        double fastest = 1e9;
        for (int i = 0; i < 3; ++i) {
          const double start = now();
          ours = tokenizer.encode(text, true).size();  // as the peer: with special tokens
          fastest = std::min(fastest, now() - start);
        }
        return fastest;
      });
  const double megabytes = static_cast<double>(text.size()) / 1e6;
  return {.value = p.ratio,
          .note = formatted("{} {:.2f} MB/s, here {:.1f}; {} and {} tokens; {}", kind,
                            megabytes / p.time, megabytes / p.reference, theirs, ours, p.text())};
}

const Register registered([](std::vector<Row>& out) {
  for (const char* name : {"en", "code", "zh"}) {
    for (const std::string kind : {"hf", "tiktoken"}) {
      out.push_back({.name = formatted("peer_tokenizer_{}_{}", kind, name),
                     .shape = formatted("encoding {}.txt, DeepSeek's vocabulary, 1 thread", name),
                     .unit = kind == "hf" ? "times tokenizers" : "times tiktoken",
                     .goal = kind == "hf" ? 8.0 : 2.0,
                     .basis = "tokenizers allocates for every piece; tiktoken matches by a regex",
                     .run = [=](Bench& bench) { return against(bench, kind, name); }});
    }
  }
});

}  // namespace
}  // namespace dsv32::bench
