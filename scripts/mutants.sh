#!/usr/bin/env bash
# Plants one known bug at a time in a copy of the sources and demands that the named test turns red.
#   mutants.sh --all | --draw N | --only NAME | --list
# --draw N takes N by the hash of the current commit. The list: tests/mutants/mutants.toml.
set -euo pipefail
. "$(dirname "$0")/lib/setup.sh"
[ $# -ge 1 ] || die 2 "usage: mutants.sh --all | --draw N | --only NAME | --list"
[ "$1" = --list ] || setup full
exec python3 scripts/lib/mutants.py --jobs "${jobs:-1}" "$@"
