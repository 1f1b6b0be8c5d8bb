// What a failed pass leaves: a device that failed is not used again, all other errors pass.
#include <new>
#include <optional>
#include <stdexcept>
#include <string>
#include <vector>

#include "tests/support/catch.h"
#include "tests/waiting/passes.h"

namespace dsv32::test {
namespace {

TEST_CASE("after an error of the device every later pass throws it, too") {
  const Watchdog watchdog(60s);
  const Tokens text = some_tokens(70, 1);
  for (const ErrorCode code : {ErrorCode::device, ErrorCode::communication}) {
    const Model model = load_hooked();
    Session session(model), other(model);
    session.append(text);
    other.append(text);
    const Shown before(session), before_other(other);
    const std::string what = "error 700 of card 3";
    {
      int left = 1;
      const PassHook fails([&] {
        if (left-- == 0) throw Error(code, what);
      });
      session.append(some_tokens(3, 2));
      session.truncate(70);
      check_error(code, what, [&] { session.append(some_tokens(100, 2)); });
    }
    int passes = 0;
    const PassHook count([&] { ++passes; });
    check_error(code, what, [&] { session.append(1); });
    check_error(code, what, [&] { other.append(1); });
    check_error(code, what, [&] { other.generate(text); });
    const SessionTokens both[] = {{.session = &session, .tokens = text},
                                  {.session = &other, .tokens = text}};
    check_error(code, what, [&] { append_together(both); });
    Session made(model);
    check_error(code, what, [&] { made.append(text); });
    check_error(code, what, [&] { session.save("/dev/null"); });
    CHECK(passes == 0);
    CHECK(Shown(other) == before_other);
    CHECK(before.tokens == Tokens(session.tokens().begin(), session.tokens().end()));
    other = session.fork();
    CHECK(other.tokens().size() == 70);
    Session elsewhere(load_hooked());  // another model's device
    CHECK_NOTHROW(elsewhere.append(text));
  }
}

TEST_CASE("who waits while the device fails gets its error") {
  const Watchdog watchdog(60s);
  const Model model = load_hooked();
  Session fails(model), waits(model);
  std::optional<Sleeper> waiter;
  std::optional<ErrorCode> code;
  const PassHook hook([&] {
    if (waiter) return;
    waiter.emplace([&] { code = code_of([&] { waits.append(1); }); });
    waiter->wait_asleep();
    throw Error(ErrorCode::device, "gone");
  });
  check_error(ErrorCode::device, "gone", [&] { fails.append(1); });
  waiter->join();
  CHECK(code == ErrorCode::device);
}

TEST_CASE("errors that are not the device's leave the model usable") {
  const Watchdog watchdog(60s);
  const Model model = load_hooked();
  const Tokens text = some_tokens(70, 1);
  Session session(model);
  const Bits want = copy(session.append(text));
  session.truncate(40);
  const std::vector<void (*)()> faults = {
      [] { throw Error(ErrorCode::cancelled, "enough"); },
      [] { throw Error(ErrorCode::internal, "odd"); },
      [] { throw Error(ErrorCode::out_of_memory, "full"); },
      [] { throw std::bad_alloc(); },
      [] { throw std::runtime_error("else"); },
  };
  for (const auto& fault : faults) {
    {
      const PassHook hook(fault);
      CHECK_THROWS(session.append(std::span(text).subspan(40)));
    }
    CHECK(session.tokens().size() == 40);
    CHECK(equal(want, session.append(std::span(text).subspan(40))));
    session.truncate(40);
  }
  std::stop_source stop;
  const PassHook hook([&] { stop.request_stop(); });
  CHECK(code_of([&] { session.append(std::span(text).subspan(40), stop.get_token()); }) ==
        ErrorCode::cancelled);
  CHECK(equal(want, session.append(std::span(text).subspan(40))));
}

}  // namespace
}  // namespace dsv32::test
