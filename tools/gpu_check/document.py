"""Writes what the committed runs show: ``docs/hardware.md``, and the marks in other documents.

    python tools/gpu_check/document.py            write them
    python tools/gpu_check/document.py --check    exit with 1 where one is out of date

A mark is ``<!-- hardware: KEY -->…<!-- /hardware -->`` with the key of a claim, or ``all``.
"""

from __future__ import annotations

import argparse
import re
import sys
from collections.abc import Mapping, Sequence
from functools import partial
from pathlib import Path
from typing import Any

sys.path.insert(0, str(Path(__file__).parent))

from checks import checks_of, read
from claims import CLAIMS, state_of
from parts import PARTS
from table import markdown, verdict_line

ROOT = Path(__file__).resolve().parents[2]
RUNS = ROOT / "docs" / "hardware"
"""One folder a run, as ``run.sh`` wrote it; those of dry runs begin with ``dry-run``."""
DRY, PLANTED = "dry-run", "dry-run-planted"
_MARK = re.compile(r"(<!-- hardware: ([a-z]+) -->)(.*?)(<!-- /hardware -->)", re.DOTALL)

Rows = Sequence[Mapping[str, Any]]


def texts(root: Path = ROOT) -> dict[Path, str]:
    """Each document that speaks of hardware, as it has to be."""
    runs = gpu_runs(root / "docs" / "hardware")
    found = {root / "docs" / "hardware.md": hardware(root, runs)}
    for path in (root / "README.md", *sorted((root / "docs").glob("*.md"))):
        before = found.get(path) or path.read_text(encoding="utf-8")
        page = "docs/hardware.md" if path.parent == root else "hardware.md"
        after = _MARK.sub(partial(_filled, runs=runs, page=page), before)
        if path in found or after != before or _MARK.search(before):
            found[path] = after
    return found


def gpu_runs(folder: Path) -> list[Rows]:
    """Committed runs on GPUs, oldest first."""
    found = [read(path) for path in sorted(folder.glob("*/results.jsonl"))]
    runs = [rows for rows in found if _about(rows).get("device_kind") == "cuda"]
    return sorted(runs, key=lambda rows: str(_about(rows)["date"]))


def hardware(root: Path, runs: Sequence[Rows]) -> str:
    """``docs/hardware.md``."""
    parts = [_head(runs), _claims(runs), _how()]
    for rows in reversed(runs):
        parts.append(markdown(rows).replace("\n## ", "\n### ").replace("# What", "## What", 1))
    parts.append(_dry(root / "docs" / "hardware"))
    return "\n".join(parts)


def _head(runs: Sequence[Rows]) -> str:
    if runs:
        said = f"{len(runs)} run{'s' if len(runs) > 1 else ''} on GPUs; the newest first, below."
    else:
        said = (
            "**No line of this project has run on a GPU so far.** The check below is ready; its "
            "dry run shows that the check works, not that the CUDA code is right."
        )
    return (
        "# What has run on hardware\n\n"
        "<!-- Written by `make hardware-docs` from the runs in docs/hardware; do not edit. -->\n\n"
        f"{said}\n"
    )


def _claims(runs: Sequence[Rows]) -> str:
    titles = {entry.key: entry.title for entry in PARTS}
    lines = ["## Claim by claim", "", "| claim | decided by | where it stands |", "|---|---|---|"]
    for claim in CLAIMS:
        decided = "; ".join(
            f"{key}. {titles[key]}" for key in sorted({name[0] for name in claim.checks})
        )
        lines.append(f"| {claim.sentence} | {decided} | {state_of(claim, runs)} |")
    return "\n".join(lines) + "\n"


def _how() -> str:
    return """## How to run it

On a machine with an NVIDIA GPU, Python 3.12 and torch 2.11, without a network; `prepare.sh` runs
before, where there is one, and its folder travels with the checkout (together under 60 MiB):

```console
$ tools/gpu_check/prepare.sh                    # wheels into build/gpu_wheels
$ tools/gpu_check/run.sh --out results          # all parts, within 9 minutes
$ tools/gpu_check/run.sh --parts e --minutes 4.5 --out results-e
```

Each check is written to `results.jsonl` as it ends, so a run that is killed keeps what was done;
what was planned and not reached stands in the table with that word. A run is kept by committing
its folder as `docs/hardware/<date>-<device>` and `make hardware-docs`, which writes this page and
each sentence about hardware in the other documents.

`make gpu-check-dry` is the dry run: the same code, small, on the CPU, in an environment like that
machine's. `make gpu-check-dry ARGS="--plant abcdefg"` plants the fault of each part, and each must
turn red.
"""


def _dry(folder: Path) -> str:
    lines = ["## The dry run", ""]
    for name, what in ((DRY, "As it is"), (PLANTED, "With the fault of each part planted")):
        rows = read(folder / name / "results.jsonl")
        if not rows:
            lines += [f"{what}: not run yet.", ""]
            continue
        about, checks = _about(rows), checks_of(rows)
        versions = about["versions"]
        lines += [
            f"{what}: {verdict_line(checks)} ({about['date']}, {about['device']}, Python "
            f"{about['python']}, torch {versions['torch']}, diffusers {versions['diffusers']}; "
            f"run as: {about['command']}; [table](hardware/{name}/summary.md)).",
            "",
        ]
    return "\n".join(lines)


def _filled(mark: re.Match[str], runs: Sequence[Rows], page: str) -> str:
    key = mark[2]
    if key == "all":
        told = [f"- {claim.sentence}: {state_of(claim, runs)}" for claim in CLAIMS]
        text = "\n" + "\n".join(told) + "\n"
    else:
        claim = next((claim for claim in CLAIMS if claim.key == key), None)
        if claim is None:
            raise SystemExit(f"no claim is called {key!r}; valid: {[c.key for c in CLAIMS]} or all")
        text = f"[{state_of(claim, runs)}]({page})"
    return mark[1] + text + mark[4]


def _about(rows: Rows) -> Mapping[str, Any]:
    return next((row for row in rows if row["kind"] == "run"), {})


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--check", action="store_true")
    only_check = parser.parse_args().check
    stale = []
    for path, text in texts().items():
        if not path.is_file() or path.read_text(encoding="utf-8") != text:
            stale.append(str(path.relative_to(ROOT)))
            if not only_check:
                path.write_text(text, encoding="utf-8")
    if stale:
        print(f"{'out of date' if only_check else 'written'}: {', '.join(stale)}")
    return int(bool(stale) and only_check)


if __name__ == "__main__":
    raise SystemExit(main())
