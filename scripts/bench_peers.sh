#!/usr/bin/env bash
# Builds the peers and runs them beside dsv32, in turns. usage: bench_peers.sh [--json FILE] [ROW...]
#   llama.cpp   out of PyPI's llama-cpp-python source, with random models of real width in Q8_0 (2.5 GB) and BF16 (4.8 GB), and a small one
#   oneDNN, OpenBLAS       Debian's libdnnl-dev and libopenblas-pthread-dev, unpacked, not installed
#   tokenizers, tiktoken   from PyPI
# Everything lies in build/peers. A peer that cannot be had is skipped by name.
set -euo pipefail
command="./scripts/bench_peers.sh $*"
. "$(dirname "$0")/lib/setup.sh"
. scripts/lib/bench_models.sh
setup demo
peers=$root/build/peers
mkdir -p "$peers"
skip() { say "== $1 ... skipped: $2"; }

python_peers() {
  [ -x .venv/bin/python ] || python3 -m venv .venv
  .venv/bin/python -m pip install -q numpy gguf tokenizers tiktoken
}
unpack() {  # PACKAGE...
  mkdir -p "$peers/debs" && cd "$peers/debs" && apt-get download "$@" &&
    for package in "$@"; do dpkg-deb -x "${package}"_*.deb "$peers/usr-root" || return; done
}
llama_source() {
  cd "$peers" &&
    python3 -m pip download -q --no-deps --no-binary :all: -d "$peers" llama-cpp-python &&
    rm -rf llama-src && mkdir llama-src &&
    tar xzf llama_cpp_python-*.tar.gz --strip-components 1 -C llama-src &&
    grep -q '"deepseek32"' llama-src/vendor/llama.cpp/src/llama-arch.cpp
}
llama_build() {
  cmake -G Ninja -S "$peers/llama-src/vendor/llama.cpp" -B "$peers/llama-build" -DCMAKE_BUILD_TYPE=Release \
    -DBUILD_SHARED_LIBS=ON -DLLAMA_BUILD_TESTS=OFF -DLLAMA_BUILD_EXAMPLES=OFF -DLLAMA_BUILD_TOOLS=OFF \
    -DLLAMA_BUILD_SERVER=OFF -DLLAMA_BUILD_COMMON=OFF -DLLAMA_CURL=OFF -DGGML_NATIVE=ON &&
    cmake --build "$peers/llama-build" -j "$jobs" --target llama
}

python=yes
.venv/bin/python -c 'import gguf, tokenizers, tiktoken' 2>/dev/null || step "python peers" python_peers ||
  { python=; skip "tokenizers, tiktoken, gguf" "pip could not install them"; }
[ -e "$peers/usr-root/usr/include/dnnl.hpp" ] || (step "oneDNN" unpack libdnnl-dev libdnnl2 ocl-icd-libopencl1) ||
  skip "oneDNN" "apt-get could not download libdnnl-dev"
[ -e "$peers/usr-root/usr/include/x86_64-linux-gnu/openblas-pthread/cblas.h" ] ||
  (step "OpenBLAS" unpack libopenblas-pthread-dev libopenblas0-pthread libgfortran5 libquadmath0) ||
  skip "OpenBLAS" "apt-get could not download libopenblas-pthread-dev"
if [ ! -e "$peers/llama-build/bin/libllama.so" ]; then
  (step "llama.cpp source" llama_source) && step "llama.cpp" llama_build ||
    skip "llama.cpp" "no source with deepseek32, or it does not build (build/logs)"
fi
make_gguf() {  # TYPE FILE
  [ -f "$2" ] || { .venv/bin/python benchmarks/peers/make_gguf.py "$2.part" "$1" && mv "$2.part" "$2"; }
}
for type in q8_0 bf16 mini; do
  [ -n "$python" ] || break
  step "random GGUF ($type)" make_gguf $type "$peers/deepseek32-$type.gguf" ||
    skip "llama.cpp's rows of $type" "the GGUF could not be written"
done
skip "kt-kernel" "needs torch 2.9.1, some GB; a comparison of MoE layers is not written"

build=$peers/bench
step "configure (benchmarks with peers)" cmake --preset release -B "$build" -DDSV32_BUILD_BENCHMARKS=ON \
  -DDSV32_BUILD_TESTS=OFF "-DDSV32_PEERS_DIR=$peers"
step "build (benchmarks with peers)" cmake --build "$build" -j "$jobs" --target dsv32-bench
make_real_width "$build"
commit=$(git rev-parse --short=12 HEAD 2>/dev/null || echo unknown)
[ -z "$(git status --porcelain --untracked-files=no 2>/dev/null)" ] || commit="$commit, changed"
rows= before=
for argument in "$@"; do
  [[ $argument == -* || $before == --json || $before == --seconds || $before == --kernels ]] || rows=yes
  before=$argument
done
[ -n "$rows" ] || set -- "$@" e2e engine_vs_llama gemm_vs peer
# One thread for oneDNN, whose rows run on one; llama.cpp has its own number.
OMP_NUM_THREADS=1 DSV32_BENCH_PYTHON=$root/.venv/bin/python DSV32_BENCH_GGUF=$peers/deepseek32-q8_0.gguf \
  DSV32_BENCH_GGUF_BF16=$peers/deepseek32-bf16.gguf DSV32_BENCH_GGUF_MINI=$peers/deepseek32-mini.gguf \
  DSV32_BENCH_COMMIT=$commit \
  DSV32_BENCH_COMMAND=$command "$build/benchmarks/dsv32-bench" "$@"
