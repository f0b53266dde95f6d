#!/usr/bin/env bash
# The check of the CUDA side without a GPU: the same code, small, in an environment like that of the
# machine with the GPU (Python 3.12, torch 2.11.0, the collected wheels).
#
#   tools/gpu_check/dry_run.sh                          results in build/gpu_dry/results
#   tools/gpu_check/dry_run.sh --plant abcdefg          the fault of each part: each must turn red
#
# The environment in build/gpu_dry/venv is made once.  PYTHON312 names the interpreter.
set -euo pipefail
cd "$(dirname "${BASH_SOURCE[0]}")/../.."
python312="${PYTHON312:-python3.12}"
environment=build/gpu_dry/venv

if [ ! -x "$environment/bin/python" ]; then
  if ! "$python312" -c 'import sys; sys.exit(sys.version_info[:2] != (3, 12))' 2>/dev/null; then
    echo "error: '$python312' is no Python 3.12, which the machine with the GPU has; name one with PYTHON312" >&2
    exit 2
  fi
  echo "== making $environment (torch 2.11.0: several GB)"
  "$python312" -m venv "$environment.new"
  "$environment.new/bin/python" -m pip --disable-pip-version-check install --quiet \
    --requirement tools/gpu_check/machine.txt
  mv "$environment.new" "$environment"
fi
tools/gpu_check/prepare.sh
PYTHON="$environment/bin/python" tools/gpu_check/run.sh --device cpu --out build/gpu_dry/results "$@"
