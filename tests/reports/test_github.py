"""Annotations as GitHub's runner reads them, whatever stands in a name or a reason."""

import re
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from pytest_diffspeed.records.reader import recorded_session
from pytest_diffspeed.reports.github import annotation_lines, message_text, property_text


def gate(number=0, verdict="FAIL", *, blocking=True, reason="too slow", test=None, **figures):
    return {
        "kind": "gate",
        "gate": "no_graph_breaks",
        "claim": "no_graph_breaks",
        "test": test or f"t.py::t{number}[bf16]",
        "stack": "bf16",
        "verdict": verdict,
        "reason": reason,
        "evidence": "counted",
        "blocking": blocking,
        "figures": {"found": "unet: 2 graphs, 1 break", **figures},
    }


def place(number=0, outcome="failed", file="t.py", line=3):
    test = f"t.py::t{number}[bf16]"
    return {"kind": "test", "test": test, "outcome": outcome, "file": file, "line": line}


def lines(*records, root=Path("/repo"), **options):
    return annotation_lines(recorded_session(records, root), **options)


def as_runner_reads(line):
    """The command in a line of a log as the runner documents it: kind, properties, message."""
    kind, words, message = re.fullmatch(r"::(\w+) ([^\n]*?)::([^\n]*)", line).groups()
    properties = dict(word.split("=", 1) for word in words.split(","))

    def plain(text, *marks):
        for mark in (*marks, "\r", "\n", "%"):
            text = text.replace(f"%{ord(mark):02X}", mark)
        return text

    return kind, {n: plain(v, ":", ",") for n, v in properties.items()}, plain(message)


def test_a_failure_points_at_its_test():
    (line,) = lines(gate(reason="1 graph break\nunet: 100 % eager"), place())
    assert line.startswith("::error file=t.py,line=3,title=FAIL no_graph_breaks [bf16]::t.py::t0[")
    assert line.endswith("%0A1 graph break%0Aunet: 100 %25 eager")


def test_inconclusive_is_a_warning_where_it_does_not_block():
    records = (
        gate(0, "INCONCLUSIVE", blocking=False),
        gate(1, "INCONCLUSIVE"),
        gate(2, "PASS", blocking=False),
        gate(3, "NOT_APPLICABLE", blocking=False),
    )
    assert [as_runner_reads(line)[0] for line in lines(*records)] == ["error", "warning"]


def test_a_gate_that_could_not_be_checked_is_an_error():
    identity = {"test": "t.py::t0[bf16]", "stack": "bf16", "claim": "min_speedup over fp32"}
    (line,) = lines({"kind": "gate-error", **identity, "error": "no steady step"}, place())
    _, properties, message = as_runner_reads(line)
    assert properties["title"] == "not checked: min_speedup over fp32 [bf16]"
    assert "no steady step" in message


def test_a_test_that_was_expected_to_fail_says_nothing():
    assert lines(gate(), place(outcome="skipped")) == []


def test_ten_are_shown_and_the_rest_counted():
    assert len(lines(*map(gate, range(10)))) == 10
    told = lines(*map(gate, range(25)))
    assert len(told) == 10
    assert told[-1].startswith("::error title=diffspeed::16 more gates or tests failed")
    warnings = [gate(n, "INCONCLUSIVE", blocking=False) for n in range(11)]
    assert lines(*warnings)[-1].startswith("::warning title=diffspeed::2 more gates were")


def test_paths_start_at_the_checkout():
    told = lines(gate(), place(file="tests/t.py"), root=Path("/w/sub"), workspace=Path("/w"))
    assert as_runner_reads(told[0])[1]["file"] == "sub/tests/t.py"
    told = lines(gate(), place(file="t.py"), root=Path("/elsewhere"), workspace=Path("/w"))
    assert as_runner_reads(told[0])[1]["file"] == "t.py"


SITE = {"file": "app/fast.py", "line": 7, "function": "step", "kind": "value_read", "count": 3}


@pytest.fixture
def checkout(tmp_path):
    """A checkout with a project of its own below it, and a virtual environment in that."""
    for name in ("app/fast.py", "sub/app/fast.py", "sub/.venv/lib/site-packages/lib.py"):
        (tmp_path / name).parent.mkdir(parents=True, exist_ok=True)
        (tmp_path / name).touch()
    return tmp_path


def in_checkout(checkout, **figures):
    """File, line and first line of the annotation of one gate with these figures."""
    root = checkout / "sub"
    (line,) = lines(gate(**figures), place(), root=root, workspace=checkout)
    _, properties, message = as_runner_reads(line)
    return properties["file"], int(properties["line"]), message.splitlines()[0]


@pytest.mark.parametrize(
    "figures",
    [
        # Against a base they count from the top of the repository, otherwise they are absolute.
        {"new_sites": [{**SITE, "what": "value_read item"}]},
        {"sites": [SITE]},
        {"components": {"unet": {"breaks": [SITE]}}},
        {"report": {"recompiles": [SITE]}},
        {"sites": [{**SITE, "allowed": "slow card", "line": 1}, SITE]},
        {"sites": [{**SITE, "kind": "may_block", "line": 1}, SITE]},
        {"sites": [{**SITE, "kind": "may_block"}], "strict": True},
        {"gpu_cost": {"lines": ["diffusers/models/resnet.py:3", "app/fast.py:7"]}},
        {"sites": [{**SITE, "file": "sub/.venv/lib/site-packages/lib.py", "line": 1}, SITE]},
    ],
)
def test_a_failure_points_at_the_line_that_it_is_for(checkout, figures):
    found = in_checkout(checkout, **figures)
    assert found == ("app/fast.py", 7, "t.py::t0[bf16] (sub/t.py:3)")


def test_a_line_may_be_absolute_or_start_at_the_rootdir(checkout):
    (checkout / "sub/own.py").touch()
    for file in (str(checkout / "sub/own.py"), "own.py"):
        found = in_checkout(checkout, sites=[{**SITE, "file": file}])
        assert found[:2] == ("sub/own.py", 7)


@pytest.mark.parametrize(
    "sites",
    [
        [],
        [{**SITE, "file": "/usr/lib/python3/dist-packages/torch/x.py"}],
        [{**SITE, "file": "../../outside.py"}],
        [{**SITE, "file": "app/gone.py"}],
        [{**SITE, "file": "a" * 5000}, {**SITE, "file": "a\0b"}],
        [{**SITE, "line": 0}],
        "rubbish",
    ],
)
def test_without_such_a_line_it_points_at_its_test(checkout, sites):
    found = in_checkout(checkout, new_sites=sites, sites=[SITE])
    assert found == ("sub/t.py", 3, "t.py::t0[bf16]")


@pytest.mark.parametrize("line", ["app/fast.py", "app/fast.py:", ":7", "app/fast.py:x", "", 7])
def test_a_line_of_a_gpu_cost_that_is_none_is_left_out(checkout, line):
    assert in_checkout(checkout, gpu_cost={"lines": [line]})[:2] == ("sub/t.py", 3)


def test_only_a_failure_has_a_guilty_line(checkout):
    (line,) = lines(gate(0, "INCONCLUSIVE", sites=[SITE]), place(), root=checkout)
    assert as_runner_reads(line)[1]["file"] == "t.py"


def test_a_long_reason_is_cut():
    (line,) = lines(gate(reason="x" * 100_000))
    assert len(line) < 5000 and line.endswith(" …")


@given(st.text(), st.text())
def test_nothing_in_a_text_ends_a_command_or_starts_another(text, title):
    told = f"::error title={property_text(title)}::{message_text(text)}"
    assert len(told.splitlines()) == 1
    kind, properties, message = as_runner_reads(told)
    assert (kind, list(properties)) == ("error", ["title"])
    assert [c for c in text if c.isprintable() or c in "\t\r\n"] == [
        c for c, was in zip(message, text, strict=True) if was.isprintable() or was in "\t\r\n"
    ]


@pytest.mark.parametrize("hostile", ["a\n::set-output name=x::y", "a%0A::error::b", "]::x,file=y"])
def test_a_hostile_test_name_stays_a_name(hostile):
    (line,) = lines(gate(test=hostile, reason=hostile))
    kind, properties, message = as_runner_reads(line)
    assert kind == "error" and list(properties) == ["title"]
    assert message.startswith(hostile)
