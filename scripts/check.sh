#!/usr/bin/env bash
# Sets this machine up, builds everything, runs all tests; the last line is "N passed, N failed".
#   --full    all mutants instead of ten, the thread sanitizer, and all tests built by clang
#   --quick   build and tests only
# Slow checks (tidy, fuzz, mutants) are not repeated while their inputs are unchanged; they say so.
set -euo pipefail
. "$(dirname "$0")/lib/setup.sh"
mode=${1:-normal}
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

# once CHECK NAME PATHS -- COMMAND...: CHECK's outcome is fresh while no file under PATHS has changed.
once() {
  local how=$1 name=$2 paths=() stamp key; shift 2
  while [ "$1" != -- ]; do paths+=("$1"); shift; done; shift
  stamp=build/stamps/${name// /_}
  key=$( (find "${paths[@]}" -type f -print0 | sort -z | xargs -0 sha256sum; printf '%s\n' "$@") | sha256sum)
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

setup full
check "configure (dev)" cmake --preset dev
check "build (dev)" cmake --build --preset dev -j "$jobs"
check_tests "tests (dev)" ctest --preset dev -j "$jobs"
if [ "$mode" != --quick ]; then
  code=(include lib kernels examples tests)
  check "configure (asan)" cmake --preset asan
  check "build (asan)" cmake --build --preset asan -j "$jobs"
  once check_tests "tests (asan)" "${code[@]}" CMakePresets.json -- ctest --preset asan -j "$jobs"
  once check "163,840 positions" include lib kernels tests/model -- build/dev/tests/model_tests "[long]"

  # That every benchmark runs, not that it is fast.
  check "benchmarks" scripts/bench.sh --smoke

  format=$(tool clang-format) tidy=$(tool clang-tidy)
  if [ -n "$format" ]; then check "format" scripts/lib/format.sh "$format"; else skip "format" "no clang-format"; fi
  if [ -n "$tidy" ]; then
    once check "tidy" include lib kernels .clang-tidy -- scripts/lib/tidy.sh "$tidy" "$jobs"
  else
    skip "tidy" "no clang-tidy"
  fi
  if [ -n "$(tool clang++)" ]; then
    once check "fuzz" "${code[@]}" -- scripts/fuzz.sh all 20
  else
    skip "fuzz" "no clang++"
  fi
  if scripts/aarch64.sh --probe >build/logs/aarch64_probe.log 2>&1; then
    once check "aarch64" include lib kernels tests/kernels tests/support cmake scripts/aarch64.sh -- scripts/aarch64.sh
  else
    skip "aarch64" "no cross compiler, or no qemu-aarch64-static"
  fi
  if [ "$mode" = --full ]; then
    check "configure (tsan)" cmake --preset tsan
    check "build (tsan)" cmake --build --preset tsan -j "$jobs"
    check_tests "tests (tsan)" ctest --preset tsan -j "$jobs"
    clang=$(tool clang++)
    if [ -n "$clang" ]; then
      check "configure (clang)" cmake --preset clang -DCMAKE_CXX_COMPILER="$clang"
      check "build (clang)" cmake --build --preset clang -j "$jobs"
      check_tests "tests (clang)" ctest --preset clang -j "$jobs"
    else
      skip "clang" "no clang++"
    fi
    once check "mutants" "${code[@]}" scripts -- scripts/mutants.sh --all
  else
    once check "mutants" "${code[@]}" scripts -- scripts/mutants.sh --draw 10
  fi
fi
[ "$skipped" -eq 0 ] || say "$skipped skipped (reasons above and in build/logs)"
say "$passed passed, $failed failed"
[ "$failed" -eq 0 ]
