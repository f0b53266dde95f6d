"""Are the counts of two audits the same?  python .ci/compare_counts.py one.jsonl other.jsonl

Compares what `diffspeed audit schedulers --json` printed on two builds of torch: steps, and each
site's line, kind, op and counts.  Exits with 1 where they differ.
"""

import json
import sys
from pathlib import Path


def counts(path):
    rows = {}
    for line in Path(path).read_text(encoding="utf-8").splitlines():
        row = json.loads(line)
        report = row["report"]
        rows[row["scheduler"]] = report and {
            "first_step": report["first_step"],
            "per_step": report["per_step"],
            "sites": sorted(
                (Path(site["file"]).name, site["line"], site["kind"], site["op"], site["count"])
                for site in report["sites"]
            ),
        }
    return rows


one, other = (counts(path) for path in sys.argv[1:3])
differing = [name for name in sorted({*one, *other}) if one.get(name) != other.get(name)]
for name in differing:
    print(f"{name}: {one.get(name)} against {other.get(name)}")
ran = sum(report is not None for report in one.values())
print(f"{len(one)} schedulers, {ran} of them ran; {len(differing)} differ between the two builds")
sys.exit(bool(differing) or ran < 40)
