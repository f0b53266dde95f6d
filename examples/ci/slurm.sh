#!/usr/bin/env bash
# Gate one commit on a GPU of a Slurm cluster by gate.sh, from a clone of the repository on a shared disk:
#
#     sbatch --wait slurm.sh COMMIT origin/main
#
# --wait ends with the job's status, so whatever called it is red where a gate is.
#SBATCH --job-name=diffspeed
#SBATCH --gres=gpu:1
#SBATCH --cpus-per-task=4
#SBATCH --time=02:00:00
#SBATCH --output=diffspeed-%j.log
set -euo pipefail

head=$1
base=$2
clone=${SLURM_SUBMIT_DIR:-$PWD}

# A tree of its own: the clone may be at another commit, and other jobs run beside this one.
tree=$(mktemp -d "${TMPDIR:-/tmp}/diffspeed.XXXXXX")
leave() { git -C "$clone" worktree remove --force "$tree"; }
trap leave EXIT
git -C "$clone" worktree add --quiet --detach "$tree" "$head"

cd "$tree"
GATE_BASE=$(git merge-base "$base" HEAD)
export GATE_BASE
export GATE_DEVICE=${GATE_DEVICE:-cuda}
export GATE_OUT=${GATE_OUT:-$clone/diffspeed-report-${SLURM_JOB_ID:-0}}
export GATE_COMPILE_CACHE=${GATE_COMPILE_CACHE:-$clone/.compile-cache}
export GATE_STORE=${GATE_STORE:-sqlite:///$clone/.diffspeed/history.sqlite}
ci/gate.sh
