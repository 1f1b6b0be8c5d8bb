#!/usr/bin/env bash
# Finds nvcc 13.0, or brings it without root: PyPI's wheels, pinned, into .deps (104 MB to fetch, 271
# MB on disk). .deps/cuda then leads to it; cmake --preset cuda looks there first.
#   --wheels   the wheels, whatever the system has
#   --find     fetches nothing: fails if neither is there
#   --tools    nvdisasm alone, which reads what nvcc made (3 MB): into .deps/cuda-tools, unless the path has one
set -euo pipefail
. "$(dirname "$0")/lib/setup.sh"

release=13.0
wheels=(nvidia-cuda-nvcc==13.0.88 nvidia-cuda-crt==13.0.88 nvidia-nvvm==13.0.88
  nvidia-cuda-runtime==13.0.96 nvidia-cuda-cccl==13.0.85)

disassembler=nvidia-cuda-nvdisasm==13.5.37

is_right() { [ -x "$1/bin/nvcc" ] && "$1/bin/nvcc" --version | grep -q "release $release," && [ -e "$1/include/cuda.h" ]; }

# The folder of an nvcc in the path or where NVIDIA's packages put it.
system_toolkit() {
  local found folder
  found=$(command -v nvcc || true)
  for folder in ${found:+"$(dirname "$(dirname "$(readlink -f "$found")")")"} "/usr/local/cuda-$release" /usr/local/cuda; do
    if is_right "$folder"; then
      printf '%s\n' "$folder"
      return 0
    fi
  done
  return 1
}

# What pip leaves behind when it is cut short is no toolkit: it moves there whole.
fetch_wheels() {
  rm -rf "$deps/cuda-$release.part"
  python3 -m pip install -q --disable-pip-version-check --no-deps --target "$deps/cuda-$release.part" "${wheels[@]}"
  rm -rf "$deps/cuda-$release"
  mv "$deps/cuda-$release.part" "$deps/cuda-$release"
}

fetch_tools() {
  rm -rf "$deps/cuda-tools.part"
  python3 -m pip install -q --disable-pip-version-check --no-deps --target "$deps/cuda-tools.part" "$disassembler"
  mkdir -p "$deps/cuda-tools.part/bin"
  cp "$deps/cuda-tools.part/nvidia/cu13/bin/nvdisasm" "$deps/cuda-tools.part/bin/"
  chmod +x "$deps/cuda-tools.part/bin/nvdisasm"
  rm -rf "$deps/cuda-tools"
  mv "$deps/cuda-tools.part" "$deps/cuda-tools"
}

mkdir -p "$deps"
if [ "${1:-}" = --tools ]; then
  if command -v nvdisasm >/dev/null || [ -x "$deps/cuda-tools/bin/nvdisasm" ]; then exit 0; fi
  python3 -m pip --version >/dev/null 2>&1 || die 3 "no nvdisasm, and no pip to fetch it with: install python3-pip"
  step "nvdisasm from PyPI" fetch_tools
  exit 0
fi
case ${1:-} in
  "" | --find) toolkit=$(system_toolkit || true) ;;
  --wheels) toolkit= ;;
  *) die 2 "no such option: $1" ;;
esac
if [ -z "$toolkit" ]; then
  toolkit=$deps/cuda-$release/nvidia/cu13
  if ! is_right "$toolkit"; then
    [ "${1:-}" != --find ] || die 3 "no nvcc $release"
    python3 -m pip --version >/dev/null 2>&1 || die 3 "no nvcc $release, and no pip to fetch it with: install python3-pip, or the CUDA toolkit $release"
    step "nvcc $release from PyPI" fetch_wheels
  fi
  is_right "$toolkit" || die 3 "PyPI's wheels brought no nvcc $release"
fi
ln -sfn "$toolkit" "$deps/cuda"
say "nvcc $release: $toolkit"
