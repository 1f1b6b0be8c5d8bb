// A system that refuses mappings, threads, locked memory, or has not enough memory.
#include <algorithm>
#include <cerrno>
#include <filesystem>
#include <string>
#include <string_view>
#include <vector>

#include "dsv32/checkpoint.h"
#include "dsv32/model.h"
#include "dsv32/session.h"

#include "tests/faults/seams.h"
#include "tests/model/sessions.h"
#include "tests/support/catch.h"
#include "tests/support/checkpoint_files.h"

namespace dsv32::test {
namespace {

namespace fs = std::filesystem;

constexpr std::size_t kStep = std::size_t{64} << 20;

// What a load says, warnings alone.
struct Warnings {
  std::vector<std::string> lines;
  LogSink sink() {
    return [this](LogLevel level, std::string_view message) {
      if (level == LogLevel::warning) lines.emplace_back(message);
    };
  }
};

std::string golden_model_dir() { return golden("fp8"); }

Bits logits_of(const Model& model) {
  Session session(model);
  return copy(session.append(some_tokens(100, 1)));
}

// The golden model with a tensor of 200 MiB that is not of it.
class LargeModel {
 public:
  LargeModel() {
    Tensors tensors = tensors_of(golden_model_dir());
    tensors["left.over"] = {"U8", {200 << 20}, std::string(200 << 20, 'x')};
    fs::copy(golden_model_dir() + "/config.json", path());
    write_shard(path() / "model.safetensors", tensors);
  }
  const fs::path& path() const { return folder_.path(); }

 private:
  TempFolder folder_;
};

TEST_CASE("reports_C7 where files cannot be mapped they are read, and one line says so") {
  const Bits want = logits_of(Model::load(golden_model_dir(), {.kv_cache_tokens = 256}));
  for (const int error : {ENODEV, EINVAL, EOPNOTSUPP, ENOSYS}) {
    seams = {.map_nothing = true, .error = error};
    Warnings said;
    const Model model =
        Model::load(golden_model_dir(), {.kv_cache_tokens = 256, .log = said.sink()});
    CHECK(logits_of(model) == want);
    REQUIRE(said.lines.size() == 1);
    CHECK(said.lines[0].find("1 of 1 files cannot be mapped") == 0);
    CHECK(said.lines[0].find("model.safetensors\": ") != std::string::npos);
    CHECK(model.memory_usage().weight_bytes ==
          fs::file_size(golden_model_dir() + "/model.safetensors"));
    Warnings also;
    const Checkpoint checkpoint = Checkpoint::open(golden_model_dir(), {.log = also.sink()});
    CHECK(also.lines == said.lines);
    CHECK(checkpoint.plan().weight_bytes == model.memory_usage().weight_bytes);
    seams = {};
    CHECK(checkpoint.fingerprint(Verify::all) ==
          Checkpoint::open(golden_model_dir()).fingerprint(Verify::all));
  }
}

TEST_CASE("reports_C1 files are read only if the model fits") {
  const LargeModel large;
  seams = {};
  LoadOptions options{.kv_cache_tokens = std::size_t{1} << 35,
                      .access = FileAccess::read,
                      .allow_unused_tensors = true};
  check_error(ErrorCode::out_of_memory, "needs", [&] { Model::load(large.path(), options); });
  CHECK(seams.read_bytes < 1u << 20);
  seams = {};
  options.kv_cache_tokens = 256;
  Model::load(large.path(), options);
  CHECK(seams.read_bytes > 200u << 20);
}

TEST_CASE("reports_F5 reading and touching weights can be watched, and given up, each 64 MiB") {
  const LargeModel large;
  for (const bool preload : {false, true}) {
    LoadOptions options{.kv_cache_tokens = 256,
                        .access = preload ? FileAccess::mmap : FileAccess::read,
                        .allow_unused_tensors = true,
                        .preload = preload};
    std::vector<double> told;
    options.on_progress = [&](double part) {
      told.push_back(part);
      return true;
    };
    Model::load(large.path(), options);
    CHECK(std::is_sorted(told.begin(), told.end()));
    CHECK(told.front() == 0.0);
    CHECK(told.back() == 1.0);
    // Give up at each of them: what lies behind is not read.
    const std::size_t calls = told.size();
    std::size_t most = 0, steps = 0;
    for (std::size_t last = 0; last < calls; ++last) {
      std::size_t count = 0;
      seams = {};
      options.on_progress = [&](double) { return count++ < last; };
      check_error(ErrorCode::cancelled, "on_progress", [&] { Model::load(large.path(), options); });
      CHECK(count == last + 1);
      if (!preload && seams.read_bytes > most + (1u << 20)) {
        CHECK(seams.read_bytes <= most + kStep + (4u << 20));
        most = seams.read_bytes;
        ++steps;
      }
    }
    if (!preload) CHECK(steps >= 4);
    if (preload)
      CHECK(std::count_if(told.begin(), told.end(), [](double p) { return p > 0.5; }) >= 4);
  }
  std::size_t count = 0;
  check_error(ErrorCode::cancelled, "on_progress", [&] {
    Checkpoint::open(large.path(), {.access = FileAccess::read,
                                    .on_progress = [&](double) { return ++count < 2; }});
  });
  CHECK(count == 2);
  seams = {};
}

TEST_CASE("reports_F12 memory that cannot be locked: why, and what would help") {
  for (const FileAccess access : {FileAccess::mmap, FileAccess::read}) {
    seams = {.lock_nothing = true, .error = ENOMEM};
    const std::string message = check_error(ErrorCode::out_of_memory, "lock_memory", [&] {
      Model::load(golden_model_dir(),
                  {.kv_cache_tokens = 256, .access = access, .lock_memory = true});
    });
    seams = {};
    CHECK(message.find("Cannot allocate memory") != std::string::npos);
  }
}

TEST_CASE("reports_F12 fewer threads than asked for are in the log, once, and do the work") {
  const Bits want = logits_of(Model::load(golden_model_dir(), {.kv_cache_tokens = 256}));
  for (const int threads : {0, 1, 2}) {
    seams = {.threads = threads};
    Warnings said;
    const Model model =
        Model::load(golden_model_dir(),
                    {.backend = {.num_threads = 4}, .kv_cache_tokens = 256, .log = said.sink()});
    seams = {};
    REQUIRE(said.lines.size() == 1);
    CHECK(said.lines[0].find(std::to_string(threads + 1) + " of 4 threads") == 0);
    CHECK(said.lines[0].find("Resource temporarily unavailable") != std::string::npos);
    CHECK(said.lines[0].find("ulimit -u") != std::string::npos);
    CHECK(logits_of(model) == want);
  }
}

}  // namespace
}  // namespace dsv32::test
