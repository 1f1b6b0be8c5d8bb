#!/usr/bin/env bash
# tidy.sh CLANG_TIDY JOBS: clang-tidy over the library, with the dev build's compile commands.
set -euo pipefail
git ls-files 'lib/*.cc' 'kernels/*.cc' | grep -v unicode_table.cc |
  xargs -P "$2" -n 1 "$1" -p build/dev --quiet
