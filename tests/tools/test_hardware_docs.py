"""What documents say of hardware is what the committed runs of the hardware check show."""

import json
import re
import shutil
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[2]
DOCUMENTS = [ROOT / "README.md", ROOT / "CHANGELOG.md", *sorted((ROOT / "docs").glob("*.md"))]
MODELS = re.compile(r"\b(H100|H200|A100|A10G|L4|L40S?|L20|V100|T4|B200|RTX \d+)\b")
"""Names of GPUs."""
SPOKEN = re.compile(
    r"(has|have|had|was|were) (never |not |only )?(been )?"
    r"(run|ran|tried|seen|tested|measured|compared)"
    r"[^.;:]{0,40} (on|with) (a|no|one|any) (real )?(GPU|device)|no GPU has|untested on"
    r"|on the simulated GPU only",
    re.IGNORECASE,
)
"""Sentences that say for themselves what ran on hardware: only the marks may."""


@pytest.fixture(scope="module", autouse=True)
def tool():
    sys.path.insert(0, str(ROOT / "tools" / "gpu_check"))
    yield
    sys.path.remove(str(ROOT / "tools" / "gpu_check"))
    for name in ("checks", "claims", "document", "parts", "table"):
        sys.modules.pop(name, None)


def without_marks(text):
    return re.sub(r"<!-- hardware: .*?<!-- /hardware -->", "", text, flags=re.DOTALL)


def test_the_documents_are_what_the_committed_runs_show():
    from document import texts

    found = texts()
    assert ROOT / "README.md" in found
    stale = [path.name for path, text in found.items() if path.read_text("utf-8") != text]
    assert stale == [], "run `make hardware-docs`"


def test_nothing_else_speaks_of_what_ran_on_hardware():
    code = sorted((ROOT / "pytest_diffspeed").rglob("*.py"))
    pages = [path for path in DOCUMENTS if path.name != "hardware.md"]
    spoken = {
        path.name: match.group()
        for path in (*pages, *code)
        if (match := SPOKEN.search(" ".join(without_marks(path.read_text("utf-8")).split())))
    }
    assert spoken == {}, "use a mark of tools/gpu_check/document.py"


def test_a_figure_of_a_named_gpu_is_a_published_one_or_from_a_run_here():
    found = []
    # The second page is modelled seconds beside published ones from its first line to its last.
    for path in (p for p in DOCUMENTS if p.name not in ("hardware.md", "gpu_cost_time.md")):
        for paragraph in without_marks(path.read_text("utf-8")).split("\n\n"):
            pattern = "device=" in paragraph or '"NVIDIA H100*"' in paragraph
            # What is counted without a GPU says so.
            absent = "that is not there" in paragraph
            if MODELS.search(paragraph) and not (pattern or absent or "published" in paragraph):
                found.append(f"{path.name}: {' '.join(paragraph.split())[:200]}")
    assert found == []


def test_every_claim_is_decided_by_checks_that_exist():
    from checks import checks_of, read
    from claims import CLAIMS, belongs
    from document import DRY, RUNS

    checks = checks_of(read(RUNS / DRY / "results.jsonl"))
    for claim in CLAIMS:
        assert any(belongs(claim, check) for check in checks), claim.key
    undecided = [c for c in checks if not any(belongs(claim, c) for claim in CLAIMS)]
    assert undecided == [], "checks that no claim rests on"


def gpu_run(root, date, **verdicts):
    folder = root / "docs" / "hardware" / date
    folder.mkdir(parents=True)
    rows = [
        {
            "kind": "run",
            "part": "",
            "date": f"{date} 10:00 UTC",
            "device": "NVIDIA H100 80GB HBM3",
            "device_kind": "cuda",
        },
        {"kind": "part", "part": "a", "title": "syncs"},
    ]
    rows += [
        {
            "kind": "check",
            "part": "a",
            "check": name,
            "expected": "the same",
            "found": "12",
            "verdict": verdict,
        }
        for name, verdict in verdicts.items()
    ]
    text = "".join(json.dumps(row) + "\n" for row in rows)
    (folder / "results.jsonl").write_text(text, "utf-8")


def test_a_committed_run_changes_what_is_said(tmp_path):
    from document import texts

    shutil.copy(ROOT / "README.md", tmp_path)
    (tmp_path / "docs").mkdir()
    for path in (ROOT / "docs").glob("*.md"):
        shutil.copy(path, tmp_path / "docs")
    gpu_run(tmp_path, "2027-01-02", Euler="as expected", DDIM="differs")
    gpu_run(tmp_path, "2027-01-01", Euler="as expected", DDIM="as expected")
    found = {path.name: text for path, text in texts(tmp_path).items()}
    now = "run on one NVIDIA H100 80GB HBM3 on 2027-01-02: 1 of 2 checks were not as expected"
    assert (
        f"- the simulated GPU counts the host syncs of a real one, line by line: {now}"
        in (found["README.md"])
    )
    assert f"[{now}](hardware.md)" in found["simulated_gpu.md"]
    assert "| DDIM | the same | 12 | **differs** |" in found["hardware.md"]
    assert "2 runs on GPUs" in found["hardware.md"]
    # A claim that no run decided stays where it was.
    assert "- what the techniques buy on a GPU: not run on a GPU yet" in found["README.md"]


def test_an_unknown_mark_is_refused(tmp_path):
    from document import texts

    (tmp_path / "docs").mkdir()
    (tmp_path / "README.md").write_text("<!-- hardware: sycns --><!-- /hardware -->", "utf-8")
    with pytest.raises(SystemExit, match="no claim is called 'sycns'"):
        texts(tmp_path)
