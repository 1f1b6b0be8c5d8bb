// Saving and loading sessions, beside the disk.
#include <algorithm>
#include <cstdlib>
#include <fcntl.h>
#include <filesystem>
#include <string>
#include <unistd.h>
#include <vector>

#include "dsv32/model.h"
#include "dsv32/session.h"

#include "benchmarks/harness.h"
#include "lib/base/check.h"

namespace dsv32::bench {
namespace {

namespace fs = std::filesystem;

constexpr int kRounds = 7;  // the disk's speed moves more than anything else
constexpr std::size_t kPiece = std::size_t{16} << 20;

// bench.sh makes a checkpoint whose pages are as wide and as many as DeepSeek-V3.2's, and whose
// matrices are small: 8,192 tokens are 394 MB. Smoke runs take the bundled model.
fs::path model_folder(const Bench& bench) {
  if (bench.smoke()) return fs::path(DSV32_SOURCE_DIR) / "examples/tiny_model";
  const char* models = std::getenv("DSV32_BENCH_MODELS");
  return (models ? fs::path(models) : fs::path(DSV32_SOURCE_DIR) / "build/bench-models") / "pages";
}

// A session, where it is saved, and a file of as many bytes beside it.
struct Place {
  explicit Place(const Bench& bench)
      : folder((bench.smoke() ? fs::temp_directory_path() : model_folder(bench).parent_path()) /
               ("dsv32-saved-" + std::to_string(getpid()))),
        model(Model::load(model_folder(bench), {.backend = bench.backend_options(0),
                                                .kv_cache_tokens = bench.pick(16384u, 1024u),
                                                .max_batch_tokens = bench.pick(2048, 64)})),
        session(model) {
    fs::create_directory(folder);
    std::vector<TokenId> tokens(bench.pick(8192u, 200u));
    for (std::size_t i = 0; i < tokens.size(); ++i) tokens[i] = static_cast<TokenId>(i * 7 % 500);
    session.append(tokens);
    session.save(saved());
    bytes = fs::file_size(saved());
  }
  ~Place() {
    std::error_code none;
    fs::remove_all(folder, none);
  }
  Place(const Place&) = delete;
  Place& operator=(const Place&) = delete;
  fs::path saved() const { return folder / "session.kv"; }
  fs::path plain() const { return folder / "plain"; }

  fs::path folder;
  Model model;
  Session session;
  std::size_t bytes = 0;
};

// Writes as many bytes into a new file as fast as one thread can: pieces of 16 MiB, each sent to
// the disk at once, and synced.
void write_plain(const Place& place) {
  fs::remove(place.plain());
  const int fd = open(place.plain().c_str(), O_WRONLY | O_CREAT | O_CLOEXEC, 0600);
  DSV32_CHECK(fd >= 0, io, "cannot write {}", place.plain().string());
  const std::vector<char> buffer(kPiece, 'x');
  for (std::size_t at = 0; at < place.bytes; at += kPiece) {
    const std::size_t count = std::min(kPiece, place.bytes - at);
    DSV32_CHECK(::write(fd, buffer.data(), count) == static_cast<ssize_t>(count), io, "disk full");
    static_cast<void>(sync_file_range(fd, static_cast<off64_t>(at), static_cast<off64_t>(count),
                                      SYNC_FILE_RANGE_WRITE));
  }
  DSV32_CHECK(fsync(fd) == 0, io, "cannot sync");
  close(fd);
}

// Out of memory, so that the disk is read.
void forget(const fs::path& file) {
  const int fd = open(file.c_str(), O_RDONLY | O_CLOEXEC);
  fdatasync(fd);
  posix_fadvise(fd, 0, 0, POSIX_FADV_DONTNEED);
  close(fd);
}

void read_plain(const Place& place) {
  const int fd = open(place.saved().c_str(), O_RDONLY | O_CLOEXEC);
  posix_fadvise(fd, 0, 0, POSIX_FADV_SEQUENTIAL);
  std::vector<char> buffer(kPiece);
  while (::read(fd, buffer.data(), buffer.size()) > 0) {
  }
  close(fd);
}

template <class Call>
double seconds_of(Call&& call) {
  const double start = now();
  call();
  return now() - start;
}

Result of_disk(const Place& place, const Paired& p) {
  const auto bytes = static_cast<double>(place.bytes);
  return {.value = p.ratio,
          .note = formatted("{} tokens, {:.0f} MB at {:.2f} GB/s, the disk {:.2f}; {}",
                            place.session.tokens().size(), bytes / 1e6, bytes / p.reference / 1e9,
                            bytes / p.time / 1e9, p.text())};
}

Result save(Bench& bench) {
  if (!fs::exists(model_folder(bench) / "config.json")) return skipped("there is no checkpoint");
  const Place place(bench);
  const Paired p = bench.compare(
      [&] { return seconds_of([&] { write_plain(place); }); },
      [&] { return seconds_of([&] { place.session.save(place.saved()); }); }, kRounds);
  return of_disk(place, p);
}

Result load(Bench& bench) {
  if (!fs::exists(model_folder(bench) / "config.json")) return skipped("there is no checkpoint");
  const Place place(bench);
  const Paired p = bench.compare(
      [&] {
        forget(place.saved());
        return seconds_of([&] { read_plain(place); });
      },
      [&] {
        forget(place.saved());
        return seconds_of([&] { Session::load(place.model, place.saved()); });
      },
      kRounds);
  return of_disk(place, p);
}

const Register rows([](std::vector<Row>& out) {
  out.push_back({.name = "session_save_8k",
                 .shape = "8,192 tokens, 61 layers of real width, to the disk and synced",
                 .unit = "of the disk's speed",
                 .goal = 0.9,
                 .basis = "plain writes of as many bytes by one thread, synced",
                 .run = save});
  out.push_back({.name = "session_load_8k",
                 .shape = "the same from the disk",
                 .unit = "of the disk's speed",
                 .goal = 0.9,
                 .basis = "plain reads of the same file by one thread",
                 .run = load});
});

}  // namespace
}  // namespace dsv32::bench
