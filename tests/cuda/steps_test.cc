// A model on the GPU: the law, replayed passes, and what a step costs in calls of the driver.
#include <cmath>

#include "dsv32/generation.h"

#include "tests/cuda/fake.h"
#include "tests/support/catch.h"

namespace dsv32::test {
namespace {

TEST_CASE("a decode step is four calls of the driver and takes no memory", "[quick]") {
  const Fake fake;
  const Model model = load_on_gpu();
  Session session(model);
  const Tokens text = some_tokens(12, 3);
  session.append(std::span(text).first(6));
  for (std::size_t i = 6; i < 9; ++i) session.append(text[i]);  // by call, recorded, replayed
  for (std::size_t i = 9; i < 12; ++i) {
    fake.reset_calls();
    session.append(text[i]);
    CHECK(fake.calls() == 4);
    for (const char* name :
         {"cuCtxPushCurrent_v2", "cuGraphLaunch", "cuStreamSynchronize", "cuCtxPopCurrent_v2"})
      CHECK(fake.calls(name) == 1);
    CHECK(fake.count("allocations") == 0);
  }
  CHECK(fake.findings().empty());
}

// Rows of logits of a text that is fed in pieces of these sizes, in turn.
std::vector<Bits> in_pieces(const Model& model, const Tokens& text,
                            const std::vector<std::size_t>& sizes) {
  Session session(model);
  std::vector<Bits> rows;
  std::size_t done = 0;
  for (std::size_t i = 0; done < text.size(); ++i) {
    const std::size_t n = std::min(sizes[i % sizes.size()], text.size() - done);
    rows.push_back(copy(session.append(std::span(text).subspan(done, n))));
    done += n;
  }
  return rows;
}

void check_law(const std::string& name, Numerics numerics, std::size_t length) {
  INFO(name << " " << to_string(numerics));
  const Fake fake;
  const Model model = load_on_gpu(numerics, name);
  const Tokens text = some_tokens(length, 5);
  const std::vector<Bits> want = one_by_one(model, text);
  for (const std::vector<std::size_t>& sizes : {std::vector<std::size_t>{length}, {7, 1, 17, 2}}) {
    std::size_t done = 0, i = 0;
    for (const Bits& row : in_pieces(model, text, sizes)) {
      done += std::min(sizes[i++ % sizes.size()], length - done);
      CHECK(equal(want[done - 1], row));
    }
  }
  CHECK(fake.findings().empty());
}

TEST_CASE("the state law on the GPU: FP8, native", "[quick]") {
  check_law("fp8", Numerics::native, 32);
}
TEST_CASE("the state law on the GPU: FP8, exact") { check_law("fp8", Numerics::exact, 32); }
TEST_CASE("the state law on the GPU: odd scales") {
  check_law("fp8-odd-scales", Numerics::native, 32);
}
TEST_CASE("the state law on the GPU: BF16") { check_law("bf16", Numerics::native, 48); }
TEST_CASE("the state law on the GPU: no indexer") { check_law("v3-dense", Numerics::native, 32); }

TEST_CASE("a token has the same bits by single calls, when recorded and replayed", "[quick]") {
  const Fake fake;
  const Model model = load_on_gpu();
  Session session(model);
  const Tokens text = some_tokens(20, 7);
  session.append(std::span(text).first(19));
  const Bits want = copy(session.append(text[19]));
  for (int i = 0; i < 4; ++i) {
    session.truncate(19);
    CHECK(equal(want, session.append(text[19])));
  }
}

TEST_CASE("several sessions in one pass on the GPU: each as if alone") {
  const Fake fake;
  const Model model = load_on_gpu();
  std::vector<Bits> want;
  for (std::uint64_t s = 0; s < 3; ++s) {
    Session alone(model);
    alone.append(some_tokens(9 + 5 * s, s));
    want.push_back(copy(alone.append(TokenId{7})));
  }
  Session a(model), b(model), c(model);
  Session* const all[] = {&a, &b, &c};
  std::vector<Tokens> texts;
  for (std::uint64_t s = 0; s < 3; ++s) texts.push_back(some_tokens(9 + 5 * s, s));
  std::vector<SessionTokens> list;
  for (std::size_t s = 0; s < 3; ++s) list.push_back({all[s], texts[s]});
  append_together(list);
  const Tokens next{7};
  list.clear();
  for (Session* session : all) list.push_back({session, next});
  append_together(list);
  for (std::size_t s = 0; s < 3; ++s) CHECK(equal(want[s], all[s]->logits()));
}

// Of a row of logits, relative to its length.
double distance(std::span<const float> x, std::span<const float> y) {
  REQUIRE(x.size() == y.size());
  double difference = 0.0, length = 0.0;
  for (std::size_t i = 0; i < x.size(); ++i) {
    difference += (double{x[i]} - y[i]) * (double{x[i]} - y[i]);
    length += double{y[i]} * y[i];
  }
  return std::sqrt(difference / length);
}

TEST_CASE("exact logits are the CPU's but for the order of sums", "[quick]") {
  const Fake fake;
  const Model gpu = load_on_gpu(Numerics::exact);
  const Model cpu = Model::load(golden("fp8"), small({.num_threads = 1}, Numerics::exact));
  const Tokens text = some_tokens(24, 9);
  Session on_cpu(cpu), on_device(gpu);
  for (const TokenId token : text)
    CHECK(distance(on_device.append(token), on_cpu.append(token)) < 1e-4);
}

TEST_CASE("a fork on the GPU writes into pages of its own", "[quick]") {
  const Fake fake;
  const Model model = load_on_gpu();
  const Tokens text = some_tokens(22, 11);
  const std::vector<Bits> want = one_by_one(model, text);
  Session first(model);
  first.append(std::span(text).first(20));
  Session second = first.fork();
  second.append(TokenId{3});  // the page is copied
  CHECK(equal(want[20], first.append(text[20])));
  CHECK(equal(want[21], first.append(text[21])));
  second.truncate(20);
  CHECK(equal(want[20], second.append(text[20])));
}

TEST_CASE("drafts and what an observer sees are on the GPU as on the CPU") {
  const Fake fake;
  LoadOptions options = small(on_gpu(), Numerics::exact);
  options.mtp = true;
  const Model gpu = Model::load(golden("fp8"), options);
  options.backend = {.num_threads = 1};
  const Model cpu = Model::load(golden("fp8"), options);
  const Tokens text = some_tokens(30, 13);
  struct Seen {
    std::vector<float> drafts;
    std::vector<std::int32_t> keys, experts;
  };
  const auto seen = [&](const Model& model) {
    Seen all;
    Session session(model);
    session.observe(
        {.selection = true, .experts = true, .mtp_logits = true}, [&](const Trace& trace) {
          all.drafts.insert(all.drafts.end(), trace.mtp_logits.begin(), trace.mtp_logits.end());
          all.keys.insert(all.keys.end(), trace.selection.begin(), trace.selection.end());
          all.experts.insert(all.experts.end(), trace.experts.begin(), trace.experts.end());
        });
    session.append(text);
    return all;
  };
  const Seen on_device = seen(gpu), on_cpu = seen(cpu);
  REQUIRE(!on_cpu.drafts.empty());
  CHECK(distance(on_device.drafts, on_cpu.drafts) < 1e-4);
  CHECK(on_device.keys == on_cpu.keys);
  CHECK(on_device.experts == on_cpu.experts);
}

TEST_CASE("two models on one GPU, and one on each of two, have the same bits", "[quick]") {
  const Fake fake;
  const Tokens text = some_tokens(8, 15);
  const Model first = load_on_gpu(), second = load_on_gpu(),
              other = Model::load(golden("fp8"), small(on_gpu(1)));
  Session a(first), b(second), c(other);
  for (const TokenId token : text) {
    const Bits want = copy(a.append(token));
    CHECK(equal(want, b.append(token)));
    CHECK(equal(want, c.append(token)));
  }
  CHECK(fake.findings().empty());
}

}  // namespace
}  // namespace dsv32::test
