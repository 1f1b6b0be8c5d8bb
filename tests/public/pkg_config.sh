#!/bin/sh
# pkg_config.sh PREFIX COMPILER SOURCE: builds and runs SOURCE with what dsv32.pc says.
command -v pkg-config >/dev/null || { echo "skipped: no pkg-config"; exit 77; }
set -eu
PKG_CONFIG_PATH=$(dirname "$(find "$1" -name dsv32.pc)")
export PKG_CONFIG_PATH
out=$(mktemp -d)
trap 'rm -rf "$out"' EXIT
# shellcheck disable=SC2046
"$2" -std=c++20 "$3" -o "$out/app" $(pkg-config --cflags --libs dsv32)
LD_LIBRARY_PATH=$(pkg-config --variable=libdir dsv32) "$out/app"
