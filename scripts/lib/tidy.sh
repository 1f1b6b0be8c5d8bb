#!/usr/bin/env bash
# tidy.sh CLANG_TIDY JOBS [PRESET]: clang-tidy over the library, with the compile commands of a build: dev's, or
# cuda's, which is for the plug-in alone.
set -euo pipefail
preset=${3:-dev}
# Clang does not know all of GCC's options.
mkdir -p "build/tidy/$preset"
sed 's/ -fno-gnu-unique//g' "build/$preset/compile_commands.json" >"build/tidy/$preset/compile_commands.json"
plugin='^lib/backend/cuda/'
git ls-files 'lib/*.cc' 'kernels/*.cc' | grep -v unicode_table.cc |
  if [ "$preset" = cuda ]; then grep "$plugin"; else grep -v "$plugin"; fi |
  xargs -P "$2" -n 1 "$1" -p "build/tidy/$preset" --quiet
