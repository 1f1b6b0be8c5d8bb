// What a test asks of the fake driver, and tells it: functions that libcuda.so.1 exports beside
// those of the real one. A test reaches them with dlsym, in the library that is already open.
#ifndef DSV32_TESTS_PTXEMU_FAKE_LIBCUDA_H_
#define DSV32_TESTS_PTXEMU_FAKE_LIBCUDA_H_

#include <cstddef>

extern "C" {

// Calls of a function since the last fakecuda_reset_calls(); of all with null; 0 of none it knows.
unsigned long long fakecuda_calls(const char* name);
void fakecuda_reset_calls(void);

// How often since then: "kernels", "copies" (with fills), "instructions" (of warps),
// "allocations" (of device and pinned memory); "device_peak": most bytes that lived at a time.
unsigned long long fakecuda_count(const char* what);

// What lives now: "device", "host" (bytes), "allocation", "module", "stream", "event", "graph",
// "exec", "context" (how often retained).
unsigned long long fakecuda_live(const char* kind);

// The n-th call from now (1: the next) of a function fails with `result`, and does nothing. A
// result that no context survives (700, 719 ..) stays. Names beside functions': "allocation"
// (cuMemAlloc or cuMemHostAlloc), and of work when it is executed, "kernel" and "copy"; then it is
// an error of the device, whatever the result. -1: no such name.
int fakecuda_fail(const char* name, int nth, int result);

// The n-th call from now, of any function, and all that follow it return `result`, as if the
// device had gone. Texts of errors are still there.
void fakecuda_vanish(int nth, int result);

// "devices", "major", "minor", "memory" (bytes), "version", "stub": from the next cuInit() on that
// finds no context. "seed", "mode" (0 ideal, 1 sm80, 2 sm89, 3 sm90), "order" (0 random,
// 1 forward, 2 backward), "eager", "detect", "ignored" (bits 1 << ptxemu::Kind), "early" (percent
// of calls at which work begins before anybody waits), "host_memory" (bytes that may be pinned),
// "strict" (1: a finding fails its kernel): at once. -1: no such thing.
int fakecuda_set(const char* what, long long value);

// Everything as at the start: settings from the environment, no context, no failures, no findings.
void fakecuda_reset(void);

// What was wrong that a real driver might have let pass: how many, and their text, cut to `bytes`.
size_t fakecuda_findings(char* text, size_t bytes);
void fakecuda_clear_findings(void);
}

#endif  // DSV32_TESTS_PTXEMU_FAKE_LIBCUDA_H_
