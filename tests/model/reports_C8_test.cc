// What has no room in the cache is refused before any of it is computed.
#include <span>
#include <string>

#include "dsv32/chat.h"

#include "tests/model/sessions.h"
#include "tests/support/catch.h"

namespace dsv32::test {
namespace {

// That no pass ran, and the session is as before.
template <class Call>
void refused_before_work(const Model& model, Call&& call) {
  Session session(model);
  session.append(some_tokens(70, 1));
  int passes = 0;
  session.observe({}, [&](const Trace&) { ++passes; });
  const std::size_t free = model.free_cache_tokens();
  const Bits logits = copy(session.logits());
  check_error(ErrorCode::capacity, "the cache is full", [&] { call(session); });
  CHECK(passes == 0);
  CHECK(session.tokens().size() == 70);
  CHECK(copy(session.logits()) == logits);
  CHECK(model.free_cache_tokens() == free);
}

TEST_CASE("reports_C8 a prompt that the cache has no room for is refused before any work") {
  const std::string tiny = std::string(DSV32_SOURCE_DIR) + "/examples/tiny_model";
  const Model model = Model::load(tiny, {.kv_cache_tokens = 256, .max_batch_tokens = 32});
  const Tokens all = some_tokens(300, 1);
  refused_before_work(model, [&](Session& session) { session.sync(all); });
  refused_before_work(model, [&](Session& session) { session.append(all); });
  refused_before_work(model, [&](Session& session) { session.generate(all); });
  refused_before_work(model, [&](Session& session) {
    const Message messages[] = {{.content = std::string(3000, '7')}};
    chat(session, messages, ThinkingMode::chat);
  });
  // What other sessions hold counts, what this one gives back does not.
  Session other(model);
  other.append(std::span(all).first(64));
  refused_before_work(model, [&](Session& session) { session.sync(std::span(all).first(193)); });
  Session session(model);
  session.append(some_tokens(180, 2));
  CHECK_NOTHROW(session.sync(std::span(all).first(192)));
  // A fork's page that is written to is copied.
  session.truncate(100);
  Session fork = session.fork();
  Tokens longer(session.tokens().begin(), session.tokens().end());
  longer.resize(129, 5);
  check_error(ErrorCode::capacity, "2 pages", [&] { fork.sync(longer); });
  longer.resize(128);
  CHECK_NOTHROW(fork.sync(longer));
}

}  // namespace
}  // namespace dsv32::test
