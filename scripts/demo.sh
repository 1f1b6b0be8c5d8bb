#!/usr/bin/env bash
# Sets this machine up, builds, and holds the demo conversation with the bundled model.
#   --no-chat     do not offer a chat afterwards
#   --jobs N      parallel compilations (default: cores)
set -euo pipefail
. "$(dirname "$0")/lib/setup.sh"
chat=yes
while [ $# -gt 0 ]; do
  case $1 in
    --no-chat) chat=no ;;
    --jobs) JOBS=$2; shift ;;
    -h | --help) sed -n '2,4s/^# \{0,1\}//p' "$0"; exit 0 ;;
    *) die 2 "unknown option $1 (try --help)" ;;
  esac
  shift
done

setup demo
build=$root/build/demo
step "configure" cmake -G Ninja -S . -B "$build" -DCMAKE_BUILD_TYPE=Release -DDSV32_BUILD_TESTS=OFF
step "build" cmake --build "$build" --target dsv32-cli dsv32-demo -j "$jobs"
"$build/examples/dsv32-demo" examples/tiny_model examples/tools
say "demo: everything above happened as it should"
if [ "$chat" = yes ] && [ -t 0 ] && [ -t 1 ]; then
  exec "$build/examples/cli/dsv32" chat examples/tiny_model
fi
