# Checkpoints that benchmarks read, made once; sourced behind lib/setup.sh.

make_model() {  # BUILD STEP FOLDER OPTION...
  local build=$1 name=$2 folder=$3; shift 3
  [ ! -f "$folder/config.json" ] || return 0
  step "build (dsv32)" cmake --build "$build" -j "$jobs" --target dsv32-cli
  rm -rf "$folder"
  step "$name" "$build/examples/cli/dsv32" make-model -o "$folder" --vocab 4096 --max-context 16k "$@"
}
make_pages() {  # BUILD
  make_model "$1" "checkpoint of real pages" build/bench-models/pages --config benchmarks/pages_config.json
}
make_real_width() {  # BUILD
  mkdir -p build/bench-models
  make_model "$1" "checkpoint of real width" build/bench-models/real --layers 2 --dense-layers 1 --experts 32
  make_model "$1" "checkpoint of real width with MTP" build/bench-models/real-mtp \
    --layers 2 --dense-layers 1 --experts 32 --mtp
}
