"""The red screen as text: what a session prints is what stands here."""

from dataclasses import replace
from pathlib import Path

import pytest

from pytest_diffspeed.common.errors import (
    DiffspeedError,
    IncompatibleError,
    MeasurementError,
    NotEffectiveError,
)
from pytest_diffspeed.compilation import fix_hints, recompile_hints
from pytest_diffspeed.gates.causes import cause_of_error
from pytest_diffspeed.records.reader import recorded_session
from pytest_diffspeed.records.verdict import ONE_LINE, Cause, EvidenceKind, GateResult, VerdictKind
from pytest_diffspeed.reports.causes import kinds_of
from pytest_diffspeed.reports.narrow import WIDTH, clipped, narrowed, near, wrapped
from pytest_diffspeed.reports.red_screen import headline, is_red, red_lines

SYNC = Cause(
    "GPU SYNC",
    "up to 1 in a steady step, 0 allowed",
    "keep it a tensor, or read it after the loop",
    "fastpipe.py:18",
    "if model_output.abs().max().item() > 1e4:",
)
SPEED = Cause("SPEED", "1.11× [1.04, 1.19] over fp32, needs 3×; 6 pairs", "ask for less")


def gate(test, verdict="FAIL", cause=None, *, claim="no_gpu_syncs", blocking=None, reason="why"):
    result = GateResult(
        gate=claim.partition(" ")[0],
        claim=claim,
        test=f"test_fast.py::{test}",
        stack="bf16",
        verdict=VerdictKind(verdict),
        reason=reason,
        evidence=EvidenceKind.COUNTED,
        blocking=verdict == "FAIL" if blocking is None else blocking,
        figures={"found": "a metric"},
        axis="structure",
        cause=cause,
    )
    return {"kind": "gate", **result.as_dict()}


def ended(test, outcome, **more):
    return {"kind": "test", "test": f"test_fast.py::{test}", "outcome": outcome, **more}


def screen(*records, shown_above=()):
    session = recorded_session(records, Path())
    assert is_red(session)
    lines = [headline(session), *(line for _, line in red_lines(session, shown_above))]
    assert max(map(len, lines)) <= WIDTH
    return "\n".join(lines)


def test_each_failure_once_gates_first_then_what_failed_before_them():
    body = Cause("TEST BODY", "AssertionError: no", "see", "test_fast.py:58", "assert x is None")
    setup = Cause("NOT EFFECTIVE", "bf16: expected bfloat16, found float32", "take the cast out")
    said = screen(
        gate("test_ok[bf16]", "PASS"),
        gate("test_ok[bf16]", "PASS", claim="image_similarity"),
        ended("test_ok[bf16]", "passed"),
        ended("test_body[bf16]", "failed", error="…", cause=body.as_dict()),
        {"kind": "not-run", "test": "test_fast.py::test_body[bf16]", "claim": "no_gpu_syncs"},
        ended("test_proof[bf16]", "failed", error="…", cause=setup.as_dict()),
        gate("test_fast[bf16]", cause=SPEED, claim="min_speedup over fp32 per call"),
        ended("test_fast[bf16]", "failed"),
        gate("test_item[bf16]", cause=SYNC),
        ended("test_item[bf16]", "failed"),
        shown_above={"test_fast.py::test_body[bf16]"},
    )
    assert said == (
        """\
diffspeed: 4 of 5 tests red; figures, logs: -v
SPEED          test_fast.py::test_fast[bf16]
    1.11× [1.04, 1.19] over fp32, needs 3×; 6 pairs
    next: ask for less
GPU SYNC       test_fast.py::test_item[bf16]
    fastpipe.py:18  if model_output.abs().max().item() > 1e4:  (up to 1 in a steady step, 0 allowed)
    next: keep it a tensor, or read it after the loop
TEST BODY      test_fast.py::test_body[bf16]  traceback above; 1 gate did not run
NOT EFFECTIVE  test_fast.py::test_proof[bf16]
    bf16: expected bfloat16, found float32
    next: take the cast out
green: 1 test, 2 gates PASS"""
    )


def test_what_is_not_red_is_said_in_a_line():
    said = screen(
        gate("test_item[bf16]", cause=SYNC),
        ended("test_item[bf16]", "failed"),
        gate("test_later[bf16]", cause=SPEED),
        ended("test_later[bf16]", "skipped"),
        gate("test_gpu[bf16]", "NOT_APPLICABLE", reason="its markers are for another device"),
        ended("test_gpu[bf16]", "passed"),
        gate("test_noisy[bf16]", "INCONCLUSIVE", Cause("NOT DECIDED", "1.02×", "take more pairs")),
        ended("test_noisy[bf16]", "passed"),
        {"kind": "not-run", "test": "test_fast.py::test_b", "claim": "x", "reason": "it skipped"},
    )
    assert said.splitlines()[4:] == [
        "NOT DECIDED    test_fast.py::test_noisy[bf16]",
        "    1.02×",
        "    next: take more pairs",
        "xfailed  test_fast.py::test_later[bf16]  SPEED: as it was expected to",
        "NOT_APPLICABLE  test_fast.py::test_gpu[bf16]  no_gpu_syncs: its markers are for another "
        "device",
        "not run  test_fast.py::test_b  x: it skipped",
    ]


def test_long_texts_end_in_an_ellipsis_and_keep_test_file_and_line():
    long = Cause("IMAGES", "found " * 60, "do " * 100, "a" * 150 + ".py:3", "x = " * 50)
    _, head, place, step, rest = screen(gate("t" * 120, cause=long)).splitlines()
    assert head == f"IMAGES         …{'t' * 84}"
    assert place.startswith(f"    …{'a' * 42}.py:3  x = x")
    assert place.endswith("=…  (found found found fou…)")
    assert step.startswith("    next: do do")
    assert rest.endswith(" …")


def test_a_clause_without_room_beside_its_line_stands_behind_the_test():
    wide = replace(SYNC, found="up to 11 in a steady step, 0 allowed")
    _, head, place, _ = screen(gate("test_item[bf16]", cause=wide)).splitlines()
    assert head.endswith("test_fast.py::test_item[bf16]  up to 11 in a steady step, 0 allowed")
    assert place == "    fastpipe.py:18  if model_output.abs().max().item() > 1e4:"
    long = f"test_{'long' * 13}[bf16]"
    _, head, place, _ = screen(gate(long, cause=wide)).splitlines()
    assert head.endswith(long)
    assert place.endswith(".item() > 1e…  (up to 11 in a steady step, 0 allowed)")


def test_files_are_named_from_the_root_or_the_package_on(tmp_path):
    installed = "/venv/lib/python3.11/site-packages/diffusers/models/x.py:3"
    cause = Cause("IMAGES", f"{tmp_path}/own.py:7 and {installed}", "look", f"{tmp_path}/a.py:2")
    session = recorded_session([gate("test_it", cause=cause)], tmp_path)
    lines = [line for _, line in red_lines(session)]
    assert lines[1] == "    a.py:2  (own.py:7 and diffusers/models/x.py:3)"


def test_what_is_cut_is_never_a_file_with_its_line():
    place = "diffusers/models/transformers/transformer_flux.py:123"
    assert narrowed(place, 60) == place
    assert narrowed(place) == "diffusers/…/transformer_flux.py:123"
    assert narrowed(place, 30) == "…/transformer_flux.py:123"
    assert narrowed("/a/long/way/x.py:1", 12) == "/…/x.py:1"
    assert clipped(f"at {place} it stops", 20) == "at…"
    assert clipped(f"at {place} it stops", 60) == f"at {place} it…"
    assert near("see /a/b.py", Path()) == "see /a/b.py"


def test_two_gates_of_one_kind_say_which_they_are():
    said = screen(
        gate("test_fast", cause=SPEED, claim="min_speedup over fp32 per call"),
        gate("test_fast", cause=SPEED, claim="min_speedup over bf16 per call"),
    )
    assert "SPEED          test_fast.py::test_fast  min_speedup over bf16 per call\n" in said


def test_what_pytest_prints_is_not_repeated_and_what_it_does_not_is_said():
    """A teardown that fails has no cause of ours; with --tb=no pytest prints nothing of it."""
    failed = ended("test_fast", "failed", error="teardown failed: ValueError: x")
    printed = screen(failed, shown_above={"test_fast.py::test_fast"}).splitlines()
    assert printed[1:] == ["TEST FAILED    test_fast.py::test_fast  traceback above"]
    assert "    teardown failed: ValueError: x" in screen(failed).splitlines()


def test_a_gate_without_a_cause_says_what_it_found():
    """Those of plug-ins, and records of earlier versions."""
    said = screen(gate("test_ops", claim="max_kernels", reason="12 kernels, allowed: 3\nmore"))
    assert said.splitlines()[1:4] == [
        "max_kernels    test_fast.py::test_ops",
        "    a metric (counted); 12 kernels, allowed: 3",
        "    next: -v has all of it",
    ]


@pytest.mark.parametrize(
    ("error", "cause"),
    [
        (
            NotEffectiveError("bf16: found float32", next_step="look", place="a.py:3", source="x"),
            Cause("NOT EFFECTIVE", "bf16: found float32", "look", "a.py:3", "x"),
        ),
        (
            IncompatibleError("it has no image"),
            Cause("DOES NOT FIT", "it has no image", "name another stack or another pipeline"),
        ),
        (
            MeasurementError("it compiles nothing; use a stack that compiles\nmore"),
            Cause("NOT CHECKED", "it compiles nothing", "use a stack that compiles"),
        ),
        (
            MeasurementError("the call failed"),
            Cause("NOT CHECKED", "the call failed", "-v has the whole message"),
        ),
        (
            IncompatibleError("a long story; with an end", clause="it has no image", next_step="x"),
            Cause("DOES NOT FIT", "it has no image", "x"),
        ),
    ],
)
def test_an_error_says_what_to_do(error, cause):
    assert cause_of_error(error) == cause


def test_our_next_steps_fit_a_line():
    kinds = [DiffspeedError]
    for kind in kinds:
        kinds += kind.__subclasses__()
    hints = (*fix_hints._BY_MESSAGE, *recompile_hints._BY_GUARD)
    steps = [kind.NEXT_STEP for kind in kinds] + [step for _, step in hints]
    assert [step for step in steps if len(step) > ONE_LINE] == []
    assert ONE_LINE + len("    next: ") <= WIDTH


def test_a_cause_survives_the_record_and_a_bad_one_is_none():
    assert Cause.from_dict(SYNC.as_dict()) == SYNC
    assert Cause.from_dict({**SPEED.as_dict(), "later": 1, "place": 3}) == SPEED
    assert Cause.from_dict({"kind": "SPEED"}) is Cause.from_dict("SPEED") is None
    assert kinds_of([SYNC, None, SPEED, SYNC]) == "GPU SYNC, SPEED"


def test_wrapping_leaves_nothing_out():
    text = "PASS  test_fast.py::test  " + "figure " * 40
    assert max(map(len, wrapped(text))) <= WIDTH
    assert " ".join(" ".join(wrapped(text)).split()) == " ".join(text.split())
