// FP8 products against OpenBLAS. Debian's build has no sbgemm, so its side is FP32: half of the
// BF16 peak at best, on weights of four times the bytes.
#include <cblas.h>
#include <string>
#include <vector>

#include "benchmarks/attention.h"
#include "benchmarks/harness.h"
#include "benchmarks/peers/products.h"
#include "lib/base/format.h"

namespace dsv32::bench {
namespace {

// Products of [rows, in] with some matrices [out, in], so many that none stays in a cache.
class Peer {
 public:
  Peer(int rows, int in, int out)
      : rows_(rows), in_(in), out_(out), x_(size(rows, in)), y_(size(rows, out)), w_(4) {
    fill_f32(x_.data(), std::int64_t{rows} * in, 1);
    for (std::vector<float>& w : w_) {
      w.resize(size(out, in));
      fill_f32(w.data(), std::int64_t{out} * in, 2);
    }
  }
  void next() {
    cblas_sgemm(CblasRowMajor, CblasNoTrans, CblasTrans, rows_, out_, in_, 1.0f, x_.data(), in_,
                w_[next_].data(), in_, 0.0f, y_.data(), out_);
    next_ = (next_ + 1) % w_.size();
  }

 private:
  static std::size_t size(int rows, int cols) {
    return static_cast<std::size_t>(rows) * static_cast<std::size_t>(cols);
  }
  int rows_, in_, out_;
  std::vector<float> x_, y_;
  std::vector<std::vector<float>> w_;
  std::size_t next_ = 0;
};

Result against(Bench& bench, int rows) {
  openblas_set_num_threads(1);
  Products<Peer> products(bench, rows);
  const Paired p = products.against(bench);
  return {.value = p.ratio,
          .note = formatted("sgemm ({}) {:.0f} Gop/s, here {:.0f}; {}", openblas_get_corename(),
                            products.gops(p.time), products.gops(p.reference), p.text())};
}

const Register registered([](std::vector<Row>& out) {
  for (const int rows : {16, 64, 512}) {
    out.push_back({.name = formatted("gemm_vs_openblas_m{}", rows),
                   .shape = formatted("{} rows, FP8 against FP32, 1 thread", rows),
                   .unit = "times OpenBLAS",
                   .basis = "FP32 multiply-adds have half of the BF16 peak",
                   .run = [rows](Bench& bench) { return against(bench, rows); }});
  }
});

}  // namespace
}  // namespace dsv32::bench
