// The one stream of a backend: launches and copies in order, and passes that are replayed.
#ifndef DSV32_LIB_BACKEND_CUDA_STREAM_H_
#define DSV32_LIB_BACKEND_CUDA_STREAM_H_

#include <array>
#include <cstddef>
#include <cstdint>
#include <map>
#include <memory>
#include <optional>
#include <span>

#include "lib/backend/backend.h"
#include "lib/backend/cuda/kernels.h"
#include "lib/backend/cuda/recorded.h"
#include "lib/base/function_ref.h"

namespace dsv32::cuda {

// A key's first pass runs call by call, its second is kept as a list, and from then on the list is
// a graph: with what was uploaded before it and what is downloaded after it, so that a step is four
// calls of the driver: enter the context, launch, wait, leave.
class Stream {
 public:
  explicit Stream(std::shared_ptr<Gpu> device);
  ~Stream();
  Stream(const Stream&) = delete;
  Stream& operator=(const Stream&) = delete;

  // Arguments are copied. Nothing if the grid is empty.
  template <class Arguments>
  void launch(const kernels::cuda::Launch& launch, const Arguments& arguments) {
    if (!launch.empty()) this->launch(launch, &arguments, sizeof arguments);
  }
  void copy(void* to, const void* from, std::size_t bytes);
  void upload(void* to, const void* from, std::size_t bytes);  // has read `from` on return
  // The same for what is large, piece by piece through two buffers; what `progress` throws ends it.
  void upload(void* to, const void* from, std::size_t bytes, BindProgress progress);
  void download(std::span<const Download> parts);
  void synchronize();
  void run(std::uint64_t key, FunctionRef<void()> pass);

 private:
  class Scope;  // in the device's context; nested ones cost nothing

  void launch(const kernels::cuda::Launch& launch, const void* arguments, std::size_t bytes);
  void add(Command command, const void* arguments);
  void issue(const Program& program, const Command& command);
  void refuse_in_record(const char* what) const;
  void record(Record& record, FunctionRef<void()> pass);
  void begin_calls();  // what waits goes first
  void issue_uploads(const Crossings& uploads);
  void issue_downloads(const Crossings& downloads);
  void launch_record(const Crossings& downloads);
  Graph& graph_of(Record& record, const Crossings& downloads);
  std::unique_ptr<Graph> capture(const Record& record, const Crossings& downloads);
  void drop_oldest_record();
  void wait();
  void wait_quietly() noexcept;
  void settle() noexcept;
  void end() noexcept;

  std::shared_ptr<Gpu> device_;
  const Driver& driver_;
  Kernels kernels_;
  CUstream stream_ = nullptr;
  std::array<CUevent, 2> read_{};  // when a buffer of pieces has been read
  std::shared_ptr<std::byte> pinned_;
  std::byte *pieces_ = nullptr, *in_ = nullptr, *out_ = nullptr;  // parts of it
  std::size_t in_used_ = 0;
  int depth_ = 0;
  bool busy_ = false;   // something was issued that nobody has waited for
  Crossings uploads_;   // that wait in `in_`
  Crossings outgoing_;  // of a download, kept for its memory
  std::map<std::uint64_t, Record> records_;
  Record* waiting_ = nullptr;     // to be replayed with what is downloaded after it
  Program* recording_ = nullptr;  // else calls are issued
  Program one_;                   // of a call that is issued
  std::uint64_t uses_ = 0;
};

}  // namespace dsv32::cuda

#endif  // DSV32_LIB_BACKEND_CUDA_STREAM_H_
