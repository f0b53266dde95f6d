#!/usr/bin/env bash
# Collects what a machine with a GPU and without a network lacks: wheels, and which commit this is.
#
#   tools/gpu_check/prepare.sh            into build/gpu_wheels, which git ignores
#   tools/gpu_check/prepare.sh FOLDER
#
# Needs Python with pip and the package index.  Run it again whenever the tree changes: the machine
# may have no git, and results must say of which commit they are.
set -euo pipefail
cd "$(dirname "${BASH_SOURCE[0]}")/../.."
wheels="${1:-build/gpu_wheels}"
most_mib=60
python="${PYTHON:-python3}"

mkdir -p "$wheels"
rm -f "$wheels"/*.whl "$wheels"/commit.txt
platforms=()
for tag in manylinux_2_28 manylinux_2_27 manylinux_2_24 manylinux_2_17 manylinux2014 manylinux1; do
  platforms+=(--platform "${tag}_x86_64")
done
"$python" -m pip --disable-pip-version-check download --quiet --no-deps --only-binary=:all: \
  --python-version 3.12 --implementation cp "${platforms[@]}" \
  --dest "$wheels" --requirement tools/gpu_check/wheels.txt
git describe --always --dirty > "$wheels/commit.txt"

tree_kib=$(git ls-files -z --cached --others --exclude-standard | xargs -0 du -ck | tail -n 1 | cut -f 1)
wheels_kib=$(du -sk "$wheels" | cut -f 1)
total_mib=$(( (tree_kib + wheels_kib + 1023) / 1024 ))
ls -l "$wheels"
echo "tree $((tree_kib / 1024)) MiB, wheels $((wheels_kib / 1024)) MiB, together $total_mib MiB of $most_mib"
if [ "$total_mib" -gt "$most_mib" ]; then
  echo "error: tree and wheels are larger than $most_mib MiB: take something out of tools/gpu_check/wheels.txt" >&2
  exit 1
fi
