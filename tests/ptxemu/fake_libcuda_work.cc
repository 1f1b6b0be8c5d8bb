// How the fake driver's work waits, and in which order it runs.
#include <algorithm>
#include <string>

#include "tests/ptxemu/fake_libcuda_driver.h"

namespace dsv32::fakecuda {

// SplitMix64.
std::uint64_t Driver::random() {
  std::uint64_t x =
      random_state_++ * 0x9e3779b97f4a7c15 + static_cast<std::uint64_t>(settings.seed);
  x = (x ^ x >> 30) * 0xbf58476d1ce4e5b9;
  x = (x ^ x >> 27) * 0x94d049bb133111eb;
  return x ^ x >> 31;
}

ptxemu::Options Driver::run_options() {
  ptxemu::Options options;
  options.mode = static_cast<ptxemu::Mode>(settings.mode);
  options.order = static_cast<ptxemu::Order>(settings.order);
  options.eager = settings.eager != 0;
  options.detect = settings.detect != 0;
  options.ignored = static_cast<std::uint32_t>(settings.ignored);
  options.seed = static_cast<std::uint64_t>(settings.seed) * 1'000'003 + launches_++;
  return options;
}

// In a capture, a node of its graph; else the stream's last entry.
Result Driver::enqueue(Stream& stream, Entry entry) {
  if (stream.capture == nullptr) {
    stream.queue.push_back(std::move(entry));
    step_early();
    return success;
  }
  if (stream.capture->invalid) return capture_invalidated;
  if (entry.graph != nullptr) {
    finding("a graph launched into a capture: no graphs inside graphs here");
    stream.capture->invalid = true;
    return not_supported;
  }
  std::vector<Node>& nodes = stream.capture->graph->nodes;
  nodes.push_back({entry.task, stream.point});
  stream.point = {nodes.size() - 1};
  return success;
}

// Into a stream. The legacy one (null, or 1) waits for all others but those that do not block, and
// they for it: here it does so at once.
Result Driver::submit(Handle handle, Task task) {
  if (handle != nullptr && handle != kLegacyStream) {
    std::shared_ptr<Stream> stream;
    FAKECUDA_TRY(find(handle, stream));
    return enqueue(*stream, {.task = std::make_shared<const Task>(std::move(task))});
  }
  std::shared_ptr<Context> context;
  FAKECUDA_TRY(current(context));
  for (const auto& stream : streams_) {
    if (stream->context == context && stream->blocking && stream->capture != nullptr) {
      stream->capture->invalid = true;
      return capture_implicit;
    }
  }
  FAKECUDA_TRY(drain_context(*context, true));
  if (const Result result = run_task(task); result != success) break_context(*context, result);
  return context->sticky;
}

// Whether work put there is recorded; for a stream that is none, no.
bool Driver::is_captured(Handle handle) {
  std::shared_ptr<Stream> stream;
  return find(handle, stream) == success && stream->capture != nullptr;
}

Result Driver::record(Stream& stream, const std::shared_ptr<Event>& event) {
  if (stream.capture != nullptr) {
    if (stream.capture->invalid) return capture_invalidated;
    event->capture = stream.capture;
    event->point = stream.point;
    return success;
  }
  event->capture = nullptr;
  return enqueue(stream, {.event = event, .version = ++event->recorded});
}

Result Driver::wait(const std::shared_ptr<Stream>& stream, const std::shared_ptr<Event>& event) {
  if (event->capture == nullptr) {
    if (stream->capture != nullptr) {  // on work that is in no graph
      stream->capture->invalid = true;
      return capture_isolation;
    }
    return enqueue(*stream, {.event = event, .version = event->recorded, .waits = true});
  }
  if (event->capture->ended) return captured_event;
  if (stream->capture == nullptr) {  // this stream joins
    if (!stream->queue.empty()) step_early();
    stream->capture = event->capture;
    stream->point = {};
  } else if (stream->capture != event->capture) {
    stream->capture->invalid = event->capture->invalid = true;
    return capture_merge;
  }
  if (stream->capture->invalid) return capture_invalidated;
  for (const std::size_t node : event->point) {
    if (std::find(stream->point.begin(), stream->point.end(), node) == stream->point.end()) {
      stream->point.push_back(node);
    }
  }
  return success;
}

bool Driver::runnable(const Stream& stream) const {
  if (stream.queue.empty()) return false;
  const Entry& front = stream.queue.front();
  if (front.event != nullptr && front.waits) return front.event->completed >= front.version;
  if (front.graph == nullptr) return true;
  const bool begun = front.graph->left < front.graph->done.size();
  return begun || !front.graph->executable->running;
}

bool Driver::step() {
  std::vector<std::shared_ptr<Stream>> able;
  for (const auto& stream : streams_) {
    if (runnable(*stream)) able.push_back(stream);
  }
  if (able.empty()) return false;
  run_front(*able[random() % able.size()]);
  std::erase_if(streams_,
                [](const auto& stream) { return stream->destroyed && stream->queue.empty(); });
  return true;
}

void Driver::step_early() {
  if (settings.early > 0 && random() % 100 < static_cast<std::uint64_t>(settings.early)) step();
}

void Driver::run_front(Stream& stream) {
  const Entry front = stream.queue.front();
  ++clock;
  if (front.graph != nullptr && front.graph->left > 0) {
    run_graph_node(stream, *front.graph);
    return;
  }
  stream.queue.pop_front();
  if (front.event != nullptr && !front.waits) {
    front.event->completed = std::max(front.event->completed, front.version);
    front.event->clock = clock;
  }
  if (front.task == nullptr) return;
  if (const Result result = run_task(*front.task); result != success) {
    break_context(*stream.context, result);
  }
}

// Any node that is due.
void Driver::run_graph_node(Stream& stream, GraphRun& run) {
  const std::vector<Node>& nodes = run.executable->nodes;
  run.executable->running = true;
  std::vector<std::size_t> due;
  for (std::size_t i = 0; i < nodes.size(); ++i) {
    const auto done = [&](std::size_t other) { return run.done[other]; };
    if (!run.done[i] && std::all_of(nodes[i].after.begin(), nodes[i].after.end(), done)) {
      due.push_back(i);
    }
  }
  const std::size_t chosen = due[random() % due.size()];
  run.done[chosen] = true;
  if (--run.left == 0) {
    run.executable->running = false;
    stream.queue.pop_front();
  }
  // Last: a context that breaks empties the queue.
  if (const Result result = run_task(*nodes[chosen].task); result != success) {
    break_context(*stream.context, result);
  }
}

Result Driver::run_task(const Task& task) {
  ++(task.is_kernel ? kernels : copies);
  if (const Result result = take_failure(task.is_kernel ? "kernel" : "copy"); result != success) {
    return result;
  }
  return task.run();
}

// The device has failed: nothing of what waits is done, and whoever waits is told.
void Driver::break_context(Context& context, Result result) {
  if (context.sticky == success) context.sticky = result;
  for (const auto& stream : streams_) {
    if (stream->context.get() != &context) continue;
    for (const Entry& entry : stream->queue) {
      if (entry.graph != nullptr) entry.graph->executable->running = false;
      if (entry.event != nullptr && !entry.waits) entry.event->completed = entry.version;
    }
    stream->queue.clear();
    if (stream->capture != nullptr) stream->capture->invalid = true;
  }
}

Result Driver::drain(Stream& stream) {
  while (!stream.queue.empty() && step()) {
  }
  if (!stream.queue.empty()) {
    finding("a stream waits for what no stream does any more");
    break_context(*stream.context, launch_timeout);
  }
  return stream.context->sticky;
}

Result Driver::drain_until(Event& event) {
  const std::uint64_t version = event.recorded;
  while (event.completed < version && step()) {
  }
  return event.context->sticky;
}

Result Driver::drain_context(Context& context, bool blocking_only) {
  for (std::size_t i = 0; i < streams_.size();) {
    const std::shared_ptr<Stream> stream = streams_[i];
    const bool meant = stream->context.get() == &context && (stream->blocking || !blocking_only);
    if (meant && !stream->queue.empty()) {
      FAKECUDA_TRY(drain(*stream));
      i = 0;  // the list may have become shorter
    } else {
      ++i;
    }
  }
  return context.sticky;
}

// All its streams are ordinary ones again.
void Driver::end_capture(Capture& capture) {
  capture.ended = true;
  for (const auto& stream : streams_) {
    if (stream->capture.get() == &capture) stream->capture = nullptr;
  }
}

// Allocations and waits are no part of a graph. By the thread that captures they are an error that
// ends the capture, too; other threads' are, if the capture is global.
Result Driver::refuse_in_capture(Context& context) {
  for (const auto& stream : streams_) {
    if (stream->context.get() != &context || stream->capture == nullptr) continue;
    Capture& capture = *stream->capture;
    const bool own = capture.thread == std::this_thread::get_id();
    if (capture.mode == capture_global || (capture.mode == capture_thread_local && own)) {
      capture.invalid = true;
      return capture_unsupported;
    }
  }
  return success;
}

}  // namespace dsv32::fakecuda
