// FP8 products against oneDNN's BF16 ones, whose weights are prepacked and need no conversion.
#include <dnnl.hpp>
#include <string>
#include <unordered_map>
#include <vector>

#include "benchmarks/attention.h"
#include "benchmarks/harness.h"
#include "benchmarks/peers/products.h"
#include "lib/base/format.h"

namespace dsv32::bench {
namespace {

using dnnl::memory;
using Tag = memory::format_tag;

// Products [rows, in] x [in, out] with weights in the layout that oneDNN likes best, several of
// them so that none stays in a cache.
class Peer {
 public:
  Peer(std::int64_t rows, std::int64_t in, std::int64_t out)
      : engine_(dnnl::engine::kind::cpu, 0), stream_(engine_) {
    const auto type = memory::data_type::bf16;
    const memory::desc x({rows, in}, type, Tag::ab), y({rows, out}, type, Tag::ab);
    const memory::desc any({in, out}, type, Tag::any), plain({in, out}, type, Tag::ab);
    const dnnl::matmul::primitive_desc description(dnnl::matmul::desc(x, any, y), engine_);
    product_ = dnnl::matmul(description);
    name_ = description.impl_info_str();
    x_ = memory(x, engine_);
    y_ = memory(y, engine_);
    memory source(plain, engine_);
    fill_bf16(x_.get_data_handle(), rows * in, 1);
    fill_bf16(source.get_data_handle(), in * out, 2);
    for (int i = 0; i < 6; ++i) {
      weights_.emplace_back(description.weights_desc(), engine_);
      dnnl::reorder(source, weights_.back()).execute(stream_, source, weights_.back());
    }
    stream_.wait();
  }

  void next() {
    product_.execute(stream_,
                     {{DNNL_ARG_SRC, x_}, {DNNL_ARG_WEIGHTS, weights_[next_]}, {DNNL_ARG_DST, y_}});
    stream_.wait();
    next_ = (next_ + 1) % weights_.size();
  }
  const std::string& name() const { return name_; }

 private:
  dnnl::engine engine_;
  dnnl::stream stream_;
  dnnl::matmul product_;
  memory x_, y_;
  std::vector<memory> weights_;
  std::size_t next_ = 0;
  std::string name_;
};

// One thread: bench_peers.sh sets OMP_NUM_THREADS.
Result against(Bench& bench, int rows) {
  Products<Peer> products(bench, rows);
  const Paired p = products.against(bench);
  return {.value = p.ratio,
          .note = formatted("{} {:.0f} Gop/s, here {:.0f}; {}", products.peer().name(),
                            products.gops(p.time), products.gops(p.reference), p.text())};
}

const Register registered([](std::vector<Row>& out) {
  for (const int rows : {16, 64, 128, 256, 512}) {
    out.push_back({.name = formatted("gemm_vs_onednn_m{}", rows),
                   .shape = formatted("{} rows, FP8 against prepacked BF16, 1 thread", rows),
                   .unit = "times oneDNN",
                   .goal = rows >= 64 ? 1.0 : 0,
                   .basis = "oneDNN converts nothing and may sum in any order",
                   .run = [rows](Bench& bench) { return against(bench, rows); }});
  }
});

}  // namespace
}  // namespace dsv32::bench
