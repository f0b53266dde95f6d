#!/usr/bin/env bash
# The CUDA side of this package, checked on this machine in one command (about 8 minutes on a GPU).
#
#   tools/gpu_check/prepare.sh                                       before, where there is a network
#   tools/gpu_check/run.sh --out results                             on the machine with the GPU
#   tools/gpu_check/run.sh --parts ab --minutes 4.5 --out results    some parts
#   tools/gpu_check/run.sh --device cpu --out results                the dry run
#   tools/gpu_check/run.sh --help
#
# From the environment: PYTHON (the interpreter, python3), WHEELS (what prepare.sh collected,
# build/gpu_wheels).  Nothing is installed into that interpreter and nothing asks the network.
set -euo pipefail
here="$(cd "$(dirname "${BASH_SOURCE[0]}")" && pwd)"
root="$(cd "$here/../.." && pwd)"
python="${PYTHON:-python3}"
wheels="$(realpath -m "${WHEELS:-$root/build/gpu_wheels}")"

if ! compgen -G "$wheels/*.whl" >/dev/null; then
  echo "error: no wheels in $wheels; run tools/gpu_check/prepare.sh first, or name the folder with WHEELS" >&2
  exit 2
fi
site="$(mktemp -d)"
trap 'rm -rf "$site"' EXIT
"$python" -m pip --disable-pip-version-check install --quiet --no-index --no-deps --no-compile \
  --no-warn-script-location --target "$site" "$wheels"/*.whl
# A checkout is not installed: pytest finds its plugin, and the package its version, by this.
"$python" "$here/dist_info.py" "$root/pyproject.toml" "$site"

export PYTHONPATH="$site:$root${PYTHONPATH:+:$PYTHONPATH}" PYTHONUNBUFFERED=1
export HF_HUB_OFFLINE=1 TRANSFORMERS_OFFLINE=1 HF_HUB_DISABLE_TELEMETRY=1
if [ -z "${GPU_CHECK_COMMIT:-}" ] && ! git -C "$root" rev-parse --git-dir >/dev/null 2>&1; then
  GPU_CHECK_COMMIT="$(cat "$wheels/commit.txt" 2>/dev/null || echo unknown)"
  export GPU_CHECK_COMMIT
fi
"$python" "$here" "$@"
