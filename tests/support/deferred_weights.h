// The deferring backend's handles: the inner backend's, and the bytes that it reads.
#ifndef DSV32_TESTS_SUPPORT_DEFERRED_WEIGHTS_H_
#define DSV32_TESTS_SUPPORT_DEFERRED_WEIGHTS_H_

#include <cstddef>
#include <memory>
#include <utility>
#include <vector>

#include "lib/backend/backend.h"

namespace dsv32::test {

// Bytes that count themselves while they live.
struct OwnedBytes {
  OwnedBytes(std::size_t count, std::shared_ptr<std::size_t> living)
      : bytes(new std::byte[count], [count, living](std::byte* p) {
          *living -= count;
          delete[] p;
        }) {
    *living += count;
  }
  std::shared_ptr<std::byte[]> bytes;
};

using Owner = std::vector<std::shared_ptr<std::byte[]>>;

struct DeferredWeight final : BoundWeight {
  DeferredWeight(WeightHandle handle, Owner bytes)
      : BoundWeight(handle->rows, handle->cols, handle->reads_fp8),
        owner(std::move(bytes)),
        inner(std::move(handle)) {}
  const Owner owner;
  const WeightHandle inner;
};

struct DeferredExperts final : BoundExperts {
  DeferredExperts(ExpertsHandle handle, Owner bytes)
      : BoundExperts(handle->count, handle->rows, handle->cols, handle->read_fp8),
        owner(std::move(bytes)),
        inner(std::move(handle)) {}
  const Owner owner;
  const ExpertsHandle inner;
};

}  // namespace dsv32::test

#endif  // DSV32_TESTS_SUPPORT_DEFERRED_WEIGHTS_H_
