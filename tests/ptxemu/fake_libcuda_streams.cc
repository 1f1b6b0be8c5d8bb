// The driver's calls for streams, events, captures and graphs.
#include <algorithm>
#include <set>
#include <string>

#include "tests/ptxemu/fake_libcuda_driver.h"

namespace dsv32::fakecuda {
namespace {

// CUstreamCaptureStatus
enum CaptureStatus : int { capture_none = 0, capture_active = 1, capture_broken = 2 };

Result sync_refused(Stream& stream) {
  if (stream.capture == nullptr) return success;
  stream.capture->invalid = true;
  return capture_unsupported;
}

Result event_refused(Event& event) {
  if (event.capture == nullptr) return success;
  event.capture->invalid = true;
  return captured_event;
}

// Whether all of a graph comes before where its first stream stands: no branch was left open.
bool joined(const Graph& graph, const std::vector<std::size_t>& end) {
  std::set<std::size_t> seen;
  std::vector<std::size_t> open = end;
  while (!open.empty()) {
    const std::size_t node = open.back();
    open.pop_back();
    if (!seen.insert(node).second) continue;
    const std::vector<std::size_t>& after = graph.nodes[node].after;
    open.insert(open.end(), after.begin(), after.end());
  }
  return seen.size() == graph.nodes.size();
}

Result elapsed(Driver& driver, float* milliseconds, Handle begin, Handle end) {
  std::shared_ptr<Event> first, last;
  FAKECUDA_TRY(driver.find(begin, first));
  FAKECUDA_TRY(driver.find(end, last));
  if (milliseconds == nullptr) return invalid_value;
  if (!first->timing || !last->timing || first->recorded == 0 || last->recorded == 0) {
    return invalid_handle;
  }
  FAKECUDA_TRY(event_refused(*first));
  FAKECUDA_TRY(event_refused(*last));
  for (const auto& event : {first, last}) {
    if (event->completed < event->recorded) return not_ready;
  }
  // A piece of work is a microsecond.
  *milliseconds = (static_cast<float>(last->clock) - static_cast<float>(first->clock)) * 1e-3f;
  return success;
}

}  // namespace

namespace exported {

FAKECUDA_API cuStreamCreate(Handle* stream, unsigned flags) {
  return call(Call::cuStreamCreate, [&](Driver& driver) -> Result {
    std::shared_ptr<Context> context;
    FAKECUDA_TRY(driver.current(context));
    if (stream == nullptr || flags > stream_non_blocking) return invalid_value;
    const auto made = std::make_shared<Stream>(context);
    made->blocking = flags == stream_default;
    driver.add_stream(made);
    *stream = driver.add(made);
    return success;
  });
}

// What waits in it still runs.
FAKECUDA_API cuStreamDestroy_v2(Handle stream) {
  return call(Call::cuStreamDestroy_v2, [&](Driver& driver) -> Result {
    std::shared_ptr<Stream> found;
    FAKECUDA_TRY(driver.find(stream, found));
    FAKECUDA_TRY(sync_refused(*found));
    driver.destroy(stream);
    return success;
  });
}

FAKECUDA_API cuStreamSynchronize(Handle stream) {
  return call(Call::cuStreamSynchronize, [&](Driver& driver) -> Result {
    if (stream == nullptr || stream == kLegacyStream) {
      std::shared_ptr<Context> context;
      FAKECUDA_TRY(driver.current(context));
      FAKECUDA_TRY(driver.refuse_in_capture(*context));
      return driver.drain_context(*context, true);
    }
    std::shared_ptr<Stream> found;
    FAKECUDA_TRY(driver.find(stream, found));
    FAKECUDA_TRY(sync_refused(*found));
    return driver.drain(*found);
  });
}

// Each question lets a little happen, so that asking again and again comes to an end.
FAKECUDA_API cuStreamQuery(Handle stream) {
  return call(Call::cuStreamQuery, [&](Driver& driver) -> Result {
    std::shared_ptr<Stream> found;
    FAKECUDA_TRY(driver.find(stream, found));
    FAKECUDA_TRY(sync_refused(*found));
    if (found->queue.empty()) return success;
    driver.step();
    FAKECUDA_TRY(found->context->sticky);
    return found->queue.empty() ? success : not_ready;
  });
}

FAKECUDA_API cuStreamWaitEvent(Handle stream, Handle event, unsigned flags) {
  return call(Call::cuStreamWaitEvent, [&](Driver& driver) -> Result {
    std::shared_ptr<Stream> found;
    std::shared_ptr<Event> waited;
    FAKECUDA_TRY(driver.find(stream, found));
    FAKECUDA_TRY(driver.find(event, waited));
    if (flags != 0) return invalid_value;
    return driver.wait(found, waited);
  });
}

FAKECUDA_API cuStreamBeginCapture_v2(Handle stream, int mode) {
  return call(Call::cuStreamBeginCapture_v2, [&](Driver& driver) -> Result {
    if (stream == nullptr || stream == kLegacyStream) return capture_unsupported;
    std::shared_ptr<Stream> found;
    FAKECUDA_TRY(driver.find(stream, found));
    if (mode < capture_global || mode > capture_relaxed) return invalid_value;
    if (found->capture != nullptr) return illegal_state;
    found->capture = std::make_shared<Capture>();
    found->capture->graph = std::make_shared<Graph>(found->context);
    found->capture->origin = found.get();
    found->capture->thread = std::this_thread::get_id();
    found->capture->mode = mode;
    found->point.clear();
    return success;
  });
}

FAKECUDA_API cuStreamEndCapture(Handle stream, Handle* graph) {
  return call(Call::cuStreamEndCapture, [&](Driver& driver) -> Result {
    std::shared_ptr<Stream> found;
    FAKECUDA_TRY(driver.find(stream, found));
    if (graph == nullptr) return invalid_value;
    *graph = nullptr;
    const std::shared_ptr<Capture> capture = found->capture;
    if (capture == nullptr) return illegal_state;
    if (capture->origin != found.get()) {
      capture->invalid = true;
      return capture_unmatched;
    }
    if (capture->mode != capture_relaxed && capture->thread != std::this_thread::get_id()) {
      return capture_wrong_thread;
    }
    driver.end_capture(*capture);
    if (capture->invalid) return capture_invalidated;
    if (!joined(*capture->graph, found->point)) return capture_unjoined;
    *graph = driver.add(capture->graph);
    return success;
  });
}

FAKECUDA_API cuStreamIsCapturing(Handle stream, int* status) {
  return call(Call::cuStreamIsCapturing, [&](Driver& driver) -> Result {
    std::shared_ptr<Stream> found;
    FAKECUDA_TRY(driver.find(stream, found));
    if (status == nullptr) return invalid_value;
    *status = found->capture == nullptr ? capture_none
              : found->capture->invalid ? capture_broken
                                        : capture_active;
    return success;
  });
}

FAKECUDA_API cuEventCreate(Handle* event, unsigned flags) {
  return call(Call::cuEventCreate, [&](Driver& driver) -> Result {
    std::shared_ptr<Context> context;
    FAKECUDA_TRY(driver.current(context));
    if (event == nullptr || flags > (event_blocking_sync | event_no_timing)) return invalid_value;
    const auto made = std::make_shared<Event>(context);
    made->timing = (flags & event_no_timing) == 0;
    *event = driver.add(made);
    return success;
  });
}

FAKECUDA_API cuEventRecord(Handle event, Handle stream) {
  return call(Call::cuEventRecord, [&](Driver& driver) -> Result {
    std::shared_ptr<Event> recorded;
    FAKECUDA_TRY(driver.find(event, recorded));
    if (stream == nullptr || stream == kLegacyStream) {
      driver.finding("an event recorded in the legacy stream: that is not here");
      return not_supported;
    }
    std::shared_ptr<Stream> found;
    FAKECUDA_TRY(driver.find(stream, found));
    return driver.record(*found, recorded);
  });
}

FAKECUDA_API cuEventQuery(Handle event) {
  return call(Call::cuEventQuery, [&](Driver& driver) -> Result {
    std::shared_ptr<Event> found;
    FAKECUDA_TRY(driver.find(event, found));
    FAKECUDA_TRY(event_refused(*found));
    if (found->completed >= found->recorded) return success;
    driver.step();
    FAKECUDA_TRY(found->context->sticky);
    return found->completed >= found->recorded ? success : not_ready;
  });
}

FAKECUDA_API cuEventSynchronize(Handle event) {
  return call(Call::cuEventSynchronize, [&](Driver& driver) -> Result {
    std::shared_ptr<Event> found;
    FAKECUDA_TRY(driver.find(event, found));
    FAKECUDA_TRY(event_refused(*found));
    return driver.drain_until(*found);
  });
}

FAKECUDA_API cuEventElapsedTime(float* milliseconds, Handle begin, Handle end) {
  return call(Call::cuEventElapsedTime,
              [&](Driver& driver) { return elapsed(driver, milliseconds, begin, end); });
}

FAKECUDA_API cuEventElapsedTime_v2(float* milliseconds, Handle begin, Handle end) {
  return call(Call::cuEventElapsedTime_v2,
              [&](Driver& driver) { return elapsed(driver, milliseconds, begin, end); });
}

FAKECUDA_API cuEventDestroy_v2(Handle event) {
  return call(Call::cuEventDestroy_v2, [&](Driver& driver) -> Result {
    std::shared_ptr<Event> found;
    FAKECUDA_TRY(driver.find(event, found));
    driver.destroy(event);
    return success;
  });
}

FAKECUDA_API cuGraphInstantiateWithFlags(Handle* executable, Handle graph, std::uint64_t flags) {
  return call(Call::cuGraphInstantiateWithFlags, [&](Driver& driver) -> Result {
    std::shared_ptr<Graph> found;
    FAKECUDA_TRY(driver.find(graph, found));
    if (executable == nullptr || flags != 0) return invalid_value;
    const auto made = std::make_shared<Executable>(found->context);
    made->nodes = found->nodes;
    *executable = driver.add(made);
    return success;
  });
}

// How many there are; the nodes themselves are nobody's business here.
FAKECUDA_API cuGraphGetNodes(Handle graph, Handle* nodes, std::size_t* count) {
  return call(Call::cuGraphGetNodes, [&](Driver& driver) -> Result {
    std::shared_ptr<Graph> found;
    FAKECUDA_TRY(driver.find(graph, found));
    if (count == nullptr) return invalid_value;
    if (nodes != nullptr) {
      driver.finding("handles of a graph's nodes: they are not here");
      return not_supported;
    }
    *count = found->nodes.size();
    return success;
  });
}

FAKECUDA_API cuGraphLaunch(Handle executable, Handle stream) {
  return call(Call::cuGraphLaunch, [&](Driver& driver) -> Result {
    std::shared_ptr<Executable> found;
    std::shared_ptr<Stream> into;
    FAKECUDA_TRY(driver.find(executable, found));
    FAKECUDA_TRY(driver.find(stream, into));
    const auto run = std::make_shared<GraphRun>();
    run->executable = found;
    run->done.assign(found->nodes.size(), false);
    run->left = found->nodes.size();
    return driver.enqueue(*into, {.graph = run});
  });
}

FAKECUDA_API cuGraphExecDestroy(Handle executable) {
  return call(Call::cuGraphExecDestroy, [&](Driver& driver) -> Result {
    std::shared_ptr<Executable> found;
    FAKECUDA_TRY(driver.find(executable, found));
    driver.destroy(executable);
    return success;
  });
}

FAKECUDA_API cuGraphDestroy(Handle graph) {
  return call(Call::cuGraphDestroy, [&](Driver& driver) -> Result {
    std::shared_ptr<Graph> found;
    FAKECUDA_TRY(driver.find(graph, found));
    driver.destroy(graph);
    return success;
  });
}

}  // namespace exported
}  // namespace dsv32::fakecuda
