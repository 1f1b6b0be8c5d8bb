// How a model stands in its process: files that change under it, memory that goes back.
#include <algorithm>
#include <chrono>
#include <filesystem>
#include <fstream>
#include <string>
#include <vector>

#include "lib/backend/system.h"
#include "tests/model/reports_C11.h"
#include "tests/support/catch.h"
#include "tests/support/sanitized.h"

namespace dsv32::test {
namespace {

namespace fs = std::filesystem;

// A copy of the golden model whose bytes may change.
class Copy {
 public:
  Copy() {
    for (const char* name : {"config.json", "model.safetensors"})
      fs::copy(golden("fp8") + "/" + name, folder_.path() / name);
  }
  const fs::path& path() const { return folder_.path(); }
  fs::path file() const { return path() / "model.safetensors"; }
  Model load(FileAccess access) const {
    return Model::load(path(), {.kv_cache_tokens = 1024, .access = access});
  }

  // As `cp` does: into the same file, as many bytes, others.
  void overwrite() const {
    std::fstream file(this->file(), std::ios::in | std::ios::out | std::ios::binary);
    file.seekp(-4096, std::ios::end);
    file.write(std::string(4096, 'x').data(), 4096);
  }

 private:
  TempFolder folder_;
};

TEST_CASE("reports_F9 a mapped file that was written to starts no session, a read one does") {
  const Copy copied;
  const Model mapped = copied.load(FileAccess::mmap), read = copied.load(FileAccess::read);
  const Bits want = run(read, 50);
  CHECK(run(mapped, 50) == want);
  Session before(mapped);
  copied.overwrite();
  const std::string message =
      check_error(ErrorCode::mismatch, "was written to", [&] { Session session(mapped); });
  CHECK(message.find("model.safetensors") != std::string::npos);
  CHECK_NOTHROW(before.fork());
  CHECK(run(read, 50) == want);
}

TEST_CASE("reports_F9 a mapped file is also told by its time and its size") {
  {
    const Copy touched;
    const Model model = touched.load(FileAccess::mmap);
    fs::last_write_time(touched.file(),
                        fs::last_write_time(touched.file()) + std::chrono::hours(1));
    check_error(ErrorCode::mismatch, "was written to", [&] { Session session(model); });
  }
  {
    const Copy grown;
    const Model model = grown.load(FileAccess::mmap);
    const auto time = fs::last_write_time(grown.file());
    fs::resize_file(grown.file(), fs::file_size(grown.file()) + 1);
    fs::last_write_time(grown.file(), time);
    check_error(ErrorCode::mismatch, "was written to", [&] { Session session(model); });
  }
}

TEST_CASE("reports_F9 another file in its place changes nothing") {
  const Copy copied;
  const Model model = copied.load(FileAccess::mmap);
  const Bits want = run(model, 50);
  fs::copy(copied.file(), copied.path() / "new");
  fs::rename(copied.path() / "new", copied.file());
  copied.overwrite();
  CHECK(run(model, 50) == want);
  fs::remove(copied.file());
  CHECK(run(model, 50) == want);
}

TEST_CASE("reports_F12 memory that was locked is free again, however weights were read") {
  if (kSanitized) return;  // whose runtimes lock nothing
  for (const FileAccess access : {FileAccess::mmap, FileAccess::read}) {
    const std::size_t before = proc_kib("VmLck");
    {
      const Model model = Model::load(
          golden("fp8"), {.kv_cache_tokens = 64, .access = access, .lock_memory = true});
      CHECK(proc_kib("VmLck") >=
            before + fs::file_size(golden("fp8") + "/model.safetensors") / 1024);
    }
    CHECK(proc_kib("VmLck") == before);
  }
}

TEST_CASE("reports_C7 memory that the system does not tell is unknown, not none") {
  const TempFolder folder;
  const SystemFiles none{.memory = folder.path() / "meminfo",
                         .cgroup = {folder.path() / "self", folder.path() / "groups"}};
  CHECK_FALSE(available_memory(none));
  write_text(none.memory, "MemTotal:  10 kB\n");
  CHECK_FALSE(available_memory(none));
  write_text(none.memory, "MemTotal:  10 kB\nMemAvailable:     7 kB\n");
  CHECK(available_memory(none) == 7u * 1024);
  write_text(none.memory, "MemAvailable: 0 kB\n");
  CHECK(available_memory(none) == 0u);
  fs::create_directories(none.cgroup.mount);
  write_text(none.cgroup.mount / "memory.max", "5000\n");
  write_text(none.memory, "");
  CHECK(available_memory(none) == 5000u);
  write_text(none.memory, "MemAvailable: 4 kB\n");
  CHECK(available_memory(none) == 4096u);
  CHECK(available_backends()[0].memory_bytes > 0);
}

TEST_CASE("reports_C7 every field of OpenOptions") {
  const std::string file = golden("fp8") + "/model.safetensors";
  const Checkpoint read = Checkpoint::open(golden("fp8"), {.access = FileAccess::read});
  CHECK_FALSE(is_mapped(file));
  const Checkpoint mapped = Checkpoint::open(golden("fp8"), {.num_threads = 1});
  CHECK(is_mapped(file));
  CHECK(read.fingerprint(Verify::all) == mapped.fingerprint(Verify::all));
  std::vector<double> told;
  Checkpoint::open(golden("fp8"), {.access = FileAccess::read, .on_progress = [&](double part) {
                                     told.push_back(part);
                                     return true;
                                   }});
  CHECK(told == std::vector<double>{1.0});
  check_error(ErrorCode::invalid_argument, "access is 9",
              [] { Checkpoint::open(golden("fp8"), {.access = static_cast<FileAccess>(9)}); });
}

}  // namespace
}  // namespace dsv32::test
