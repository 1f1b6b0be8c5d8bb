#!/usr/bin/env bash
set -eu
cd "$(dirname "$0")/.."
cmake --preset dev && cmake --build --preset dev && ctest --preset dev
