// Rows of the benchmark suite, and how they are measured. A row file registers its rows with a
// namespace-scope `Register`; nothing else knows it. This machine's speed moves from second to
// second, so every row is a ratio to a reference that is measured in between, or a best of repeats.
#ifndef DSV32_BENCHMARKS_HARNESS_H_
#define DSV32_BENCHMARKS_HARNESS_H_

#include <cstddef>
#include <cstdint>
#include <functional>
#include <map>
#include <memory>
#include <span>
#include <string>
#include <vector>

#include "benchmarks/clock.h"
#include "benchmarks/limits.h"
#include "lib/backend/backend.h"
#include "lib/base/thread_pool.h"

#include "kernels/cpu/table.h"

namespace dsv32::bench {

struct Result {
  double value = 0;
  std::string note{};    // what was measured, in absolute numbers
  std::string missed{};  // not empty: there is no value, for this reason
  bool skipped = false;  // and it is not ours to give: a peer or a file is not there
};
inline Result missed(std::string reason) { return {.missed = std::move(reason)}; }
inline Result skipped(std::string reason) { return {.missed = std::move(reason), .skipped = true}; }

class Bench;

struct Row {
  std::string name{};  // an identifier: gemv_fp8_m1
  std::string shape{};
  std::string unit{};
  double goal = 0;  // 0: none
  bool higher_is_better = true;
  std::string basis{};  // why this goal: the limit that it is a part of
  std::function<Result(Bench&)> run{};
  bool per_table = false;  // worth printing for every kernel table
};

// Adds rows before main. `add` may call push_back as often as it likes.
struct Register {
  explicit Register(const std::function<void(std::vector<Row>&)>& add);
};
std::vector<Row>& all_rows();  // in no order that means anything

// Ratios of one thing to another that were measured in turns.
struct Paired {
  double ratio = 0;          // median of the quiet rounds
  double spread = 0;         // half of the distance of their quartiles, over the median
  double time = 0;           // median seconds of one call
  double reference = 0;      // median of the reference beside it
  int rounds = 0;            // quiet ones
  bool loud = false;         // few rounds were quiet: take the value with care
  std::string text() const;  // "n = 9", or that it was loud
};

// One call's work. The limit's time is the larger of the first two, plus that of the third.
struct Work {
  double bytes = 0;             // read from DRAM, each once
  double operations = 0;        // a multiply-add counts two
  double added_operations = 0;  // of phases that read next to nothing
  double seconds = 0;           // of the call, that count; 0: all
};

struct Settings {
  bool smoke = false;  // tiny shapes: it must run
  double seconds = 4;  // of one measurement, about
  std::string kernels;
};

class Bench {
 public:
  explicit Bench(const Settings& settings);
  ~Bench();

  bool smoke() const { return settings_.smoke; }
  template <class T>
  T pick(T full, T tiny) const {
    return smoke() ? tiny : full;
  }
  double seconds() const { return smoke() ? 0.05 : settings_.seconds; }

  const kernels::CpuKernels& kernels() const { return *kernels_; }
  const std::string& kernel_set() const { return settings_.kernels; }
  Backend& backend(int threads);  // reserved for the widths of DeepSeek-V3.2
  BackendOptions backend_options(int threads) const;
  ThreadPool& pool(int threads);

  // One read-only region of random e4m3 codes without NaN, many times the last cache: what the DRAM
  // read goes over, and the weights of rows that need many.
  std::span<const std::byte> codes();

  // The limit's time over the time of `call`, on `threads` threads. `call` does `work` each time
  // and should read other bytes each time.
  Paired against_limit(const Work& work, int threads, const std::function<void()>& call);
  // The same for work that is known only after the call, which returns it.
  Paired against_limit(int threads, const std::function<Work()>& call);
  // What `work` takes at the limit in this moment, in seconds.
  double limit_now(const Work& work, int threads);
  // Time of `a` over time of `b`, each the seconds of one call; of `least` rounds or more.
  Paired compare(const std::function<double()>& a, const std::function<double()>& b, int least = 1);
  // Seconds of the fastest call.
  double best(const std::function<void()>& call);

  // Rates of the moment, and the best seen: bytes and operations a second.
  double read_rate(int threads);
  double compute_rate(int threads);
  double best_read(int threads) const;
  double best_compute(int threads) const;

 private:
  struct Reference {
    double read = 0, compute = 0;
  };
  Reference reference(const Work& work, int threads);
  bool quiet(const Reference& before, const Reference& after, int threads) const;

  Settings settings_;
  const kernels::CpuKernels* kernels_ = nullptr;
  std::map<int, std::unique_ptr<Backend>> backends_;
  std::map<int, std::unique_ptr<ThreadPool>> pools_;
  std::map<int, Reference> best_;
  std::shared_ptr<std::byte> codes_;
  std::size_t codes_bytes_ = 0, next_read_ = 0;
};

// Anonymous memory in huge pages where there are any. Throws out_of_memory.
std::shared_ptr<std::byte> huge_memory(std::size_t bytes);

// Random e4m3 codes, none of them NaN.
void fill_codes(std::span<std::byte> out, std::uint64_t seed);

}  // namespace dsv32::bench

#endif  // DSV32_BENCHMARKS_HARNESS_H_
