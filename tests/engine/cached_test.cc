// Sessions that begin with what an Engine's cache holds: every row has the bits of its text alone.
#include <algorithm>
#include <memory>
#include <string>
#include <utility>
#include <vector>

#include "dsv32/engine.h"

#include "tests/engine/engines.h"
#include "tests/model/sessions.h"
#include "tests/model/traced_rows.h"
#include "tests/support/catch.h"
#include "tests/support/checkpoint_files.h"
#include "tests/support/new_seed.h"
#include "tests/support/until_met.h"

namespace dsv32::test {
namespace {

using conformance::Random;

constexpr std::size_t kPage = 64;
constexpr std::size_t kLength = 210;  // over three pages, and far beyond index_topk
constexpr std::size_t kCache = 20 * kPage;
constexpr std::size_t kTexts = 5;
// Where each text parts from the first one: inside of a page, at a page's end, a token behind it.
constexpr std::size_t kParts[kTexts] = {kLength, 90, kPage, 2 * kPage, 2 * kPage + 1};

struct Text {
  Tokens tokens;
  std::vector<Row> rows;
};

class CachedSessions {
 public:
  CachedSessions(const std::string& name, bool mtp, std::uint64_t seed)
      : random_{seed}, mtp_(mtp), model_(load(name, kCache, 33)), engine_(model_) {
    const Model plain = load(name, 512, 64);
    REQUIRE(plain.config().index_topk * 4 <= static_cast<int>(kPage));
    for (std::size_t i = 0; i < kTexts; ++i) texts_.push_back(alone(plain, kParts[i]));
  }

  void step() {
    if (sessions_.size() < 2) return add();
    const std::size_t which = random_.below(sessions_.size());
    Held& held = *sessions_[which];
    const std::size_t size = held.session.tokens().size();
    switch (random_.below(11)) {
      case 0:
      case 1:
        return sessions_.size() < 4 ? add() : void();
      case 2:
        return engine_.cache(held.session, scope());
      case 3:
        return held.session.truncate(random_.below(size + 1));
      case 4:
        return sessions_.size() < 4 ? fork(held) : void();
      case 5:
        engine_.cache(held.session, scope());
        return drop(which);
      case 6:
        return random_.below(3) == 0 ? engine_.forget(scope()) : void();
      case 7:
        return restore(which);
      default:
        if (size == kLength) return;
        const std::size_t count = 1 + random_.below(std::min<std::size_t>(80, kLength - size));
        held.session.append(std::span(texts_[held.text].tokens).subspan(size, count));
    }
  }

  // Everything that has no owner goes.
  void fill() {
    const EngineStats before = engine_.stats();
    Session session(model_);
    const std::size_t room = model_.free_cache_tokens();
    if (room > 0) session.append(Tokens(room, 3));
    const EngineStats after = engine_.stats();
    REQUIRE(after.cache_tokens_reusable == 0);
    REQUIRE(after.evicted_tokens == before.evicted_tokens + before.cache_tokens_reusable);
    ++evicted;
  }

  void end() {
    sessions_.clear();
    for (const char* name : {"", "other"}) engine_.forget(name);
    CHECK(model_.free_cache_tokens() == kCache);
    CHECK(engine_.stats().cache_tokens_reusable == 0);
  }

  std::size_t compared = 0, wrong = 0, hits = 0, inside = 0, evicted = 0, restored = 0;

 private:
  struct Held {
    Held(Session s, std::size_t t) : session(std::move(s)), text(t) {}
    Session session;
    std::size_t text;
  };

  Model load(const std::string& name, std::size_t cache_tokens, int batch) const {
    LoadOptions options;
    options.kv_cache_tokens = cache_tokens;
    options.max_batch_tokens = batch;
    options.mtp = mtp_;
    options.backend.num_threads = 1;
    return Model::load(golden(name), options);
  }
  TraceOptions everything() const {
    return {.logits = true, .selection = true, .experts = true, .mtp_logits = mtp_};
  }
  std::string scope() { return random_.below(5) == 0 ? "other" : ""; }

  Text alone(const Model& model, std::size_t common) {
    Text text{.tokens = random_tokens(random_, model, kLength), .rows = {}};
    if (!texts_.empty()) std::copy_n(texts_[0].tokens.begin(), common, text.tokens.begin());
    Session session(model);
    session.observe(everything(), [&](const Trace& trace) {
      for_each_row(trace, model.config(), [&](std::size_t, Row& row) { text.rows.push_back(row); });
    });
    for (std::size_t at = 0; at < kLength; at += 10)
      session.append(std::span(text.tokens).subspan(at, 10));
    return text;
  }

  void add() {
    const std::size_t text = random_.below(kTexts);
    const std::size_t size = 1 + random_.below(kLength);
    Session session = engine_.cached(std::span(texts_[text].tokens).first(size), scope());
    const std::span<const TokenId> found = session.tokens();
    REQUIRE(found.size() <= size);
    REQUIRE(std::ranges::equal(found, std::span(texts_[text].tokens).first(found.size())));
    hits += found.size() >= kPage ? 1 : 0;
    inside += found.size() % kPage != 0 ? 1 : 0;
    hold(std::move(session), text);
  }
  void fork(const Held& held) { hold(held.session.fork(), held.text); }
  void drop(std::size_t which) {
    sessions_.erase(sessions_.begin() + static_cast<std::ptrdiff_t>(which));
  }
  // Through a file: what was shared is its own afterwards.
  void restore(std::size_t which) {
    const std::size_t text = sessions_[which]->text;
    sessions_[which]->session.save(folder_.path() / "saved");
    drop(which);
    Session session = Session::load(model_, folder_.path() / "saved");
    restored += session.tokens().size() > kPage ? 1 : 0;
    hold(std::move(session), text);
  }
  void hold(Session session, std::size_t text) {
    Held& held = *sessions_.emplace_back(std::make_unique<Held>(std::move(session), text));
    held.session.observe(everything(), [this, &held](const Trace& trace) {
      for_each_row(trace, model_.config(), [&](std::size_t position, const Row& got) {
        ++compared;
        wrong += equal(texts_[held.text].rows[position], got) ? 0 : 1;
      });
    });
  }

  const TempFolder folder_;
  Random random_;
  const bool mtp_;
  const Model model_;
  Engine engine_;
  std::vector<Text> texts_;
  std::vector<std::unique_ptr<Held>> sessions_;
};

void check_cached(const std::string& name, bool mtp) {
  const std::uint64_t seed = new_seed();
  INFO("DSV32_TEST_SEED=" << seed);
  CachedSessions world(name, mtp, seed);
  const auto step = [&](int i) {
    world.step();
    REQUIRE(world.wrong == 0);
    if (i % 70 == 69) world.fill();
  };
  const auto met = [&] {
    return world.compared > (is_slow() ? 200 : 1000) && world.hits > 0 && world.inside > 0 &&
           world.evicted > 0 && world.restored > 0;
  };
  CHECK(run_until_met(is_slow() ? 140 : 280, step, met));
  world.end();
}

TEST_CASE("engine_E12 cached, forked, saved and evicted prefixes keep their bits: FP8 and MTP") {
  check_cached("fp8", true);
}
TEST_CASE("engine_E12 cached, forked, saved and evicted prefixes keep their bits: FP8") {
  check_cached("fp8", false);
}
TEST_CASE("engine_E12 cached, forked, saved and evicted prefixes keep their bits: F32 and MTP") {
  check_cached("f32", true);
}

TEST_CASE("engine_E12 a saved session's pages go into the cache") {
  const TempFolder folder;
  const Tokens text = some_tokens(200, 8);
  {
    Session session(load("fp8", Numerics::native, 512));
    session.append(text);
    session.save(folder.path() / "s");
  }
  const Model model = load("fp8", Numerics::native, 512);
  Engine engine(model);
  engine.cache(Session::load(model, folder.path() / "s"));
  Session found = engine.cached(text);
  CHECK(found.tokens().size() == 192);
  Session fresh(model);
  CHECK(equal(copy(fresh.append(text)), found.sync(text)));
}

TEST_CASE("cached() and cache() speak of one Model's sessions that are not in use") {
  const Model model = load("fp8", Numerics::native, 1024),
              other = load("fp8", Numerics::native, 1024);
  Engine engine(model);
  const Tokens text = some_tokens(200, 7);
  Session session(model);
  session.append(text);
  check_error(ErrorCode::invalid_argument, "Model", [&] { engine.cache(Session(other)); });
  session.observe({}, [&](const Trace&) {
    check_error(ErrorCode::busy, "in use", [&] { engine.cache(session); });
  });
  session.append(5);
  session.observe({}, {});
  engine.cache(session, "mine");
  CHECK(cached_tokens(engine, text) == 0);
  Session found = engine.cached(text, "mine");
  CHECK(found.tokens().size() == 192);
  CHECK(found.logits().empty());
  CHECK(model.free_cache_tokens() == 1024 - 256);  // no page was copied
  CHECK(&found.model() != &session.model());
  CHECK(cached_tokens(engine, {}, "mine") == 0);
  CHECK(cached_tokens(engine, {-1, 1 << 20}, "mine") == 0);  // nobody's tokens
}

}  // namespace
}  // namespace dsv32::test
