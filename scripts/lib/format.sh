#!/usr/bin/env bash
# format.sh CLANG_FORMAT: fails if a source of ours is not formatted.
set -euo pipefail
git ls-files 'include/*.h' 'lib/*.h' 'lib/*.cc' 'kernels/*.h' 'kernels/*.cc' 'examples/*.h' \
  'examples/*.cc' 'tests/*.h' 'tests/*.cc' 'benchmarks/*.h' 'benchmarks/*.cc' | grep -v unicode_table.cc | xargs "$1" --dry-run --Werror
