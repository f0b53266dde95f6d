"""The history of released versions of diffusers: what an audit becomes, and what is committed."""

import json
import sys
from pathlib import Path

import pytest

from pytest_diffspeed.commands.cli import main
from pytest_diffspeed.history.series import series_of

ROOT = Path(__file__).resolve().parents[2]
TOOL = ROOT / "tools" / "releases"
ENVIRONMENT = {"python": "3.11.7", "torch": "2.14.1", "numpy": "2.4.6", "transformers": "5.24.0"}


@pytest.fixture
def tool(monkeypatch):
    """Its modules, whose names others may have."""
    monkeypatch.syspath_prepend(str(TOOL))
    for name in ("sessions", "page"):
        monkeypatch.delitem(sys.modules, name, raising=False)
    import page
    import sessions

    yield sessions, page
    for name in ("sessions", "page"):
        monkeypatch.delitem(sys.modules, name, raising=False)


def test_an_audit_becomes_a_session_that_the_history_follows(tool, tmp_path, capsys):
    sessions, _ = tool
    words = ["audit", "schedulers", "DDIMScheduler", "UniPCMultistepScheduler", "--json"]
    assert main([*words, "--device", "simulated"]) == 0
    rows = [json.loads(line) for line in capsys.readouterr().out.splitlines()]
    gone = {"scheduler": "scheduling_ddim_flax", "report": None, "reason": "no flax"}
    at = "2026-10-27T07:22:24+00:00"
    before = [{**row, "report": {**row["report"], "per_step": [0]}} for row in rows]
    made = [
        sessions.session_of("v0.42.0", "2026-10-23T15:36:08+00:00", before, ENVIRONMENT),
        sessions.session_of("v0.42.1", at, [*rows, gone], {**ENVIRONMENT, "transformers": "6"}),
    ]
    path = tmp_path / "sessions.jsonl"
    sessions.write_all(path, (record for session in made for record in session))
    store = ["--store", "sqlite:///history.sqlite", "--rootdir", str(tmp_path)]
    assert main(["history", "import", str(path), *store]) == 0
    assert "could not be read" not in capsys.readouterr().out
    found = series_of("sqlite:///history.sqlite", tmp_path, test="DDIMScheduler")
    # A scheduler does not rest on transformers, so the series goes on.
    assert [one.figure for one in found] == ["syncs a step", "syncs once"]
    assert [point.commit for point in found[0].points] == ["v0.42.0", "v0.42.1"]
    assert found[0].points[-1].value == max(rows[0]["report"]["per_step"]) > 0
    assert [change.by_commit for change in found[0].changes] == ["v0.42.1"]
    assert series_of("sqlite:///history.sqlite", tmp_path, test="scheduling_ddim_flax") == []


def test_the_page_is_that_of_the_committed_records(tool):
    sessions, page = tool
    committed = sessions.read_sessions()
    assert len(committed) == 10 and list(committed)[-1] == "v0.42.1"
    assert sum(gate["evidence"] == "counted" for gate in committed["v0.42.1"][1:]) > 50
    assert page.tables(list(committed.values())) in page.PAGE.read_text("utf-8")
    assert str(ROOT) not in sessions.FILE.read_text("utf-8")
