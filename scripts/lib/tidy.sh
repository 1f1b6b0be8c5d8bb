#!/usr/bin/env bash
# tidy.sh CLANG_TIDY JOBS: clang-tidy over the library, with the dev build's compile commands.
set -euo pipefail
# Clang does not know all of GCC's options.
mkdir -p build/tidy
sed 's/ -fno-gnu-unique//g' build/dev/compile_commands.json >build/tidy/compile_commands.json
# The CUDA plug-in is no part of that build, and needs cuda.h.
git ls-files 'lib/*.cc' 'kernels/*.cc' | grep -v -e unicode_table.cc -e ^lib/backend/cuda/ |
  xargs -P "$2" -n 1 "$1" -p build/tidy --quiet
