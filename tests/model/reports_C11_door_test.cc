// What is refused before a file is opened, what the log hears, and which threads a load starts.
#include <atomic>
#include <functional>
#include <memory>
#include <stdexcept>
#include <string>
#include <thread>
#include <utility>
#include <vector>

#include "lib/base/format.h"
#include "tests/model/reports_C11.h"
#include "tests/support/catch.h"
#include "tests/support/sanitized.h"

namespace dsv32::test {
namespace {

template <class Options>
using Bad = std::vector<std::pair<std::string, std::function<void(Options&)>>>;

template <class Enum>
constexpr Enum kNine = static_cast<Enum>(9);

// The fields that plans have, too.
template <class Options>
Bad<Options> bad_of_both() {
  return {
      {"numerics is 9", [](Options& o) { o.numerics = kNine<Numerics>; }},
      {"kv_format is 9", [](Options& o) { o.kv_format = kNine<KvFormat>; }},
      {"indexer_keys is 9", [](Options& o) { o.indexer_keys = kNine<IndexerKeys>; }},
      {"access is 9", [](Options& o) { o.access = kNine<FileAccess>; }},
      {"kv_cache_tokens is 0", [](Options& o) { o.kv_cache_tokens = 0; }},
      {"kv_cache_tokens is 68719476737",
       [](Options& o) { o.kv_cache_tokens = (std::size_t{1} << 36) + 1; }},
      {"max_batch_tokens is 0", [](Options& o) { o.max_batch_tokens = 0; }},
      {"max_batch_tokens is 65537", [](Options& o) { o.max_batch_tokens = 65537; }},
      {"max_sequences is 0", [](Options& o) { o.max_sequences = 0; }},
      {"max_sequences is 4097", [](Options& o) { o.max_sequences = 4097; }},
      {"indexer_keys is int8",
       [](Options& o) {
         o.indexer_keys = IndexerKeys::int8;
         o.numerics = Numerics::exact;
       }},
  };
}

TEST_CASE("reports_C11 a load refuses options out of range, whatever the folder holds") {
  Bad<LoadOptions> all = bad_of_both<LoadOptions>();
  all.emplace_back("device is 9", [](LoadOptions& o) { o.backend.device = kNine<Device>; });
  all.emplace_back("verify is 9", [](LoadOptions& o) { o.verify = kNine<Verify>; });
  all.emplace_back("chat_format is 9", [](LoadOptions& o) { o.chat_format = kNine<ChatFormat>; });
  all.emplace_back("device_index is 2", [](LoadOptions& o) { o.backend.device_index = 2; });
  all.emplace_back("spin_us is -1", [](LoadOptions& o) { o.backend.spin_us = -1; });
  all.emplace_back("num_threads is -1", [](LoadOptions& o) { o.backend.num_threads = -1; });
  for (const auto& [message, spoil] : all) {
    LoadOptions options;
    spoil(options);
    check_error(ErrorCode::invalid_argument, message,
                [&] { Model::load("/there/is/no/such/folder", options); });
  }
}

TEST_CASE("reports_C11 a plan refuses options out of range") {
  Bad<PlanOptions> all = bad_of_both<PlanOptions>();
  all.emplace_back("device is 9", [](PlanOptions& o) { o.device = kNine<Device>; });
  all.emplace_back("num_threads is -1", [](PlanOptions& o) { o.num_threads = -1; });
  const Checkpoint checkpoint = Checkpoint::open(golden("fp8"));
  for (const auto& [message, spoil] : all) {
    PlanOptions options;
    spoil(options);
    check_error(ErrorCode::invalid_argument, message,
                [&] { static_cast<void>(checkpoint.plan(options)); });
  }
}

Model load(LoadOptions options, const std::filesystem::path& dir) {
  options.backend.num_threads = 1;
  return Model::load(dir, options);
}

TEST_CASE("reports_C11 a load that is as expected logs one line of information") {
  Log log;
  const Model model = load({.kv_cache_tokens = 1024, .log = log.sink()}, golden("fp8"));
  CHECK(log.warnings.empty());
  REQUIRE(log.infos.size() == 1);
  const MemoryUsage usage = model.memory_usage();
  for (const std::string& part :
       {"weights " + human_bytes(usage.weight_bytes), "cache " + human_bytes(usage.kv_cache_bytes),
        "activations " + human_bytes(usage.activation_bytes),
        "kernel set " + std::string(model.kernel_set()), std::string("threads 1")})
    CHECK(log.infos[0].find(part) != std::string::npos);
  run(model, 10);
  CHECK(log.infos.size() == 1);
}

TEST_CASE("reports_C11 tensors that are of no use are one warning, with names") {
  const UnusedTensor checkpoint;
  Log log;
  load({.kv_cache_tokens = 1024, .allow_unused_tensors = true, .log = log.sink()},
       checkpoint.path());
  REQUIRE(log.warnings.size() == 1);
  CHECK(log.warnings[0].find("1 tensors are not of this model: \"left.over\"") !=
        std::string::npos);
  CHECK(log.infos.size() == 1);
}

TEST_CASE("reports_C11 paging is one warning, and each cause has its own") {
  if (kSanitized) return;  // whose runtimes want address space themselves
  const UnusedTensor checkpoint;
  Log log;
  LoadOptions options{.kv_cache_tokens = tokens_beyond_memory()};
  options.allow_paging = true;
  options.log = log.sink();
  load(options, golden("fp8"));
  REQUIRE(log.warnings.size() == 1);
  for (const char* part : {"allow_paging", "cache ", "are available", "too few"})
    CHECK(log.warnings[0].find(part) != std::string::npos);
  options.allow_unused_tensors = true;
  load(options, checkpoint.path());
  CHECK(log.warnings.size() == 3);
  CHECK(log.infos.size() == 2);
}

TEST_CASE("reports_C11 a load that fails logs no information") {
  Log log;
  check_error(ErrorCode::cancelled, "on_progress", [&] {
    load({.kv_cache_tokens = 1024,
          .on_progress = [](double fraction) { return fraction < 1.0; },
          .log = log.sink()},
         golden("fp8"));
  });
  CHECK(log.infos.empty());
}

TEST_CASE("reports_C11 what a sink throws is swallowed") {
  const UnusedTensor checkpoint;
  int calls = 0;
  CHECK_NOTHROW(load({.kv_cache_tokens = 1024,
                      .allow_unused_tensors = true,
                      .log =
                          [&](LogLevel, std::string_view) {
                            ++calls;
                            throw std::runtime_error("a sink's own");
                          }},
                     checkpoint.path()));
  CHECK(calls == 2);
}

// A golden model in four files, each with a header that takes milliseconds to read.
class LongHeaders {
 public:
  LongHeaders() {
    constexpr int kFiles = 4, kUnused = 5000;
    std::vector<Tensors> shards(kFiles);
    std::size_t next = 0;
    for (const auto& [name, tensor] : tensors_of(golden("fp8")))
      shards[next++ % kFiles][name] = tensor;
    for (int i = 0; i < kFiles * kUnused; ++i)
      shards[static_cast<std::size_t>(i % kFiles)]["unused." + std::to_string(i)] = {
          "U8", {1}, "x"};
    std::filesystem::copy(golden("fp8") + "/config.json", path());
    for (std::size_t i = 0; i < kFiles; ++i)
      write_shard(path() / ("part" + std::to_string(i) + ".safetensors"), shards[i]);
  }
  const std::filesystem::path& path() const { return folder_.path(); }

 private:
  TempFolder folder_;
};

// Threads that are there at any time while `body` runs and were not before, as another one sees it.
std::set<int> started_by(const std::function<void()>& body) {
  std::atomic<bool> ready{false}, done{false};
  std::set<int> seen;
  std::thread watch([&] {
    const std::set<int> before = threads_now();
    ready = true;
    while (!done) seen.merge(new_threads(before));
  });
  while (!ready) std::this_thread::yield();
  body();
  done = true;
  watch.join();
  return seen;
}

TEST_CASE("reports_C11 one thread means one, while a checkpoint is opened and loaded") {
  const LongHeaders checkpoint;
  // First that the watch sees threads if there are some: an opening takes milliseconds.
  int tries = 0;
  while (started_by([&] { Checkpoint::open(checkpoint.path(), 4); }).empty())
    REQUIRE(++tries < 100);
  for (int i = 0; i < tries + 10; ++i)
    CHECK(started_by([&] { Checkpoint::open(checkpoint.path(), 1); }).empty());
  CHECK(started_by([&] {
          const Model model =
              load({.kv_cache_tokens = 1024, .allow_unused_tensors = true}, checkpoint.path());
          run(model, 20);
        }).empty());
}

class Watching final : public Executor {
 public:
  explicit Watching(std::set<int> before) : before_(std::move(before)) {}
  int concurrency() const noexcept override { return 3; }
  void run(int count, const std::function<void(int)>& part) override {
    ++runs;
    for (int i = 0; i < count; ++i) part(i);
    others += new_threads(before_).size();
  }
  int runs = 0;
  std::size_t others = 0;

 private:
  std::set<int> before_;
};

TEST_CASE("reports_C11 with an Executor a load starts no thread, and reads headers there") {
  const LongHeaders checkpoint;
  const auto executor = std::make_shared<Watching>(threads_now());
  const LoadOptions options{
      .backend = {.executor = executor}, .kv_cache_tokens = 1024, .allow_unused_tensors = true};
  CHECK(started_by([&] { Model::load(checkpoint.path(), options); }).empty());
  CHECK(executor->runs > 0);
  const auto alone = std::make_shared<Watching>(threads_now());
  LoadOptions again = options;
  again.backend.executor = alone;
  run(Model::load(checkpoint.path(), again), 20);
  CHECK(alone->runs > 1);
  CHECK(alone->others == 0);
}

}  // namespace
}  // namespace dsv32::test
