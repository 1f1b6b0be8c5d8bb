#include "benchmarks/harness.h"

#include <algorithm>
#include <cmath>
#include <cstring>
#include <limits>
#include <sys/mman.h>
#include <utility>

#include "lib/backend/backend_kind.h"
#include "lib/backend/system.h"
#include "lib/base/check.h"
#include "lib/model/buffers.h"

namespace dsv32::bench {
namespace {

constexpr double kQuiet = 0.6;   // a reference below this part of the best seen is a loud moment
constexpr double kSteady = 0.8;  // and so are two neighbours that differ by more
constexpr int kEnough = 7;       // quiet rounds that make a value
constexpr double kReadPart = 8;  // of the region, one reference read
constexpr double kPeakSeconds = 0.004;
constexpr double kCallSeconds = 0.02;  // of one timed group of calls, at least

double quantile(std::vector<double> values, double q) {
  if (values.empty()) return 0;
  std::sort(values.begin(), values.end());
  const double place = q * static_cast<double>(values.size() - 1);
  const auto low = static_cast<std::size_t>(place);
  const std::size_t high = std::min(low + 1, values.size() - 1);
  return values[low] + (values[high] - values[low]) * (place - static_cast<double>(low));
}

// Rounds in the order in which they were taken; loud ones kept apart.
struct Rounds {
  std::vector<double> ratio, time, reference;
  std::vector<double> loud_ratio, loud_time, loud_reference;

  void add(bool quiet, double r, double t, double ref) {
    (quiet ? ratio : loud_ratio).push_back(r);
    (quiet ? time : loud_time).push_back(t);
    (quiet ? reference : loud_reference).push_back(ref);
  }
  Paired summary() const {
    // One round of a long call is no sign of noise.
    const bool loud = ratio.size() < 3 && loud_ratio.size() >= ratio.size();
    const auto& r = ratio.empty() ? loud_ratio : ratio;
    const auto& t = ratio.empty() ? loud_time : time;
    const auto& f = ratio.empty() ? loud_reference : reference;
    Paired out{.ratio = quantile(r, 0.5),
               .time = quantile(t, 0.5),
               .reference = quantile(f, 0.5),
               .rounds = static_cast<int>(ratio.size()),
               .loud = loud};
    if (out.ratio > 0) out.spread = (quantile(r, 0.75) - quantile(r, 0.25)) / 2 / out.ratio;
    return out;
  }
};

double limit_seconds(const Work& work, double read, double compute) {
  const auto part = [](double amount, double rate) { return amount > 0 ? amount / rate : 0; };
  return std::max(part(work.bytes, read), part(work.operations, compute)) +
         part(work.added_operations, compute);
}

}  // namespace

std::vector<Row>& all_rows() {
  static std::vector<Row> rows;
  return rows;
}

Register::Register(const std::function<void(std::vector<Row>&)>& add) { add(all_rows()); }

std::string Paired::text() const {
  return formatted("{}n = {}, +-{:.1f} %", loud ? "LOUD, " : "", rounds, 100 * spread);
}

std::shared_ptr<std::byte> huge_memory(std::size_t bytes) {
  constexpr std::size_t kHuge = std::size_t{2} << 20;
  const std::size_t size = (bytes + kHuge - 1) / kHuge * kHuge + kHuge;
  void* memory = mmap(nullptr, size, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
  DSV32_CHECK(memory != MAP_FAILED, out_of_memory, "could not map {} bytes", size);
  auto* first = static_cast<std::byte*>(memory);
  first += (kHuge - reinterpret_cast<std::uintptr_t>(first) % kHuge) % kHuge;
  madvise(first, size - kHuge, MADV_HUGEPAGE);
  return {first, [memory, size](std::byte*) { munmap(memory, size); }};
}

void fill_codes(std::span<std::byte> out, std::uint64_t seed) {
  constexpr std::size_t kPattern = (std::size_t{1} << 20) + 64;  // no multiple of any row's length
  std::vector<std::byte> pattern(std::min(kPattern, out.size()));
  std::uint64_t x = seed * 2862933555777941757u + 3037000493u;
  for (std::byte& code : pattern) {
    x ^= x << 13;
    x ^= x >> 7;
    x ^= x << 17;
    code = static_cast<std::byte>(x >> 40);
    if ((code & std::byte{127}) == std::byte{127}) code ^= std::byte{1};
  }
  for (std::size_t done = 0; done < out.size(); done += pattern.size()) {
    std::memcpy(out.data() + done, pattern.data(), std::min(pattern.size(), out.size() - done));
  }
}

Bench::Bench(const Settings& settings) : settings_(settings) {
  const kernels::CpuTables tables = kernels::runnable_cpu_tables();
  for (int i = 0; i < tables.count && kernels_ == nullptr; ++i) {
    if (settings.kernels.empty() || settings.kernels == tables.tables[i]->name)
      kernels_ = tables.tables[i];
  }
  DSV32_CHECK(kernels_ != nullptr, invalid_argument, "kernel set {} does not run here",
              settings.kernels);
  settings_.kernels = kernels_->name;
}

Bench::~Bench() = default;

BackendOptions Bench::backend_options(int threads) const {
  return {.num_threads = threads, .kernel_set = settings_.kernels};
}

Backend& Bench::backend(int threads) {
  std::unique_ptr<Backend>& backend = backends_[threads];
  if (!backend) {
    backend = cpu_backend_kind.open(backend_options(threads));
    const int longest = pick(163840, 4096);
    backend->reserve(
        backend_limits(ModelConfig{}, {.max_batch_tokens = 512, .max_context = longest}));
  }
  return *backend;
}

ThreadPool& Bench::pool(int threads) {
  std::unique_ptr<ThreadPool>& pool = pools_[threads];
  if (!pool) pool = std::make_unique<ThreadPool>(BackendOptions{.num_threads = threads});
  return *pool;
}

std::span<const std::byte> Bench::codes() {
  if (!codes_) {
    const std::size_t free = available_memory().value_or(std::size_t{8} << 30);
    const std::size_t full = std::min(std::size_t{7} << 28, free / 4) / (std::size_t{1} << 26)
                             << 26;
    codes_bytes_ = smoke() ? std::size_t{1} << 27 : std::max(full, std::size_t{1} << 28);
    codes_ = huge_memory(codes_bytes_);
    fill_codes({codes_.get(), codes_bytes_}, 1);
  }
  return {codes_.get(), codes_bytes_};
}

double Bench::read_rate(int threads) {
  const std::span<const std::byte> region = codes();
  const std::size_t part = static_cast<std::size_t>(static_cast<double>(region.size()) / kReadPart);
  next_read_ = next_read_ + 2 * part > region.size() ? 0 : next_read_ + part;
  const double rate = bench::read_rate(pool(threads), region.data() + next_read_, part);
  best_[threads].read = std::max(best_[threads].read, rate);
  return rate;
}

double Bench::compute_rate(int threads) {
  const double rate = bench::compute_rate(pool(threads), smoke() ? 0.0005 : kPeakSeconds);
  best_[threads].compute = std::max(best_[threads].compute, rate);
  return rate;
}

double Bench::best_read(int threads) const {
  const auto found = best_.find(threads);
  return found == best_.end() ? 0 : found->second.read;
}

double Bench::best_compute(int threads) const {
  const auto found = best_.find(threads);
  return found == best_.end() ? 0 : found->second.compute;
}

Bench::Reference Bench::reference(const Work& work, int threads) {
  Reference out;
  if (work.bytes > 0) out.read = read_rate(threads);
  if (work.operations + work.added_operations > 0) out.compute = compute_rate(threads);
  return out;
}

bool Bench::quiet(const Reference& before, const Reference& after, int threads) const {
  const Reference& best = best_.at(threads);
  const auto good = [](double x, double y, double top) {
    return std::min(x, y) >= kQuiet * top && std::min(x, y) >= kSteady * std::max(x, y);
  };
  return good(before.read, after.read, before.read > 0 ? best.read : 0) &&
         good(before.compute, after.compute, before.compute > 0 ? best.compute : 0);
}

Paired Bench::against_limit(const Work& work, int threads, const std::function<void()>& call) {
  return against_limit(threads, [&] {
    call();
    return work;
  });
}

Paired Bench::against_limit(int threads, const std::function<Work()>& call) {
  const Work kind = call();  // once to warm up, and to see which limits count
  Rounds rounds;
  const double start = now();
  Reference before = reference(kind, threads);
  // Loud moments get up to three times the time to pass.
  for (int round = 0; round < 400; ++round) {
    double elapsed = 0, limit = 0;
    int calls = 0;
    std::vector<Work> done;
    const double begin = now();
    while (calls == 0 || (now() - begin < kCallSeconds && !smoke())) {
      const double at = now();
      const Work& work = done.emplace_back(call());
      elapsed += work.seconds > 0 ? work.seconds : now() - at;
      ++calls;
    }
    const Reference after = reference(kind, threads);
    for (const Work& work : done) {
      limit +=
          limit_seconds(work, (before.read + after.read) / 2, (before.compute + after.compute) / 2);
    }
    rounds.add(quiet(before, after, threads), limit / elapsed, elapsed / calls, limit / calls);
    before = after;
    const double spent = now() - start;
    const bool enough = static_cast<int>(rounds.ratio.size()) >= kEnough;
    if ((enough && spent >= seconds()) || spent >= 3 * seconds()) break;
  }
  return rounds.summary();
}

double Bench::limit_now(const Work& work, int threads) {
  const Reference now = reference(work, threads);
  return limit_seconds(work, now.read, now.compute);
}

Paired Bench::compare(const std::function<double()>& a, const std::function<double()>& b,
                      int least) {
  static_cast<void>(a());
  Rounds rounds;
  double best = b();
  double before = b();
  const double start = now();
  for (int round = 1; round <= 400; ++round) {
    best = std::min(best, before);
    const double time = a(), after = b();
    best = std::min(best, after);
    const bool quiet = std::max(before, after) * kQuiet <= best &&
                       std::min(before, after) >= kSteady * std::max(before, after);
    rounds.add(quiet, time / ((before + after) / 2), time, (before + after) / 2);
    before = after;
    const double spent = now() - start;
    const bool enough = static_cast<int>(rounds.ratio.size()) >= kEnough;
    if ((enough && spent >= seconds()) || (round >= least && spent >= 3 * seconds())) break;
  }
  return rounds.summary();
}

double Bench::best(const std::function<void()>& call) {
  double fastest = std::numeric_limits<double>::infinity();
  const double start = now();
  double last = start;
  do {
    call();
    const double time = now();
    fastest = std::min(fastest, time - last);
    last = now();
  } while (last - start < seconds() / 2);
  return fastest;
}

}  // namespace dsv32::bench
