#!/usr/bin/env bash
# Builds and runs the benchmarks. usage: bench.sh [--smoke] [--json FILE] [--list] [ROW...]
# ROW is a row's name or its beginning; `bench.sh --help` has all options. The whole suite takes at
# most 40 minutes and wants the machine for itself. --smoke takes the dev build: it only has to run.
# Checkpoints for the load rows (2.5 GB) are made once, in build/bench-models.
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

make_models() {
  local models=build/bench-models
  mkdir -p $models
  [ -f $models/fake/config.json ] ||
    step "full-size fake checkpoint" python3 scripts/make_fake_checkpoint.py $models/fake
  if [ ! -f $models/real/config.json ]; then
    step "build (dsv32)" cmake --build --preset $preset -j "$jobs" --target dsv32-cli
    rm -rf $models/real
    step "checkpoint of real width" build/$preset/examples/cli/dsv32 make-model \
      -o $models/real --layers 2 --dense-layers 1 --experts 32 --vocab 4096 --max-context 16k
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
