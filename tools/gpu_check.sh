#!/usr/bin/env bash
# Tests and measures mirl on this GPU within ten minutes, without Rust. docs/cuda.md says what it takes.
#
#   tools/gpu_check.sh OUT [TEST_BINARY]
#
# Each part has a limit and a log in OUT, written as it goes. One that fails does not stop the next; one that
# the time is too short for is left out. OUT/summary.txt says how they ended.
set -uo pipefail
exec </dev/null
mkdir -p "$1" && out="$(cd "$1" && pwd)" || exit
binary="${2:+$(realpath "$2")}"
cd "$(dirname "$0")/.." || exit
end=570 # seconds after the start
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

part library 60 python -c '
import sys, mirl
print(says := mirl.devices()["cuda"])
sys.exit(says.startswith("not there"))' || exit

if [ -n "$binary" ]; then
  libraries="$(python -c '
from importlib.util import find_spec
print(*(f"{folder}/lib" for folder in find_spec("nvidia.cu13").submodule_search_locations), sep=":")')"
  part rust 120 env LD_LIBRARY_PATH="$libraries:${LD_LIBRARY_PATH:-}" "$binary" --test-threads=1
fi

# A fault leaves the GPU of no use to its process: a process for each file, and once more for what failed there,
# each kernel waited for and none replayed, so that the culprit is the one that is named.
end=300
tests=(python -m pytest -m cuda -o timeout=60 -o faulthandler_timeout=50 -o "cache_dir=$out/cache")
part collect 60 "${tests[@]}" -q --collect-only --continue-on-collection-errors
for file in $(sed -n 's/^\(tests[^:]*\)::.*/\1/p' "$out/collect.log" | sort -u); do
  name="$(basename "$file" .py)"
  part "$name" 90 env MIRL_CUDA_GRAPHS=1 "${tests[@]}" -v "$file" ||
    part "$name-again" 60 env MIRL_CUDA_GRAPHS=0 CUDA_LAUNCH_BLOCKING=1 \
      "${tests[@]}" -v --last-failed --last-failed-no-failures none "$file"
done

end=570
part parts 60 python benchmarks/gpu_parts.py
left=$((end - SECONDS))
part gpu $left python benchmarks/gpu.py --out "$out/gpu.json" --deadline $((left - 30))

printf '\n== summary\n'
cat "$out/summary.txt"
exit $failed
