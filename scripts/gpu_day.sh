#!/usr/bin/env bash
# Everything to do with a GPU once there is one, in minutes: right to the bit first, then how fast.
#   gpu_day.sh --pack                 what build/cuda has, into build/gpu_day: carry that folder and the sources along
#   gpu_day.sh correct [OPTIONS]      at most 330 s: machine, kernels, the seam, models, sanitizer, faults
#   gpu_day.sh perf [OPTIONS]         at most 300 s: kernels, profiler, layers of real width, the law until time is up
#   gpu_day.sh --report DIR [--write] what the results say; --write changes the documents that say "emulated"
# Options: --short leaves out sanitizer, faults, profiler, layers, soak; --only STEP (A0 .. A5, B1 .. B4); --dry-run on the
# emulated GPU; --out DIR (build/gpu_day/out). Each step writes its own files at once. Ends with 0, 1 if a step failed,
# 77 if there is no GPU here.
set -euo pipefail
cd "$(dirname "$0")/.."
root=$PWD day=build/gpu_day
say() { printf '%s\n' "$*"; }
usage() { sed -n '3,9s/^# \{0,1\}//p' scripts/gpu_day.sh >&2; exit 2; }

pack() {
  local build=build/cuda program
  [ -x $build/tests/cuda/cuda_device_tests ] ||
    { say "error: no build/cuda: ./scripts/cuda-toolkit.sh && cmake --preset cuda && cmake --build --preset cuda" >&2; exit 2; }
  rm -rf $day/bin $day/ptx
  mkdir -p $day/bin $day/ptx $day/emulated
  for program in $build/tests/cuda/{cuda_kernel_tests,cuda_device_tests,backend_tests_cuda,model_tests_cuda} \
    $build/examples/cli/dsv32; do
    strip -o "$day/bin/${program##*/}" "$program"
  done
  strip -o $day/bin/libdsv32_cuda.so $build/lib/libdsv32_cuda.so
  strip -o $day/emulated/libcuda.so.1 "$(realpath $build/emulated/libcuda.so.1)"
  cp $build/lib/backend/cuda/kernels/*.ptx $day/ptx/
  printf '%s' "$root" >$day/root
  git rev-parse HEAD >$day/commit
  du -sm $day | awk '{print $1 " MB in '$day'"; exit $1 > 60}' ||
    { say "error: that is more than can be carried" >&2; exit 1; }
}

# The programs know where they were built, and the plug-in that was there.
as_if_at_home() {
  local home; home=$(cat $day/root)
  [ -e "$home" ] || { mkdir -p "$(dirname "$home")" && ln -s "$root" "$home"; }
  [ -e build/cuda/lib/libdsv32_cuda.so ] || { mkdir -p build/cuda/lib && cp $day/bin/libdsv32_cuda.so build/cuda/lib/; }
}

# in_time SECONDS COMMAND...: 124 and its end when they are over; a function goes on in a subshell.
in_time() {
  local limit=$1 rc=0 worker waiter; shift
  ("$@") & worker=$!
  (sleep "$limit"; pkill -P $worker; kill $worker) 2>/dev/null & waiter=$!
  wait $worker || rc=$?
  if kill -0 $waiter 2>/dev/null; then pkill -P $waiter || true; kill $waiter 2>/dev/null || true; else rc=124; fi
  wait $waiter 2>/dev/null || true
  return $rc
}

# A step's function says itself what makes it fail: errexit does not reach here.
# step NAME TITLE LIMIT COMMAND...: its seconds and outcome, one line; its output goes to OUT/NAME.log.
failed=0
step() {
  local name=$1 title=$2 limit=$3 begin=$SECONDS rc=0; shift 3
  [ -z "$only" ] || [ "$only" = "$name" ] || return 0
  [ -z "$dry" ] || limit=$((10 * limit))  # an emulated GPU is a slow one
  in_time "$limit" "$@" >"$out/$name.log" 2>&1 || rc=$?
  case $rc in
    0) verdict=ok ;;
    77) verdict=skipped ;;
    124) verdict="out of time" ;;
    *) verdict=failed ;;
  esac
  [ $rc -eq 0 ] || [ $rc -eq 77 ] || failed=1
  printf '%-3s %-44s %4d s  %s\n' "$name" "$title" $((SECONDS - begin)) "$verdict" | tee -a "$out/steps.txt"
}

machine() {
  uname -a
  lscpu | grep -E 'Model name|^CPU\(s\)|Hypervisor' || true
  nvidia-smi --query-gpu=name,driver_version,compute_cap,memory.total,clocks.max.sm,clocks.max.mem,ecc.mode.current,mig.mode.current \
    --format=csv 2>/dev/null || say "no nvidia-smi"
  command -v ncu compute-sanitizer nvcc || true
  cat $day/commit
  $day/bin/dsv32 info
}

gpu() { $day/bin/dsv32 info --json | python3 scripts/lib/gpu_results.py gpu "$@"; }

# Every kernel's tests on the GPU; the emulator once more in that GPU's arithmetic; results to the bit.
kernels() {
  local seed=3  # of the rehearsal, which is in the arithmetic of Hopper
  [ -n "$dry" ] || seed=$(gpu --seed)
  rm -f "$out"/device.bin "$out"/emulated.bin
  local right=0
  DSV32_RESULTS=$out/device.bin $day/bin/cuda_device_tests "~[costs]~[times]" || right=1
  DSV32_TEST_PTX=$root/$day/ptx FAKECUDA_SEED=$seed DSV32_RESULTS=$out/emulated.bin \
    $day/bin/cuda_kernel_tests "~[costs]~[times]" || right=1
  python3 scripts/lib/gpu_results.py compare "$out/emulated.bin" "$out/device.bin" "$out/correct.json" && [ $right -eq 0 ]
}

models() {
  local cases; cases=$(paste -sd, tests/cuda/model_cases.txt)
  [ -z "$dry" ] || cases="golden*"
  $day/bin/model_tests_cuda "$cases"
}

sanitize() {
  command -v compute-sanitizer >/dev/null || exit 77
  local tool
  for tool in memcheck racecheck synccheck initcheck; do
    compute-sanitizer --tool $tool --error-exitcode 1 $day/bin/cuda_device_tests "[quick]" || return 1
  done
}

# Killed in the middle of a step, ten times; then all is as ever.
faults() {
  local i want got
  want=$($day/bin/dsv32 generate examples/tiny_model --device cuda --chat --greedy "What is 47 + 38?")
  for i in 1 2 3 4 5 6 7 8 9 10; do
    $day/bin/dsv32 generate examples/tiny_model --device cuda --greedy --max-tokens 400 "One two three" >/dev/null 2>&1 &
    sleep "0.$((i * 7 % 10))" 2>/dev/null || sleep 1
    kill -9 $! 2>/dev/null || true
    wait $! 2>/dev/null || true
  done
  got=$($day/bin/dsv32 generate examples/tiny_model --device cuda --chat --greedy "What is 47 + 38?")
  say "$want"
  [ -n "$want" ] && [ "$want" = "$got" ]
}

times() {
  rm -f "$out/times.json"
  DSV32_TIMES=$out/times.json $day/bin/cuda_device_tests "times of kernels" && cat "$out/times.json"
}

profile() {
  command -v ncu >/dev/null || exit 77
  ncu --clock-control none --csv --metrics sm__inst_executed_pipe_tensor.sum,dram__bytes.sum,l1tex__data_bank_conflicts_pipe_lsu.sum,launch__registers_per_thread,sm__warps_active.avg.pct_of_peak_sustained_active \
    env DSV32_TIMES_SMALL=1 $day/bin/cuda_device_tests "times of kernels" | tee "$out/ncu.csv"
}

# One dense layer and one with 256 experts of real width, prompt and decoding through the program.
layers() {
  local folder; folder=$(mktemp -d)
  $day/bin/dsv32 make-model -o "$folder/model" --layers 2 --dense-layers 1 --seed 1 &&
  $day/bin/dsv32 generate "$folder/model" --device cuda --ids --greedy --max-tokens 64 --stats \
    "$(python3 -c 'import json; print(json.dumps([i % 1000 + 100 for i in range(4096)]))')" >/dev/null || { rm -rf "$folder"; return 1; }
  rm -rf "$folder"
}

soak() {
  local end=$((SECONDS + $1)) n=0
  while [ $SECONDS -lt $end ]; do
    $day/bin/model_tests_cuda "the state law holds on random schedules*" || return 1
    n=$((n + 1))
  done
  say "$n rounds"
}

case ${1-} in
  --pack) pack; exit ;;
  --report) shift; exec python3 scripts/lib/gpu_results.py report "$@" ;;
  correct | perf) run=$1; shift ;;
  *) usage ;;
esac
short= only= dry= out=$day/out
while [ $# -gt 0 ]; do
  case $1 in
    --short) short=1 ;;
    --only) only=${2-}; shift ;;
    --dry-run) dry=1 ;;
    --out) out=${2-}; shift ;;
    *) usage ;;
  esac
  shift
done
[ -d $day/bin ] || pack
mkdir -p "$out"
out=$(cd "$out" && pwd)
export PATH=$PATH:/usr/local/cuda/bin:/opt/nvidia/nsight-compute
as_if_at_home
if [ -n "$dry" ]; then
  export LD_LIBRARY_PATH=$root/$day/emulated DSV32_TIMES_SMALL=1 FAKECUDA_MODE=sm90
elif ! gpu; then
  exit 77
fi
date -u +"%Y-%m-%dT%H:%MZ $run${dry:+, emulated}" >>"$out/steps.txt"
if [ "$run" = correct ]; then
  step A0 "the machine" 20 machine
  step A1 "kernels, and to the bit as emulated" 240 kernels
  step A2 "every method through the seam" 90 $day/bin/backend_tests_cuda
  step A3 "models: the law, known answers, the chat" 120 models
  [ -n "$short" ] || step A4 "compute-sanitizer" 100 sanitize
  [ -n "$short" ] || step A5 "killed in the middle of a step" 60 faults
else
  step B1 "kernels, microseconds" 120 times
  [ -n "$short" ] || step B2 "profiler" 60 profile
  [ -n "$short" ] || [ -n "$dry" ] || step B3 "layers of real width" 120 layers
  [ -n "$short" ] || [ -n "$dry" ] || step B4 "the law until the time is up" 60 soak 45
fi
exit $failed
