#!/usr/bin/env bash
# fuzz.sh TARGET SECONDS: runs one libFuzzer target (or `all`) on a copy of its corpus.
# Targets: the files tests/fuzz/*_fuzz.cc. A crash leaves its input in build/fuzz/crashes/.
set -euo pipefail
. "$(dirname "$0")/lib/setup.sh"
[ $# -eq 2 ] || die 2 "usage: fuzz.sh TARGET|all SECONDS"
setup full
compiler=$(command -v clang++ || command -v clang++-14) || die 3 "clang++ is missing"
step "configure (fuzz)" cmake --preset fuzz -DCMAKE_CXX_COMPILER="$compiler"
step "build (fuzz)" cmake --build --preset fuzz -j "$jobs"
targets=$1
[ "$1" != all ] || targets=$(cd tests/fuzz && ls ./*_fuzz.cc | sed 's,^\./,,; s,_fuzz\.cc$,,')
mkdir -p build/fuzz/crashes
passed=0 failed=0
for target in $targets; do
  corpus=build/fuzz/corpus/$target
  mkdir -p "$corpus" "tests/fuzz/corpus/$target"
  if step "fuzz $target, $2 s" "build/fuzz/tests/fuzz/${target}_fuzz" -max_total_time="$2" -timeout=10 \
      -rss_limit_mb=2048 -artifact_prefix="build/fuzz/crashes/$target-" "$corpus" "tests/fuzz/corpus/$target"; then
    passed=$((passed + 1))
  else
    failed=$((failed + 1))
  fi
done
say "$passed passed, $failed failed"
[ "$failed" -eq 0 ]
