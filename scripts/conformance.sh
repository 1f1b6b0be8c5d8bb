#!/usr/bin/env bash
# Runs known answers against the library.
#   conformance.sh chat FILE...            jsonl vectors; X_input*.json against X_output*.txt beside it
#   conformance.sh stream FILE...          streamed outputs, in every split
#   conformance.sh tokenizer DIR FILE...   DIR holds NAME/tokenizer.json
#   conformance.sh model [--kernels NAME|all] DIR...   a checkpoint with expected.safetensors
#   conformance.sh file PATH [--list]      reads every byte of every tensor
#   conformance.sh parse --mode chat|thinking [--format v32|v31] [--strict] [--seed N]   stdin
#   conformance.sh --path                  prints the built program
# The first four end with "N passed, N failed" and exit 0 only if something ran and nothing failed. Of the others 1 is a refusal,
# 2 wrong usage, anything else a defect.
set -euo pipefail
here=$PWD
. "$(dirname "$0")/lib/setup.sh"
program=$root/build/dev/tests/conformance/dsv32_conformance
build() {
  setup full >&2
  [ -f build/dev/build.ninja ] || step "configure" cmake --preset dev
  step "build" cmake --build --preset dev --target dsv32_conformance -j "$jobs"
}
if ! { [ -x "$program" ] && [ -n "${DSV32_NO_BUILD:-}" ]; }; then build >&2; fi
if [ "${1:-}" = --path ]; then
  printf '%s\n' "$program"
else
  cd "$here"
  exec "$program" "$@"
fi
