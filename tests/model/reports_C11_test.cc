// Every option changes something that a caller can see, or is refused by its name.
#include "tests/model/reports_C11.h"

#include <algorithm>
#include <cstring>
#include <ctime>
#include <filesystem>
#include <memory>
#include <optional>
#include <sched.h>
#include <span>
#include <string>
#include <sys/resource.h>
#include <thread>
#include <type_traits>
#include <vector>

#include "tests/support/catch.h"
#include "tests/support/sanitized.h"

namespace dsv32::test {
namespace {

using namespace std::chrono_literals;

DSV32_ALL_FIELDS(PlanOptions, device, device_index, module_path, numerics, kv_format, indexer_keys,
                 access, kv_cache_tokens, max_batch_tokens, max_sequences, num_threads, mtp, ranks,
                 memory_bytes, device_memory_bytes);
DSV32_ALL_FIELDS(BackendOptions, device, device_index, num_threads, pin_threads, spin_us, executor,
                 kernel_set, module_path);
DSV32_ALL_FIELDS(LoadOptions, backend, communicator, numerics, kv_format, indexer_keys,
                 kv_cache_tokens, max_batch_tokens, max_sequences, mtp, require_sparse, access,
                 verify, allow_unused_tensors, allow_paging, preload, lock_memory, chat_format,
                 on_progress, log);

Plan plan(const PlanOptions& options, const std::string& name = "fp8") {
  return Checkpoint::open(golden(name)).plan(options);
}

// Names the file, but in a program whose list of backends has the CPU alone.
const char* refusal_of_module() {
  const bool has_plugins = std::ranges::any_of(
      backend_kinds(), [](const BackendKind* kind) { return kind->device == Device::cuda; });
  return has_plugins ? "/no/such/module.so" : "the CPU only";
}

std::size_t file_bytes(const std::string& name) {
  return std::filesystem::file_size(golden(name) + "/model.safetensors");
}

const Check kPlanChecks[] = {
    {"device",
     [] { check_error(ErrorCode::unsupported, "CUDA", [] { plan({.device = Device::cuda}); }); }},
    {"device_index",
     [] {
       check_error(ErrorCode::invalid_argument, "device_index is 1",
                   [] { plan({.device_index = 1}); });
     }},
    {"module_path",
     [] {
       check_error(ErrorCode::unsupported, refusal_of_module(),
                   [] { plan({.device = Device::cuda, .module_path = "/no/such/module.so"}); });
     }},
    {"numerics",
     [] {
       const Plan native = plan({}), exact = plan({.numerics = Numerics::exact});
       CHECK(exact.kv_cache_bytes > native.kv_cache_bytes);
       CHECK(exact.activation_bytes > native.activation_bytes);
     }},
    {"kv_format",
     [] { CHECK(plan({.kv_format = KvFormat::bf16}).kv_cache_bytes != plan({}).kv_cache_bytes); }},
    {"indexer_keys",
     [] {
       check_error(ErrorCode::unsupported, "indexer_keys",
                   [] { plan({.indexer_keys = IndexerKeys::int8}, "v3-dense"); });
       check_error(ErrorCode::invalid_argument, "indexer_keys",
                   [] { plan({.numerics = Numerics::exact, .indexer_keys = IndexerKeys::int8}); });
     }},
    {"access",
     [] {
       CHECK(plan({.access = FileAccess::read}).weight_bytes == file_bytes("fp8"));
       CHECK(plan({.access = FileAccess::mmap}).weight_bytes < file_bytes("fp8"));
     }},
    {"kv_cache_tokens",
     [] {
       CHECK(plan({.kv_cache_tokens = 128}).kv_cache_bytes ==
             2 * plan({.kv_cache_tokens = 64}).kv_cache_bytes);
     }},
    {"max_batch_tokens",
     [] { CHECK(plan({.max_batch_tokens = 64}).activation_bytes < plan({}).activation_bytes); }},
    {"max_sequences",
     [] { CHECK(plan({.max_sequences = 64}).activation_bytes > plan({}).activation_bytes); }},
    {"num_threads",
     [] {
       CHECK(plan({.num_threads = 8}).activation_bytes > plan({.num_threads = 1}).activation_bytes);
     }},
    {"mtp",
     [] {
       CHECK(plan({.mtp = true}).weight_bytes > plan({}).weight_bytes);
       check_error(ErrorCode::unsupported, "mtp", [] { plan({.mtp = true}, "bf16"); });
     }},
    {"ranks",
     [] { check_error(ErrorCode::unsupported, "ranks is 2", [] { plan({.ranks = 2}); }); }},
    {"memory_bytes",
     [] {
       const Plan tight = plan({.memory_bytes = 1000});
       CHECK(tight.available_bytes == 1000);
       CHECK_FALSE(tight.fits);
       CHECK(tight.reason.find("1000 B are available") != std::string::npos);
     }},
    {"device_memory_bytes",
     [] {
       check_error(ErrorCode::invalid_argument, "device_memory_bytes is 1000",
                   [] { plan({.device_memory_bytes = 1000}); });
     }},
};

TEST_CASE("reports_C11 every field of PlanOptions") { check_all(kPlanOptions, kPlanChecks); }

Model load_with(const BackendOptions& backend) {
  return Model::load(golden("fp8"), {.backend = backend, .kv_cache_tokens = 1024});
}

int cores(int thread) {
  cpu_set_t set;
  CPU_ZERO(&set);
  return sched_getaffinity(thread, sizeof(set), &set) == 0 ? CPU_COUNT(&set) : 0;
}

// Threads of a pool of two that may run on one core only.
int pinned(bool pin) {
  const std::set<int> before = threads_now();
  const Model model = load_with({.num_threads = 2, .pin_threads = pin});
  int count = 0;
  for (const int id : new_threads(before)) count += cores(id) == 1 ? 1 : 0;
  return count;
}

double cpu_seconds() {
  timespec now{};
  clock_gettime(CLOCK_PROCESS_CPUTIME_ID, &now);
  return static_cast<double>(now.tv_sec) + 1e-9 * static_cast<double>(now.tv_nsec);
}

// Whether a worker that has nothing to do takes 20 ms of processor time within `wait`.
bool spins(int spin_us, std::chrono::milliseconds wait) {
  const Model model = load_with({.num_threads = 2, .spin_us = spin_us});
  Session session(model);
  session.append(some_tokens(50, 1));
  std::this_thread::sleep_for(20ms);
  const double before = cpu_seconds();
  for (auto slept = 0ms; slept < wait && cpu_seconds() - before < 0.02; slept += 10ms)
    std::this_thread::sleep_for(10ms);
  return cpu_seconds() - before >= 0.02;
}

class InTurn final : public Executor {
 public:
  int concurrency() const noexcept override { return 3; }
  void run(int count, const std::function<void(int)>& part) override {
    ++runs;
    for (int i = 0; i < count; ++i) part(i);
  }
  int runs = 0;
};

const Check kBackendChecks[] = {
    {"device",
     [] {
       check_error(ErrorCode::unsupported, "CUDA", [] { load_with({.device = Device::cuda}); });
     }},
    {"device_index",
     [] {
       for (const int index : {-1, 1}) {
         check_error(ErrorCode::invalid_argument, "device_index is " + std::to_string(index),
                     [&] { load_with({.device_index = index}); });
       }
     }},
    {"num_threads",
     [] {
       for (const int threads : {1, 4}) {
         const std::set<int> before = threads_now();
         const Model model = load_with({.num_threads = threads});
         const std::size_t more = new_threads(before).size(),
                           want = static_cast<std::size_t>(threads - 1);
         CHECK((more == want ||
                (kSanitized && more == want + 1)));  // a sanitizer may start one of its own
       }
     }},
    {"pin_threads",
     [] {
       if (cores(0) < 2) return;  // nowhere to pin to
       CHECK(pinned(true) == 1);
       CHECK(pinned(false) == 0);
     }},
    {"spin_us",
     [] {
       CHECK(spins(5'000'000, 10s));
       CHECK_FALSE(spins(0, 200ms));
     }},
    {"executor",
     [] {
       const std::set<int> before = threads_now();
       const auto executor = std::make_shared<InTurn>();
       const Model model = load_with({.executor = executor});
       run(model, 10);
       CHECK(executor->runs > 10);
       CHECK(new_threads(before).empty());
     }},
    {"kernel_set",
     [] {
       for (const std::string& name : kernel_sets())
         CHECK(load_with({.kernel_set = name}).kernel_set() == name);
       check_error(ErrorCode::unsupported, "kernel set \"mips\"",
                   [] { load_with({.kernel_set = "mips"}); });
     }},
    {"module_path",
     [] {
       check_error(ErrorCode::unsupported, refusal_of_module(), [] {
         load_with({.device = Device::cuda, .module_path = "/no/such/module.so"});
       });
     }},
};

TEST_CASE("reports_C11 every field of BackendOptions") {
  check_all(kBackendOptions, kBackendChecks);
}

Model load(LoadOptions options, const std::filesystem::path& dir = golden("fp8")) {
  options.backend.num_threads = 1;
  if (options.kv_cache_tokens == LoadOptions().kv_cache_tokens) options.kv_cache_tokens = 1024;
  return Model::load(dir, options);
}

Bits logits_of(const LoadOptions& options) { return run(load(options), 100); }

// What an observer of a hundred tokens is told.
struct Seen {
  int chunks = 0;
  std::size_t drafts = 0;
};
Seen seen(const LoadOptions& options) {
  Seen result;
  Session session(load(options));
  session.observe({.mtp_logits = options.mtp}, [&](const Trace& trace) {
    ++result.chunks;
    result.drafts += trace.mtp_logits.size();
  });
  session.append(some_tokens(100, 1));
  return result;
}

void append_two(const LoadOptions& options) {
  const Model model = load(options);
  Session first(model), second(model);
  const Tokens tokens = some_tokens(5, 1);
  const SessionTokens list[] = {{&first, tokens}, {&second, tokens}};
  append_together(list);
}

void check_verify() {
  const TempFolder folder;
  Tensors tensors = tensors_of(golden("bf16"));
  const std::uint16_t nan = 0x7FC0;
  std::memcpy(tensors.at("lm_head.weight").data.data() + 6, &nan, 2);
  std::filesystem::copy(golden("bf16") + "/config.json", folder.path());
  write_shard(folder.path() / "model.safetensors", tensors);
  CHECK_NOTHROW(load({.verify = Verify::scales}, folder.path()));
  check_error(ErrorCode::bad_format, "lm_head.weight",
              [&] { load({.verify = Verify::all}, folder.path()); });
}

// Of that tensor none is touched but by preload.
void check_preload() {
  const UnusedTensor checkpoint;
  for (const bool preload : {false, true}) {
    const Model model = load({.allow_unused_tensors = true, .preload = preload}, checkpoint.path());
    CHECK((proc_kib("Rss", checkpoint.file()) >= 8192) == preload);
  }
}

void check_lock_memory() {
  if (kSanitized) return;  // whose runtimes lock nothing
  const std::size_t before = proc_kib("VmLck"), kib = file_bytes("fp8") / 1024;
  rlimit limit{};
  REQUIRE(getrlimit(RLIMIT_MEMLOCK, &limit) == 0);
  try {
    const Model model = load({.lock_memory = true});
    CHECK(proc_kib("VmLck") >= before + kib);
  } catch (const Error& error) {  // right where the system allows less
    CHECK(error.code() == ErrorCode::out_of_memory);
    CHECK(limit.rlim_cur < file_bytes("fp8"));
  }
  const Model model = load({});
  CHECK(proc_kib("VmLck") == before);
}

const Check kLoadChecks[] = {
    {"backend",
     [] {
       check_error(ErrorCode::invalid_argument, "num_threads is -1",
                   [] { Model::load(golden("fp8"), {.backend = {.num_threads = -1}}); });
     }},
    {"communicator",
     [] {
       static_assert(std::is_empty_v<Communicator>);  // there is one only: nothing to change
       CHECK(Communicator().size() == 1);
     }},
    {"numerics", [] { CHECK(logits_of({.numerics = Numerics::exact}) != logits_of({})); }},
    {"kv_format", [] { CHECK(logits_of({.kv_format = KvFormat::bf16}) != logits_of({})); }},
    {"indexer_keys",
     [] {
       check_error(ErrorCode::unsupported, "indexer_keys",
                   [] { load({.indexer_keys = IndexerKeys::int8}, golden("v3-dense")); });
     }},
    {"kv_cache_tokens",
     [] {
       CHECK(load({.kv_cache_tokens = 64}).free_cache_tokens() == 64);
       CHECK(load({.kv_cache_tokens = 640}).free_cache_tokens() == 640);
     }},
    {"max_batch_tokens",
     [] {
       CHECK(seen({.max_batch_tokens = 32}).chunks == 4);
       CHECK(seen({}).chunks == 1);
     }},
    {"max_sequences",
     [] {
       CHECK_NOTHROW(append_two({.max_sequences = 2}));
       check_error(ErrorCode::invalid_argument, "max_sequences",
                   [] { append_two({.max_sequences = 1}); });
     }},
    {"mtp",
     [] {
       CHECK(seen({.mtp = true}).drafts > 0);
       CHECK(seen({}).drafts == 0);
       check_error(ErrorCode::unsupported, "mtp", [] { load({.mtp = true}, golden("bf16")); });
     }},
    {"require_sparse",
     [] {
       CHECK_NOTHROW(load({}, golden("v3-dense")));
       check_error(ErrorCode::unsupported, "require_sparse",
                   [] { load({.require_sparse = true}, golden("v3-dense")); });
     }},
    {"access",
     [] {
       const Model read = load({.access = FileAccess::read});
       CHECK(read.memory_usage().weight_bytes == file_bytes("fp8"));
       CHECK_FALSE(is_mapped(golden("fp8") + "/model.safetensors"));
       const Model mapped = load({.access = FileAccess::mmap});
       CHECK(is_mapped(golden("fp8") + "/model.safetensors"));
     }},
    {"verify", check_verify},
    {"allow_unused_tensors",
     [] {
       const UnusedTensor checkpoint;
       CHECK_NOTHROW(load({.allow_unused_tensors = true}, checkpoint.path()));
       check_error(ErrorCode::mismatch, "left.over", [&] { load({}, checkpoint.path()); });
     }},
    {"allow_paging",
     [] {
       check_error(ErrorCode::out_of_memory, "cache",
                   [] { load({.kv_cache_tokens = tokens_beyond_memory()}); });
       if (kSanitized) return;  // whose runtimes want address space themselves
       const Model model = load({.kv_cache_tokens = tokens_beyond_memory(), .allow_paging = true});
       CHECK(model.memory_usage().kv_cache_bytes > available_backends().front().memory_bytes);
       CHECK(logits_of({}) == run(model, 100));
     }},
    {"preload", check_preload},
    {"lock_memory", check_lock_memory},
    {"chat_format",
     [] {
       check_error(ErrorCode::unsupported, "chat_format",
                   [] { load({}, golden("v3-dense")).chat_template(); });
       CHECK_NOTHROW(load({.chat_format = ChatFormat::v31}, golden("v3-dense")).chat_template());
     }},
    {"on_progress",
     [] {
       check_error(ErrorCode::cancelled, "on_progress",
                   [] { load({.on_progress = [](double fraction) { return fraction < 0.5; }}); });
     }},
    {"log",
     [] {
       Log log;
       load({.log = log.sink()});
       CHECK(log.infos.size() == 1);
     }},
};

TEST_CASE("reports_C11 every field of LoadOptions") { check_all(kLoadOptions, kLoadChecks); }

}  // namespace
}  // namespace dsv32::test
