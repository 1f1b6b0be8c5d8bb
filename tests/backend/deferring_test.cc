// The deferring backend itself: that it defers, that nobody reaches its memory, that it keeps its
// weights, that it finds its callers' faults.
#include <array>
#include <cerrno>
#include <numeric>
#include <stdexcept>
#include <sys/mman.h>
#include <unistd.h>

#include "lib/backend/backend_kind.h"
#include "tests/backend/backends.h"
#include "tests/support/deferring_backend.h"

namespace dsv32::test {
namespace {

DeferringBackend deferring(DeferringOptions options = {}) {
  return DeferringBackend(cpu_backend_kind.open({.num_threads = 1}), options);
}

using List = std::vector<std::int32_t>;

TEST_CASE("deferring: nothing runs until somebody waits") {
  DeferringBackend backend = deferring();
  DeviceData device(backend);
  const TensorView x = device.put(List{1, 2}), y = device.put(List{0, 0});
  backend.copy(y, x);
  CHECK(backend.queued() == 3);
  CHECK(device.integers(y) == List{1, 2});
  CHECK(backend.queued() == 0);
  backend.copy(x, y);
  backend.synchronize();
  CHECK(backend.queued() == 0);
}

// The system's calls say EFAULT where a program would crash.
TEST_CASE("deferring: the host can neither read nor write its memory") {
  DeferringBackend backend = deferring();
  DeviceData device(backend);
  const TensorView x = device.put(List(5000, 7));
  backend.synchronize();
  std::array<int, 2> ends{};
  REQUIRE(pipe(ends.data()) == 0);
  for (const std::ptrdiff_t at : {0, 4096, 19999}) {
    CHECK(::write(ends[1], x.data + at, 1) == -1);
    CHECK(errno == EFAULT);
  }
  REQUIRE(::write(ends[1], "x", 1) == 1);
  CHECK(::read(ends[0], x.data, 1) == -1);
  CHECK(errno == EFAULT);
  close(ends[0]);
  close(ends[1]);
  CHECK(device.integers(x) == List(5000, 7));
}

TEST_CASE("deferring: a pass is recorded under its key, and not called again") {
  DeferringBackend backend = deferring();
  DeviceData device(backend);
  const TensorView x = device.put(List{1, 2}), y = device.put(List{0, 0});
  int calls = 0;
  const auto run = [&](std::uint64_t key, TensorView from) {
    backend.run(key, [&] {
      ++calls;
      backend.copy(y, from);
    });
    return device.integers(y);
  };
  const TensorView z = device.put(List{8, 9});
  CHECK(run(3, x) == List{1, 2});
  CHECK(run(3, z) == List{1, 2});  // what depends on more than the key is wrong
  CHECK(calls == 1);
  CHECK(run(0, z) == List{8, 9});
  CHECK(run(4, z) == List{8, 9});
  CHECK(calls == 3);
  CHECK(backend.recorded() == 2);
  CHECK(backend.replayed() == 1);
}

TEST_CASE("deferring: a pass that throws leaves no record, one that waits is refused") {
  DeferringBackend backend = deferring();
  DeviceData device(backend);
  const TensorView x = device.put(List{1, 2}), y = device.put(List{0, 0});
  CHECK_THROWS_AS(backend.run(5,
                              [&] {
                                backend.copy(y, x);
                                throw std::runtime_error("mine");
                              }),
                  std::runtime_error);
  CHECK(backend.recorded() == 0);
  CHECK(device.integers(y) == List{0, 0});
  check_error(ErrorCode::internal, "download in a pass",
              [&] { backend.run(5, [&] { device.integers(x); }); });
  const List more = {1, 1};
  check_error(ErrorCode::internal, "upload in a pass",
              [&] { backend.run(5, [&] { backend.upload(x, more.data()); }); });
  check_error(ErrorCode::internal, "allocate in a pass",
              [&] { backend.run(5, [&] { backend.allocate(64); }); });
  backend.run(5, [&] { backend.copy(y, x); });
  CHECK(device.integers(y) == List{1, 2});
}

TEST_CASE("deferring: an error comes out where somebody waits, and what is behind it never runs") {
  DeferringBackend backend = deferring();
  DeviceData device(backend);
  const TensorView x = device.put(List{1, 2, 3, 4}), y = device.put(List{0, 0, 0, 0});
  TensorView beyond = x;
  beyond.data += 4;
  backend.copy(y, beyond);
  backend.copy(y, x);
  check_error(ErrorCode::internal, "a view of 16 bytes at 4 of 16", [&] { backend.synchronize(); });
  CHECK(device.integers(y) == List{0, 0, 0, 0});
}

TEST_CASE("deferring: memory that is gone, and views of nothing") {
  DeferringBackend backend = deferring();
  DeviceData device(backend);
  const TensorView x = device.put(List{1, 2});
  std::shared_ptr<void> memory = backend.allocate(8);
  TensorView gone = x;
  gone.data = static_cast<std::byte*>(memory.get());
  backend.copy(gone, x);
  memory.reset();
  check_error(ErrorCode::internal, "a view", [&] { backend.synchronize(); });
  List host = {5, 6};
  gone.data = reinterpret_cast<std::byte*>(host.data());
  backend.copy(x, gone);
  check_error(ErrorCode::internal, "a view", [&] { backend.synchronize(); });
}

TEST_CASE("deferring: rows that overlap, or are written twice, are refused") {
  DeferringBackend backend = deferring();
  DeviceData device(backend);
  List values(12);
  std::iota(values.begin(), values.end(), 0);
  const TensorView x = device.put(values.data(), DType::i32, 6, 2);
  const auto copy = [&](const List& from, const List& to) {
    backend.copy_rows(x, device.put(from), x, device.put(to));
    backend.synchronize();
  };
  CHECK_NOTHROW(copy({0, 1, -1}, {3, 4, 0}));
  check_error(ErrorCode::internal, "reads", [&] { copy({0, 3}, {3, 4}); });
  check_error(ErrorCode::internal, "row 4 is written twice", [&] { copy({0, 1}, {4, 4}); });
  check_error(ErrorCode::internal, "onto itself", [&] {
    backend.copy(x.slice(1, 3), x.slice(0, 3));
    backend.synchronize();
  });
}

TEST_CASE("deferring: tokens, slots and handles that are not there") {
  DeferringBackend backend = deferring();
  backend.reserve(test_limits());
  DeviceData device(backend);
  std::vector<float> table(12);
  const Linear file{.weight = {reinterpret_cast<std::byte*>(table.data()), DType::f32, 3, 4, 4},
                    .scale = {}};
  const WeightHandle own = backend.bind(file, kNoProgress);
  const auto cpu = cpu_backend_kind.open({.num_threads = 1});
  const WeightHandle foreign = cpu->bind(file, kNoProgress);
  const TensorView out = device.empty(DType::f32, 2, 4);
  const auto embed = [&](const List& tokens, const BoundWeight& weight) {
    backend.embed(BatchParts{.tokens = device.put(tokens)}, weight, out);
    backend.synchronize();
  };
  CHECK_NOTHROW(embed({0, 2}, *own));
  check_error(ErrorCode::internal, "a token 3 is not in 0..2", [&] { embed({0, 3}, *own); });
  check_error(ErrorCode::internal, "another backend", [&] { embed({0, 2}, *foreign); });
  check_error(ErrorCode::internal, "writes what it reads", [&] {
    backend.silu_mul(out, out, {.dense = out, .fp8 = {}, .scale = {}});
    backend.synchronize();
  });
}

// A file's bytes, which go away.
class Mapping {
 public:
  explicit Mapping(std::size_t bytes) : bytes_(bytes) {
    data_ = static_cast<std::byte*>(
        mmap(nullptr, bytes, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0));
    REQUIRE(data_ != MAP_FAILED);
  }
  ~Mapping() { munmap(data_, bytes_); }
  Mapping(const Mapping&) = delete;
  Mapping& operator=(const Mapping&) = delete;
  std::byte* data() { return data_; }

 private:
  std::byte* data_;
  std::size_t bytes_;
};

TEST_CASE("deferring: a handle owns its bytes, and they go with it") {
  DeferringBackend backend = deferring();
  backend.reserve(test_limits());
  DeviceData device(backend);
  Data data(151);
  const int rows = 30, cols = 17;
  const Bytes values = data.values(rows * cols, ValueType::f32),
              x = data.values(cols, ValueType::f32);
  WeightHandle handle;
  ExpertsHandle experts;
  {
    Mapping file(values.size());
    std::copy(values.begin(), values.end(), file.data());
    const Linear w{.weight = {file.data(), DType::f32, rows, cols, cols}, .scale = {}};
    handle = backend.bind(w, kNoProgress);
    const std::array<Linear, 2> two = {w, w};
    experts = backend.bind_experts(two, kNoProgress);
  }
  CHECK(backend.weight_bytes() == 3 * values.size());
  const Activation in{.dense = device.put(x, ValueType::f32, 1, cols), .fp8 = {}, .scale = {}};
  const TensorView out = device.empty(DType::f32, 1, rows),
                   same = device.empty(DType::f32, 1, rows);
  backend.linear(*handle, in, out);
  backend.grouped_linear(*experts, in, device.put(List{0, 0, 1}), same);
  double sum = 0.0;
  const auto w = read(values, ValueType::f32), v = read(x, ValueType::f32);
  for (std::size_t i = 0; i < v.size(); ++i) sum += w[i] * v[i];
  const auto got = device.values(out);
  CHECK(got[0] == Approx(sum).epsilon(1e-5));
  CHECK(device.values(same) == got);
  handle.reset();
  CHECK(backend.weight_bytes() == 2 * values.size());
  experts.reset();
  CHECK(backend.weight_bytes() == 0);
}

TEST_CASE("deferring: weights come in pieces, and binding may end between two of them") {
  constexpr std::size_t kStaging = 1000;
  DeferringBackend backend = deferring({.staging = kStaging});
  std::vector<std::byte> bytes(64 * 101 / 2 + 64), scale(64 * 2 * 2);
  // INT4: two elements a byte; an odd last column has a byte of its own.
  const Linear int4{.weight = {bytes.data(), DType::i4, 64, 101, 102},
                    .scale = {scale.data(), DType::f16, 64, 2, 2},
                    .format = WeightFormat::int4};
  std::size_t total = 0, pieces = 0;
  const auto told = [&](std::size_t more) {
    CHECK(more <= kStaging);
    total += more;
    ++pieces;
  };
  const WeightHandle handle = backend.bind(int4, told);
  CHECK(total == 64 * 51 + 64 * 2 * 2);
  CHECK(pieces == 5);
  CHECK(backend.weight_bytes() == total);
  const auto give_up = [&](std::size_t) {
    if (--pieces == 2) throw Error(ErrorCode::cancelled, "enough");
  };
  check_error(ErrorCode::cancelled, "enough",
              [&] { static_cast<void>(backend.bind(int4, give_up)); });
  CHECK(backend.weight_bytes() == total);
}

TEST_CASE("deferring: weights that it lacks are refused, and it says which") {
  const auto bit = [](WeightFormat format) { return 1u << static_cast<unsigned>(format); };
  DeferringBackend backend = deferring({.lacks = bit(WeightFormat::int4) | bit(WeightFormat::fp8)});
  BackendLimits limits = test_limits();
  limits.weight_formats = bit(WeightFormat::dense) | bit(WeightFormat::fp8_pow2);
  CHECK_NOTHROW(backend.reserve(limits));
  limits.weight_formats |= bit(WeightFormat::int4);
  check_error(ErrorCode::unsupported, "no INT4 weights", [&] { backend.reserve(limits); });
}

}  // namespace
}  // namespace dsv32::test
