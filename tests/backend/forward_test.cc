// Steps of the whole model as a scheduler would send them: many sequences in one, drafts, pages
// that move. On every backend, bit by bit.
#include <algorithm>
#include <numeric>

#include "lib/backend/backend_kind.h"
#include "tests/backend/forward_world.h"
#include "tests/support/deferring_backend.h"

namespace dsv32::test {
namespace {

// How many rows each sequence has in each step; 0: it has none. Prompts and single tokens mixed,
// lengths around a page and well beyond index_topk, which is 16.
constexpr int kSequences = 5, kSteps = 6;
constexpr int kSchedule[kSteps][kSequences] = {{20, 1, 64, 65, 3}, {1, 62, 1, 0, 3},
                                               {1, 1, 1, 1, 1},    {7, 1, 1, 65, 0},
                                               {1, 1, 1, 1, 1},    {1, 0, 1, 0, 1}};

// Logits of each sequence, step by step; then MTP's.
struct Outcome {
  std::vector<float> logits[kSequences], mtp[kSequences];
};

// The rows of `which` sequences of the schedule, all in one step each time.
Outcome run_schedule(World& world, const std::vector<Text>& texts, const Int32s& which,
                     bool all_logits) {
  Outcome out;
  int done[kSequences] = {};
  for (int step = 0; step < kSteps; ++step) {
    Batch batch;
    std::vector<std::pair<int, std::size_t>> logits, mtp;  // sequence, rows
    for (const std::int32_t s : which) {
      const int count = kSchedule[step][s];
      if (count == 0) continue;
      const std::size_t before = batch.logits_rows.size(), mtp_before = batch.mtp.size();
      const Wanted wanted = all_logits ? Wanted::all : step == 2 ? Wanted::none : Wanted::last;
      add_rows(batch, texts[static_cast<std::size_t>(s)], done[s], count, wanted, true);
      logits.emplace_back(s, batch.logits_rows.size() - before);
      mtp.emplace_back(s, batch.mtp.size() - mtp_before);
      done[s] += count;
    }
    if (batch.num_seqs() == 0) continue;
    if (all_logits) {
      batch.mtp_logits_rows.resize(batch.mtp.size());
      std::iota(batch.mtp_logits_rows.begin(), batch.mtp_logits_rows.end(), 0);
    }
    const StepResult result = world.step(batch);
    auto row = result.logits.begin(), mtp_row = result.mtp_logits.begin();
    for (const auto& [s, rows] : logits) {
      const auto next = row + static_cast<std::ptrdiff_t>(rows * world.vocab());
      out.logits[s].insert(out.logits[s].end(), row, next);
      row = next;
    }
    if (!all_logits) continue;
    for (const auto& [s, rows] : mtp) {
      const auto next = mtp_row + static_cast<std::ptrdiff_t>(rows * world.vocab());
      out.mtp[s].insert(out.mtp[s].end(), mtp_row, next);
      mtp_row = next;
    }
  }
  return out;
}

TEST_CASE("sequences of mixed lengths in one step: each as if alone") {
  Data data(161);
  for (const OpenBackend& b : open_backends()) {
    INFO(b.name);
    World world(*b.backend);
    std::vector<Text> together, alone;
    for (int s = 0; s < kSequences; ++s) {  // page 0 is somebody's
      together.push_back(random_text(data, 200, {s, 39 - s, 10 + s}));
      alone.push_back({together.back().tokens, {20 + 2 * s, 15 + s, 21 + 2 * s}});
    }
    for (const bool all_logits : {true, false}) {
      const Outcome all = run_schedule(world, together, {0, 1, 2, 3, 4}, all_logits);
      for (int s = 0; s < kSequences; ++s) {
        const Outcome one = run_schedule(world, alone, {s}, all_logits);
        REQUIRE(!one.logits[s].empty());
        CHECK(same_bits(all.logits[s], one.logits[s]));
        CHECK(same_bits(all.mtp[s], one.mtp[s]));
      }
    }
    if (const auto* deferring = dynamic_cast<const DeferringBackend*>(b.backend.get()))
      CHECK(deferring->replayed() > 10);
  }
}

TEST_CASE("a step asks for the logits it wants, whatever the one before it wanted") {
  Data data(162);
  for (const OpenBackend& b : open_backends()) {
    INFO(b.name);
    World world(*b.backend);
    const Text text = random_text(data, 60, {1});
    Batch whole;
    add_rows(whole, text, 0, 60, Wanted::all, true);
    const std::vector<float> want = world.step(whole).logits;
    const auto vocab = world.vocab();
    for (int i = 0; i < 60; i += 2) {
      Batch batch;
      const Wanted wanted = i % 4 == 0 ? Wanted::all : i % 8 == 2 ? Wanted::last : Wanted::none;
      add_rows(batch, text, i, 2, wanted, true);
      const std::vector<float> got = world.step(batch).logits;
      const std::size_t rows = batch.logits_rows.size();
      REQUIRE(got.size() == rows * vocab);
      const std::size_t end = (static_cast<std::size_t>(i) + 2) * vocab;
      CHECK(same_bits(got, std::span(want).subspan(end - rows * vocab, rows * vocab)));
    }
  }
}

TEST_CASE("a draft alone has the bits of MTP's row in an ordinary step") {
  Data data(163);
  for (const OpenBackend& b : open_backends()) {
    INFO(b.name);
    World world(*b.backend);
    for (const int length : {1, 40, 64, 65, 130}) {
      const Text text = random_text(data, length + 1, {3, 0, 7}), other = {text.tokens, {8, 12, 9}},
                 third = random_text(data, 30, {5});
      const std::int32_t next = text.tokens.back();
      Batch whole;
      add_rows(whole, other, 0, length + 1, Wanted::last, true);
      whole.mtp_logits_rows = {length - 1};
      const std::vector<float> want = world.step(whole).mtp_logits;
      Batch prefix;
      add_rows(prefix, text, 0, length, Wanted::none, true);
      add_rows(prefix, third, 0, 30, Wanted::none, true);
      world.step(prefix);
      Batch draft;
      add_draft(draft, third, 29, 5);
      add_draft(draft, text, length - 1, next);
      const StepResult drafted = world.step(draft);
      CHECK(drafted.logits.empty());
      REQUIRE(drafted.mtp_logits.size() == 2 * world.vocab());
      CHECK(same_bits(std::span(drafted.mtp_logits).subspan(world.vocab()), want));
      Batch step;
      add_rows(step, text, length, 1, Wanted::last, true);
      step.mtp_logits_rows = {0};
      CHECK(same_bits(world.step(step).mtp_logits, want));
    }
  }
}

TEST_CASE("a page's bytes go elsewhere and come back under other numbers") {
  Data data(164);
  for (const OpenBackend& b : open_backends()) {
    INFO(b.name);
    World world(*b.backend);
    const Text text = random_text(data, 101, {3, 9});
    Batch prefix;
    add_rows(prefix, text, 0, 100, Wanted::none, true);
    world.step(prefix);
    const auto next = [&](World& in, const Int32s& pages, std::vector<PageCopy> copies) {
      Batch batch;
      batch.page_copies = std::move(copies);
      add_rows(batch, {text.tokens, pages}, 100, 1, Wanted::last, true);
      batch.mtp_logits_rows = {0};
      StepResult result = in.step(batch);
      result.logits.insert(result.logits.end(), result.mtp_logits.begin(), result.mtp_logits.end());
      return result.logits;
    };
    // The last page is saved before the step writes into it.
    std::vector<std::vector<std::byte>> saved;
    for (const std::int32_t page : text.pages) {
      saved.emplace_back(world.forward.page_bytes());
      world.forward.read_page(page, page == 9 ? PageTokens{36, 35} : PageTokens{}, saved.back());
    }
    const std::vector<float> want = next(world, {3, 7}, {{.from = 9, .to = 7}});
    CHECK(same_bits(next(world, {3, 9}, {}), want));
    std::vector<std::byte> again(world.forward.page_bytes());
    world.forward.read_page(9, {36, 35}, again);  // whatever has been written behind them
    const std::size_t hidden = 2 * static_cast<std::size_t>(world.files.config.hidden_size);
    CHECK(std::equal(again.begin(), again.end() - static_cast<std::ptrdiff_t>(hidden),
                     saved[1].begin()));
    const auto backend = cpu_backend_kind.open({.num_threads = 2});
    World fresh(*backend);
    for (World* to : {&world, &fresh}) {
      to->forward.write_page(0, saved[0]);
      to->forward.write_page(30, saved[1]);
    }
    CHECK(same_bits(next(world, {0, 30}, {}), want));
    world.forward.read_page(0, {}, again);
    CHECK(again == saved[0]);
    check_error(ErrorCode::internal, "a page has",
                [&] { world.forward.read_page(0, {}, std::span(again).first(again.size() - 1)); });
    check_error(ErrorCode::internal, "a page has",
                [&] { world.forward.write_page(0, std::span(again).first(1)); });
    if (b->kernel_set() == backend->kernel_set()) CHECK(same_bits(next(fresh, {0, 30}, {}), want));
  }
}

TEST_CASE("a step that there is no room for is refused, and harms nothing") {
  Data data(165);
  for (const OpenBackend& b : open_backends()) {
    INFO(b.name);
    World world(*b.backend, {.rows = 20, .sequences = 3, .context = 128, .pages = 30});
    const Text text = random_text(data, 200, {0, 1, 2, 3});
    const Text fits{text.tokens, {4, 5}};
    const auto step = [&](const Text& of) {
      Batch batch;
      add_rows(batch, of, 0, 20, Wanted::last, true);
      return world.step(batch).logits;
    };
    const std::vector<float> want = step(fits);
    const auto refused = [&](const char* what, const Batch& batch) {
      check_error(ErrorCode::internal, what, [&] { world.step(batch); });
      CHECK(same_bits(step(fits), want));
    };
    Batch rows;
    add_rows(rows, fits, 0, 21, Wanted::last, true);
    refused("21 and 20 rows, there is room for 20", rows);
    Batch sequences;
    for (std::int32_t s = 0; s < 4; ++s)
      add_rows(sequences, {text.tokens, {s}}, 0, 1, Wanted::none, true);
    refused("4 sequences, there is room for 3", sequences);
    Batch none;
    refused("0 sequences", none);
    Batch pages;
    add_rows(pages, text, 0, 1, Wanted::none, true);
    refused("4 pages, there is room for 3", pages);
    Batch uneven;
    add_rows(uneven, fits, 0, 3, Wanted::none, true);
    uneven.main.slots.pop_back();
    refused("differ in length", uneven);
    Batch logits;
    add_rows(logits, fits, 0, 3, Wanted::none, true);
    logits.logits_rows.assign(5000, 0);
    refused("", logits);
    Batch hidden;
    add_rows(hidden, fits, 0, 3, Wanted::none, true);
    hidden.hidden_rows.assign(5000, {.row = 0, .page = 4});
    refused("", hidden);
  }
}

TEST_CASE("rows of MTP are refused where there is none") {
  Data data(166);
  for (const OpenBackend& b : open_backends()) {
    World world(*b.backend, {.mtp = false});
    const Text text = random_text(data, 10, {0});
    Batch batch;
    add_rows(batch, text, 0, 10, Wanted::last, true);
    check_error(ErrorCode::internal, "MTP rows without MTP", [&] { world.step(batch); });
    Batch plain;
    add_rows(plain, text, 0, 10, Wanted::last, false);
    CHECK(world.step(plain).logits.size() == world.vocab());
  }
}

TEST_CASE("a backend that lacks a model's weights says so before any is bound") {
  const auto bit = [](WeightFormat format) { return 1u << static_cast<unsigned>(format); };
  const auto open = [](std::uint32_t lacks) {
    return DeferringBackend(cpu_backend_kind.open({.num_threads = 1}), {.lacks = lacks});
  };
  DeferringBackend lacking = open(bit(WeightFormat::fp8_pow2));
  const CheckpointFiles files(golden_model("fp8"), FileAccess::mmap, {});
  std::size_t told = 0;
  check_error(ErrorCode::unsupported, "no FP8 with power-of-two scales weights", [&] {
    const Forward forward(
        files.config, {.buffers = {.max_batch_tokens = 4, .max_context = 64}, .num_pages = 1},
        lacking, read_weights(files.config, files.shards, {}, [](const std::string&) {}),
        [&](std::size_t bytes) { told += bytes; });
  });
  CHECK(told == 0);
  CHECK(lacking.weight_bytes() == 0);
  DeferringBackend other = open(bit(WeightFormat::int4));
  CHECK(World(other).told > 0);
}

}  // namespace
}  // namespace dsv32::test
