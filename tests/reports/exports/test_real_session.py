"""What a real session writes: every record fits, and every output of it can be read."""

import json
import shlex

import jsonschema
import pytest

from pytest_diffspeed.commands.cli import main
from pytest_diffspeed.records.schema import schema
from pytest_diffspeed.reports.exports import formats

TESTS = """
    import pytest

    @pytest.mark.diffspeed("channels_last", "bf16")
    @pytest.mark.min_speedup(0.5)
    @pytest.mark.min_speedup(50, stack="bf16", over="channels_last")
    @pytest.mark.max_slowdown(5, over="previous")
    @pytest.mark.no_graph_breaks()
    @pytest.mark.no_gpu_syncs(scope="call")
    @pytest.mark.max_memory(2)
    def test_all(optimized_pipeline): ...

    @pytest.mark.diffspeed("bf16")
    @pytest.mark.min_speedup(2, unit="step")
    def test_unchecked(optimized_pipeline): ...

    @pytest.mark.diffspeed("bf16")
    @pytest.mark.no_recompiles()
    def test_body_raises(optimized_pipeline):
        assert False, "a | b"
"""


def test_a_session_with_all_its_outputs(
    pytester, run_diffspeed, constant_clock, assert_documented, monkeypatch, capsys
):
    summary = pytester.path / "summary.md"
    summary.write_text("of another step\n")
    monkeypatch.setenv("GITHUB_ACTIONS", "true")
    monkeypatch.setenv("GITHUB_STEP_SUMMARY", str(summary))
    pytester.makepyfile(test_mine=TESTS)
    result = run_diffspeed(
        "--diffspeed-json=r.jsonl", f"--diffspeed-markdown={summary}", "-p", "no:benchmark"
    )
    result.assert_outcomes(failed=4)

    # Every record, as two validators and the documentation have it.
    lines = (pytester.path / "r.jsonl").read_text(encoding="utf-8").splitlines()
    records = [json.loads(line, parse_constant=pytest.fail) for line in lines]
    validator = jsonschema.Draft7Validator(schema())
    for record in records:
        validator.validate(record)
        assert_documented(record)
    kinds = {record["kind"] for record in records}
    assert kinds >= {"session", "test", "proof", "gate-start", "pair", "gate", "gate-error"}
    assert kinds >= {"not-run", "noise-floor", "stages"}

    # Errors: what fails its test, and what could not be checked.
    annotations = [line for line in result.outlines if line.startswith("::")]
    assert [line.partition(",title=")[2].partition("::")[0] for line in annotations] == [
        "FAIL no_gpu_syncs in call [channels_last]",
        "FAIL no_gpu_syncs in call [bf16]",
        "FAIL min_speedup over channels_last per call [bf16]",
        "not checked%3A min_speedup over fp32 per step [bf16]",
        "diffspeed test failed",  # its body raised, and no gate says so
    ]
    assert all(line.startswith("::error file=test_mine.py,line=") for line in annotations)
    text = summary.read_text(encoding="utf-8")
    assert text.startswith("of another step\n## diffspeed: ")
    assert ", 1 not checked, 1 not run, 1 test failed otherwise\n" in text
    assert "markdown: appended to summary.md" in result.stdout.str()

    # The last line of the block is the next command: it begins with what could not be checked.
    end = len(result.outlines) - 1  # pytest's own last line
    again = "\n".join(result.outlines[:end]).rpartition("again, this one only: ")[2]
    words = shlex.split(again.replace("\\\n", ""))  # lines that a shell reads as one
    assert words[:2] == ["pytest", "--diffspeed"]
    assert words[-1] == "test_mine.py::test_unchecked[bf16]"

    capsys.readouterr()
    for name in formats():
        words = ["export", str(pytester.path / "r.jsonl"), "--format", name]
        assert main([*words, "-o", str(pytester.path / f"{name}.json")]) == 0
    assert "NOT_APPLICABLE" in capsys.readouterr().err


def test_a_green_session_ends_with_the_way_to_a_report(pytester, run_diffspeed, constant_clock):
    pytester.makepyfile(
        """
        import pytest

        @pytest.mark.diffspeed("channels_last")
        @pytest.mark.min_speedup(0.5)
        def test_it(optimized_pipeline): ...
        """
    )
    result = run_diffspeed("-p", "no:benchmark")
    (journal,) = (pytester.path / ".diffspeed" / "records").glob("*.jsonl")
    shown = journal.relative_to(pytester.path)
    said = f"a report of this session: diffspeed report {shown} --html report.html"
    assert said in " ".join(result.stdout.str().replace("\\\n", "").split())
