// The rows against kt-kernel, which keep their place.
#include "benchmarks/harness.h"

namespace dsv32::bench {
namespace {

Result absent(Bench&) {
  return skipped("kt-kernel needs torch 2.9.1, some GB; its side is not written");
}

const Register registered([](std::vector<Row>& out) {
  out.push_back({.name = "peer_kt_moe_decode",
                 .shape = "MoE layer, 96 experts, FP8, 1 token",
                 .unit = "times kt-kernel",
                 .goal = 1.2,
                 .basis = "it reads weights below DRAM's rate",
                 .run = absent});
  out.push_back({.name = "peer_kt_moe_prefill",
                 .shape = "MoE layer, 96 experts, FP8, 512 tokens",
                 .unit = "times kt-kernel",
                 .goal = 1.0,
                 .basis = "the same peak",
                 .run = absent});
});

}  // namespace
}  // namespace dsv32::bench
