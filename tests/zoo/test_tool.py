"""`make zoo`: each outcome has its word, a crash or a hang is one, and the table says all."""

from __future__ import annotations

import json
import os
import signal
import time
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest

from pytest_diffspeed.common.errors import IncompatibleError, SourceError
from pytest_diffspeed.common.quiet import third_party


@pytest.fixture
def tool(zoo_tool: Path) -> SimpleNamespace:
    import children
    import runner
    import zoo_checks
    import zoo_table

    return SimpleNamespace(children=children, runner=runner, checks=zoo_checks, table=zoo_table)


def raising(error: Exception) -> Any:
    def check() -> str:
        raise error

    return check


def test_each_outcome_has_its_word(tool: SimpleNamespace) -> None:
    checks = tool.checks
    for check, verdict, found in (
        (lambda: "proven", "right", "proven"),
        (raising(IncompatibleError("it does not fit")), "refused", "it does not fit"),
        (raising(checks.Wrong("unet is float32")), "wrong", "unet is float32"),
        (
            raising(RuntimeError("required rank 4\nmore")),
            "crash",
            "RuntimeError: required rank",
        ),
        # A sentence around an error of somebody else's is not a refusal.
        (
            raising(SourceError("the first call failed: IndexError")),
            "crash",
            "the first call failed",
        ),
    ):
        outcome = checks.tried(check)
        assert outcome.verdict == verdict
        assert outcome.found.startswith(found)


def hangs() -> Any:
    yield {"kind": "text to image"}
    yield {"begins": "fp32"}
    yield {"outcomes": {"fp32": {"verdict": "right"}}}
    yield {"begins": "bf16"}
    time.sleep(60)


def ends() -> Any:
    yield {"begins": "bf16"}
    os.kill(os.getpid(), signal.SIGKILL)


def test_a_process_that_ends_or_hangs_keeps_what_it_found(tool: SimpleNamespace) -> None:
    tasks = [("long", lambda: [{"found": "x" * 100_000}]), ("ends", ends), ("hangs", hangs)]
    found = {n: f for n, f, _ in tool.children.run_all(tasks, jobs=2, limit_s=2.0)}
    assert found["long"] == {"found": "x" * 100_000, "outcomes": {}, "ended": ""}
    assert found["ends"]["outcomes"]["bf16"]["verdict"] == "crash"
    assert found["hangs"]["outcomes"] == {
        "fp32": {"verdict": "right"},
        "bf16": {"verdict": "crash", "found": "not done after 2 s"},
    }
    assert found["hangs"]["kind"] == "text to image"


def test_a_run_goes_on_where_it_stopped(tool: SimpleNamespace) -> None:
    done, right = tool.runner.done, {"verdict": "right"}
    assert not done(None, ["bf16"])
    assert not done({"outcomes": {"observed": right}}, ["bf16"])
    assert done({"outcomes": {"observed": right, "bf16": right}}, ["bf16"])
    assert done({"outcomes": {"fp32": right}}, ["bf16"])  # it could not be built
    assert done({"outcomes": {"observed": right}, "ended": "not done after 9 s"}, ["bf16"])


def test_some_pipelines_are_chosen_by_patterns(tool: SimpleNamespace) -> None:
    assert sorted(tool.runner.chosen(["DDI*", "DiTPipeline"])) == ["DDIMPipeline", "DiTPipeline"]
    with pytest.raises(SystemExit, match=r"--only: .* did you mean 'DDIMPipeline'\?"):
        tool.runner.chosen(["DDIMPipelin"])


def test_a_pipeline_is_checked(tool: SimpleNamespace) -> None:
    checks = ("syncs", "bf16", "fused_qkv", "breaks", "recompiles")
    with third_party():
        pieces = list(tool.checks.checked("ConsistencyModelPipeline", wanted=checks))
    assert {"roles": {"unet": ["denoiser", 3]}} in pieces
    outcomes = {k: v for one in pieces for k, v in one.get("outcomes", {}).items()}
    verdicts = {check: outcome["verdict"] for check, outcome in outcomes.items()}
    assert verdicts == {
        "fp32": "right",
        "observed": "right",
        "syncs": "right",
        "bf16": "right",
        "fused_qkv": "refused",
        "breaks": "right",
        "recompiles": "right",
    }
    assert outcomes["syncs"]["found"] == "0 / 0"
    assert outcomes["breaks"]["found"] == outcomes["recompiles"]["found"] == "unet: 0"


def test_a_technique_that_leaves_a_denoiser_out_or_changes_the_output_is_wrong(
    tool: SimpleNamespace, monkeypatch: pytest.MonkeyPatch
) -> None:
    with third_party():
        zoo = tool.checks.Zoo("ConsistencyModelPipeline")
        with pytest.raises(tool.checks.Wrong, match="left out ran and is in float32"):
            monkeypatch.setattr(tool.checks, "mostly_bf16", lambda pipeline, name: name == "unet")
            zoo.technique("bf16", ["unet", "left out"])
        zoo.reference = zoo.reference.flip(0)
        monkeypatch.setattr(zoo, "own_rounding", lambda: 1e-6)  # it asks the reference, too
        with pytest.raises(tool.checks.Wrong, match="the output differs by"):
            zoo.technique("channels_last", ["unet"])


def test_the_last_outcome_of_a_check_counts(tool: SimpleNamespace, tmp_path: Path) -> None:
    kept = tmp_path / "found.jsonl"
    lines = [
        {"pipeline": "A", "outcomes": {"fp32": "old", "bf16": "kept"}, "commit": "1"},
        {"pipeline": "A", "outcomes": {"fp32": "new"}, "commit": "2"},
    ]
    kept.write_text("".join(json.dumps(line) + "\n" for line in lines), encoding="utf-8")
    assert tool.runner.read(kept) == {
        "A": {"pipeline": "A", "outcomes": {"fp32": "new", "bf16": "kept"}, "commit": "2"}
    }


def test_the_table(tool: SimpleNamespace, tmp_path: Path) -> None:
    about = {"commit": "abc", "torch": "2", "diffusers": "0.42", "transformers": "5", "python": "3"}
    found = {
        "A": {
            "pipeline": "A",
            "kind": "text to image",
            "roles": {"unet": ["denoiser", 3], "vae": ["decoder", 1]},
            "outcomes": {
                "fp32": {"verdict": "right", "found": "fine"},
                "syncs": {"verdict": "right", "found": "6 / 0"},
                "bf16": {"verdict": "wrong", "found": "unet is in float32"},
            },
            **about,
        },
        "B": {
            "pipeline": "B",
            "outcomes": {"fp32": {"verdict": "crash", "found": "boom"}},
            **about,
        },
    }
    path = tmp_path / "pipelines.md"
    path.write_text("before\n<!-- zoo -->\nold\n<!-- /zoo -->\nafter\n", encoding="utf-8")
    planted = {
        "A": {
            "pipeline": "A",
            "outcomes": {
                "observed": {"verdict": "right", "found": "unet"},
                "host sync in unet": {"verdict": "right", "found": "aten.item ×1"},
                "dtype cast in unet": {"verdict": "wrong", "found": "unseen"},
            },
            **about,
        }
    }
    tool.table.write_table(found, path, planted)
    text = path.read_text(encoding="utf-8")
    assert text.startswith("before\n<!-- zoo -->\n2 pipelines at abc with torch 2, diffusers 0.42")
    assert text.endswith("<!-- /zoo -->\nafter\n")
    assert "old" not in text
    assert "| fp32 | 1 | 0 | 1 | 0 | 2 |" in text
    assert "| planted: host sync in each component | 1 | 0 | 0 | 0 | 1 |" in text
    assert "| **all** | 3 | 0 | 1 | 2 | 2 |" in text
    assert "| `A` | text to image | unet ×3 | vae ×1 | 6 / 0 | right | wrong | 1 of 2 |" in text
    assert "- bf16 wrong: unet is in float32 (A)" in text
    assert "- dtype cast in unet wrong: unseen (A)" in text
    assert tool.table.failures(found.values()) == [
        "A: bf16: wrong: unet is in float32",
        "B: fp32: crash: boom",
    ]
