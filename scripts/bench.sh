#!/usr/bin/env bash
# Builds and runs the benchmarks. usage: bench.sh [--smoke] [--json FILE] [--list] [ROW...]
# ROW is a row's name or its beginning; `bench.sh --help` has all options. The whole suite takes at
# most 40 minutes and wants the machine for itself. --smoke takes the dev build: it only has to run.
# Checkpoints for the load rows (2.5 GB, and 11.6 GB where 40 GB are free) are made once, in
# build/bench-models.
set -euo pipefail
here=$PWD
command="./scripts/bench.sh $*"
. "$(dirname "$0")/lib/setup.sh"
. scripts/lib/bench_models.sh
setup demo
preset=release
[[ " $* " != *" --smoke "* ]] || preset=dev
grep -qs DSV32_BUILD_BENCHMARKS:BOOL=ON build/$preset/CMakeCache.txt ||
  step "configure ($preset)" cmake --preset $preset -DDSV32_BUILD_BENCHMARKS=ON
step "build (benchmarks)" cmake --build --preset $preset -j "$jobs" --target dsv32-bench

# The large one only for the rows that read it.
rows= large= before=
for argument in "$@"; do
  [[ $argument == -* || $before == --json || $before == --seconds || $before == --kernels ]] || rows=yes
  [[ $argument != load* ]] || large=yes
  before=$argument
done
[ -n "$rows" ] || large=yes
make_models() {
  local models=build/bench-models
  mkdir -p $models
  [ -f $models/fake/config.json ] ||
    step "full-size fake checkpoint" python3 scripts/make_fake_checkpoint.py $models/fake
  make_real_width build/$preset
  make_pages build/$preset
  [ -n "$large" ] || return 0
  if [ -f $models/layer/config.json ] || [ "$(df --output=avail -B1G $models | tail -1)" -ge 40 ]; then
    make_model build/$preset "layer of 256 experts" $models/layer --layers 1 --dense-layers 0
  else
    say "== layer of 256 experts ... skipped: it wants 40 GB of free disk"
  fi
}
# The tokenizer's rows want DeepSeek's vocabulary: DSV32_TOKENIZER=.../tokenizer.json. Without it they say so.
make_texts() {
  local tokenizer=${DSV32_TOKENIZER:-examples/tiny_model/tokenizer.json}
  [ -n "${DSV32_BENCH_TEXTS:-}" ] || cmp -s "$tokenizer" build/bench-texts/tokenizer.json ||
    step "texts" python3 scripts/lib/make_texts.py "$tokenizer" build/bench-texts
}
case " $* " in
  *" --smoke "* | *" --list "* | *" --help "*) ;;
  *) make_models && make_texts ;;
esac
commit=$(git rev-parse --short=12 HEAD 2>/dev/null || echo unknown)
[ -z "$(git status --porcelain --untracked-files=no 2>/dev/null)" ] || commit="$commit, changed"
cd "$here"
DSV32_BENCH_COMMIT=$commit DSV32_BENCH_COMMAND=$command exec "$root/build/$preset/benchmarks/dsv32-bench" "$@"
