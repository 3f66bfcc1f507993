#!/usr/bin/env bash
# Builds the core with the emulated GPU into FOLDER, as the library of mirl-cuda. In the dev profile: its
# kernels are optimised in any, and a release takes twice as long to build.
#
#   tools/emulated_gpu.sh FOLDER && PYTHONPATH=FOLDER pytest -m cuda
set -euo pipefail
folder="$(mkdir -p "$1" && cd "$1" && pwd)"
cd "$(dirname "$0")/.."
cargo build --quiet --locked --lib --features python,emulated-gpu
mkdir -p "$folder/mirl_cuda"
touch "$folder/mirl_cuda/__init__.py"
cp "${CARGO_TARGET_DIR:-target}/debug/libmirl.so" "$folder/mirl_cuda/_mirl.abi3.so"
