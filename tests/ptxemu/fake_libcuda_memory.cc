// The driver's calls for memory. Pinned memory is read and written when the work runs, and must
// still be there; pageable memory is read at the call, and written before it returns.
#include <algorithm>
#include <cstdlib>
#include <cstring>
#include <string>

#include "tests/ptxemu/fake_libcuda_driver.h"

namespace dsv32::fakecuda {
namespace {

// The block that all of a range lies in; id 0: none.
template <class Key>
struct Place {
  Key begin{};
  std::uint64_t id = 0;
};

template <class Key>
Place<Key> place(const std::map<Key, Block>& blocks, Key at, std::size_t bytes) {
  auto next = blocks.upper_bound(at);
  if (next == blocks.begin()) return {};
  const auto& [begin, block] = *--next;
  const std::size_t offset = static_cast<std::size_t>(at - begin);
  if (offset >= block.bytes || bytes > block.bytes - offset) return {};
  return {begin, block.id};
}

template <class Key>
bool still_there(const std::map<Key, Block>& blocks, const Place<Key>& was) {
  const auto found = blocks.find(was.begin);
  return found != blocks.end() && found->second.id == was.id;
}

// One end of a copy.
struct End {
  std::shared_ptr<Context> context;
  Place<DevicePointer> device;
  Place<const char*> pinned;  // id 0: pageable, whose bytes were read at the call
};

Result check_end(Driver& driver, const End& end) {
  const bool device = end.device.id == 0 || still_there(end.context->memory, end.device);
  const bool pinned = end.pinned.id == 0 || still_there(end.context->pinned, end.pinned);
  if (device && pinned) return success;
  driver.finding(std::string("work on ") + (device ? "pinned" : "device") +
                 " memory that was freed before it ran");
  return illegal_address;
}

Result told(Driver& driver, const std::string& wrong) {
  if (wrong.empty()) return success;
  driver.finding(wrong);
  return illegal_address;
}

Result device_end(Driver& driver, DevicePointer at, std::size_t bytes, End& end) {
  FAKECUDA_TRY(driver.current(end.context));
  end.device = place(end.context->memory, at, bytes);
  if (end.device.id != 0) return success;
  driver.finding("a copy or fill of " + std::to_string(bytes) +
                 " bytes, not all of one allocation");
  return invalid_value;
}

// Pinned memory that the range begins in and leaves is an error; other memory is pageable.
Result host_end(Driver& driver, const void* at, std::size_t bytes, End& end) {
  const char* from = static_cast<const char*>(at);
  end.pinned = place(end.context->pinned, from, bytes);
  if (end.pinned.id != 0 || place(end.context->pinned, from, 1).id == 0) return success;
  driver.finding("a copy beyond the end of pinned memory");
  return invalid_value;
}

Result to_device(DevicePointer to, const void* from, std::size_t bytes, Handle stream, bool now) {
  Driver& driver = Driver::get();
  if (bytes == 0) return success;
  if (from == nullptr) return invalid_value;
  End end;
  FAKECUDA_TRY(device_end(driver, to, bytes, end));
  FAKECUDA_TRY(host_end(driver, from, bytes, end));
  if (now) FAKECUDA_TRY(driver.refuse_in_capture(*end.context));
  std::shared_ptr<std::string> kept;
  if (end.pinned.id == 0) {
    if (driver.is_captured(stream)) {
      driver.finding("a copy from pageable memory in a capture: its bytes would be read later");
      FAKECUDA_TRY(driver.refuse_in_capture(*end.context));
      return capture_unsupported;
    }
    kept = std::make_shared<std::string>(static_cast<const char*>(from), bytes);
  }
  return driver.submit(stream, {false, [=, &driver] {
                                  FAKECUDA_TRY(check_end(driver, end));
                                  const void* source = kept != nullptr ? kept->data() : from;
                                  return told(driver,
                                              end.context->machine().write(to, source, bytes));
                                }});
}

// As for a kernel that reads what nobody wrote.
Result check_written(Driver& driver, Context& context, DevicePointer from, std::size_t bytes) {
  const auto bit = static_cast<int>(ptxemu::Kind::uninitialised_global);
  if (driver.settings.detect == 0 || (driver.settings.ignored >> bit & 1) != 0) return success;
  const std::size_t unwritten = context.machine().never_written(from, bytes);
  if (unwritten == 0) return success;
  driver.finding("a copy to the host of " + std::to_string(unwritten) +
                 " bytes that nobody has written");
  return driver.settings.strict != 0 ? launch_failed : success;
}

Result to_host(void* to, DevicePointer from, std::size_t bytes, Handle stream, bool now) {
  Driver& driver = Driver::get();
  if (bytes == 0) return success;
  if (to == nullptr) return invalid_value;
  End end;
  FAKECUDA_TRY(device_end(driver, from, bytes, end));
  FAKECUDA_TRY(host_end(driver, to, bytes, end));
  const bool pageable = end.pinned.id == 0;
  const bool captured = pageable && driver.is_captured(stream);
  if (now || captured) FAKECUDA_TRY(driver.refuse_in_capture(*end.context));
  if (captured) return capture_unsupported;
  const auto read = [=, &driver]() -> Result {
    FAKECUDA_TRY(check_end(driver, end));
    FAKECUDA_TRY(check_written(driver, *end.context, from, bytes));
    return told(driver, end.context->machine().read(to, from, bytes));
  };
  FAKECUDA_TRY(driver.submit(stream, {false, read}));
  if (!pageable) return success;
  std::shared_ptr<Stream> waited;
  if (stream == nullptr || stream == kLegacyStream) return end.context->sticky;
  FAKECUDA_TRY(driver.find(stream, waited));
  return driver.drain(*waited);
}

Result within(DevicePointer to, DevicePointer from, std::size_t bytes, Handle stream, bool now) {
  Driver& driver = Driver::get();
  if (bytes == 0) return success;
  End target, source;
  FAKECUDA_TRY(device_end(driver, to, bytes, target));
  FAKECUDA_TRY(device_end(driver, from, bytes, source));
  if (now) FAKECUDA_TRY(driver.refuse_in_capture(*target.context));
  return driver.submit(stream, {false, [=, &driver] {
                                  FAKECUDA_TRY(check_end(driver, target));
                                  FAKECUDA_TRY(check_end(driver, source));
                                  return told(driver,
                                              target.context->machine().copy(to, from, bytes));
                                }});
}

// `unit` bytes again and again.
Result fill(DevicePointer to, std::string unit, std::size_t count, Handle stream) {
  Driver& driver = Driver::get();
  if (count == 0) return success;
  if (to % unit.size() != 0) return invalid_value;
  const std::size_t bytes = count * unit.size();
  End end;
  FAKECUDA_TRY(device_end(driver, to, bytes, end));
  return driver.submit(stream, {false, [=, &driver] {
                                  FAKECUDA_TRY(check_end(driver, end));
                                  std::string all;
                                  while (all.size() < bytes) all += unit;
                                  return told(driver,
                                              end.context->machine().write(to, all.data(), bytes));
                                }});
}

}  // namespace

namespace exported {

FAKECUDA_API cuMemGetInfo_v2(std::size_t* free, std::size_t* total) {
  return call(Call::cuMemGetInfo_v2, [&](Driver& driver) -> Result {
    std::shared_ptr<Context> context;
    FAKECUDA_TRY(driver.current(context));
    if (free == nullptr || total == nullptr) return invalid_value;
    *total = context->machine().bytes_total();
    *free = *total - context->machine().bytes_used();
    return success;
  });
}

FAKECUDA_API cuMemAlloc_v2(DevicePointer* address, std::size_t bytes) {
  return call(Call::cuMemAlloc_v2, [&](Driver& driver) -> Result {
    std::shared_ptr<Context> context;
    FAKECUDA_TRY(driver.current(context));
    if (address == nullptr || bytes == 0) return invalid_value;
    FAKECUDA_TRY(driver.refuse_in_capture(*context));
    ptxemu::Machine& machine = context->machine();
    const DevicePointer made = machine.allocate(bytes);
    if (made == 0) return out_of_memory;
    ++driver.allocations;
    driver.device_peak = std::max<std::uint64_t>(driver.device_peak, machine.bytes_used());
    context->memory[made] = {bytes, driver.new_id()};
    *address = made;
    return success;
  });
}

FAKECUDA_API cuMemFree_v2(DevicePointer address) {
  return call(Call::cuMemFree_v2, [&](Driver& driver) -> Result {
    std::shared_ptr<Context> context;
    FAKECUDA_TRY(driver.current(context));
    if (address == 0) return success;
    FAKECUDA_TRY(driver.refuse_in_capture(*context));
    if (context->memory.erase(address) == 0) return invalid_value;
    context->machine().release(address);
    return success;
  });
}

FAKECUDA_API cuMemHostAlloc(void** address, std::size_t bytes, unsigned flags) {
  return call(Call::cuMemHostAlloc, [&](Driver& driver) -> Result {
    std::shared_ptr<Context> context;
    FAKECUDA_TRY(driver.current(context));
    if (address == nullptr || bytes == 0 || flags > 7) return invalid_value;
    FAKECUDA_TRY(driver.refuse_in_capture(*context));
    const std::uint64_t limit = static_cast<std::uint64_t>(driver.settings.host_memory);
    if (bytes > limit || driver.live("host") > limit - bytes) return out_of_memory;
    const std::size_t whole = (bytes + 4095) / 4096 * 4096;
    void* made = std::aligned_alloc(4096, whole);
    if (made == nullptr) return out_of_memory;
    std::memset(made, 0xa5, whole);
    ++driver.allocations;
    context->pinned[static_cast<const char*>(made)] = {bytes, driver.new_id()};
    *address = made;
    return success;
  });
}

FAKECUDA_API cuMemFreeHost(void* address) {
  return call(Call::cuMemFreeHost, [&](Driver& driver) -> Result {
    std::shared_ptr<Context> context;
    FAKECUDA_TRY(driver.current(context));
    FAKECUDA_TRY(driver.refuse_in_capture(*context));
    if (context->pinned.erase(static_cast<const char*>(address)) == 0) return invalid_value;
    std::free(address);
    return success;
  });
}

FAKECUDA_API cuMemcpyHtoD_v2(DevicePointer to, const void* from, std::size_t bytes) {
  return call(Call::cuMemcpyHtoD_v2,
              [&](Driver&) { return to_device(to, from, bytes, nullptr, true); });
}

FAKECUDA_API cuMemcpyDtoH_v2(void* to, DevicePointer from, std::size_t bytes) {
  return call(Call::cuMemcpyDtoH_v2,
              [&](Driver&) { return to_host(to, from, bytes, nullptr, true); });
}

FAKECUDA_API cuMemcpyDtoD_v2(DevicePointer to, DevicePointer from, std::size_t bytes) {
  return call(Call::cuMemcpyDtoD_v2,
              [&](Driver&) { return within(to, from, bytes, nullptr, true); });
}

FAKECUDA_API cuMemcpyHtoDAsync_v2(DevicePointer to, const void* from, std::size_t bytes,
                                  Handle stream) {
  return call(Call::cuMemcpyHtoDAsync_v2,
              [&](Driver&) { return to_device(to, from, bytes, stream, false); });
}

FAKECUDA_API cuMemcpyDtoHAsync_v2(void* to, DevicePointer from, std::size_t bytes, Handle stream) {
  return call(Call::cuMemcpyDtoHAsync_v2,
              [&](Driver&) { return to_host(to, from, bytes, stream, false); });
}

FAKECUDA_API cuMemcpyDtoDAsync_v2(DevicePointer to, DevicePointer from, std::size_t bytes,
                                  Handle stream) {
  return call(Call::cuMemcpyDtoDAsync_v2,
              [&](Driver&) { return within(to, from, bytes, stream, false); });
}

FAKECUDA_API cuMemsetD8Async(DevicePointer to, unsigned char value, std::size_t count,
                             Handle stream) {
  return call(Call::cuMemsetD8Async, [&](Driver&) {
    return fill(to, std::string(1, static_cast<char>(value)), count, stream);
  });
}

FAKECUDA_API cuMemsetD32Async(DevicePointer to, unsigned value, std::size_t count, Handle stream) {
  return call(Call::cuMemsetD32Async, [&](Driver&) {
    std::string unit(sizeof value, '\0');
    std::memcpy(unit.data(), &value, sizeof value);
    return fill(to, unit, count, stream);
  });
}

}  // namespace exported
}  // namespace dsv32::fakecuda
