"""The check of each gate: its rules, and a whole run over sessions that are made up."""

import json
from types import SimpleNamespace

import pytest

GPU = "NVIDIA H100 80GB HBM3"


@pytest.fixture
def tool(gpu_check_path):
    import checks
    import gate_verdicts
    import pytest_sessions
    from parts import gates

    return SimpleNamespace(
        checks=checks, rules=gate_verdicts, sessions=pytest_sessions, gates=gates
    )


@pytest.fixture
def lines(tool):
    text = (tool.gates.PROJECT / "planted_faults.py").read_text(encoding="utf-8")
    return tool.rules.planted_lines(text)


def record(one, device="", **changes):
    """What a gate that answers as expected writes, on a CPU or on a GPU."""
    figures = {"ratio": None}
    if one.gate == "no_gpu_syncs":
        figures["counted_on"] = f"CUDA, {device}, torch 2.11" if device else "simulated GPU, torch"
    if one.gate == "max_memory":
        figures |= {"counted_on": device or "simulated GPU, torch 2.11"}
        figures |= {f"{arm}_peak_bytes": 5 for arm in ("baseline", "candidate")}
        figures |= {f"{arm}_reserved_bytes": 8 for arm in ("baseline", "candidate")}
    if one.gate in ("min_speedup", "max_slowdown"):
        figures |= {"ratio": 0.25, "baseline_s": 0.1, "candidate_s": 0.9}
    return {
        "kind": "gate",
        "test": f"test_{one.session}.py::{one.test}[a_stack]",
        "claim": f"{one.gate} over fp32",
        "gate": one.gate,
        "verdict": one.verdict,
        "reason": "so it is " + ", ".join(one.says),
        "figures": figures,
        **changes,
    }


def test_the_project_has_the_tests_and_markers_that_are_expected(tool, lines):
    assert set(lines) == {"break", "sync", "recompile"}
    expected = tool.rules.expectations(lines)
    assert len({one.name for one in expected}) == len(expected)
    for one in expected:
        text = (tool.gates.PROJECT / f"test_{one.session}.py").read_text(encoding="utf-8")
        before = text.partition(f"def {one.test}(")[0]
        assert f"@pytest.mark.{one.gate}(" in before.rpartition("...\n")[2]
    gates = {one.gate for one in expected}
    for colour in ("PASS", "FAIL"):
        assert {one.gate for one in expected if one.verdict == colour} == gates


def test_the_project_plants_the_seconds_that_are_looked_for(tool):
    text = (tool.gates.PROJECT / "conftest.py").read_text(encoding="utf-8")
    assert f"\nSLEEP_S = {tool.rules.HOST_SLEEP_S}\n" in text
    assert f"\nDEVICE_CYCLES = {tool.rules.DEVICE_CYCLES:_}\n" in text


@pytest.mark.parametrize("device", ["", GPU])
def test_what_is_expected_is_as_expected(tool, lines, device):
    for one in tool.rules.expectations(lines):
        ok, found = tool.rules.judged(record(one, device), one, device)
        assert ok, found
        assert found.startswith(one.verdict)


@pytest.mark.parametrize(
    ("gate", "changes", "told"),
    [
        ("no_graph_breaks", {"verdict": "PASS"}, "[not FAIL] PASS"),
        ("no_graph_breaks", {"reason": "1 graph break"}, "does not say 'planted_faults.py:"),
        ("no_gpu_syncs", {"figures": {"counted_on": "simulated GPU"}}, "counted on 'simulated"),
        ("max_memory", {"reason": "on a simulated GPU"}, "not on 'NVIDIA H100"),
        (
            "max_memory",
            {"figures": {"counted_on": GPU, "baseline_peak_bytes": 5}},
            "baseline: 0 bytes reserved, 5 allocated",
        ),
        ("max_memory", {"kind": "gate-error", "error": "out of memory"}, "could not be checked"),
    ],
)
def test_what_is_not_expected_is_told(tool, lines, gate, changes, told):
    one = next(o for o in tool.rules.expectations(lines) if o.gate == gate and o.verdict == "FAIL")
    ok, found = tool.rules.judged(record(one, GPU, **changes), one, GPU)
    assert not ok
    assert told in found


def test_the_last_word_of_a_gate_holds(tool, lines):
    one = tool.rules.expectations(lines)[0]
    first, last = record(one, verdict="PASS"), record(one)
    other = record(one, test="test_red.py::test_break_too[a]")
    assert tool.rules.verdict_of([first, last, other], one) is last
    assert tool.rules.verdict_of([other], one) is None


@pytest.mark.parametrize("gpu", [True, False])
def test_planted_seconds_must_be_in_the_candidates(tool, lines, gpu):
    expected = tool.rules.expectations(lines)
    rows = [record(o) for o in expected if o.gate == "min_speedup" and o.verdict == "FAIL"]
    for row in rows:
        row["figures"] |= {"baseline_s": 0.1, "candidate_s": 0.9}
    assert tool.rules.planted_seconds(rows, gpu=gpu)[0]
    rows[0]["figures"]["candidate_s"] = 0.11  # as if nobody had seen the sleep
    assert not tool.rules.planted_seconds(rows, gpu=gpu)[0]
    assert "no figures" in tool.rules.planted_seconds(rows[1:], gpu=gpu)[1]


def test_long_records_are_cut_and_short_ones_are_whole(tool):
    short = {"a": 1, "figures": {"b": [1, 2]}}
    assert tool.sessions.bounded(short) == short
    long = {"a": 1, "figures": {"b": list(range(10**5)), "c": {"d": "x" * 10**5}, "e": 5}}
    cut = tool.sessions.bounded(long, 10_000)
    assert len(json.dumps(cut)) < 12_000
    assert (cut["a"], cut["figures"]["e"]) == (1, 5)
    many = {f"key {number}": "x" * 100 for number in range(1000)}
    for hopeless in (many, {"figures": many}):  # ends, though nothing of it can be cut
        assert tool.sessions.bounded(hopeless, 10_000) == hopeless


class MadeUp:
    """A session that has ended before it began; ``lost`` are tests without a verdict."""

    def __init__(self, session, expected, device, lost=()):
        self.name, self.folder, self.seconds = session.name, session.folder, 1.0
        own = [one for one in expected if one.session == self.name]
        self._rows = [record(one, device) for one in own if one.test not in lost]
        tests = dict.fromkeys(f"test_{self.name}.py::{one.test}[a_stack]" for one in own)
        red = self.name == "red"
        self._tests = [
            {"kind": "test", "test": test, "outcome": "failed" if red else "passed"}
            for test in tests
        ]
        self.exit_code = int(red)
        (self.folder / "report.html").write_text(f"<html>{' '.join(tests)}</html>")
        self._device = device
        self.killed = False

    def start(self):
        return self

    def kill(self):
        self.killed = True

    def journal(self):
        return self._rows

    def records(self):
        environment = {"device": self._device or "A CPU"}
        if self._device:
            environment["driver"] = "580.95.05"
        about = {"kind": "session", "environment": environment, "device": {"name": "it"}}
        return [about, *self._tests, *self._rows]

    def failures(self):
        failed = [row["test"] for row in self._tests if row["outcome"] == "failed"]
        return {test.rpartition("::")[2]: "it is red" for test in failed}

    def output(self):
        where = f"cuda:0 ({self._device})" if self._device else "cpu (A CPU)"
        return f"header\ndiffspeed: {where}; torch\nmore"

    def tail(self, characters=10):
        return self.output()[-characters:]


@pytest.fixture
def whole_run(tool, lines, tmp_path, monkeypatch):
    def run(device, **changes):
        plain = tool.gates._session
        expected = tool.rules.expectations(lines)
        monkeypatch.setattr(
            tool.gates,
            "_session",
            lambda part, name: MadeUp(plain(part, name), expected, device, **changes),
        )
        monkeypatch.setattr(tool.gates, "gpu_name", lambda part: device)
        monkeypatch.setattr(tool.gates.time, "sleep", lambda seconds: None)
        path = tmp_path / "results.jsonl"
        part = tool.checks.Part(
            "b",
            tool.checks.Writer(path, "b"),
            device="cuda" if device else "cpu",
            work=tmp_path,
            planted=False,
            limit_s=60,
        )
        tool.checks.Writer(path, "b").write("part", title="gates")
        tool.gates.run(part)
        return {c["check"]: c for c in tool.checks.checks_of(tool.checks.read(path))}

    return run


def test_all_planned_checks_are_written_on_a_gpu(whole_run, tool):
    found = whole_run(GPU)
    assert {check["verdict"] for check in found.values()} == {tool.checks.AS_EXPECTED}
    assert found["records name device and driver"]["found"] == f"{GPU}, driver 580.95.05"
    assert found["session red"]["found"] == "exit 1, 9 of 9 tests red in 1 s"


def test_without_a_gpu_there_is_no_driver(whole_run, tool):
    found = whole_run("")
    assert found.pop("records name device and driver")["verdict"] == tool.checks.NO_MEANING
    assert {check["verdict"] for check in found.values()} == {tool.checks.AS_EXPECTED}


def test_a_test_that_ends_without_a_verdict_says_why(whole_run, tool):
    found = whole_run(GPU, lost=("test_sync",))
    lost = found["no_gpu_syncs red: sync"]
    assert (lost["verdict"], lost["found"]) == (tool.checks.DIFFERS, "no verdict: it is red")
