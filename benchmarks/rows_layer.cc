// A whole layer and its halves, by the model's own forward pass: decode of one and many sequences,
// prefill, and the time to the first token.
#include <algorithm>
#include <cmath>
#include <functional>
#include <map>
#include <string>

#include "benchmarks/harness.h"
#include "benchmarks/layer.h"
#include "lib/base/check.h"

namespace dsv32::bench {
namespace {

constexpr double kPatience = 120;  // seconds that one pass may take; else there is no value

int context_of(const Bench& bench, int full) { return bench.pick(full, 256); }

std::string milliseconds(const Paired& p) {
  return formatted("{:.2f} ms, limit {:.2f} ms; {}", 1e3 * p.time, 1e3 * p.reference, p.text());
}

// The MoE half of a decode step: bytes of the distinct experts, the shared one and the gate.
Result moe_decode(Bench& bench, int sequences) {
  LayerBench layer(bench, {.context = 64, .sequences = sequences});
  layer.fill();
  double experts = 0, passes = 0;
  const Paired p = bench.against_limit(1, [&] {
    layer.decode(sequences);
    const auto distinct = static_cast<double>(layer.traced().distinct_experts);
    experts += distinct;
    passes += 1;
    const double each = layer.expert_bytes(), top = layer.config().num_experts_per_tok;
    return Work{.bytes = distinct * each + layer.shared_bytes(),
                .operations = 2 * sequences * (each * top + layer.shared_bytes()),
                .seconds = layer.traced().seconds.mlp};
  });
  return {.value = p.ratio,
          .note = formatted("{:.1f} distinct experts, {}; {}", experts / passes, milliseconds(p),
                            layer.traced().shares())};
}

// Would a pass of `tokens` tokens take too long? Answered by one of 64.
std::string too_slow(LayerBench& layer, int tokens) {
  layer.prefill(0, 64);
  layer.traced().steps.clear();
  const auto& s = layer.traced().seconds;
  const double time = (s.mlp + s.projections + s.select + s.attend) * tokens / 64;
  return time > kPatience ? formatted("one pass would take about {:.0f} s", time) : "";
}

Result moe_prefill(Bench& bench, int tokens) {
  tokens = bench.pick(tokens, 64);
  LayerBench layer(bench, {.context = std::max(tokens, 64), .batch_tokens = std::max(tokens, 64)});
  layer.traced().skip_attention = true;
  const std::string slow = too_slow(layer, tokens);
  if (!slow.empty()) return missed(slow);
  const Paired p = bench.against_limit(1, [&] {
    layer.prefill(0, tokens);
    const double top = layer.config().num_experts_per_tok;
    return Work{.operations = 2 * tokens * (layer.expert_bytes() * top + layer.shared_bytes()),
                .seconds = layer.traced().seconds.mlp};
  });
  return {.value = p.ratio, .note = formatted("{}; {}", milliseconds(p), layer.traced().shares())};
}

// What choosing, sorting and adding up of experts take of the MoE half.
Result moe_dispatch(Bench& bench, int tokens) {
  tokens = bench.pick(tokens, 32);
  const int passes = bench.pick(tokens < 100 ? 8 : 1, 1);
  LayerBench layer(bench, {.context = std::max(tokens, 64), .batch_tokens = std::max(tokens, 64)});
  layer.traced().skip_attention = true;
  const std::string slow = too_slow(layer, tokens);
  if (!slow.empty()) return missed(slow);
  layer.prefill(0, tokens);  // touches all memory once, which a system gives slowly
  layer.traced().steps.clear();
  double all = 0;
  for (int i = 0; i < passes; ++i) {
    layer.prefill(0, tokens);
    all += layer.traced().seconds.mlp;
  }
  const auto& steps = layer.traced().steps;
  const auto of = [&](const char* step) { return 100 * steps.at(step) / all; };
  return {.value = of("moe_gate") + of("dispatch") + of("combine"),
          .note = formatted("gate {:.2f} %, dispatch {:.2f} %, combine {:.2f} % of {:.1f} ms",
                            of("moe_gate"), of("dispatch"), of("combine"), 1e3 * all / passes)};
}

// Two tokens of one sequence at once, as a draft is verified, over one.
Result mtp_verify(Bench& bench) {
  const int context = context_of(bench, 4096);
  LayerBench layer(bench, {.context = context});
  layer.fill();
  const auto seconds = [&](int tokens) {
    const double start = now();
    layer.prefill(context - tokens, tokens);
    return now() - start;
  };
  const Paired p = bench.compare([&] { return seconds(2); }, [&] { return seconds(1); });
  return {.value = p.ratio,
          .note = formatted("{:.2f} ms against {:.2f} ms; {}", 1e3 * p.time, 1e3 * p.reference,
                            p.text())};
}

// A whole decode step of `sequences` sequences that have `context` tokens each.
Result decode(Bench& bench, int context, int sequences, int threads) {
  context = context_of(bench, context);
  LayerBench layer(bench, {.threads = threads, .context = context, .sequences = sequences});
  layer.fill();
  const Paired p = bench.against_limit(threads, [&] {
    layer.decode(sequences);
    const auto distinct = static_cast<double>(layer.traced().distinct_experts);
    return Work{
        .bytes = layer.attention_bytes() + layer.shared_bytes() + distinct * layer.expert_bytes(),
        .operations = sequences * layer.linear_operations(),
        .added_operations = sequences * layer.attention_operations(context - 1)};
  });
  return {.value = p.ratio, .note = formatted("{}; {}", milliseconds(p), layer.traced().shares())};
}

// What a token of a long prompt costs but for its attention, in operations of the moment's peak:
// one pass of `chunk` tokens.
struct Dense {
  double seconds, peak;
};
Dense dense_part(Bench& bench, LayerBench& layer, int chunk) {
  const double before = bench.compute_rate(1);
  layer.prefill(0, chunk);
  const auto& s = layer.traced().seconds;
  return {(s.mlp + s.projections) / chunk, (before + bench.compute_rate(1)) / 2};
}

// Seconds of selecting and attending of one token, averaged over 16 positions of the prompt; and
// the same at the peak.
struct Sampled {
  double seconds = 0, limit = 0;
};
Sampled sampled_attention(Bench& bench, LayerBench& layer, int prompt) {
  constexpr int kSamples = 16;
  const int queries = bench.pick(64, 8);
  Sampled out;
  layer.traced().skip_mlp = true;
  for (int i = 0; i < kSamples; ++i) {
    const int middle = static_cast<int>((i + 0.5) * prompt / kSamples);
    const int first = std::clamp(middle - queries / 2, 0, prompt - queries);
    const double before = bench.compute_rate(1);
    layer.prefill(first, queries);
    const double peak = (before + bench.compute_rate(1)) / 2;
    out.seconds += (layer.traced().seconds.select + layer.traced().seconds.attend) / queries;
    for (int t = 0; t < queries; ++t)
      out.limit += layer.attention_operations(first + t) / peak / queries;
  }
  layer.traced().skip_mlp = false;
  out.seconds /= kSamples;
  out.limit /= kSamples;
  return out;
}

Result first_token(Bench& bench, int prompt) {
  prompt = bench.pick(prompt, 128);
  const int chunk = std::min(prompt, 2048);
  LayerBench layer(bench, {.context = prompt, .batch_tokens = std::max(chunk, 64)});
  layer.fill();
  const std::string slow = too_slow(layer, chunk);
  if (!slow.empty()) return missed(slow);
  const Dense dense = dense_part(bench, layer, chunk);
  const std::string shares = layer.traced().shares();
  const Sampled attention = sampled_attention(bench, layer, prompt);
  const double measured = dense.seconds + attention.seconds;
  const double limit = layer.linear_operations() / dense.peak + attention.limit;
  return {.value = limit / measured,
          .note = formatted(
              "{:.2f} s a layer, {:.0f} % of it attention; limit {:.2f} s; a pass: {}",
              measured * prompt, 100 * attention.seconds / measured, limit * prompt, shares)};
}

void add_moe(std::vector<Row>& out) {
  const struct {
    int sequences;
    double goal;
  } decodes[] = {{1, 0.88}, {2, 0.85}, {4, 0.78}, {8, 0.65}};
  for (const auto& d : decodes) {
    const int n = d.sequences;
    out.push_back({.name = formatted("moe_decode_b{}", n),
                   .shape = formatted("{} tokens, 256 experts, gate to combine, 1 thread", n),
                   .unit = "of DRAM roof",
                   .goal = d.goal,
                   .basis = "the distinct experts' bytes once, at DRAM's speed",
                   .run = [n](Bench& bench) { return moe_decode(bench, n); }});
  }
  const struct {
    int tokens;
    double goal;
  } prefills[] = {{512, 0.55}, {2048, 0.75}, {4096, 0.83}};
  for (const auto& p : prefills) {
    const int n = p.tokens;
    out.push_back({.name = formatted("moe_prefill_{}", n),
                   .shape = formatted("{} tokens, 256 experts, gate to combine, 1 thread", n),
                   .unit = "of peak",
                   .goal = p.goal,
                   .basis = formatted("gemm_fp8 at {} rows an expert", n / 32),
                   .run = [n](Bench& bench) { return moe_prefill(bench, n); }});
  }
  const struct {
    int tokens;
    double goal;
  } dispatches[] = {{1, 1.5}, {32, 3}, {512, 3}, {4096, 2}};
  for (const auto& d : dispatches) {
    const int n = d.tokens;
    out.push_back({.name = formatted("moe_dispatch_{}", n),
                   .shape = formatted("{} tokens: gate, dispatch and combine, 1 thread", n),
                   .unit = "% of the MoE half",
                   .goal = d.goal,
                   .higher_is_better = false,
                   .basis = "everything but the products",
                   .run = [n](Bench& bench) { return moe_dispatch(bench, n); }});
  }
}

void add_layer(std::vector<Row>& out) {
  const struct {
    int context;
    double goal;
  } layers[] = {{4096, 0.85}, {32768, 0.82}};
  for (const auto& l : layers) {
    const int n = l.context;
    out.push_back({.name = formatted("layer_decode_{}k", n / 1024),
                   .shape = formatted("1 token at {}, one whole MoE layer, 1 thread", n),
                   .unit = "floor over measured",
                   .goal = l.goal,
                   .basis = "weights at DRAM's speed, indexer and attention at the peak",
                   .run = [n](Bench& bench) { return decode(bench, n, 1, 1); }});
  }
  out.push_back({.name = "mtp_verify_cost",
                 .shape = "2 tokens over 1 at 4,096, one whole MoE layer, 1 thread",
                 .unit = "times",
                 .goal = 1.6,
                 .higher_is_better = false,
                 .basis = "15.8 distinct experts for 8, the rest once",
                 .run = mtp_verify});
  for (const int n : {1, 2, 4, 8, 16}) {
    const double goal = 0.85 - 0.25 * std::log2(n) / 4;
    out.push_back({.name = formatted("batch_decode_b{}", n),
                   .shape = formatted("{} tokens at 4,096, one whole MoE layer, 1 thread", n),
                   .unit = "floor over measured",
                   .goal = goal,
                   .basis = "as layer_decode, with the distinct experts",
                   .run = [n](Bench& bench) { return decode(bench, 4096, n, 1); }});
  }
  const struct {
    int prompt;
    double goal;
  } prompts[] = {{512, 0.65}, {4096, 0.75}, {32768, 0.75}};
  for (const auto& p : prompts) {
    const int n = p.prompt;
    out.push_back(
        {.name = "ttft_" + (n < 1024 ? formatted("{}", n) : formatted("{}k", n / 1024)),
         .shape = formatted("prompt of {}, one whole MoE layer, attention sampled, 1 thread", n),
         .unit = "roofline over measured",
         .goal = p.goal,
         .basis = "every operation at the peak",
         .run = [n](Bench& bench) { return first_token(bench, n); }});
  }
}

const Register rows([](std::vector<Row>& out) {
  add_moe(out);
  add_layer(out);
});

}  // namespace
}  // namespace dsv32::bench
