// An emulated GPU with the kernels of smxx, for tests that call one kernel at a time.
#ifndef DSV32_TESTS_CUDA_KERNELS_MACHINE_H_
#define DSV32_TESTS_CUDA_KERNELS_MACHINE_H_

#include <cstdint>
#include <span>
#include <string>
#include <vector>

#include "tests/kernels/data.h"
#include "tests/ptxemu/machine.h"

#include "kernels/cuda/launch.h"

namespace dsv32::test {

namespace cuda = kernels::cuda;

// Device pointers are typed, as the kernels' arguments want them; only kernels follow them.
class KernelMachine {
 public:
  explicit KernelMachine(std::uint64_t seed = 1);

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
  // Forgets all that was put here.
  void clear();

 private:
  void* allocate(std::size_t bytes);
  void* put_bytes(const void* from, std::size_t bytes);
  void get_bytes(void* to, const void* from, std::size_t bytes);
  void run(const cuda::Launch& launch, std::span<const std::byte> arguments);

  ptxemu::Machine machine_;
  std::vector<ptxemu::Machine::Loaded> loaded_;  // as the files of kernel_files()
  std::vector<ptxemu::Address> allocations_;
  std::uint64_t seed_, instructions_ = 0;
};

// The double-precision twins, which run on the host.
const kernels::CpuKernels& reference_twins();

// M of every tile's edge.
inline constexpr int kOddRows[] = {1,  2,  3,  4,  5,  6,  7,  8,   9,   15,  16,
                                   17, 31, 32, 33, 63, 64, 65, 127, 128, 129, 130};

}  // namespace dsv32::test

#endif  // DSV32_TESTS_CUDA_KERNELS_MACHINE_H_
