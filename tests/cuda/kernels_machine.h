// A GPU with the kernels of smxx, for tests that call one kernel at a time: an emulated one
// (kernels_machine.cc), or through the driver a real one (device/driver_machine.cc). Results that a
// test reads go to the file that DSV32_RESULTS names, so that the two can be compared to the bit.
#ifndef DSV32_TESTS_CUDA_KERNELS_MACHINE_H_
#define DSV32_TESTS_CUDA_KERNELS_MACHINE_H_

#include <cstdint>
#include <memory>
#include <optional>
#include <span>
#include <string>
#include <vector>

#include "tests/kernels/data.h"
#include "tests/ptxemu/meter.h"

#include "kernels/cuda/launch.h"

namespace dsv32::test {

namespace cuda = kernels::cuda;

// Device pointers are typed, as the kernels' arguments want them; only kernels follow them.
class KernelMachine {
 public:
  explicit KernelMachine(std::uint64_t seed = 1);
  ~KernelMachine();
  KernelMachine(const KernelMachine&) = delete;
  KernelMachine& operator=(const KernelMachine&) = delete;

  template <class T>
  T* put(std::span<const T> values) {
    return static_cast<T*>(put_bytes(values.data(), values.size_bytes()));
  }
  template <class T>
  T* put(const std::vector<T>& values) {
    return put(std::span<const T>(values));
  }
  // Behind `gap` bytes, so that alignment is as bad as it may be.
  std::byte* put_at(const Bytes& values, std::size_t gap);
  // Never written: reading it is a finding.
  template <class T>
  T* empty(std::int64_t n) {
    return static_cast<T*>(allocate(static_cast<std::size_t>(n) * sizeof(T)));
  }
  std::byte* empty_rows(std::int64_t n, ValueType type) {
    return empty<std::byte>(n * bytes_of(type));
  }

  template <class T>
  std::vector<T> get(const T* from, std::int64_t n) {
    std::vector<T> out(static_cast<std::size_t>(n));
    get_bytes(out.data(), from, out.size() * sizeof(T));
    return out;
  }
  Bytes get_rows(const std::byte* from, std::int64_t n, ValueType type) {
    return get(from, n * bytes_of(type));
  }
  std::vector<double> values(const std::byte* from, std::int64_t n, ValueType type) {
    return read(get_rows(from, n, type), type);
  }

  // Requires that the emulator finds nothing wrong.
  template <class Arguments>
  void run(const Arguments& arguments) {
    run(cuda::launch_of(arguments), arguments);
  }
  template <class Arguments>
  void run(const cuda::Launch& launch, const Arguments& arguments) {
    run(launch, std::as_bytes(std::span(&arguments, 1)));
  }

  std::uint64_t instructions() const { return instructions_; }  // so far
  // From here on counts what kernels move and multiply; blocks run in ascending order and without
  // detectors. Null: no more. A real GPU counts nothing.
  void measure(ptxemu::Meter* meter);
  // Microseconds of a launch with cold caches, the median of some; none on an emulated GPU.
  template <class Arguments>
  std::optional<double> time(const Arguments& arguments) {
    return time(cuda::launch_of(arguments), std::as_bytes(std::span(&arguments, 1)));
  }
  // Forgets all that was put here.
  void clear();

 private:
  struct State;

  void* allocate(std::size_t bytes);
  void* put_bytes(const void* from, std::size_t bytes);
  void get_bytes(void* to, const void* from, std::size_t bytes);
  void run(const cuda::Launch& launch, std::span<const std::byte> arguments);
  std::optional<double> time(const cuda::Launch& launch, std::span<const std::byte> arguments);

  std::unique_ptr<State> state_;
  std::uint64_t instructions_ = 0;
  const char* function_ = "";  // that ran last
};

// Appends what a test has read, and of which kernel, to the file of DSV32_RESULTS.
void note_result(const char* function, const void* bytes, std::size_t count);

// The double-precision twins, which run on the host.
const kernels::CpuKernels& reference_twins();

// M of every tile's edge.
inline constexpr int kOddRows[] = {1,  2,  3,  4,  5,  6,  7,  8,   9,   15,  16,
                                   17, 31, 32, 33, 63, 64, 65, 127, 128, 129, 130};

}  // namespace dsv32::test

#endif  // DSV32_TESTS_CUDA_KERNELS_MACHINE_H_
