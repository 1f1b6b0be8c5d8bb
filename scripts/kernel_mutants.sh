#!/usr/bin/env bash
# Plants one mistake at a time in a GPU kernel, its CUDA or its PTX, and demands that the named test on the
# emulated GPU turns red. Needs what `cmake --build --preset cuda` builds.
#   kernel_mutants.sh --all | --draw N | --only NAME | --list
# The list: tests/mutants/kernels.toml.
set -euo pipefail
. "$(dirname "$0")/lib/setup.sh"
[ $# -ge 1 ] || die 2 "usage: kernel_mutants.sh --all | --draw N | --only NAME | --list"
[ "$1" = --list ] || setup full
[ "$1" = --list ] || [ -x build/cuda/tests/cuda/cuda_kernel_tests ] ||
  die 2 "no build/cuda: ./scripts/cuda-toolkit.sh && cmake --preset cuda && cmake --build --preset cuda"
nvcc=$(sed -n 's/^DSV32_NVCC:[A-Z]*=//p' build/cuda/CMakeCache.txt 2>/dev/null || true)
exec python3 scripts/lib/kernel_mutants.py --jobs "${jobs:-1}" --nvcc "$(realpath "${nvcc:-.}")" "$@"
