#include "lib/backend/cuda/stream.h"

#include <algorithm>
#include <cstring>
#include <utility>

#include "lib/backend/plugin.h"
#include "lib/backend/views.h"
#include "lib/base/check.h"

namespace dsv32::cuda {
namespace {

// Parts of the pinned memory.
constexpr std::size_t kPiece = std::size_t{4} << 20;  // of a weight; two buffers
constexpr std::size_t kIn = std::size_t{4} << 20;     // lists of a step
constexpr std::size_t kOut = kCudaStagingBytes - 2 * kPiece - kIn;
constexpr std::size_t kAlign = 256;
constexpr std::size_t kMaxRecords =
    64;  // keys; beyond them the one that was not used for longest goes
constexpr std::size_t kMaxGraphs = 16;  // of one key

std::size_t rounded(std::size_t bytes) { return (bytes + kAlign - 1) / kAlign * kAlign; }

}  // namespace

class Stream::Scope {
 public:
  explicit Scope(Stream& stream) : stream_(stream) {
    if (stream_.depth_ == 0) stream_.device_->enter();
    ++stream_.depth_;
  }
  ~Scope() {
    if (--stream_.depth_ == 0) stream_.device_->leave();
  }
  Scope(const Scope&) = delete;
  Scope& operator=(const Scope&) = delete;

 private:
  Stream& stream_;
};

Graph::~Graph() {
  if (device_->is_own_process()) static_cast<void>(device_->driver().cuGraphExecDestroy(exec_));
}

Stream::Stream(std::shared_ptr<Gpu> device)
    : device_(std::move(device)),
      driver_(device_->driver()),
      kernels_(device_),
      pinned_(pinned_memory(device_, kCudaStagingBytes)),
      pieces_(pinned_.get()),
      in_(pieces_ + 2 * kPiece),
      out_(in_ + kIn) {
  const Scope in(*this);
  try {
    device_->check(driver_.cuStreamCreate(&stream_, CU_STREAM_NON_BLOCKING), "cuStreamCreate");
    device_->set_stream(stream_);
    for (CUevent& event : read_)
      device_->check(driver_.cuEventCreate(&event, CU_EVENT_DISABLE_TIMING), "cuEventCreate");
  } catch (...) {
    end();
    throw;
  }
}

Stream::~Stream() {
  if (!device_->is_own_process()) return;
  try {
    const Scope in(*this);
    wait_quietly();
    records_.clear();
    end();
  } catch (const Error&) {  // a broken context takes all of it
  }
}

void Stream::end() noexcept {
  device_->set_stream(nullptr);
  for (CUevent event : read_) {
    if (event) static_cast<void>(driver_.cuEventDestroy_v2(event));
  }
  if (stream_) static_cast<void>(driver_.cuStreamDestroy_v2(stream_));
}

void Stream::refuse_in_record(const char* what) const {
  DSV32_CHECK(recording_ == nullptr, internal, "{} in a pass that is recorded", what);
}

void Stream::launch(const kernels::cuda::Launch& launch, const void* arguments, std::size_t bytes) {
  add({.function = kernels_[launch.kernel], .launch = launch, .argument_bytes = bytes}, arguments);
}

void Stream::copy(void* to, const void* from, std::size_t bytes) {
  if (bytes > 0) add({.to = address(to), .from = address(from), .bytes = bytes}, nullptr);
}

// Into the record that is being made, or to the driver.
void Stream::add(Command command, const void* arguments) {
  if (recording_ == nullptr) {
    one_.commands.clear();
    one_.arguments.clear();
  }
  Program& program = recording_ ? *recording_ : one_;
  command.arguments = program.arguments.size();
  const auto* bytes = static_cast<const std::byte*>(arguments);
  if (bytes)
    program.arguments.insert(program.arguments.end(), bytes, bytes + command.argument_bytes);
  // The next ones begin where any struct may.
  program.arguments.resize((program.arguments.size() + 15) / 16 * 16);
  program.commands.push_back(command);
  if (recording_ != nullptr) return;
  const Scope in(*this);
  begin_calls();
  issue(one_, command);
}

void Stream::issue(const Program& program, const Command& command) {
  busy_ = true;
  if (command.function == nullptr) {
    device_->check(driver_.cuMemcpyDtoDAsync_v2(command.to, command.from, command.bytes, stream_),
                   "cuMemcpyDtoDAsync");
    return;
  }
  std::size_t bytes = command.argument_bytes;
  void* arguments = const_cast<std::byte*>(program.arguments.data() + command.arguments);
  void* extra[] = {CU_LAUNCH_PARAM_BUFFER_POINTER, arguments, CU_LAUNCH_PARAM_BUFFER_SIZE, &bytes,
                   CU_LAUNCH_PARAM_END};
  const kernels::cuda::Launch& l = command.launch;
  device_->check(driver_.cuLaunchKernel(command.function, l.grid_x, l.grid_y, l.grid_z, l.threads,
                                        1, 1, l.shared, stream_, nullptr, extra),
                 kernels::cuda::kKernelNames[static_cast<std::size_t>(l.kernel)].function);
}

void Stream::begin_calls() {
  if (waiting_ != nullptr) launch_record({});
  if (!uploads_.empty()) {
    issue_uploads(uploads_);
    uploads_.clear();
  }
}

void Stream::issue_uploads(const Crossings& uploads) {
  for (const Crossing& c : uploads) {
    busy_ = true;
    device_->check(driver_.cuMemcpyHtoDAsync_v2(c.device, in_ + c.offset, c.bytes, stream_),
                   "cuMemcpyHtoDAsync");
  }
}

void Stream::issue_downloads(const Crossings& downloads) {
  for (const Crossing& c : downloads) {
    busy_ = true;
    device_->check(driver_.cuMemcpyDtoHAsync_v2(out_ + c.offset, c.device, c.bytes, stream_),
                   "cuMemcpyDtoHAsync");
  }
}

void Stream::upload(void* to, const void* from, std::size_t bytes) {
  refuse_in_record("upload");
  if (bytes == 0) return;
  if (bytes > kIn) return upload(to, from, bytes, [](std::size_t) {});
  if (waiting_ != nullptr || in_used_ + bytes > kIn) synchronize();  // then all of it is free
  std::memcpy(in_ + in_used_, from, bytes);
  uploads_.push_back({address(to), in_used_, bytes});
  in_used_ += rounded(bytes);
}

void Stream::upload(void* to, const void* from, std::size_t bytes, BindProgress progress) {
  refuse_in_record("upload");
  const Scope in(*this);
  begin_calls();
  const auto* source = static_cast<const std::byte*>(from);
  try {
    std::size_t buffer = 0;
    for (std::size_t done = 0; done < bytes; buffer ^= 1) {
      const std::size_t piece = std::min(kPiece, bytes - done);
      std::byte* staged = pieces_ + buffer * kPiece;
      device_->check(driver_.cuEventSynchronize(read_[buffer]), "cuEventSynchronize");
      std::memcpy(staged, source + done, piece);
      busy_ = true;
      device_->check(driver_.cuMemcpyHtoDAsync_v2(address(to) + done, staged, piece, stream_),
                     "cuMemcpyHtoDAsync");
      device_->check(driver_.cuEventRecord(read_[buffer], stream_), "cuEventRecord");
      done += piece;
      progress(piece);
    }
  } catch (...) {  // who gave up may give back the memory that is being written
    wait_quietly();
    throw;
  }
}

void Stream::download(std::span<const Download> parts) {
  refuse_in_record("download");
  const Scope in(*this);
  outgoing_.clear();
  std::size_t used = 0;
  const auto has_room = [&](std::size_t bytes) { return rounded(bytes) <= kOut - used; };
  for (const Download& part : parts) {
    const std::size_t bytes = contiguous_bytes(part.from);
    if (bytes == 0 || !has_room(bytes)) continue;
    outgoing_.push_back({address(part.from.data), used, bytes});
    used += rounded(bytes);
  }
  if (waiting_ != nullptr) {
    launch_record(outgoing_);
  } else {
    begin_calls();
    issue_downloads(outgoing_);
  }
  std::size_t next = 0;
  for (const Download& part : parts) {  // what is too large goes past the pinned memory
    const std::size_t bytes = contiguous_bytes(part.from);
    const bool kept = next < outgoing_.size() && outgoing_[next].bytes == bytes &&
                      outgoing_[next].device == address(part.from.data);
    if (bytes == 0 || kept) {
      next += kept ? 1 : 0;
      continue;
    }
    busy_ = true;
    device_->check(driver_.cuMemcpyDtoHAsync_v2(part.to, address(part.from.data), bytes, stream_),
                   "cuMemcpyDtoHAsync");
  }
  wait();
  next = 0;
  for (const Download& part : parts) {
    if (next == outgoing_.size()) break;
    const Crossing& c = outgoing_[next];
    if (c.device != address(part.from.data) || c.bytes != contiguous_bytes(part.from)) continue;
    std::memcpy(part.to, out_ + c.offset, c.bytes);
    ++next;
  }
}

void Stream::synchronize() {
  refuse_in_record("synchronize");
  if (waiting_ == nullptr && uploads_.empty() && !busy_) return;
  const Scope in(*this);
  begin_calls();
  wait();
}

void Stream::wait() {
  if (busy_) device_->check(driver_.cuStreamSynchronize(stream_), "cuStreamSynchronize");
  busy_ = false;
  if (uploads_.empty()) in_used_ = 0;
}

void Stream::wait_quietly() noexcept { static_cast<void>(driver_.cuStreamSynchronize(stream_)); }

// What still fails here, fails again at the next call.
void Stream::settle() noexcept {
  try {
    synchronize();
  } catch (const Error&) {
  }
}

void Stream::run(std::uint64_t key, FunctionRef<void()> pass) {
  if (key == 0) {
    const Scope in(*this);
    pass();
    return;
  }
  refuse_in_record("a pass");
  if (waiting_ != nullptr) synchronize();
  Record& record = records_[key];
  record.last_use = ++uses_;
  try {
    if (!record.has_run) {
      const Scope in(*this);
      pass();
      record.has_run = true;
      return;
    }
    if (record.program.commands.empty()) this->record(record, pass);
  } catch (...) {  // its lists shall not stand before those of the next one
    recording_ = nullptr;
    settle();
    throw;
  }
  waiting_ = &record;
}

// One that throws leaves no record, and no calls.
void Stream::record(Record& record, FunctionRef<void()> pass) {
  Program program;
  recording_ = &program;
  pass();
  recording_ = nullptr;
  if (records_.size() > kMaxRecords) drop_oldest_record();
  record.program = std::move(program);
}

void Stream::drop_oldest_record() {
  synchronize();
  const Scope in(*this);
  const auto oldest = std::min_element(
      records_.begin(), records_.end(),
      [](const auto& a, const auto& b) { return a.second.last_use < b.second.last_use; });
  records_.erase(oldest);
}

void Stream::launch_record(const Crossings& downloads) {
  Record& record = *std::exchange(waiting_, nullptr);
  Graph& graph = graph_of(record, downloads);
  uploads_.clear();  // they are its own
  busy_ = true;
  device_->check(driver_.cuGraphLaunch(graph.exec(), stream_), "cuGraphLaunch");
}

Graph& Stream::graph_of(Record& record, const Crossings& downloads) {
  for (const auto& graph : record.graphs) {
    if (graph->is_for(uploads_, downloads)) return *graph;
  }
  if (record.graphs.size() >= kMaxGraphs) {
    wait();
    record.graphs.erase(record.graphs.begin());
  }
  record.graphs.push_back(capture(record, downloads));
  return *record.graphs.back();
}

std::unique_ptr<Graph> Stream::capture(const Record& record, const Crossings& downloads) {
  const bool was_busy = busy_;
  device_->check(driver_.cuStreamBeginCapture_v2(stream_, CU_STREAM_CAPTURE_MODE_THREAD_LOCAL),
                 "cuStreamBeginCapture");
  CUgraph graph = nullptr;
  try {
    issue_uploads(uploads_);
    for (const Command& command : record.program.commands) issue(record.program, command);
    issue_downloads(downloads);
  } catch (...) {
    if (driver_.cuStreamEndCapture(stream_, &graph) == CUDA_SUCCESS && graph)
      static_cast<void>(driver_.cuGraphDestroy(graph));
    throw;
  }
  busy_ = was_busy;
  device_->check(driver_.cuStreamEndCapture(stream_, &graph), "cuStreamEndCapture");
  CUgraphExec exec = nullptr;
  const CUresult made = driver_.cuGraphInstantiateWithFlags(&exec, graph, 0);
  static_cast<void>(driver_.cuGraphDestroy(graph));
  device_->check(made, "cuGraphInstantiate");
  try {
    return std::make_unique<Graph>(device_, exec, uploads_, downloads);
  } catch (...) {
    static_cast<void>(driver_.cuGraphExecDestroy(exec));
    throw;
  }
}

}  // namespace dsv32::cuda
