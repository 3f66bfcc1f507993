#!/usr/bin/env bash
# Tests and measures mirl on this GPU within ten minutes, without Rust. docs/cuda.md says what it takes.
#
#   tools/gpu_check.sh OUT [TEST_BINARY]
#
# Each part has a limit and a log in OUT, written as it goes. One that fails does not stop the next; one that
# the time is too short for is left out. OUT/summary.txt says how they ended. GPU_CHECK_SECONDS: what all may
# take, 570 unless said.
set -uo pipefail
exec </dev/null
mkdir -p "$1" && out="$(cd "$1" && pwd)" || exit
binary="${2:+$(realpath "$2")}"
cd "$(dirname "$0")/.." || exit
all="${GPU_CHECK_SECONDS:-570}" # seconds after the start
end=$all
failed=0
: >"$out/summary.txt"

# part NAME LIMIT COMMAND...: false where it failed. At its limit it is interrupted, so that pytest still says
# what failed.
part() {
  local name="$1" limit="$2" begin=$SECONDS ended="left out"
  shift 2
  printf '\n== %s\n' "$name"
  ((limit = end - begin < limit ? end - begin : limit))
  if ((limit > 0)); then
    timeout -s INT -k 10 "$limit" "$@" 2>&1 | tee "$out/$name.log"
    ended="status ${PIPESTATUS[0]}"
  fi
  printf '%-32s %4d s  %s\n' "$name" $((SECONDS - begin)) "$ended" | tee -a "$out/summary.txt"
  [ "$ended" = "status 0" ] || failed=1
  [[ "$ended" = "status 0" || "$ended" = "left out" ]]
}

part library 60 python3 -c '
import sys, mirl
print(says := mirl.devices()["cuda"])
if says.startswith("not there"):
    sys.exit(1)
print(mirl._mirl.gpu_memory(), "bytes; kernels and cuBLAS are loaded")' || exit

if [ -n "$binary" ]; then
  libraries="$(python3 -c '
from importlib.util import find_spec
print(*(f"{folder}/lib" for folder in find_spec("nvidia.cu13").submodule_search_locations), sep=":")')"
  rust=("LD_LIBRARY_PATH=$libraries:${LD_LIBRARY_PATH:-}" "$binary" --test-threads=1 --nocapture)
  # What fails leaves the GPU of no use to the tests after it: the first is the culprit.
  part rust 120 env "${rust[@]}" ||
    part rust-again 60 env CUDA_LAUNCH_BLOCKING=1 "${rust[@]}" --exact \
      "$(awk '/^test .* \.\.\. /{name=$2} /FAILED/{exit} END{print name}' "$out/rust.log")"
fi

# A process for each file, and once more for what did not pass there, each kernel waited for and none replayed,
# so that the culprit is the one that is named.
((end = all * 10 / 19)) # so that some is left for measuring
tests=(python3 -m pytest -m cuda -p no:cacheprovider -o timeout=60 -o timeout_method=thread
  -W default::DeprecationWarning)
part collect 60 "${tests[@]}" -q --collect-only --continue-on-collection-errors
for file in $(sed -n 's/^\(tests[^:]*\)::.*/\1/p' "$out/collect.log" | sort -u); do
  name="$(basename "$file" .py)"
  part "$name" 90 env MIRL_CUDA_GRAPHS=1 "${tests[@]}" -v "$file" && continue
  # Hung or crashed, it has no verdict.
  mapfile -t wrong < <(sed -nE '/^tests.*::/{/ (PASSED|SKIPPED)/!{s/ +(FAILED|ERROR|Fatal|[+]{3}).*//;s/ +$//;p}}' \
    "$out/$name.log" | head -5)
  part "$name-again" 60 env MIRL_CUDA_GRAPHS=0 CUDA_LAUNCH_BLOCKING=1 "${tests[@]}" -v "${wrong[@]:-$file}"
done

end=$all
part parts 60 python3 benchmarks/gpu_parts.py
left=$((end - SECONDS))
part gpu $left python3 benchmarks/gpu.py --out "$out/gpu.json" --deadline $((left - 30))

printf '\n== summary\n'
cat "$out/summary.txt"
exit $failed
