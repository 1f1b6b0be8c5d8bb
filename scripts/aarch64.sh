#!/usr/bin/env bash
# Builds the kernels and their tests for 64-bit ARM and runs them under qemu: the portable set needs
# no x86. Needs g++-aarch64-linux-gnu and qemu-user-static; installs them as root. 77: cannot be had.
set -euo pipefail
. "$(dirname "$0")/lib/setup.sh"
setup full
if ! has_command aarch64-linux-gnu-g++ || ! has_command qemu-aarch64-static; then
  if [ "$(id -u)" != 0 ] || ! step "install cross compiler" apt_install "" g++-aarch64-linux-gnu qemu-user-static; then
    say "skipped: no aarch64-linux-gnu-g++ or qemu-aarch64-static, and they cannot be installed"
    exit 77
  fi
fi
# Header-only packages of this machine serve both.
config() { find /usr/lib /usr/share "$deps" -name "$1" -printf '%h' -quit 2>/dev/null; }
cmake -G Ninja -S . -B build/aarch64 -DCMAKE_TOOLCHAIN_FILE="$root/cmake/aarch64.cmake" \
  -DCMAKE_BUILD_TYPE=Release -DBUILD_SHARED_LIBS=OFF -DDSV32_BUILD_CLI=OFF -DDSV32_BUILD_EXAMPLES=OFF \
  -Dfmt_DIR="$(config fmt-config.cmake)" -Dnlohmann_json_DIR="$(config nlohmann_jsonConfig.cmake)" \
  -DCatch2_DIR="$(config Catch2Config.cmake)"
cmake --build build/aarch64 --target kernels_tests -j "$jobs"
qemu-aarch64-static -L /usr/aarch64-linux-gnu build/aarch64/tests/kernels_tests
