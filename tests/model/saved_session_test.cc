// Session::save and load: every bit comes back; the file, its place and its ways.
#include "tests/model/saved_session.h"

#include <algorithm>
#include <fcntl.h>
#include <filesystem>
#include <string>
#include <sys/file.h>
#include <sys/stat.h>
#include <thread>
#include <unistd.h>
#include <utility>
#include <vector>

#include "tests/model/reports_C11.h"
#include "tests/support/catch.h"

namespace dsv32::test {
namespace {

constexpr Form kForms[] = {
    {"fp8"},
    {"fp8", Numerics::exact},
    {.name = "fp8", .kv_format = KvFormat::bf16},
    {.name = "fp8", .keys = IndexerKeys::int8},
    {.name = "fp8", .mtp = true},
    {.name = "fp8", .numerics = Numerics::exact, .mtp = true},
    {.name = "fp8", .keys = IndexerKeys::int8, .mtp = true},
    {"bf16"},
    {"v3-dense"},
};

// What a session has, and computes behind it.
Bits what_follows(Session& session, const Tokens& more) {
  Bits all = copy(session.logits());
  for (const TokenId token : more) {
    const Bits row = copy(session.append(token));
    all.insert(all.end(), row.begin(), row.end());
  }
  return all;
}

TEST_CASE("SV-15 a saved session goes on in another Model with the bits it would have had") {
  const TempFolder folder;
  const fs::path file = folder.path() / "a.kv", again = folder.path() / "b.kv";
  conformance::Random random{31};
  for (const Form& form : kForms) {
    const Model model = Model::load(golden(form.name), options_of(form));
    LoadOptions others = options_of(form, 512);  // other pages, threads and passes
    others.backend.num_threads = 2;
    others.max_batch_tokens = 7;
    const Model other = Model::load(golden(form.name), others);
    const auto free = other.free_cache_tokens();
    const std::vector<std::size_t> all{0, 1, 2, 63, 64, 65, 127, 128, 200}, few{1, 64, 130};
    for (const std::size_t length : is_slow() ? few : all) {
      for (const std::size_t kept : {length, length / 2}) {  // behind truncate, too
        INFO(form.name << " mtp " << form.mtp << ", " << length << " tokens, " << kept << " kept");
        const Tokens text = random_tokens(random, model, length), more = some_tokens(70, length);
        Session session(model);
        if (length > 0) session.append(text);
        session.truncate(kept);
        session.save(file);
        Session loaded = Session::load(other, file);
        CHECK(std::ranges::equal(loaded.tokens(), session.tokens()));
        CHECK(equal(copy(session.logits()), loaded.logits()));
        loaded.save(again);  // with two threads
        CHECK(bytes_of(again) == bytes_of(file));
        Bits drafts[2];
        Session* const both[] = {&session, &loaded};
        for (int i = 0; i < 2; ++i) {
          if (!form.mtp) continue;
          both[i]->observe({.mtp_logits = true}, [&drafts, i](const Trace& trace) {
            drafts[i].insert(drafts[i].end(), trace.mtp_logits.begin(), trace.mtp_logits.end());
          });
        }
        CHECK(equal(what_follows(session, more), what_follows(loaded, more)));
        CHECK(drafts[0].size() == drafts[1].size());
        CHECK(equal(drafts[0], drafts[1]));
        CHECK(drafts[0].empty() == !form.mtp);
      }
    }
    CHECK(other.free_cache_tokens() == free);
  }
}

TEST_CASE("SV-14 the same session is the same bytes, and its memory of others is not in them") {
  const TempFolder folder;
  const fs::path one = folder.path() / "one", two = folder.path() / "two";
  const Form form{.name = "fp8", .mtp = true};
  const Tokens text = some_tokens(150, 3);
  Session fresh(Model::load(golden("fp8"), options_of(form)));
  fresh.append(text);
  fresh.save(one);
  const Model used = Model::load(golden("fp8"), options_of(form));
  {
    Session before(used);  // leaves its keys in pages and in places behind a text's end
    before.append(some_tokens(1000, 4));
  }
  Session later(used);
  later.append(some_tokens(180, 5));
  later.sync(text);
  later.save(two);
  CHECK(bytes_of(one) == bytes_of(two));
  struct stat info {};
  REQUIRE(stat(one.c_str(), &info) == 0);
  CHECK((info.st_mode & 0777) == 0600);
}

TEST_CASE("a loaded session forks, is cut and synced as the one that was saved") {
  const Saved saved;
  const Tokens text = some_tokens(70, 6);
  Session fresh(saved.model);
  fresh.append(text);
  Session loaded = saved.load();
  Session fork = loaded.fork();
  const Tokens more = some_tokens(60, 9);
  const Bits want = copy(fresh.append(more));
  CHECK(equal(want, fork.append(more)));
  CHECK(equal(want, loaded.append(more)));
  Tokens changed(text.begin(), text.begin() + 66);
  changed.back() = (changed.back() + 1) % 90;
  const Bits synced = copy(fresh.sync(changed));
  CHECK(equal(synced, loaded.sync(changed)));
  CHECK(loaded.last_reuse().matched == 65);
}

TEST_CASE("the place of a saved file: links, modes, folders, another writer, a crash's rest") {
  const Saved saved;
  Session session(saved.model);
  session.append(some_tokens(30, 1));
  const TempFolder folder;
  const fs::path file = folder.path() / "s.kv", link = folder.path() / "link",
                 saving = folder.path() / "s.kv.saving";
  const auto only_the_file = [&] { return !fs::exists(saving) && fs::is_regular_file(file); };
  fs::create_symlink("s.kv", link);  // a relative one, of nothing yet
  session.save(link);
  CHECK(fs::is_symlink(link));
  CHECK(only_the_file());
  session.save(link);
  CHECK(fs::is_symlink(link));
  CHECK(tokens_in(saved.model, link).size() == 30);
  // Whoever plants a link where it is written gets nothing written through it.
  const fs::path victim = folder.path() / "victim";
  write_text(victim, "mine");
  fs::create_symlink(victim, saving);
  check_error(ErrorCode::io, "s.kv.saving", [&] { session.save(file); });
  CHECK(bytes_of(victim) == "mine");
  fs::remove(saving);
  write_text(saving, std::string(100000, 'x'));  // of a process that was killed, with another mode
  fs::permissions(saving, fs::perms::owner_all | fs::perms::others_read);
  session.save(file);
  CHECK(only_the_file());
  CHECK((fs::status(file).permissions() & fs::perms::mask) ==
        (fs::perms::owner_read | fs::perms::owner_write));
  const std::string before = bytes_of(file);
  write_text(saving, "");
  const int other = open(saving.c_str(), O_RDWR | O_CLOEXEC);
  REQUIRE(flock(other, LOCK_EX) == 0);
  session.append(some_tokens(5, 2));
  check_error(ErrorCode::busy, "written by somebody else", [&] { session.save(file); });
  CHECK(bytes_of(file) == before);
  close(other);
  session.save(file);
  CHECK(bytes_of(file) != before);
  check_error(ErrorCode::io, "directory", [&] { session.save(folder.path()); });
  check_error(ErrorCode::io, "names no file", [&] { session.save(""); });
  check_error(ErrorCode::not_found, "no-such",
              [&] { session.save(folder.path() / "no-such" / "s"); });
  check_error(ErrorCode::not_found, "nothing.kv",
              [&] { Session::load(saved.model, folder.path() / "nothing.kv"); });
  check_error(ErrorCode::io, "directory", [&] { Session::load(saved.model, folder.path()); });
  CHECK(std::distance(fs::directory_iterator(folder.path()), fs::directory_iterator()) == 3);
}

TEST_CASE("saving and loading: cancelled, moved from, in use") {
  const Saved saved;
  Session session(saved.model);
  session.append(some_tokens(200, 3));
  std::stop_source stop;
  stop.request_stop();
  check_error(ErrorCode::cancelled, "", [&] { session.save(saved.file(), stop.get_token()); });
  CHECK(bytes_of(saved.file()) == saved.bytes);
  const auto free = saved.model.free_cache_tokens();
  check_error(ErrorCode::cancelled, "",
              [&] { Session::load(saved.model, saved.file(), stop.get_token()); });
  CHECK(saved.model.free_cache_tokens() == free);
  session.observe({}, [&](const Trace&) {
    check_error(ErrorCode::busy, "in use", [&] { session.save(saved.file()); });
  });
  session.append(1);
  session.observe({}, {});
  Session taken = std::move(session);
  check_error(ErrorCode::state, "moved from", [&] { session.save(saved.file()); });
}

TEST_CASE("a session goes through a pipe, and a reader that leaves is an error, no signal") {
  const Saved saved;
  Session session(saved.model);
  session.append(some_tokens(200, 4));
  int ends[2];
  REQUIRE(pipe(ends) == 0);
  const auto name = [](int fd) { return fs::path("/dev/fd") / std::to_string(fd); };
  std::jthread writer([&] {
    session.save(name(ends[1]));
    close(ends[1]);
  });
  Session loaded = Session::load(saved.model, name(ends[0]));
  writer.join();
  close(ends[0]);
  CHECK(equal(copy(session.logits()), loaded.logits()));
  REQUIRE(pipe(ends) == 0);
  close(ends[0]);
  check_error(ErrorCode::io, "pipe", [&] { session.save(name(ends[1])); });
  close(ends[1]);
}

TEST_CASE("SV-11 a save while other sessions compute is of one moment, and holds nobody's turn") {
  const Saved saved;
  const Tokens text = some_tokens(70, 6);
  std::jthread other([&] {
    for (int i = 0; i < (is_slow() ? 3 : 20); ++i) {
      Session session(saved.model);
      session.append(some_tokens(100, static_cast<std::uint64_t>(i)));
    }
  });
  Session session(saved.model);
  session.append(text);
  for (int i = 0; i < (is_slow() ? 3 : 20); ++i) {
    session.save(saved.file());
    CHECK(bytes_of(saved.file()) == saved.bytes);
  }
  other.join();
}

TEST_CASE("a session of another kernel set is said to the log") {
  const TempFolder folder;
  const fs::path file = folder.path() / "s.kv";
  const std::vector<std::string> sets = kernel_sets();
  if (sets.size() < 2) return;
  const auto load = [&](const std::string& set, Log& log) {
    LoadOptions options = options_of({});
    options.backend.kernel_set = set;
    options.log = log.sink();
    return Model::load(golden("fp8"), options);
  };
  Log log;
  Session session(load(sets[0], log));
  session.append(some_tokens(20, 5));
  session.save(file);
  Session::load(session.model(), file);
  CHECK(log.warnings.empty());
  Session::load(load(sets[1], log), file);
  REQUIRE(log.warnings.size() == 1);
  CHECK(log.warnings[0].find(sets[0]) != std::string::npos);
}

}  // namespace
}  // namespace dsv32::test
