# Sourced by check.sh: what the outcome of a check depends on, as one hash.

# stamp_key PATH... [--with TOOL...] -- COMMAND...: changes with the files under PATHs, with the
# description of the build, with the version of the compiler and of every TOOL, and with COMMAND.
stamp_key() {
  local paths=(CMakeLists.txt CMakePresets.json cmake) tools=("${CXX:-g++}") tool
  while [ "$1" != -- ] && [ "$1" != --with ]; do paths+=("$1"); shift; done
  [ "$1" != --with ] || shift
  while [ "$1" != -- ]; do tools+=("$1"); shift; done
  shift
  {
    { find "${paths[@]}" -type f -print0; find lib tests -name CMakeLists.txt -print0; } |
      sort -zu | xargs -0 sha256sum
    for tool in "${tools[@]}"; do printf '%s\n' "$tool"; "$tool" --version 2>&1 || true; done
    printf '%s\n' "$@"
  } | sha256sum
}
