// Models that come and go on GPUs that break, fill up or go away, and on any schedule.
#include <exception>
#include <memory>
#include <thread>

#include "tests/cuda/fake.h"
#include "tests/support/catch.h"

namespace dsv32::test {
namespace {

Model load_on(int index) { return Model::load(golden("fp8"), small(on_gpu(index))); }

Bits last_row(const Model& model, const Tokens& text) {
  Session session(model);
  Bits row;
  for (const TokenId token : text) row = copy(session.append(token));
  return row;
}

TEST_CASE("a GPU that breaks is broken for all of its models, and for none of the other's",
          "[quick]") {
  const Fake fake;
  const Tokens text = some_tokens(6, 21);
  auto first = std::make_unique<Model>(load_on(0)), second = std::make_unique<Model>(load_on(0));
  const Model elsewhere = load_on(1);
  const Bits want = last_row(elsewhere, text);
  fake.fail("kernel", 3, kIllegalAddress);
  check_error(ErrorCode::device, "CUDA: ", [&] { last_row(*first, text); });
  check_error(ErrorCode::device, "CUDA: ", [&] { last_row(*second, text); });
  CHECK(equal(want, last_row(elsewhere, text)));
  first.reset();
  // The one that is left holds the broken context: nothing can be loaded beside it.
  check_error(ErrorCode::device, "CUDA: ", [] { static_cast<void>(load_on(0)); });
  CHECK(fake.live("context") == 2);
  second.reset();
  CHECK(equal(want, last_row(load_on(0), text)));
  CHECK(equal(want, last_row(elsewhere, text)));
}

TEST_CASE("a model ends without a word when the GPU has gone, or frees nothing", "[quick]") {
  for (const int nth : {1, 2, 5}) {
    const Fake fake;
    INFO(nth);
    auto model = std::make_unique<Model>(load_on(0));
    auto session = std::make_unique<Session>(*model);
    for (int i = 0; i < 4; ++i) session->append(TokenId{5});
    fake.vanish(nth, kUnknown);
    CHECK_NOTHROW(session.reset());
    CHECK_NOTHROW(model.reset());
    CHECK(fake.findings().empty());
  }
  for (const char* name : {"cuMemFree_v2", "cuMemFreeHost", "cuStreamDestroy_v2", "cuModuleUnload",
                           "cuGraphExecDestroy", "cuEventDestroy_v2"}) {
    const Fake fake;
    INFO(name);
    auto model = std::make_unique<Model>(load_on(0));
    for (int i = 0; i < 2; ++i) last_row(*model, some_tokens(4, 22));
    fake.fail(name, 1, kLaunchFailed);
    CHECK_NOTHROW(model.reset());
    CHECK(fake.live("context") == 0);
    CHECK(fake.live("device") == 0);
  }
}

TEST_CASE("a GPU that goes at any call of a load leaves an error, and no hang", "[quick]") {
  const Fake fake;
  fake.reset_calls();
  static_cast<void>(load_on(0));
  const int all = static_cast<int>(fake.calls());
  for (int nth = 1; nth < all / 2; nth += 1 + nth / 6) {
    INFO("call " << nth);
    fake.reset();
    fake.vanish(nth, kUnknown);
    try {
      static_cast<void>(load_on(0));
      FAIL("it loaded");
    } catch (const Error& error) {
      CHECK((error.code() == ErrorCode::device || error.code() == ErrorCode::unsupported));
    }
  }
}

TEST_CASE("a GPU or a host without room is out of memory, and says how much", "[quick]") {
  {
    const Fake fake;
    fake.set("memory", 64 << 10);
    check_error(ErrorCode::out_of_memory, "", [] { static_cast<void>(load_on(0)); });
    check_clean(fake);
  }
  const Fake fake;
  fake.set("host_memory", 4096);
  check_error(ErrorCode::out_of_memory, "pinned", [] { static_cast<void>(load_on(0)); });
  check_clean(fake);
}

TEST_CASE("loading again and again takes no more than once", "[quick]") {
  const Fake fake;
  const Tokens text = some_tokens(4, 23);
  Bits want;
  unsigned long long most = 0;
  for (int i = 0; i < 4; ++i) {
    fake.reset_calls();
    const Bits row = last_row(load_on(0), text);
    if (i == 0) {
      want = row;
      most = fake.count("device_peak");
    }
    CHECK(equal(want, row));
    CHECK(fake.count("device_peak") == most);
    check_clean(fake);
  }
}

struct Schedule {
  const char* what;
  long long value;
};

TEST_CASE("the order in which a GPU works touches no bit") {
  const Tokens text = some_tokens(7, 24);
  Bits want;
  {
    const Fake fake;
    want = last_row(load_on(0), text);
  }
  for (const Schedule& schedule :
       {Schedule{"seed", 2}, Schedule{"seed", 3}, Schedule{"order", 1}, Schedule{"order", 2},
        Schedule{"eager", 1}, Schedule{"early", 60}}) {
    INFO(schedule.what << " " << schedule.value);
    const Fake fake;
    fake.set(schedule.what, schedule.value);
    CHECK(equal(want, last_row(load_on(0), text)));
    check_clean(fake);
  }
}

TEST_CASE("two threads, each with models on a GPU of its own") {
  const Fake fake;
  const Tokens text = some_tokens(5, 25);
  const Bits want = last_row(load_on(0), text);
  Bits rows[2];
  std::exception_ptr errors[2];
  {
    std::vector<std::jthread> threads;
    for (int i = 0; i < 2; ++i) {
      threads.emplace_back([&, i] {
        try {
          for (int round = 0; round < 2; ++round) rows[i] = last_row(load_on(i), text);
        } catch (...) {
          errors[i] = std::current_exception();
        }
      });
    }
  }
  for (int i = 0; i < 2; ++i) {
    CHECK(errors[i] == nullptr);
    CHECK(equal(want, rows[i]));
  }
  check_clean(fake);
}

TEST_CASE("a model that a program never ends, ends with it", "[quick]") {
  static const Model model = load_on(0);
  static Session session(model);
  CHECK(session.append(TokenId{3}).size() > 0);
}

}  // namespace
}  // namespace dsv32::test
