// A pass as a list of launches, and as graphs that were made of it.
#ifndef DSV32_LIB_BACKEND_CUDA_RECORDED_H_
#define DSV32_LIB_BACKEND_CUDA_RECORDED_H_

#include <cstddef>
#include <cstdint>
#include <memory>
#include <vector>

#include "lib/backend/cuda/gpu.h"

#include "kernels/cuda/launch.h"

namespace dsv32::cuda {

// One call: a kernel with its arguments, or a copy within the device.
struct Command {
  CUfunction function = nullptr;  // null: the copy
  kernels::cuda::Launch launch{};
  std::size_t arguments = 0, argument_bytes = 0;  // in Program::arguments
  CUdeviceptr to = 0, from = 0;
  std::size_t bytes = 0;
};

struct Program {
  std::vector<Command> commands;
  std::vector<std::byte> arguments;
};

// What crosses with a pass: between pinned memory, from `offset` on, and the device.
struct Crossing {
  CUdeviceptr device = 0;
  std::size_t offset = 0, bytes = 0;
  bool operator==(const Crossing&) const = default;
};
using Crossings = std::vector<Crossing>;

// An executable graph of one pass with what it uploads and downloads.
class Graph {
 public:
  Graph(std::shared_ptr<Gpu> device, CUgraphExec exec, Crossings up, Crossings down)
      : device_(std::move(device)), exec_(exec), up_(std::move(up)), down_(std::move(down)) {}
  ~Graph();
  Graph(const Graph&) = delete;
  Graph& operator=(const Graph&) = delete;

  CUgraphExec exec() const { return exec_; }
  bool is_for(const Crossings& up, const Crossings& down) const {
    return up_ == up && down_ == down;
  }

 private:
  std::shared_ptr<Gpu> device_;
  CUgraphExec exec_;
  Crossings up_, down_;
};

// One key of Backend::run().
struct Record {
  bool has_run = false;  // once, call by call
  Program program;       // from the second time on
  std::vector<std::unique_ptr<Graph>> graphs;
  std::uint64_t last_use = 0;
};

}  // namespace dsv32::cuda

#endif  // DSV32_LIB_BACKEND_CUDA_RECORDED_H_
