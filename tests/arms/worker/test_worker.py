"""Arms in worker processes: real processes, a real pipeline, and what happens when one dies."""

import json
import math
import os
import signal
import subprocess
import sys
import time
from dataclasses import replace

import pytest

from pytest_diffspeed.accelerators.catalog.cpu import WallClock
from pytest_diffspeed.arms.base_commit.place import this_process
from pytest_diffspeed.arms.counts import CountedLine, Counts
from pytest_diffspeed.arms.probes import Probe
from pytest_diffspeed.arms.worker import answers
from pytest_diffspeed.arms.worker.arm import WorkerArm, worker_arms
from pytest_diffspeed.arms.worker.kept import KeptWorkers
from pytest_diffspeed.arms.worker.protocol import BuildOrder, as_line, from_line
from pytest_diffspeed.common.errors import MeasurementError
from pytest_diffspeed.gates.catalog.graph_breaks import count_breaks
from pytest_diffspeed.gates.catalog.memory import count_memory
from pytest_diffspeed.gates.causes import cause_of_error

ORDER = BuildOrder(
    source="random:sdxl-tiny",
    stack="fp32",
    unit="call",
    device="cpu",
    steps=1,
    prompts=(),
    threads=1,
)


def order(**changes):
    return BuildOrder.from_dict({**ORDER.as_dict(), **changes})


def is_running(pid):
    try:
        os.kill(pid, 0)
    except ProcessLookupError:
        return False
    return True


@pytest.fixture
def worker(monkeypatch, tmp_path):
    """Starts a worker whose program is given: it speaks the protocol, badly."""
    started = []

    def start(program, **options):
        package = tmp_path / "bad_worker"
        package.mkdir()
        (package / "__init__.py").touch()
        (package / "__main__.py").write_text("import json, os, sys, time\n" + program)
        monkeypatch.setattr("pytest_diffspeed.arms.worker.process.__package__", "bad_worker")
        monkeypatch.syspath_prepend(tmp_path)
        arm = WorkerArm("bf16", ORDER, **options)
        started.append(arm)
        return arm

    yield start
    for arm in started:
        arm.end()
        assert not is_running(arm.pid)


SPEAKS = """
ready = {'ready': {'first_call_s': 1.0, 'weights': {}}}
for line in sys.stdin:
    print(json.dumps(ready if json.loads(line)['do'] == 'build' else {}), flush=True)
"""


@pytest.fixture
def speaking(monkeypatch, tmp_path):
    """Workers that build nothing and answer every order."""
    package = tmp_path / "speaking_worker"
    package.mkdir()
    (package / "__init__.py").touch()
    (package / "__main__.py").write_text("import json, sys\n" + SPEAKS)
    monkeypatch.setattr("pytest_diffspeed.arms.worker.process.__package__", "speaking_worker")
    monkeypatch.syspath_prepend(tmp_path)


READY = "print(json.dumps({'ready': {'first_call_s': 1.0, 'weights': {}}}), flush=True)\n"


def test_lines_survive_the_way_and_garbage_is_told_from_them():
    assert from_line(as_line(ORDER.as_dict())) == {**ORDER.as_dict(), "prompts": []}
    for garbage in (b"", b"hello\n", b"[1]\n", b"\xff\n", b"[" * 100_000):
        assert from_line(garbage) is None


@pytest.fixture(scope="module")
def pair():
    """A baseline and a bf16 arm, each in its process; both are ended afterwards."""
    orders = [("fp32", ORDER), ("bf16", order(stack="bf16"))]
    with worker_arms(orders, 1) as instances:
        yield instances[0]
    assert not any(is_running(arm.pid) for arm in instances[0])


def test_an_arm_is_built_proven_and_timed_in_its_own_process(pair):
    assert len({os.getpid(), *(arm.pid for arm in pair)}) == 3
    for arm in pair:
        assert arm.timed_call(WallClock()) == arm.last_call_s > 0
        assert arm.last_output.shape == (1, 3, 32, 32)
        arm.untimed_call()
        assert arm.first_call_s > 0
    assert pair[0].weights == pair[1].weights != {}


def test_a_worker_times_a_component_or_steps_alone_and_goes_back_to_whole_calls():
    """One process builds the three arms, since most of a worker is its start."""

    def next_arm(process=None, **changes):
        arm = WorkerArm("unet", order(**changes), process=process)
        arm.wait_until_ready()
        return arm

    unet = next_arm(unit="unet", steps=3)
    try:
        assert unet.time_alone() == answers.Alone(
            "unet calls of steps 1, 2, 3 (inputs of a real call)", (0, 1, 2), None
        )
        for turn in (0, 2):
            unet.turn = turn
            assert unet.timed_call(WallClock()) == unet.last_call_s > 0
            unet.untimed_call()
        unet.time_whole_calls()
        assert 0 < unet.timed_call(WallClock()) < unet.last_call_s
        unet.release()
        step = next_arm(unet.process, unit="step", steps=3)
        assert step.time_alone().pairs_of == "steps of calls in lockstep"
        assert step.timed_call(WallClock()) == step.last_call_s > 0
        step.release()  # in the middle of a call
        stateful = next_arm(unet.process, source="tests.stateful_pipeline:build", unit="unet")
        assert "keeps a state between calls (calls_so_far" in stateful.time_alone().why_not
        assert 0 < stateful.timed_call(WallClock()) < stateful.last_call_s
    finally:
        unet.end()


@pytest.fixture
def kept():
    workers = KeptWorkers()
    yield workers
    workers.close()


def test_a_process_that_is_kept_builds_one_arm_after_the_other_and_each_as_the_first(kept):
    """Also one that is seeded by an import, which happens once in a process."""
    pids, weights = [], []
    for stack in ("fp32", "bf16"):
        own = order(stack=stack, source="tests.once_seeded_pipeline:build")
        with kept.arms("tiny", [("head", own, this_process())], 1) as ((arm,),):
            assert arm.timed_call(WallClock()) > 0
            pids.append(arm.pid)
            weights.append(arm.weights)
    assert pids[0] == pids[1]
    assert weights[0] == weights[1]
    with pytest.raises(MeasurementError, match="'call' was asked of a worker that has built not"):
        arm.timed_call(WallClock())  # it is gone, and its process is not


@pytest.mark.usefixtures("speaking")
def test_who_keeps_a_process_and_when_it_ends(kept):
    here = this_process()

    def pids(kept_for, *names, place=here):
        orders = [(name, ORDER, place) for name in names]
        with kept.arms(kept_for, orders, 1) as (arms,):
            return {arm.name: arm.pid for arm in arms}

    first = pids("one source", "base", "head")
    assert pids("one source", "head")["head"] == first["head"]
    assert pids("one source", "base", "head") == first
    moved = pids("one source", "head", place=replace(here, path=(*here.path, "/elsewhere")))
    assert moved["head"] != first["head"]
    assert not is_running(first["head"])
    other = pids("another source", "head")
    assert not is_running(first["base"])  # that nobody asked for
    assert not is_running(moved["head"])
    with (
        pytest.raises(ZeroDivisionError),
        kept.arms("another source", [("head", ORDER, here)], 1) as ((arm,),),
    ):
        assert arm.pid == other["head"]
        raise ZeroDivisionError
    assert not is_running(other["head"])
    last = pids("another source", "head")
    kept.close()
    assert not is_running(last["head"])


@pytest.mark.usefixtures("speaking")
def test_a_process_that_dies_meanwhile_is_replaced(kept):
    orders = [("head", ORDER, this_process())]
    with kept.arms("tiny", orders, 1) as ((arm,),):
        os.kill(arm.pid, signal.SIGKILL)
    with kept.arms("tiny", orders, 1) as ((new,),):
        assert new.pid != arm.pid


def test_workers_can_be_measured_against_each_other(pair):
    from pytest_diffspeed import measure_speedup

    result = measure_speedup(pair[0], pair[1], min_ratio=1e-6)
    assert str(result.verdict) == "PASS"
    assert result.pairs == 5


def test_what_cannot_be_built_is_said_by_the_worker_in_its_own_words():
    with (
        pytest.raises(
            MeasurementError,
            match=r"worker process of arm 'tiny': .* 'no\.such:thing'",
        ),
        worker_arms([("tiny", order(source="no.such:thing"))], 1),
    ):
        pass


@pytest.mark.parametrize(
    ("program", "said"),
    [
        (
            "sys.stderr.write('out of memory'); sys.exit(3)",
            r"it ended \(exit code 3\); .*memory",
        ),
        ("os.kill(os.getpid(), 9)", r"it ended \(killed by signal 9, as when memory runs out\)"),
        ("print('hello', flush=True); time.sleep(9)", r"it answered b'hello\\n', which is no JSON"),
        ("print('{}', flush=True); time.sleep(9)", "it answered something else than it was asked"),
        ("print(json.dumps({'error': 'no model'}), flush=True)", "of arm 'bf16': no model"),
    ],
)
def test_a_worker_that_fails_while_it_builds_is_an_error_that_names_it(worker, program, said):
    with pytest.raises(MeasurementError, match=said):
        worker(program).wait_until_ready()


def test_what_a_worker_printed_last_is_told_and_is_no_next_step(worker):
    program = "print('no room left; that was all', file=sys.stderr); sys.exit(1)"
    with pytest.raises(MeasurementError, match=r"printed: no room left; that was all$") as raised:
        worker(program).wait_until_ready()
    cause = cause_of_error(raised.value)
    assert cause.found.endswith(", building it: it ended (exit code 1)")
    assert cause.next_step == "see what it printed last, with -v"


@pytest.mark.parametrize(
    ("program", "said"),
    [
        (
            "sys.stdin.readline(); sys.stdin.readline(); sys.exit(1)",
            r"call number 1: it ended \(ex",
        ),
        (
            "sys.stdin.readline(); sys.stdin.readline(); print('{\"seconds\": -1.0}', flush=True)",
            r"call number 1: its clock gave -1\.0 seconds",
        ),
    ],
)
def test_a_worker_that_fails_in_a_call_is_an_error_that_names_the_call(worker, program, said):
    arm = worker(READY + program)
    arm.wait_until_ready()
    with pytest.raises(MeasurementError, match=said):
        arm.timed_call(WallClock())


@pytest.mark.parametrize(
    "ready",
    [
        {"first_call_s": math.nan, "weights": {}},
        {"first_call_s": "1", "weights": {}},
        {"first_call_s": None, "weights": {}},
        {"weights": {}},
        {"first_call_s": 1.0, "weights": {"unet": 7}},
        {"first_call_s": 1.0, "weights": []},
        {"first_call_s": 1.0, "weights": {}, "proofs": "none"},
        {"first_call_s": 1.0, "weights": {}, "inputs": [1]},
        [],
    ],
)
def test_facts_of_a_worker_that_are_none_are_errors(ready):
    with pytest.raises(answers.WrongAnswerError, match="something else than it was asked: "):
        answers.ready({"ready": ready})


SITE = {
    **{"component": "unet", "what": "value_read", "file": "a.py", "line": 3},
    **{"function": "step", "source": "x.item()", "count": 2},
}


@pytest.mark.parametrize(
    "seen",
    [
        None,
        [],
        {"counts": None, "sites": [], "notes": []},
        {"counts": {"unet": 3}, "sites": [], "notes": []},
        {"counts": {"unet": {"breaks": math.nan}}, "sites": [], "notes": []},
        {"counts": {"unet": {"breaks": math.inf}}, "sites": [], "notes": []},
        {"counts": {"unet": {"breaks": 1.5}}, "sites": [], "notes": []},
        {"counts": {"unet": {"breaks": -1}}, "sites": [], "notes": []},
        {"counts": {"unet": {"breaks": True}}, "sites": [], "notes": []},
        {"counts": {"unet": {"breaks": "0"}}, "sites": [], "notes": []},
        {"counts": {"unet": {"breaks": None}}, "sites": [], "notes": []},
        {"counts": {}, "sites": [{**SITE, "count": math.nan}], "notes": []},
        {"counts": {}, "sites": [{**SITE, "file": 3}], "notes": []},
        {"counts": {}, "sites": [{**SITE, "more": 3}], "notes": []},
        {"counts": {}, "sites": ["a.py:3"], "notes": []},
        {"counts": {}, "sites": {}, "notes": []},
        {"counts": {}, "sites": [], "notes": "none"},
        {"counts": {}, "sites": [], "notes": [3]},
        {"counts": {}},
    ],
)
def test_counts_of_a_worker_that_are_none_are_errors(seen):
    with pytest.raises(answers.WrongAnswerError, match="something else than it was asked: "):
        answers.counts({"seen": seen})


def test_counts_survive_the_way():
    counts = Counts({"unet": {"breaks": 2}}, (CountedLine(**SITE),), ("a note",))
    assert answers.counts(from_line(as_line({"seen": counts.as_dict()}))) == counts


@pytest.mark.parametrize("changes", [{"call_s": math.nan}, {"call_s": "1"}, {"shape": [1.5]}])
def test_times_of_a_worker_that_are_none_are_errors(changes):
    good = {"seconds": 1.0, "call_s": 2.0, "shape": [1, 3]}
    assert answers.timed(good) == answers.Timed(1.0, 2.0, (1, 3))
    with pytest.raises(answers.WrongAnswerError):
        answers.timed({**good, **changes})


def test_a_worker_that_counts_no_number_is_an_error_that_names_it(worker):
    """It would be "nothing is worse": no number is greater than NaN."""
    seen = {"counts": {"unet": {"breaks": math.nan}}, "sites": [], "notes": []}
    arm = worker(
        READY
        + "sys.stdin.readline(); sys.stdin.readline()\n"
        + f"print({json.dumps(json.dumps({'seen': seen}))}, flush=True)"
    )
    arm.wait_until_ready()
    with pytest.raises(MeasurementError, match=r"looking at graph breaks: .* unet: breaks is nan"):
        arm.probe(Probe("graph breaks", count_breaks), components=None)


def test_a_worker_that_hangs_is_killed(worker):
    arm = worker(READY + "time.sleep(600)", call_s=0.2)
    arm.wait_until_ready()
    with pytest.raises(MeasurementError, match="call number 1: no answer within 0 s"):
        arm.timed_call(WallClock())
    deadline = time.monotonic() + 30
    while is_running(arm.pid) and time.monotonic() < deadline:
        arm.process._process.poll()
        time.sleep(0.01)
    assert not is_running(arm.pid)


def test_a_worker_dies_with_its_parent(tmp_path):
    import subprocess

    program = (
        "import sys, time\n"
        "from pytest_diffspeed.arms.worker.arm import WorkerArm\n"
        "from pytest_diffspeed.arms.worker.protocol import BuildOrder\n"
        f"arm = WorkerArm('fp32', BuildOrder.from_dict({ORDER.as_dict()!r}))\n"
        "print(arm.pid, flush=True)\n"
        "time.sleep(600)\n"
    )
    with subprocess.Popen([sys.executable, "-c", program], stdout=subprocess.PIPE) as parent:
        pid = int(parent.stdout.readline())
        assert is_running(pid)
        parent.send_signal(signal.SIGKILL)
    deadline = time.monotonic() + 120
    while is_running(pid) and time.monotonic() < deadline:
        time.sleep(0.1)
    assert not is_running(pid)


def test_what_libraries_print_never_reaches_the_protocol(tmp_path, monkeypatch):
    """A factory that prints to standard output while it builds."""
    (tmp_path / "noisy.py").write_text(
        "import os\n"
        "from pytest_diffspeed.pipelines.sources import parse_source\n"
        "def make():\n"
        "    print('{\"ready\": {}}', flush=True)\n"
        "    os.write(1, b'from C\\n')\n"
        "    return parse_source('random:sdxl-tiny').build()\n"
    )
    monkeypatch.syspath_prepend(tmp_path)
    with worker_arms([("noisy", order(source="noisy:make"))], 1) as ((arm,),):
        assert arm.timed_call(WallClock()) > 0


def test_whoever_asks_a_dead_worker_again_is_told_at_once(worker):
    arm = worker(READY + "sys.exit(3)")
    arm.wait_until_ready()
    for name in ("graph breaks", "syncs"):
        with pytest.raises(MeasurementError, match=r"looking at .*: it ended \(exit code 3\)"):
            arm.probe(Probe(name, count_memory))


def test_a_safe_import_path_changes_nothing(monkeypatch):
    """PYTHONSAFEPATH keeps a script's folder off the path: another version could be imported."""
    monkeypatch.setenv("PYTHONSAFEPATH", "1")
    bare = replace(this_process(), path=())
    arm = WorkerArm("fp32", ORDER, place=bare)
    try:
        arm.wait_until_ready()
        assert arm.first_call_s > 0
    finally:
        arm.end()


PARENT = """
import os, sys
from pytest_diffspeed.arms.worker.arm import WorkerArm
from pytest_diffspeed.arms.worker.protocol import BuildOrder
arm = WorkerArm("fp32", BuildOrder.from_dict(eval(sys.argv[1])))
print(arm.pid, flush=True)
sys.stdin.read()
"""


def test_a_busy_worker_does_not_outlive_a_parent_that_is_killed(tmp_path, private_temp):
    busy = tmp_path / "busy.py"
    busy.write_text(
        "import pathlib, subprocess, sys, time\n"
        "def make():\n"
        "    child = subprocess.Popen([sys.executable, '-c', 'import time; time.sleep(600)'])\n"
        f"    pathlib.Path({str(tmp_path / 'child')!r}).write_text(str(child.pid))\n"
        "    time.sleep(600)\n"
    )
    path = os.pathsep.join([str(tmp_path), *sys.path])
    parent = subprocess.Popen(
        [sys.executable, "-c", PARENT, repr(order(source="busy:make").as_dict())],
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        env={**os.environ, "PYTHONPATH": path},
    )
    with parent:
        pid = int(parent.stdout.readline())
        wait_for(lambda: (tmp_path / "child").exists() and (tmp_path / "child").read_text())
        parent.kill()
    for gone in (pid, int((tmp_path / "child").read_text())):
        wait_for(lambda gone=gone: not is_running(gone))
    assert list(private_temp.glob("diffspeed-*")) == []


def wait_for(what):
    """Until it is so, or for longer than any machine takes."""
    for _ in range(600):
        if what():
            return
        time.sleep(0.1)
    raise AssertionError("it never was")


def test_an_interpreter_that_is_gone_is_said(tmp_path):
    place = replace(this_process(), python=str(tmp_path / "python"))
    with pytest.raises(MeasurementError) as error:
        WorkerArm("base", ORDER, place=place)
    assert str(error.value) == (
        f"worker process of arm 'base': {tmp_path}/python cannot be started in {place.folder} "
        "(No such file or directory)"
    )
