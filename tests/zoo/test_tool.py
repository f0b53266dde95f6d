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
    import runner
    import zoo_checks
    import zoo_table

    return SimpleNamespace(runner=runner, checks=zoo_checks, table=zoo_table)


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


def test_a_process_that_ends_or_hangs_is_a_crash(tool: SimpleNamespace) -> None:
    assert tool.runner.in_child(lambda: {"found": "x" * 100_000}, 60) == {"found": "x" * 100_000}
    ended = tool.runner.in_child(lambda: os.kill(os.getpid(), signal.SIGKILL), 60)
    assert ended["verdict"] == "crash"
    hung = tool.runner.in_child(lambda: time.sleep(60), 0.2)
    assert hung == {"verdict": "crash", "found": "not done after 0 s"}


def test_a_pipeline_is_checked(tool: SimpleNamespace) -> None:
    with third_party():
        found = tool.checks.checked("DDIMPipeline", wanted=("syncs", "bf16", "fused_qkv"))
    assert found["roles"] == {"unet": ["denoiser", 3]}
    verdicts = {check: outcome["verdict"] for check, outcome in found["outcomes"].items()}
    assert verdicts == {
        "fp32": "right",
        "observed": "right",
        "syncs": "right",
        "bf16": "right",
        "fused_qkv": "refused",
    }
    assert found["outcomes"]["syncs"]["found"] == "0 / 0"


def test_a_technique_that_leaves_a_denoiser_out_or_changes_the_output_is_wrong(
    tool: SimpleNamespace, monkeypatch: pytest.MonkeyPatch
) -> None:
    with third_party():
        zoo = tool.checks.Zoo("DDIMPipeline")
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
    tool.table.write_table(found, path)
    text = path.read_text(encoding="utf-8")
    assert text.startswith("before\n<!-- zoo -->\n2 pipelines at abc with torch 2, diffusers 0.42")
    assert text.endswith("<!-- /zoo -->\nafter\n")
    assert "old" not in text
    assert "| fp32 | 1 | 0 | 1 | 0 |" in text
    assert "| **all** | 2 | 0 | 1 | 1 |" in text
    assert "| `A` | text to image | unet ×3 | vae ×1 | 6 / 0 |" in text
    assert "- bf16 wrong: unet is in float32 (A)" in text
    assert tool.table.failures(found.values()) == [
        "A: bf16: wrong: unet is in float32",
        "B: fp32: crash: boom",
    ]
