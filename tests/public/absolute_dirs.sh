#!/bin/sh
# absolute_dirs.sh CMAKE ROOT COMPILER: our install rules with absolute directories, as Nix has them:
# the program finds its library, CMake and pkg-config find both. And with plain ones, moved.
set -eu
cmake=$1 root=$2 compiler=$3
out=$(mktemp -d)
trap 'rm -rf "$out"' EXIT
unset LD_LIBRARY_PATH DESTDIR

# install NAME OPTION..: the stand-in, built and installed under $out/NAME.
install() {
  name=$1
  shift
  "$cmake" -S "$root/tests/public/absolute" -B "$out/$name-build" -DROOT="$root" \
    -DCMAKE_CXX_COMPILER="$compiler" -DCMAKE_INSTALL_PREFIX="$out/$name" "$@"
  "$cmake" --build "$out/$name-build"
  "$cmake" --install "$out/$name-build"
}

# check BIN LIB: what was installed there runs, and is found by both.
check() {
  "$1/dsv32"
  "$cmake" -S "$root/tests/public/absolute" -B "$2-consumer" -DINSTALLED="$2/cmake/dsv32" \
    -DCMAKE_CXX_COMPILER="$compiler"
  "$cmake" --build "$2-consumer"
  "$2-consumer/consumer"
  command -v pkg-config >/dev/null || return 0
  PKG_CONFIG_PATH=$2/pkgconfig
  export PKG_CONFIG_PATH
  [ "$(realpath "$(pkg-config --variable=libdir dsv32)")" = "$(realpath "$2")" ]
  # shellcheck disable=SC2046
  "$compiler" "$root/tests/public/absolute/program.cc" -o "$out/app" \
    $(pkg-config --cflags --libs dsv32)
  LD_LIBRARY_PATH=$2 "$out/app"
}

install absolute -DCMAKE_INSTALL_LIBDIR="$out/x/lib" -DCMAKE_INSTALL_INCLUDEDIR="$out/y/include"
check "$out/absolute/bin" "$out/x/lib"
install tools -DCMAKE_INSTALL_BINDIR="$out/z/bin" -DCMAKE_INSTALL_LIBDIR=lib
check "$out/z/bin" "$out/tools/lib"
install plain -DCMAKE_INSTALL_LIBDIR=lib/deep -DCMAKE_INSTALL_BINDIR=libexec/deep
mv "$out/plain" "$out/moved"
check "$out/moved/libexec/deep" "$out/moved/lib/deep"
