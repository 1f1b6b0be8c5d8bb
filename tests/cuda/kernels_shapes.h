// Launches at the shapes of V3.2, for counts and for times.
#ifndef DSV32_TESTS_CUDA_KERNELS_SHAPES_H_
#define DSV32_TESTS_CUDA_KERNELS_SHAPES_H_

#include "tests/cuda/kernels_machine.h"

namespace dsv32::test {

inline constexpr kernels::CacheLayout kDeployed{kernels::CacheLayout::Format::fp8, 512, 64, 128};

// FP8 rows by an FP8 weight with scales of 128 x 128, to BF16.
cuda::LinearArguments linear_of(KernelMachine& gpu, Data& data, int rows, int outs, int cols);

// Each query has a list of its own, of records of its own.
cuda::SparseMlaArguments attention_of(KernelMachine& gpu, Data& data, int queries, int heads,
                                      int keys);

// Queries of one sequence, all at its last position; 64 heads of 128.
cuda::IndexScoresArguments scores_of(KernelMachine& gpu, Data& data, int queries, int keys);
// The 2,048 best of such scores.
cuda::TopKArguments choice_of(KernelMachine& gpu, Data& data, int queries, int keys);

}  // namespace dsv32::test

#endif  // DSV32_TESTS_CUDA_KERNELS_SHAPES_H_
