#!/usr/bin/env bash
# Runs a command with the emulated GPU's driver first among libraries: emulated.sh [--build DIR] CMD...
# The driver is that of the build tree that the command is in, else of build/cuda, else of build/dev.
# What FAKECUDA_* variables say to it: tests/ptxemu/fake_libcuda.h.
set -euo pipefail
root=$(cd "$(dirname "$0")/.." && pwd)
build=
if [ "${1-}" = --build ] && [ $# -ge 2 ]; then
  build=$2
  shift 2
fi
case ${1-} in
  "" | -h | --help) sed -n '2,4s/^# \{0,1\}//p' "$0"; [ $# -gt 0 ]; exit ;;
esac
if [ -z "$build" ]; then
  folder=$(cd "$(dirname "$(command -v "$1" || echo "$1")")" 2>/dev/null && pwd || true)
  for build in "$(sed -n "s|^\($root/build/[^/]*\)/\?.*|\1|p" <<<"$folder")" "$root"/build/{cuda,dev}; do
    [ ! -e "$build/emulated/libcuda.so.1" ] || break
  done
fi
build=$(cd "$build" 2>/dev/null && pwd || echo "$build")
if [ ! -e "$build/emulated/libcuda.so.1" ]; then
  echo "emulated.sh: no $build/emulated/libcuda.so.1: cmake --build --preset cuda (or dev) --target fake_libcuda" >&2
  exit 2
fi
export LD_LIBRARY_PATH=$build/emulated${LD_LIBRARY_PATH:+:$LD_LIBRARY_PATH}
exec "$@"
