// What fails on the GPU: a typed error, no leak, no hang; the process lives on, and another model
// loads.
#include <optional>
#include <sys/wait.h>
#include <unistd.h>

#include "tests/cuda/fake.h"
#include "tests/support/catch.h"

namespace dsv32::test {
namespace {

Bits three_tokens(const Model& model) {
  Session session(model);
  return copy(session.append(some_tokens(3, 1)));
}

TEST_CASE("out of memory at each allocation of a load", "[quick]") {
  const Fake fake;
  int refused = 0;
  for (bool loaded = false; !loaded; refused += loaded ? 0 : 1) {
    INFO("allocation " << refused + 1);
    REQUIRE(refused < 500);
    fake.fail("allocation", refused + 1, kNoMemory);
    try {
      static_cast<void>(load_on_gpu());
      loaded = true;
    } catch (const Error& error) {
      CHECK(error.code() == ErrorCode::out_of_memory);
    }
    check_clean(fake);
    fake.reset();
  }
  CHECK(refused > 10);
}

TEST_CASE("every call of a load that fails is an error, and nothing is left", "[quick]") {
  const Fake fake;
  const char* const names[] = {
      "cuDevicePrimaryCtxRetain", "cuCtxPushCurrent_v2", "cuStreamCreate",     "cuEventCreate",
      "cuModuleGetFunction",      "cuFuncSetAttribute",  "cuMemGetInfo_v2",    "cuMemHostAlloc",
      "cuMemcpyHtoDAsync_v2",     "cuEventRecord",       "cuEventSynchronize", "cuMemAlloc_v2",
      "cuDeviceGetName",          "cuDeviceTotalMem_v2", "cuDeviceGetCount",   "cuDeviceGet",
      "cuDeviceGetAttribute"};
  for (const char* name : names) {
    for (const int nth : {1, 2}) {
      INFO(name << " " << nth);
      fake.fail(name, nth, kUnknown);
      try {
        static_cast<void>(load_on_gpu());
        CHECK(nth == 2);  // there may be no second call
      } catch (const Error& error) {
        CHECK(error.code() == ErrorCode::device);
        CHECK(std::string(error.what()).find("CUDA_ERROR_UNKNOWN") != std::string::npos);
      }
      check_clean(fake);
      fake.reset();
    }
  }
}

// `spoil` makes a step fail; afterwards the model is broken for good, and its end leaves the GPU to
// the next one.
template <class Spoil>
void check_breaks(int warm_steps, Spoil&& spoil) {
  const Fake fake;
  Bits want;
  {
    std::optional<Model> model = load_on_gpu();
    want = three_tokens(*model);
    std::optional<Session> session(std::in_place, *model);
    for (int i = 0; i < warm_steps; ++i) session->append(TokenId{5});
    const std::size_t length = session->tokens().size();
    spoil(fake);
    const std::string first = check_error(ErrorCode::device, "CUDA: ", [&] {
      for (int i = 0; i < 2; ++i) session->append(TokenId{6});
    });
    CHECK(session->tokens().size() <= length + 1);
    CHECK(check_error(ErrorCode::device, "CUDA: ", [&] { session->append(TokenId{7}); }) == first);
    Session other(*model);
    check_error(ErrorCode::device, "CUDA: ", [&] { other.append(TokenId{7}); });
    session.reset();
  }
  fake.reset();
  check_nothing_lives(fake);
  CHECK(three_tokens(load_on_gpu()) == want);
}

TEST_CASE("a launch that fails breaks the model", "[quick]") {
  check_breaks(1, [](const Fake& fake) { fake.fail("cuLaunchKernel", 9, kUnknown); });
  check_breaks(5, [](const Fake& fake) { fake.fail("cuGraphLaunch", 1, kUnknown); });
}

TEST_CASE("a sticky error in mid-step breaks the model, by calls and replayed", "[quick]") {
  check_breaks(1, [](const Fake& fake) { fake.fail("kernel", 5, kIllegalAddress); });
  check_breaks(5, [](const Fake& fake) { fake.fail("kernel", 5, kLaunchFailed); });
}

TEST_CASE("recording that fails breaks the model", "[quick]") {
  for (const char* name :
       {"cuStreamBeginCapture_v2", "cuStreamEndCapture", "cuGraphInstantiateWithFlags",
        "cuLaunchKernel", "cuMemcpyHtoDAsync_v2", "cuMemcpyDtoHAsync_v2"}) {
    INFO(name);
    check_breaks(1, [&](const Fake& fake) { fake.fail(name, 1, kUnknown); });
  }
}

TEST_CASE("a GPU that vanishes at any call of a step is an error", "[quick]") {
  for (const int nth : {1, 2, 3, 4}) {
    INFO(nth);
    check_breaks(5, [&](const Fake& fake) { fake.vanish(nth, kUnknown); });
  }
}

TEST_CASE("a load that is given up leaves nothing on the GPU", "[quick]") {
  const Fake fake;
  int told = 0;
  LoadOptions options = small(on_gpu());
  options.on_progress = [&](double) {
    ++told;
    return true;
  };
  { const Model model = Model::load(golden("fp8"), options); }
  const int all = told;
  REQUIRE(all > 10);
  for (int stop = 1; stop <= all; stop += 3) {
    told = 0;
    options.on_progress = [&](double) { return ++told < stop; };
    check_error(ErrorCode::cancelled, "on_progress",
                [&] { static_cast<void>(Model::load(golden("fp8"), options)); });
    check_clean(fake);
  }
}

TEST_CASE("a model that has gone leaves nothing on the GPU", "[quick]") {
  const Fake fake;
  {
    const Model model = load_on_gpu();
    Session session(model);
    for (int i = 0; i < 5; ++i) session.append(TokenId{5});
  }
  check_clean(fake);
}

// The fake ends a child that calls it.
TEST_CASE("a child of fork() destroys what it inherited without a call of the driver", "[quick]") {
  const Fake fake;
  std::optional<Model> model = load_on_gpu();
  std::optional<Session> session(std::in_place, *model);
  for (int i = 0; i < 4; ++i) session->append(TokenId{5});
  const pid_t child = ::fork();
  if (child == 0) {
    int refused = 0;
    try {
      session->append(TokenId{5});
    } catch (const Error& error) {
      refused = error.code() == ErrorCode::state ? 1 : 0;
    }
    session.reset();
    model.reset();
    _exit(refused);
  }
  int status = 0;
  REQUIRE(waitpid(child, &status, 0) == child);
  REQUIRE(WIFEXITED(status));
  CHECK(WEXITSTATUS(status) == 1);
  CHECK_NOTHROW(session->append(TokenId{5}));
}

}  // namespace
}  // namespace dsv32::test
