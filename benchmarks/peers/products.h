// Products of a peer in turns with ours on FP8, one thread each.
#ifndef DSV32_BENCHMARKS_PEERS_PRODUCTS_H_
#define DSV32_BENCHMARKS_PEERS_PRODUCTS_H_

#include "benchmarks/harness.h"
#include "benchmarks/linear.h"

namespace dsv32::bench {

// Peer(rows, in, out) makes some matrices [out, in], so many that none stays in a cache; next()
// multiplies rows of x with one of them. A turn is a product from `hidden` to `width` and one back.
template <class Peer>
class Products {
 public:
  Products(Bench& bench, int rows)
      : hidden_(bench.pick(7168, 512)),
        width_(bench.pick(2048, 256)),
        rows_(rows),
        up_(rows, hidden_, width_),
        down_(rows, width_, hidden_) {}

  Paired against(Bench& bench) {
    const LinearPool::Shape shapes[] = {{width_, hidden_}, {hidden_, width_}};
    LinearPool ours(bench, bench.backend(1), shapes, rows_, WeightFormat::fp8_pow2);
    return bench.compare([&] { return turn(up_, down_); }, [&] { return turn(ours, ours); });
  }

  // Additions and multiplications, in 1e9 a second, of a turn that takes so many seconds.
  double gops(double seconds) const { return 4.0 * rows_ * hidden_ * width_ / seconds / 1e9; }
  const Peer& peer() const { return up_; }

 private:
  template <class Side>
  static double turn(Side& first, Side& second) {
    const double start = now();
    first.next();
    second.next();
    return now() - start;
  }

  int hidden_, width_, rows_;
  Peer up_, down_;
};

}  // namespace dsv32::bench

#endif  // DSV32_BENCHMARKS_PEERS_PRODUCTS_H_
