#!/usr/bin/env bash
# Is the working tree slower than COMMIT? Builds the benchmarks of both and runs them in turns.
#   bench_pair.sh [--pairs N] [--seconds S] [--longest S] [--json FILE] COMMIT ROW...
# ROW is a row's name or its beginning. Every row runs N times (10, and no fewer) in each build, old new, new
# old, old new ..., and measures for about S seconds (0.3). A row that takes longer than --longest (12 s) in the
# old build is left out, and named, unless ROW is its whole name: prefills of thousands of tokens take a
# minute a pair. A pair of all layer_decode_, batch_decode_, ttft_512, moe_ and pool_ rows took 163 s on two cores of an
# Intel with AVX-512, ten of them 27 minutes. Ends with 1 if a row is slower, 2 on errors.
#
# What is paired is a row's value, turned so that more than 1 is faster. Values of kernels and layers are parts
# of a limit (DRAM, peak) that the same process measured in between, for the work that it drew: neighbours on
# the machine and the luck of experts cancel before old and new meet. Rows without a limit (us, % of the half)
# pair as they are, and lean on the turns. A change of the limit's own measurement would move a value and no
# time, so the times that notes give are paired, too, and shown; they do not judge.
#
# COMMIT is built in build/pairs/<commit>, a worktree that is kept. Rows that read checkpoints or texts take
# those which bench.sh has made.
set -euo pipefail
here=$PWD
. "$(dirname "$0")/lib/setup.sh"
usage() { die 2 "usage: bench_pair.sh [--pairs N] [--seconds S] [--longest S] [--json FILE] COMMIT ROW..."; }
options=()
while [[ ${1:-} == -* ]]; do
  [ $# -ge 2 ] || usage
  case $1 in
    --pairs | --seconds | --longest) options+=("$1" "$2") ;;
    --json) options+=("$1" "$(cd "$here" && realpath -m -- "$2")") ;;
    *) usage ;;
  esac
  shift 2
done
[ $# -ge 2 ] || usage
commit=$(git rev-parse --verify --quiet "$1^{commit}") || die 2 "no such commit: $1"
shift
setup demo

old=$root/build/pairs/$commit
worktree() {
  git worktree prune &&
    { [ -e "$old/.git" ] || git worktree add --force --detach "$old" "$commit"; } &&
    git -C "$old" checkout --force --detach "$commit"
}
build_old() {
  cd "$old" && export CCACHE_BASEDIR=$old &&
    cmake --preset release -DDSV32_BUILD_BENCHMARKS=ON -DDSV32_BUILD_TESTS=OFF -DDSV32_BUILD_CLI=OFF \
      -DDSV32_BUILD_EXAMPLES=OFF &&
    cmake --build --preset release -j "$jobs" --target dsv32-bench
}
export CCACHE_NOHASHDIR=1
step "worktree (old)" worktree
(step "build (old benchmarks)" build_old)
grep -qs DSV32_BUILD_BENCHMARKS:BOOL=ON build/release/CMakeCache.txt ||
  step "configure (release)" cmake --preset release -DDSV32_BUILD_BENCHMARKS=ON
CCACHE_BASEDIR=$root step "build (new benchmarks)" cmake --build --preset release -j "$jobs" --target dsv32-bench
export DSV32_BENCH_MODELS=${DSV32_BENCH_MODELS:-$root/build/bench-models}
export DSV32_BENCH_TEXTS=${DSV32_BENCH_TEXTS:-$root/build/bench-texts}
exec python3 scripts/lib/bench_pair.py "${options[@]}" "$old/build/release/benchmarks/dsv32-bench" \
  build/release/benchmarks/dsv32-bench "$@"
