#!/usr/bin/env bash
# Sets this machine up, builds everything, runs all tests; the last line is "N passed, N failed".
#   --full    also: all mutants instead of four, every kernel set under the sanitizers, 163,840
#             positions, a million rows for the sampler, every command of README and docs in a clean
#             clone, all tests on the emulated GPU, all tests built by clang, the kernels for 64-bit ARM
#   --quick   build and tests only
# Without an option it takes about 40 minutes on two cores with nothing built, and 8 more where there
# is an nvcc 13.0 (the GPU's part, on an emulated GPU). Slow checks
# are not repeated while what they depend on is unchanged (lib/stamp.sh); they say so.
set -euo pipefail
. "$(dirname "$0")/lib/setup.sh"
. scripts/lib/stamp.sh
mode=${1:-normal}
case $mode in normal | --full | --quick) ;; *) die 2 "usage: check.sh [--full | --quick]" ;; esac
passed=0 failed=0 skipped=0

# Adds one check's outcome to the sum and goes on: a failure must not hide the next one.
check() {
  local name=$1; shift
  if step "$name" "$@"; then passed=$((passed + 1)); else failed=$((failed + 1)); fi
}

# Like check, for a program whose log holds ctest's or our own closing line.
check_tests() {
  local name=$1 log=build/logs/${1// /_}.log; shift
  local rc=0 ok bad none
  step "$name" "$@" || rc=$?
  read -r ok bad none < <(python3 scripts/lib/count_tests.py "$log")
  printf '   %d passed, %d failed, %d skipped\n' "$ok" "$bad" "$none"
  passed=$((passed + ok)) failed=$((failed + bad)) skipped=$((skipped + none))
  if [ $rc -ne 0 ] && [ "$bad" -eq 0 ]; then failed=$((failed + 1)); fi
}

# once CHECK NAME PATH... [--with TOOL...] -- COMMAND...: CHECK's outcome is fresh while its stamp is.
once() {
  local how=$1 name=$2 stamp=build/stamps/${2// /_} key; shift 2
  key=$(stamp_key "$@")
  while [ "$1" != -- ]; do shift; done; shift
  mkdir -p build/stamps
  if [ "$(cat "$stamp" 2>/dev/null)" = "$key" ]; then
    say "== $name ... unchanged since it passed"
    passed=$((passed + 1))
    return
  fi
  local before=$failed
  "$how" "$name" "$@"
  [ "$failed" -gt "$before" ] || printf '%s' "$key" >"$stamp"
}

tool() { command -v "$1" || command -v "$1-14" || true; }
skip() { say "== $1 ... skipped: $2"; skipped=$((skipped + 1)); }

# The end of all: where the time went. Seconds of CPU stand beside for machines that others use.
slowest() {
  local wall cpu name text=
  while read -r wall cpu name; do
    text+="${text:+, }$name $wall s (CPU $(printf '%.0f' "$cpu") s)"
  done < <(printf '%s\n' "${step_times[@]}" | sort -rn | head -6)
  say "$SECONDS s in all; slowest: $text"
}

# sanitizer NAME ALL_KERNELS [CTEST OPTION...]: a build with instruments, and the tests that have something to fear.
sanitizer() {
  local what=$1
  [ "$2" = OFF ] || what="$1, all kernels"
  check "configure ($1)" cmake --preset "$1" -DDSV32_TEST_ALL_KERNELS="$2"
  check "build ($1)" cmake --build --preset "$1" -j "$jobs"
  once check_tests "tests ($what)" "${code[@]}" -- ctest --preset "$1" -j "$jobs" "${@:3}"
}

# The plug-in and its kernels on the emulated GPU, where an nvcc is: 8 minutes of two cores.
cuda() {
  if ! scripts/cuda-toolkit.sh --find >build/logs/cuda_toolkit.log 2>&1; then skip "cuda" "no nvcc"; return; fi
  check "configure (cuda)" cmake --preset cuda
  check "build (cuda)" cmake --build --preset cuda -j "$jobs"
  if scripts/cuda-toolkit.sh --tools >build/logs/cuda_tools.log 2>&1; then
    check "cubins" scripts/check_cubin.py build/cuda/lib/backend/cuda/kernels
  else
    skip "cubins" "no nvdisasm"
  fi
  [ -z "$tidy" ] || once check "tidy (cuda)" include lib kernels .clang-tidy scripts/lib/tidy.sh --with "$tidy" -- \
    scripts/lib/tidy.sh "$tidy" "$jobs" cuda
  once check_tests "tests ($1)" "${code[@]}" --with .deps/cuda/bin/nvcc -- ctest --preset cuda -j "$jobs" -L "$1"
  once check "kernel mutants" "${code[@]}" scripts --with .deps/cuda/bin/nvcc -- scripts/kernel_mutants.sh "${mutants[@]}"
}

clang_tests() {
  local clang=$1
  if [ -z "$clang" ]; then skip "clang" "no clang++"; return; fi
  check "configure (clang)" cmake --preset clang -DCMAKE_CXX_COMPILER="$clang"
  check "build (clang)" cmake --build --preset clang -j "$jobs"
  check_tests "tests (clang)" ctest --preset clang -j "$jobs"
}

arm() {
  if scripts/aarch64.sh --probe >build/logs/aarch64_probe.log 2>&1; then
    once check "aarch64" include lib kernels tests/kernels tests/support scripts/aarch64.sh \
      --with aarch64-linux-gnu-g++ -- scripts/aarch64.sh
  else
    skip "aarch64" "no cross compiler, or no qemu-aarch64-static"
  fi
}

setup full
code=(include lib kernels examples tests)
format=$(tool clang-format) tidy=$(tool clang-tidy) clang=$(tool clang++)
kernels=OFF mutants=(--draw 4)
[ "$mode" != --full ] || kernels=ON mutants=(--all)
check "configure (dev)" cmake --preset dev
check "build (dev)" cmake --build --preset dev -j "$jobs"
check_tests "tests (dev)" ctest --preset dev -j "$jobs"
if [ "$mode" != --quick ]; then
  sanitizer asan $kernels
  # The model's tests on the deferring backend have the threads of those on the CPU: once will do. Of the Engine's
  # those of bits have one thread that steps; the others have the threads.
  if [ "$mode" = --full ]; then sanitizer tsan $kernels; else sanitizer tsan $kernels -E '^deferring:|^engine_E1[27]? '; fi

  if [ "$mode" = --full ]; then cuda cuda; else cuda cuda-quick; fi

  # That every benchmark runs, and ends, not that it is fast.
  check "benchmarks" timeout 600 scripts/bench.sh --smoke

  if [ -n "$format" ]; then check "format" scripts/lib/format.sh "$format"; else skip "format" "no clang-format"; fi
  if [ -n "$tidy" ]; then
    once check "tidy" include lib kernels .clang-tidy scripts/lib/tidy.sh --with "$tidy" -- \
      scripts/lib/tidy.sh "$tidy" "$jobs"
  else
    skip "tidy" "no clang-tidy"
  fi
  if [ -n "$clang" ]; then
    once check "fuzz" "${code[@]}" scripts/fuzz.sh --with "$clang" -- scripts/fuzz.sh all 12
  else
    skip "fuzz" "no clang++"
  fi
  once check "mutants" "${code[@]}" scripts -- scripts/mutants.sh "${mutants[@]}"
fi
if [ "$mode" = --full ]; then
  once check "163,840 positions" "${code[@]}" -- build/dev/tests/model_tests "[long]"
  once check "the Engine, a million times" "${code[@]}" -- build/dev/tests/engine_tests "[long]"
  [ -z "$clang" ] || once check "the sampler, a million times" "${code[@]}" scripts/fuzz.sh --with "$clang" -- \
    scripts/fuzz.sh sampler runs=1000000
  check "commands of the documents" python3 -B tests/public/readme_commands.py . --run
  clang_tests "$clang"
  arm
fi
[ "$skipped" -eq 0 ] || say "$skipped skipped (reasons above and in build/logs)"
slowest
say "$passed passed, $failed failed"
[ "$failed" -eq 0 ]
