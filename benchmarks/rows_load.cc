// Opening and loading checkpoints, and the memory that a loaded model takes.
#include <algorithm>
#include <atomic>
#include <cstdlib>
#include <fcntl.h>
#include <filesystem>
#include <fstream>
#include <string>
#include <thread>
#include <unistd.h>
#include <vector>

#include "dsv32/checkpoint.h"
#include "dsv32/model.h"
#include "dsv32/session.h"

#include "benchmarks/harness.h"
#include "lib/base/check.h"
#include "lib/model/forward.h"

namespace dsv32::bench {
namespace {

namespace fs = std::filesystem;

constexpr double kMegabyte = 1e6;
constexpr int kColdRounds = 3;  // the disk's speed moves more than anything else

// Checkpoints that bench.sh makes: `fake` has every tensor of DeepSeek-V3.2 and no values, `real`
// has few layers of real width, `layer` one with all 256 experts. Smoke runs take the bundled
// model.
fs::path model_folder(const Bench& bench, const char* name) {
  if (bench.smoke()) return fs::path(DSV32_SOURCE_DIR) / "examples/tiny_model";
  const char* models = std::getenv("DSV32_BENCH_MODELS");
  return (models ? fs::path(models) : fs::path(DSV32_SOURCE_DIR) / "build/bench-models") / name;
}

// Bytes of a line of /proc/self/status.
double status_bytes(const std::string& key) {
  std::ifstream file("/proc/self/status");
  for (std::string line; std::getline(file, line);) {
    if (line.starts_with(key)) return 1024 * std::atof(line.c_str() + key.size() + 1);
  }
  return 0;
}

double anonymous() { return status_bytes("RssAnon"); }

std::string no_model(const fs::path& folder) {
  return fs::exists(folder / "config.json") ? "" : "there is no " + folder.string();
}

// Milliseconds over 50 ms + 2 us a tensor.
double allowed_part(double seconds, std::size_t tensors) {
  return seconds / (0.050 + 2e-6 * static_cast<double>(tensors));
}

Result open_index(Bench& bench) {
  const fs::path folder = model_folder(bench, "fake");
  if (const std::string no = no_model(folder); !no.empty()) return skipped(no);
  std::size_t tensors = 0;
  const double before = anonymous();
  double grown = 0;
  const double time = bench.best([&] {
    const Checkpoint checkpoint = Checkpoint::open(folder);
    tensors = checkpoint.tensors().size();
    grown = std::max(grown, anonymous() - before);
  });
  return {.value = allowed_part(time, tensors),
          .note = formatted("{} tensors in {:.0f} ms, {:.0f} MB of memory", tensors, 1e3 * time,
                            grown / kMegabyte)};
}

LoadOptions load_options(const Bench& bench) {
  return {.backend = bench.backend_options(0),
          .kv_cache_tokens = 4096,
          .max_batch_tokens = bench.pick(2048, 64)};
}

Result load_model(Bench& bench) {
  const fs::path folder = model_folder(bench, "real");
  if (const std::string no = no_model(folder); !no.empty()) return skipped(no);
  const Checkpoint checkpoint = Checkpoint::open(folder);
  const std::size_t tensors = checkpoint.tensors().size();
  double copied = 0, weights = 0;
  const double before = anonymous();
  const double time = bench.best([&] {
    const Model model = Model::load(folder, load_options(bench));
    const MemoryUsage use = model.memory_usage();
    weights = static_cast<double>(use.weight_bytes);
    copied = std::max(copied, anonymous() - before);
  });
  return {.value = allowed_part(time, tensors),
          .note = formatted("{} tensors, {:.2f} GB mapped, {:.0f} MB of memory touched, {:.0f} ms",
                            tensors, weights / 1e9, copied / kMegabyte, 1e3 * time)};
}

// A file of weights with a descriptor, and so a read-ahead, of its own.
class WeightFile {
 public:
  explicit WeightFile(const fs::path& path)
      : fd_(open(path.c_str(), O_RDONLY | O_CLOEXEC)), size_(fs::file_size(path)) {
    DSV32_CHECK(fd_ >= 0, io, "cannot open {}", path.string());
  }
  ~WeightFile() { close(fd_); }
  WeightFile(const WeightFile&) = delete;
  WeightFile& operator=(const WeightFile&) = delete;
  std::size_t size() const { return size_; }

  // Out of the page cache: the next reader reads the disk. Needs no rights, but clean pages.
  void forget() const {
    fdatasync(fd_);
    posix_fadvise(fd_, 0, 0, POSIX_FADV_DONTNEED);
  }
  void read(std::size_t first, std::size_t last) const {
    std::vector<char> buffer(kPiece);
    for (std::size_t at = first; at < last; at += kPiece) {
      const std::size_t count = std::min(kPiece, last - at);
      const ssize_t n = pread(fd_, buffer.data(), count, static_cast<off_t>(at));
      DSV32_CHECK(n == static_cast<ssize_t>(count), io, "a weight file ends early");
    }
  }

 private:
  static constexpr std::size_t kPiece = std::size_t{4} << 20;
  int fd_;
  std::size_t size_;
};

std::vector<fs::path> weight_paths(const fs::path& folder) {
  std::vector<fs::path> paths;
  for (const fs::directory_entry& entry : fs::directory_iterator(folder)) {
    if (entry.path().extension() == ".safetensors") paths.push_back(entry.path());
  }
  return paths;
}

double weight_bytes(const std::vector<fs::path>& paths) {
  double bytes = 0;
  for (const fs::path& path : paths) bytes += static_cast<double>(fs::file_size(path));
  return bytes;
}

void forget(const std::vector<fs::path>& paths) {
  for (const fs::path& path : paths) WeightFile(path).forget();
}

// Seconds of reading every file, one after the other, each by `threads` threads that have a part.
double read_seconds(const std::vector<fs::path>& paths, int threads) {
  const double start = now();
  for (const fs::path& path : paths) {
    std::vector<std::jthread> readers;
    for (int i = 0; i < threads; ++i) {
      readers.emplace_back([&path, i, threads] {
        const WeightFile file(path);
        const auto part = [&](int k) {
          return file.size() * static_cast<std::size_t>(k) / static_cast<std::size_t>(threads);
        };
        file.read(part(i), part(i + 1));
      });
    }
  }
  return now() - start;
}

// Up to the moment when the first token could be asked for. Void if weights were copied.
Result load_layer(Bench& bench) {
  const fs::path folder = model_folder(bench, "layer");
  if (const std::string no = no_model(folder); !no.empty()) return skipped(no);
  LoadOptions options = load_options(bench);
  options.allow_paging = true;
  const std::vector<fs::path> files = weight_paths(folder);
  const Checkpoint checkpoint = Checkpoint::open(folder);
  const std::size_t tensors = checkpoint.tensors().size();
  const double before = anonymous();
  double touched = 0;
  const auto load = [&] {
    const double start = now();
    const Model model = Model::load(folder, options);
    touched = std::max(touched, anonymous() - before);
    return now() - start;
  };
  forget(files);
  const double cold = load(), warm = bench.best(load);
  const double bytes = weight_bytes(files);
  const std::string note = formatted(
      "{} tensors, {:.2f} GB mapped, {:.0f} MB of memory touched, {:.0f} ms; {:.0f} ms "
      "with nothing of the files in memory",
      tensors, bytes / 1e9, touched / kMegabyte, 1e3 * warm, 1e3 * cold);
  if (touched > 0.02 * bytes && !bench.smoke()) return missed("void, copied: " + note);
  return {.value = allowed_part(warm, tensors), .note = note};
}

// Loading with every weight touched, from the disk, in turns with plain reads of the same files.
Result load_cold(Bench& bench) {
  const fs::path folder = model_folder(bench, "layer");
  if (const std::string no = no_model(folder); !no.empty()) return skipped(no);
  LoadOptions options = load_options(bench);
  options.allow_paging = options.preload = true;
  const std::vector<fs::path> files = weight_paths(folder);
  const int threads = usable_cores();
  const Paired p = bench.compare(
      [&] {
        forget(files);
        return read_seconds(files, threads);
      },
      [&] {
        forget(files);
        const double start = now();
        static_cast<void>(Model::load(folder, options));
        return now() - start;
      },
      kColdRounds);
  const double bytes = weight_bytes(files);
  return {.value = p.ratio,
          .note = formatted("{:.2f} GB at {:.2f} GB/s, the disk {:.2f}; {}", bytes / 1e9,
                            bytes / p.reference / 1e9, bytes / p.time / 1e9, p.text())};
}

// The most anonymous memory that this process has had while this lives.
class PeakMemory {
 public:
  PeakMemory()
      : thread_([this](const std::stop_token& stop) {
          while (!stop.stop_requested()) {
            peak_ = std::max(peak_.load(), anonymous());
            std::this_thread::sleep_for(std::chrono::milliseconds(1));
          }
        }) {}
  double bytes() const { return std::max(peak_.load(), anonymous()); }

 private:
  std::atomic<double> peak_{0};
  std::jthread thread_;
};

// The peak of anonymous memory above weights and cache, from before loading. Buffers do not grow
// with the number of layers, and the index of all 92,425 tensors is held beside them, so what may
// be used is a part of all of DeepSeek-V3.2's weights.
Result memory_overhead(Bench& bench) {
  constexpr double kWeights = 671.9e9;
  const fs::path folder = model_folder(bench, "real"), all = model_folder(bench, "fake");
  if (const std::string no = no_model(folder); !no.empty()) return skipped(no);
  if (const std::string no = no_model(all); !no.empty()) return skipped(no);
  const double before = anonymous();
  const PeakMemory peak;
  const Checkpoint index = Checkpoint::open(all);
  const double indexed = anonymous() - before;
  const Model model = Model::load(folder, load_options(bench));
  Session session(model);
  const std::vector<TokenId> prompt(static_cast<std::size_t>(bench.pick(256, 16)), 5);
  session.append(prompt);
  const MemoryUsage use = model.memory_usage();
  // Pages of buffers that this prompt was too short to touch count, too.
  const double touched = peak.bytes() - before - static_cast<double>(use.kv_cache_bytes);
  const double overhead = std::max(touched, indexed + static_cast<double>(use.activation_bytes));
  return {.value = overhead / (0.02 * kWeights + 256 * 1024 * 1024),
          .note = formatted("{:.0f} MB planned and {:.0f} MB of index; peak of a short prompt "
                            "{:.0f} MB",
                            static_cast<double>(use.activation_bytes) / kMegabyte,
                            indexed / kMegabyte, touched / kMegabyte)};
}

Result kv_bytes(Bench&) {
  const std::size_t page = cache_bytes(ModelConfig{}, {.buffers = {}, .num_pages = 1});
  return {.value = static_cast<double>(page) / kernels::kPageSize,
          .note = "61 layers of 656 + 132"};
}

const Register rows([](std::vector<Row>& out) {
  out.push_back({.name = "load_index",
                 .shape = "163 files, 92,425 tensors: every header read and checked",
                 .unit = "of 50 ms + 2 us a tensor",
                 .goal = 1,
                 .higher_is_better = false,
                 .basis = "nothing is read but headers",
                 .run = open_index});
  out.push_back({.name = "load_model",
                 .shape = "2 layers of real width, bound and ready to run",
                 .unit = "of 50 ms + 2 us a tensor",
                 .goal = 1,
                 .higher_is_better = false,
                 .basis = "weights stay where they lie: no copy",
                 .run = load_model});
  out.push_back({.name = "load_mmap_ready",
                 .shape = "one layer with 256 experts, 11.6 GB, bound and ready to run",
                 .unit = "of 50 ms + 2 us a tensor",
                 .goal = 1,
                 .higher_is_better = false,
                 .basis = "weights stay where they lie: no copy",
                 .run = load_layer});
  out.push_back({.name = "load_mmap_cold",
                 .shape = "the same from the disk, every weight touched (LoadOptions::preload)",
                 .unit = "of the disk's speed",
                 .goal = 0.9,
                 .basis = "plain reads of the same files by as many threads as there are cores",
                 .run = load_cold});
  out.push_back({.name = "memory_overhead",
                 .shape = "real width, 2,048 tokens a pass",
                 .unit = "of 2 % of 671.9 GB + 256 MiB",
                 .goal = 1,
                 .higher_is_better = false,
                 .basis = "activations, scratch and index: all that is neither weights nor cache",
                 .run = memory_overhead});
  out.push_back({.name = "kv_bytes_a_token",
                 .shape = "DeepSeek-V3.2, FP8 cache",
                 .unit = "bytes",
                 .goal = 48068,
                 .higher_is_better = false,
                 .basis = "exactly 61 x (656 + 132)",
                 .run = kv_bytes});
});

}  // namespace
}  // namespace dsv32::bench
