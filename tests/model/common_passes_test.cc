// The state law with many sequences in one pass: whatever runs beside a sequence, and however its
// tokens are cut, its logits, MTP's, the keys and the experts chosen have the bits of that sequence
// alone.
#include <algorithm>
#include <cstdio>
#include <deque>
#include <memory>

#include "tests/model/sessions.h"
#include "tests/model/traced_rows.h"
#include "tests/support/catch.h"
#include "tests/support/new_seed.h"
#include "tests/support/sanitized.h"

namespace dsv32::test {
namespace {

constexpr std::size_t kTexts = kSanitized ? 2 : 3;
constexpr std::size_t kLength = 140;  // well beyond index_topk, and over two pages
constexpr std::size_t kCommon = 90;   // tokens in front that all texts share
constexpr int kSteps = 10;            // of a schedule

struct Text {
  Tokens tokens;
  std::vector<Row> rows;  // of the text alone, one token at a time where that is quick
};

class Schedules {
 public:
  Schedules(const std::string& name, const std::string& kernels, bool mtp, std::uint64_t seed)
      : random_{seed}, mtp_(mtp) {
    const Model plain = load(name, kernels, 1, 64);
    for (std::size_t i = 0; i < kTexts; ++i) texts_.push_back(alone(plain));
    for (const auto& [threads, batch] : {std::pair{2, 64}, {1, 7}, {3, 512}})
      models_.push_back(load(name, kernels, threads, batch));
  }

  void run() {
    const std::size_t turn = runs_++;  // the first has a full pass, of a model with room for it
    model_ = &models_[turn % models_.size()];
    sessions_.clear();
    const std::size_t begin = turn == 0 || random_.below(2) == 0 ? kMost : 1 + random_.below(6);
    while (sessions_.size() < begin) add();
    append(kMost);
    part();
    for (int step = 1; step < kSteps; ++step) {
      if (random_.below(3) == 0) change();
      append(1 + random_.below(kMost));
    }
    sessions_.clear();
    whole_ = whole_ && model_->free_cache_tokens() == kCache;
  }

  std::size_t compared() const { return compared_; }
  std::size_t wrong() const { return wrong_; }
  bool whole() const { return whole_; }               // every page came back
  std::size_t together() const { return together_; }  // most sequences that a pass held

 private:
  static constexpr std::size_t kCache = 8192;
  static constexpr std::size_t kMost = 16;  // sequences of a pass

  struct Held {
    Held(Session s, std::size_t t) : session(std::move(s)), text(t) {}
    Session session;
    std::size_t text;
  };

  Model load(const std::string& name, const std::string& kernels, int threads, int batch) const {
    LoadOptions options;
    options.kv_cache_tokens = kCache;
    options.max_batch_tokens = batch;
    options.mtp = mtp_;
    options.backend.num_threads = threads;
    options.backend.kernel_set = kernels;
    return Model::load(golden(name), options);
  }
  TraceOptions everything() const {
    return {.logits = true, .selection = true, .experts = true, .mtp_logits = mtp_};
  }

  Text alone(const Model& model) {
    Text text{.tokens = random_tokens(random_, model, kLength), .rows = {}};
    if (!texts_.empty()) std::copy_n(texts_[0].tokens.begin(), kCommon, text.tokens.begin());
    Session session(model);
    session.observe(everything(), [&](const Trace& trace) {
      for_each_row(trace, model.config(), [&](std::size_t, Row& row) { text.rows.push_back(row); });
    });
    const std::size_t step = is_slow() ? 10 : 1;
    for (std::size_t at = 0; at < kLength; at += step)
      session.append(std::span(text.tokens).subspan(at, std::min(step, kLength - at)));
    return text;
  }

  void add() {
    Held& held =
        *sessions_.emplace_back(std::make_unique<Held>(Session(*model_), random_.below(kTexts)));
    if (sessions_.size() == 1 || random_.below(3) == 0) watch(held);
  }
  // Each row that it shows is compared.
  void watch(Held& held) {
    held.session.observe(everything(), [this, &held](const Trace& trace) {
      together_ = std::max(together_, static_cast<std::size_t>(trace.num_sequences));
      for_each_row(trace, model_->config(), [&](std::size_t position, const Row& got) {
        compare(equal(texts_[held.text].rows[position], got));
      });
    });
  }
  void compare(bool right) {
    ++compared_;
    wrong_ += right ? 0 : 1;
  }

  // The text that a fork goes on with: another one, where they have not parted yet.
  std::size_t other_end(const Held& held) {
    return held.session.tokens().size() > kCommon ? held.text : random_.below(kTexts);
  }

  // A session more, a fork, a truncation, or one less.
  void change() {
    const std::size_t which = random_.below(sessions_.size());
    Held& held = *sessions_[which];
    switch (random_.below(4)) {
      case 0:
        if (sessions_.size() < 20) add();
        break;
      case 1:
      case 2:
        if (sessions_.size() < 20)
          sessions_.push_back(std::make_unique<Held>(held.session.fork(), other_end(held)));
        break;
      default:
        held.session.truncate(random_.below(held.session.tokens().size() + 1));
    }
  }

  // Two sessions that part inside of a page which both have, and write it in one pass.
  void part() {
    Held& one = *sessions_.front();
    one.session.sync(std::span(texts_[one.text].tokens).first(kCommon));
    const std::size_t other = (one.text + 1) % kTexts;
    sessions_.push_back(std::make_unique<Held>(one.session.fork(), other));
    append({{&one, 2}, {sessions_.back().get(), 3}});
    append({{&one, 1}, {sessions_.back().get(), 1}});
  }

  // Tokens of up to `most` sessions: single ones, or pieces of a prompt.
  void append(std::size_t most) {
    std::vector<std::size_t> order(sessions_.size());
    for (std::size_t i = 0; i < order.size(); ++i) order[i] = i;
    for (std::size_t i = order.size(); i > 1; --i) std::swap(order[i - 1], order[random_.below(i)]);
    std::vector<Piece> pieces;
    for (const std::size_t i : order) {
      Held& one = *sessions_[i];
      const std::size_t left = kLength - one.session.tokens().size();
      if (left == 0 || pieces.size() == most) continue;
      const std::size_t n =
          random_.below(2) == 0 ? 1 : 1 + random_.below(std::min<std::size_t>(left, 50));
      pieces.push_back({&one, n});
    }
    append(pieces);
  }

  struct Piece {
    Held* held;
    std::size_t count;
  };
  // The next tokens of each, in one pass.
  void append(const std::vector<Piece>& pieces) {
    std::vector<SessionTokens> list;
    for (const auto& [one, count] : pieces) {
      const std::span text(texts_[one->text].tokens);
      list.push_back(
          {.session = &one->session, .tokens = text.subspan(one->session.tokens().size(), count)});
    }
    append_together(list);
    for (const auto& [one, count] : pieces) {
      const std::size_t length = one->session.tokens().size();
      compare(equal(texts_[one->text].rows[length - 1].logits, one->session.logits()));
    }
  }

  conformance::Random random_;
  bool mtp_;
  std::vector<Text> texts_;
  std::vector<Model> models_;
  const Model* model_ = nullptr;
  std::vector<std::unique_ptr<Held>> sessions_;
  std::size_t runs_ = 0, compared_ = 0, wrong_ = 0, together_ = 0;
  bool whole_ = true;
};

void check_law(const std::string& name, bool mtp) {
  const std::uint64_t seed = new_seed();
  std::printf("DSV32_TEST_SEED=%llu repeats these schedules\n",
              static_cast<unsigned long long>(seed));
  const std::vector<std::string> sets = kernel_sets();
  // Four cases: more than 200 schedules together. Two of them are the slow oracle's.
  const auto others =
      sets.size() - static_cast<std::size_t>(std::count(sets.begin(), sets.end(), "reference"));
  const std::size_t each = ((is_slow() ? 4 : 52) + others - 1) / others;
  for (const std::string& kernels : sets) {
    INFO(kernels << ", seed " << seed);
    Schedules schedules(name, kernels, mtp, seed);
    const std::size_t count = kernels == "reference" ? 2 : each;
    for (std::size_t i = 0; i < count; ++i) schedules.run();
    CHECK(schedules.compared() > 20);
    CHECK(schedules.together() == 16);
    CHECK(schedules.wrong() == 0);
    CHECK(schedules.whole());
  }
}

TEST_CASE("the state law holds in common passes: FP8") { check_law("fp8", false); }
TEST_CASE("the state law holds in common passes: FP8 with MTP") { check_law("fp8", true); }
TEST_CASE("the state law holds in common passes: BF16") { check_law("bf16", false); }
TEST_CASE("the state law holds in common passes: no indexer") { check_law("v3-dense", false); }

}  // namespace
}  // namespace dsv32::test
