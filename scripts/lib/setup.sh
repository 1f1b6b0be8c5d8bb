# Sourced by the scripts: finds out what is missing, installs it, and offers `step`.
# Probes for commands and headers instead of asking a package manager, so that a machine that has
# everything is never touched and needs no network.
set -euo pipefail
root=$(cd "$(dirname "${BASH_SOURCE[0]}")/../.." && pwd)
cd "$root"
mkdir -p build/logs
# So that clones in different folders share what a compiler cache holds.
export CCACHE_BASEDIR=${CCACHE_BASEDIR:-$root} CCACHE_NOHASHDIR=1
deps=$root/.deps
export PATH="$deps/bin:$deps/usr/bin:$deps/python/cmake/data/bin:$deps/python/bin:$PATH"
export CMAKE_PREFIX_PATH="$deps/usr${CMAKE_PREFIX_PATH:+:$CMAKE_PREFIX_PATH}"

say() { printf '%s\n' "$*"; }
die() { code=$1; shift; printf 'error: %s\n' "$*" >&2; exit "$code"; }

# On a terminal: how far the build is, "[12/117]" of the log's last line, once a second.
show_progress() {
  local last
  [ -t 1 ] || return 0
  while sleep 1; do
    last=$(tail -n 1 "$2" | sed -n 's/^\(\[[0-9]*\/[0-9]*\]\).*/\1/p')
    [ -z "$last" ] || printf '\r\033[K== %s ... %s ' "$1" "$last"
  done
}

# step NAME COMMAND...: prints the step and its seconds; its output goes to build/logs/NAME.log, and
# the end of it is shown when it fails. step_times holds "SECONDS CPU_SECONDS NAME" of every step.
step_times=()
step() {
  local name=$1 log=$root/build/logs/${1// /_}.log rc=0 wall cpu TIMEFORMAT='%0R %1U %1S'; shift
  printf '== %s ... ' "$name"
  : >"$log"
  show_progress "$name" "$log" &
  local shower=$!
  { time "$@" >"$log" 2>&1 </dev/null; } 2>"${log%.log}.time" || rc=$?
  kill "$shower" 2>/dev/null || true
  wait "$shower" 2>/dev/null || true
  [ ! -t 1 ] || printf '\r\033[K== %s ... ' "$name"
  read -r wall cpu < <(awk '{print $1, $2 + $3}' "${log%.log}.time")
  step_times+=("$wall $cpu $name")
  if [ $rc -eq 0 ]; then
    printf '%d s\n' "$wall"
  else
    printf 'failed after %d s (%s)\n' "$wall" "${log#"$root"/}"
    tail -n 40 "$log"
    return $rc
  fi
}

has_command() { command -v "$1" >/dev/null 2>&1; }
has_header() {
  printf '#include <%s>\n' "$1" | "${CXX:-g++}" -std=c++20 -isystem "$deps/usr/include" -x c++ -E - >/dev/null 2>&1
}
has_cmake() {
  has_command cmake && [ "$(printf '%s\n3.25\n' "$(cmake --version | sed -n '1s/[^0-9.]*//p')" | sort -V | head -1)" = 3.25 ]
}

# The Debian packages behind what is missing: of scripts/apt-packages.txt, and for `full` of
# apt-packages-dev.txt, too.
missing_packages() {
  has_command "${CXX:-g++}" || echo g++
  has_cmake || echo cmake
  has_command ninja || echo ninja-build
  has_header fmt/format.h || echo libfmt-dev
  has_header nlohmann/json.hpp || echo nlohmann-json3-dev
  has_header CLI/CLI.hpp || echo libcli11-dev
  [ "$1" = full ] || return 0
  has_header catch2/catch.hpp || has_header catch2/catch_all.hpp || echo catch2
  has_command python3 || echo python3
  has_command clang++ || has_command clang++-14 || echo clang
  has_command clang-format || has_command clang-format-14 || echo clang-format
  has_command clang-tidy || has_command clang-tidy-14 || echo clang-tidy
  ls /usr/lib/llvm-*/lib/clang/*/lib/linux/libclang_rt.fuzzer-*.a >/dev/null 2>&1 || echo libclang-rt-14-dev
  has_command nm || echo binutils
  has_header histedit.h || echo libedit-dev  # the program edits lines with it, and does without
}

apt_install() {
  local sudo=$1; shift
  $sudo apt-get update -qq && DEBIAN_FRONTEND=noninteractive $sudo apt-get install -y -qq --no-install-recommends "$@"
}

# Without root: fetch the packages, and those that they need, and unpack them into .deps. Headers and
# cmake run from there; compilers and clang's tools do not, and what needs them falls out.
apt_unpack() {
  local state=$deps/apt names wanted=() package
  for package in "$@"; do
    case $package in cmake | ninja-build | catch2 | libfmt-dev | libcli11-dev | nlohmann-json3-dev) wanted+=("$package") ;; esac
  done
  [ ${#wanted[@]} -gt 0 ] || return 0
  mkdir -p "$state/lists/partial" "$state/cache/archives/partial" "$deps/bin"
  local options=(-o "Dir::State::lists=$state/lists" -o "Dir::Cache=$state/cache" -o Debug::NoLocking=1)
  apt-get "${options[@]}" update -qq || return
  names=$(apt-get "${options[@]}" -s install --no-install-recommends "${wanted[@]}" | sed -n 's/^Inst \([^ ]*\).*/\1/p')
  # shellcheck disable=SC2086  # names of packages
  (cd "$state" && apt-get "${options[@]}" download $names) || return
  for package in "$state"/*.deb; do dpkg-deb -x "$package" "$deps" || return; done
  if [ -x "$deps/usr/bin/cmake" ]; then  # finds the libraries that came with it
    printf '#!/bin/sh\nLD_LIBRARY_PATH=$(echo "%s"/usr/lib/*-linux-gnu) exec "%s/usr/bin/cmake" "$@"\n' \
      "$deps" "$deps" >"$deps/bin/cmake"
    chmod +x "$deps/bin/cmake"
  fi
}

# Where the distribution's is too old.
cmake_from_pypi() { python3 -m pip install -q --target "$deps/python" cmake ninja; }

install_missing() {
  local packages=("$@")
  if ! has_command apt-get; then
    die 3 "missing: ${packages[*]} (Debian's names); install them and run this again"
  elif [ "$(id -u)" = 0 ]; then
    step "install packages" apt_install "" "${packages[@]}"
  elif has_command sudo && sudo -n true 2>/dev/null; then
    step "install packages" apt_install "sudo -n" "${packages[@]}"
  elif [ -t 0 ] && [ -t 1 ] && has_command sudo; then
    say "These packages are missing: ${packages[*]}. sudo may ask for your password."
    apt_install sudo "${packages[@]}"
  elif has_command "${CXX:-g++}"; then
    step "unpack packages into .deps" apt_unpack "${packages[@]}"
  else
    return 1
  fi
}

# setup demo|full
setup() {
  local packages still
  mapfile -t packages < <(missing_packages "$1")
  if [ ${#packages[@]} -gt 0 ]; then
    say "missing: ${packages[*]}"
    install_missing "${packages[@]}" || true
    has_cmake || ! python3 -m pip --version >/dev/null 2>&1 || step "cmake from PyPI" cmake_from_pypi || true
    # What the demo needs is needed; the rest only makes checks fall out, each with its name.
    mapfile -t still < <(missing_packages demo)
    [ ${#still[@]} -eq 0 ] || die 3 "could not install: run  apt-get install ${still[*]}  as root, then this again"
  fi
  jobs=${JOBS:-$(nproc)}
  [ "$(awk '/MemTotal/ {print int($2 / 1048576)}' /proc/meminfo)" -ge 4 ] || jobs=1
}
