#!/usr/bin/env bash
# fuzz.sh TARGET SECONDS|runs=N: runs one libFuzzer target (or `all`) on a copy of its corpus, so long or so often.
# Targets: the files tests/fuzz/*_fuzz.cc. A crash leaves its input in build/fuzz/crashes/.
set -euo pipefail
. "$(dirname "$0")/lib/setup.sh"
[ $# -eq 2 ] || die 2 "usage: fuzz.sh TARGET|all SECONDS|runs=N"
case $2 in
  runs=*) limit=-runs=${2#runs=} unit= ;;
  *) limit=-max_total_time=$2 unit=" s" ;;
esac
[[ ${limit##*=} =~ ^[1-9][0-9]*$ ]] || die 2 "neither seconds nor runs=N: $2"
setup full
compiler=$(command -v clang++ || command -v clang++-14) || die 3 "clang++ is missing"
step "configure (fuzz)" cmake --preset fuzz -DCMAKE_CXX_COMPILER="$compiler"
step "build (fuzz)" cmake --build --preset fuzz -j "$jobs"
targets=$1
[ "$1" != all ] || targets=$(cd tests/fuzz && ls ./*_fuzz.cc | sed 's,^\./,,; s,_fuzz\.cc$,,')
mkdir -p build/fuzz/crashes
workers=()

# One target to its end; the line is printed whole, because several run side by side.
fuzz_one() {
  local target=$1 corpus=build/fuzz/corpus/$1 log=build/logs/fuzz_$1.log verdict=ok
  mkdir -p "$corpus"
  "build/fuzz/tests/fuzz/${target}_fuzz" "$limit" -timeout=10 -rss_limit_mb=2048 \
    -artifact_prefix="build/fuzz/crashes/$target-" "$corpus" "tests/fuzz/corpus/$target" >"$log" 2>&1 </dev/null || verdict=FAILED
  say "== fuzz $target, $2$unit ... $verdict ($(grep -c . "$log") lines in $log)"
  [ $verdict = ok ] || { tail -n 40 "$log"; return 1; }
}

passed=0 failed=0
for target in $targets; do
  while [ "$(jobs -rp | wc -l)" -ge "$jobs" ]; do sleep 0.2; done
  fuzz_one "$target" "$2" &
  workers+=($!)
done
for worker in "${workers[@]}"; do
  if wait "$worker"; then passed=$((passed + 1)); else failed=$((failed + 1)); fi
done
say "$passed passed, $failed failed"
[ "$failed" -eq 0 ]
