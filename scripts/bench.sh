#!/usr/bin/env bash
# Builds and runs the benchmarks. usage: bench.sh [--smoke] [--json FILE] [--list] [ROW...]
# ROW is a row's name or its beginning; `bench.sh --help` has all options. The whole suite takes at
# most 40 minutes and wants the machine for itself. --smoke takes the dev build: it only has to run.
set -euo pipefail
here=$PWD
command="./scripts/bench.sh $*"
. "$(dirname "$0")/lib/setup.sh"
setup demo
preset=release
[[ " $* " != *" --smoke "* ]] || preset=dev
grep -qs DSV32_BUILD_BENCHMARKS:BOOL=ON build/$preset/CMakeCache.txt ||
  step "configure ($preset)" cmake --preset $preset -DDSV32_BUILD_BENCHMARKS=ON
step "build (benchmarks)" cmake --build --preset $preset -j "$jobs" --target dsv32-bench
commit=$(git rev-parse --short=12 HEAD 2>/dev/null || echo unknown)
[ -z "$(git status --porcelain --untracked-files=no 2>/dev/null)" ] || commit="$commit, changed"
cd "$here"
DSV32_BENCH_COMMIT=$commit DSV32_BENCH_COMMAND=$command exec "$root/build/$preset/benchmarks/dsv32-bench" "$@"
