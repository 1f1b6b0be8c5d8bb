#!/usr/bin/env bash
# Builds the kernels and their tests for 64-bit ARM and runs them under qemu: the portable set needs
# no x86. Needs g++-aarch64-linux-gnu and qemu-user-static; installs them as root. 77: cannot be had.
#   --probe   only find out whether it can run
set -euo pipefail
. "$(dirname "$0")/lib/setup.sh"
setup full
if ! has_command aarch64-linux-gnu-g++ || ! has_command qemu-aarch64-static; then
  if [ "$(id -u)" != 0 ] || ! step "install cross compiler" apt_install "" g++-aarch64-linux-gnu qemu-user-static; then
    say "skipped: no aarch64-linux-gnu-g++ or qemu-aarch64-static, and they cannot be installed"
    exit 77
  fi
fi
[ "${1:-}" != --probe ] || exit 0
cmake -G Ninja -S tests/kernels/standalone -B build/aarch64 -DCMAKE_BUILD_TYPE=Release \
  -DCMAKE_TOOLCHAIN_FILE="$root/cmake/aarch64.cmake" -DCMAKE_CXX_COMPILER_LAUNCHER="$(command -v ccache || true)"
cmake --build build/aarch64 -j "$jobs"
qemu-aarch64-static -L /usr/aarch64-linux-gnu build/aarch64/kernels_tests
