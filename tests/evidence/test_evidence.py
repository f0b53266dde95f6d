"""Evidence: what is the same tree and the same key, and what is remembered for it."""

import itertools
import json
import os
import subprocess
import sys
from datetime import datetime, timedelta, timezone

import pytest

from pytest_diffspeed.common.errors import RecordError
from pytest_diffspeed.evidence import tree
from pytest_diffspeed.evidence.key import EvidenceKey, environment
from pytest_diffspeed.evidence.tree import working_tree
from pytest_diffspeed.evidence.verdict_store import EvidenceMemory
from pytest_diffspeed.records.verdict import EvidenceKind, GateResult, VerdictKind


def git(folder, *words):
    identity = ["-c", "user.name=A", "-c", "user.email=a@example.org"]
    quiet = ["-c", "commit.gpgsign=false", "-c", "protocol.file.allow=always"]
    done = subprocess.run(
        ["git", *identity, *quiet, *words], cwd=folder, check=True, capture_output=True, text=True
    )
    return done.stdout


@pytest.fixture
def repository(tmp_path, monkeypatch):
    monkeypatch.setenv("GIT_CONFIG_GLOBAL", os.devnull)
    monkeypatch.setenv("GIT_CONFIG_NOSYSTEM", "1")
    return make_repository(tmp_path / "project")


def make_repository(folder):
    folder.mkdir()
    git(folder, "init", "--quiet")
    (folder / "kernel.py").write_text("SPEED = 1\n")
    (folder / "other.py").write_text("x = 1\n")
    (folder / ".gitignore").write_text("*.bin\n")
    git(folder, "add", ".")
    git(folder, "commit", "--quiet", "-m", "first")
    return folder


@pytest.fixture
def plain(tmp_path, monkeypatch):
    """A folder that no repository holds, wherever the temporary folder lies."""
    monkeypatch.setenv("GIT_CEILING_DIRECTORIES", str(tmp_path))
    folder = tmp_path / "plain"
    folder.mkdir()
    (folder / "kernel.py").write_text("SPEED = 1\n")
    return folder


# --- the working tree


def test_an_uncommitted_edit_is_another_tree_and_taking_it_back_is_the_first_one(repository):
    first = working_tree(repository)
    (repository / "kernel.py").write_text("SPEED = 2\n")
    edited = working_tree(repository)
    (repository / "kernel.py").write_text("SPEED = 1\n")
    assert first.how == edited.how == "git"
    assert first != edited
    assert working_tree(repository) == first


def test_staging_and_committing_change_nothing(repository):
    (repository / "kernel.py").write_text("SPEED = 2\n")
    (repository / "new.py").write_text("y = 1\n")
    (repository / "other.py").unlink()
    (repository / "link.py").symlink_to("kernel.py")
    edited = working_tree(repository)
    git(repository, "add", "--all")
    assert working_tree(repository) == edited
    git(repository, "commit", "--quiet", "-m", "second")
    assert working_tree(repository) == edited
    git(repository, "commit", "--quiet", "--amend", "-m", "another message")
    assert working_tree(repository) == edited


def change_untracked(folder):
    (folder / "fast.cu").write_text("__global__")


def change_name(folder):
    (folder / "kernel.py").rename(folder / "kernel2.py")


def change_by_deleting(folder):
    (folder / "other.py").unlink()


def change_staged_only(folder):
    (folder / "kernel.py").write_text("SPEED = 2\n")
    git(folder, "add", "kernel.py")


def change_same_size_and_time(folder):
    about = (folder / "kernel.py").stat()
    (folder / "kernel.py").write_text("SPEED = 7\n")
    os.utime(folder / "kernel.py", ns=(about.st_atime_ns, about.st_mtime_ns))


def change_odd_name(folder):
    (folder / 'a\n"b".py').write_text("x")


def change_intent_to_add(folder):
    (folder / "later.py").write_text("x = 1")
    git(folder, "add", "--intent-to-add", "later.py")


@pytest.mark.parametrize(
    "change",
    [
        change_untracked,
        change_name,
        change_by_deleting,
        change_staged_only,
        change_same_size_and_time,
        change_odd_name,
        change_intent_to_add,
    ],
)
def test_a_changed_content_is_another_tree(repository, change):
    first = working_tree(repository)
    change(repository)
    assert working_tree(repository) != first


@pytest.mark.parametrize(
    "path",
    [
        ".diffspeed/records/j.jsonl",
        ".diffspeed/evidence/k.jsonl",
        "__pycache__/kernel.cpython-312.pyc",
        "tests/__pycache__/t.pyc",
        ".pytest_cache/v/cache/lastfailed",
        ".hypothesis/unicode",
        "out/report.html",
        "junit.xml",
        "fox.png",
        "ignored.bin",
    ],
)
def test_what_tools_leave_behind_is_no_change(repository, path):
    first = working_tree(repository)
    (repository / path).parent.mkdir(parents=True, exist_ok=True)
    (repository / path).write_text("anything")
    assert working_tree(repository) == first


def test_a_virtual_environment_of_any_name_is_no_change(repository):
    first = working_tree(repository)
    for name in ("my-env/pyvenv.cfg", "my-env/lib/python3.12/thing.py"):
        (repository / name).parent.mkdir(parents=True, exist_ok=True)
        (repository / name).write_text("")
    assert working_tree(repository) == first


def test_a_file_that_the_session_writes_is_no_change(repository, monkeypatch):
    monkeypatch.chdir(repository)
    first = working_tree(repository)
    (repository / "records.of.mine").write_text("{}")
    assert working_tree(repository) != first
    assert working_tree(repository, leave_out=["records.of.mine"]) == first


def test_all_of_the_repository_counts_from_any_folder_in_it(repository):
    below = repository / "tests"
    below.mkdir()
    assert working_tree(below) == working_tree(repository)
    first = working_tree(below)
    (repository / "kernel.py").write_text("SPEED = 2\n")
    assert working_tree(below) != first


def test_a_hook_that_runs_pytest_sees_the_working_tree_too(repository, monkeypatch):
    tests = repository / "tests"
    tests.mkdir()
    first = working_tree(tests)
    monkeypatch.setenv("GIT_INDEX_FILE", str(repository / ".git" / "next-index"))
    monkeypatch.setenv("GIT_DIR", ".git")
    assert working_tree(tests) == first
    assert first.how == "git"


def test_a_repository_without_commits(tmp_path):
    git(tmp_path, "init", "--quiet")
    first = working_tree(tmp_path)
    (tmp_path / "kernel.py").write_text("SPEED = 1\n")
    assert working_tree(tmp_path) != first
    assert first.how == "git"


@pytest.mark.parametrize("as_submodule", [True, False])
def test_an_edit_in_a_repository_inside_counts(repository, tmp_path, as_submodule):
    if as_submodule:
        git(repository, "submodule", "--quiet", "add", str(make_repository(tmp_path / "lib")))
        git(repository, "commit", "--quiet", "-m", "lib")
    else:
        make_repository(repository / "lib")
    first = working_tree(repository)
    assert working_tree(repository) == first
    (repository / "lib" / "kernel.py").write_text("SPEED = 2\n")
    assert working_tree(repository) != first


def test_a_folder_that_its_repository_ignores_counts_by_its_own_files(repository):
    (repository / ".gitignore").write_text("/scratch/\n")
    scratch = repository / "scratch"
    scratch.mkdir()
    (scratch / "kernel.py").write_text("SPEED = 1\n")
    first = working_tree(scratch)
    assert first.how == "source files"
    (scratch / "kernel.py").write_text("SPEED = 2\n")
    assert working_tree(scratch) != first


def test_a_pipe_in_the_tree_is_not_waited_for(repository):
    first = working_tree(repository)
    (repository / "kernel.py").unlink()
    os.mkfifo(repository / "kernel.py")
    assert working_tree(repository) != first


def test_only_changed_files_are_read(repository, monkeypatch):
    """A large repository costs three git calls, and reads what was edited."""
    read = []
    real = tree.git

    def spying(folder, *words, given=b""):
        if words[0] == "hash-object":
            read.extend(given.decode().split())
        return real(folder, *words, given=given)

    monkeypatch.setattr(tree, "git", spying)
    (repository / "kernel.py").write_text("SPEED = 2\n")
    working_tree(repository)
    assert read == ["kernel.py"]


def test_large_files_count_by_size_and_time(repository, monkeypatch):
    monkeypatch.setattr(tree, "LARGE_BYTES", 10)
    weights = repository / "weights.safetensors"
    weights.write_text("0123456789a")
    first = working_tree(repository)
    about = weights.stat()
    weights.write_text("a9876543210")
    os.utime(weights, ns=(about.st_atime_ns, about.st_mtime_ns))
    assert working_tree(repository) == first
    os.utime(weights, ns=(about.st_atime_ns, about.st_mtime_ns + 1))
    assert working_tree(repository) != first


def test_without_git_the_source_files_count(plain):
    first = working_tree(plain)
    assert first.how == "source files"
    (plain / "kernel.py").write_text("SPEED = 2\n")
    edited = working_tree(plain)
    assert edited != first
    for name in (".diffspeed/x.json", "__pycache__/x.py", ".hidden/x.py", "photo.png", "notes.md"):
        (plain / name).parent.mkdir(exist_ok=True)
        (plain / name).write_text("x")
    environment_folder = plain / "my-env"
    environment_folder.mkdir()
    (environment_folder / "pyvenv.cfg").write_text("")
    (environment_folder / "site.py").write_text("")
    assert working_tree(plain) == edited


def test_without_git_it_is_said_where_files_were_left_out(plain, monkeypatch):
    monkeypatch.setattr(tree, "MOST_FILES", 3)
    for number in range(2):
        (plain / f"m{number}.py").write_text("")
    assert working_tree(plain).how == "source files"
    (plain / "m2.py").write_text("")
    assert working_tree(plain).how == "the first 3 source files"


def test_without_a_git_program(repository, monkeypatch):
    monkeypatch.setenv("PATH", str(repository / "nothing-here"))
    first = working_tree(repository)
    assert first.how == "source files"


# --- the key


def test_each_part_of_a_key_counts():
    parts = {"tree": "a", "inputs": {"prompt": "fox", "steps": 4}, "alpha": 0.05}
    key = EvidenceKey(parts)
    assert EvidenceKey({"alpha": 0.05, "tree": "a", "inputs": parts["inputs"]}).digest == key.digest
    for change in ({"alpha": 0.01}, {"tree": "b"}, {"inputs": {"prompt": "fox", "steps": 5}}):
        assert EvidenceKey({**parts, **change}).digest != key.digest
    assert len(key.digest) == 32


def test_the_environment_names_what_changes_speed():
    here = environment("A CPU, 2 cores", threads=2)
    assert set(here) == {
        "device", "threads", "python", "torch", "diffusers", "transformers", "torchao",
        "pytest-diffspeed",
    }  # fmt: skip
    assert here["python"] == ".".join(map(str, sys.version_info[:3]))
    assert environment("A CPU, 2 cores", threads=1) != here
    assert environment("NVIDIA H100", 1, driver="580.95.05")["driver"] == "580.95.05"


# --- the memory

KEY = EvidenceKey({"tree": "a"})
PASS, FAIL, OPEN = VerdictKind.PASS, VerdictKind.FAIL, VerdictKind.INCONCLUSIVE


def result(verdict, reason="6 of 6 pairs below"):
    return GateResult(
        gate="min_speedup",
        claim="min_speedup over fp32 per call",
        test="t.py::t",
        stack="bf16",
        verdict=verdict,
        reason=reason,
        evidence=EvidenceKind.MEASURED,
        blocking=verdict is FAIL,
        figures={"ratio": 1.1, "pairs": 6},
    )


@pytest.fixture
def memory(tmp_path):
    """Makes the memory of another session of the same project; an hour passes with each line."""
    start = datetime(2026, 11, 23, 9, 0, 0, tzinfo=timezone.utc)
    hours = itertools.count()

    def make(**options):
        now = lambda: start + timedelta(hours=next(hours))  # noqa: E731
        return EvidenceMemory(tmp_path, now=now, **options)

    return make


def measure(memory, verdict):
    attempt = memory.attempt(KEY)
    assert attempt.verdict is None, attempt.verdict.reason
    return attempt.begin().end(result(verdict))


def test_nothing_is_known_at_first(memory, tmp_path):
    attempt = memory().attempt(KEY)
    assert (attempt.number, attempt.undecided, attempt.verdict) == (1, 0, None)
    assert not (tmp_path / ".diffspeed").exists()


def test_a_fail_is_final_and_says_when(memory):
    measured = measure(memory(), FAIL)
    assert measured.reason == "6 of 6 pairs below"
    assert measured.figures["attempt"] == 1
    for _ in range(2):
        said = memory().attempt(KEY).verdict
        assert said.verdict is FAIL
        assert said.blocking
        assert said.reason == (
            "FAILed already on 2026-11-23 10:00:00 UTC, attempt 1 for this tree "
            "(6 of 6 pairs below); --diffspeed-fresh asks for another attempt"
        )
        assert said.figures["remembered_from"] == "2026-11-23T10:00:00+00:00"
        assert said.figures["ratio"] == 1.1


def test_another_key_knows_nothing_of_it(memory):
    measure(memory(), FAIL)
    assert memory().attempt(EvidenceKey({"tree": "b"})).verdict is None


def test_a_fresh_session_makes_another_attempt_and_counts_it(memory):
    measure(memory(), FAIL)
    second = measure(memory(fresh=True), FAIL)
    assert second.figures["attempt"] == 2
    assert second.reason == "6 of 6 pairs below; attempt 2 for this tree"
    assert "attempt 2 for this tree (6 of 6 pairs below);" in memory().attempt(KEY).verdict.reason
    third = measure(memory(fresh=True), PASS)
    assert third.figures["attempt"] == 3
    assert measure(memory(), PASS).figures["attempt"] == 3


def test_a_fresh_session_gives_one_attempt_and_not_until_it_is_green(memory):
    measure(memory(), FAIL)
    fresh = memory(fresh=True)
    measure(fresh, FAIL)
    assert "attempt 2 for this tree" in fresh.attempt(KEY).verdict.reason


def test_fresh_makes_no_attempt_where_nothing_failed(memory):
    measure(memory(fresh=True), PASS)
    assert measure(memory(fresh=True), OPEN).figures["attempt"] == 1


def test_a_pass_is_measured_again_and_a_later_fail_stays(memory):
    measure(memory(), PASS)
    assert memory().attempt(KEY).undecided == 0
    measure(memory(), FAIL)
    assert memory().attempt(KEY).verdict is not None


def measure_pairs(memory, verdict, *pairs):
    attempt = memory.attempt(KEY)
    instance = attempt.begin()
    for pair in pairs:
        instance.pair(*pair)
    return attempt, instance.end(result(verdict))


def test_inconclusive_is_gone_on_with_and_told(memory):
    assert measure(memory(), OPEN).figures["undecided_before"] == 0
    second = measure(memory(), OPEN)
    assert second.reason.endswith("; 1 earlier run for this tree came to no verdict")
    third = measure(memory(), PASS)
    assert third.reason.endswith("; 2 earlier runs for this tree came to no verdict")
    assert (third.figures["undecided_before"], third.figures["attempt"]) == (2, 1)


def test_pairs_of_undecided_runs_count_in_the_next(memory):
    measure_pairs(memory(), OPEN, (2.0, 1.0), (2.5, 1.0))
    second, told = measure_pairs(memory(), OPEN, (3.0, 1.0))
    assert second.earlier == ((2.0, 1.0), (2.5, 1.0))
    assert told.reason.endswith(
        "; 1 earlier run for this tree came to no verdict, and its 2 pairs count here"
    )
    killed = memory().attempt(KEY).begin()
    killed.pair(4.0, 1.0)
    fourth, told = measure_pairs(memory(), PASS, (9.0, 1.0))
    assert fourth.earlier == ((2.0, 1.0), (2.5, 1.0), (3.0, 1.0), (4.0, 1.0))
    assert "3 earlier runs for this tree came to no verdict, and their 4 pairs" in told.reason
    assert len(fourth.processes) == 3  # each memory is one session, in a process of its own


def test_processes_are_counted_and_not_runs(memory):
    same = memory()
    measure_pairs(same, OPEN, (2.0, 1.0))
    measure(same, OPEN)  # a run without a pair
    second, _ = measure_pairs(same, OPEN, (2.0, 1.0))  # a plugin ran the test again in it
    assert second.processes == frozenset()
    assert (second.undecided, len(second.earlier)) == (2, 1)
    instance = memory().attempt(KEY).begin()
    for worker in (0, 1, 2, 0):
        instance.pair(2.0, 1.0, worker)
    assert len(memory().attempt(KEY).processes) == 1 + 3


def test_a_pass_is_measured_from_the_beginning(memory):
    measure_pairs(memory(), OPEN, (2.0, 1.0))
    measure_pairs(memory(), PASS, (2.0, 1.0))
    assert (memory().attempt(KEY).undecided, memory().attempt(KEY).earlier) == (0, ())
    measure_pairs(memory(), OPEN, (7.0, 1.0))
    assert memory().attempt(KEY).earlier == ((7.0, 1.0),)


def test_a_fresh_attempt_has_no_earlier_pairs(memory):
    measure_pairs(memory(), OPEN, (2.0, 1.0))
    measure_pairs(memory(), FAIL, (2.0, 1.0))
    assert memory(fresh=True).attempt(KEY).earlier == ()


def test_a_killed_measurement_counts(memory):
    memory().attempt(KEY).begin()  # and never ends
    assert memory().attempt(KEY).undecided == 1


def test_a_pass_of_a_process_beside_it_does_not_bury_a_fail(memory):
    first, second = memory().attempt(KEY), memory().attempt(KEY)
    instances = first.begin(), second.begin()
    instances[0].end(result(FAIL))
    instances[1].end(result(PASS))
    assert memory().attempt(KEY).verdict.verdict is FAIL


def test_a_torn_line_does_not_swallow_the_next(memory):
    measure(memory(), FAIL)
    path = memory().path(KEY)
    with path.open("ab") as file:
        file.write(path.read_bytes()[:-40])
    memory(fresh=True).attempt(KEY).begin()  # a line of its own
    attempt = memory().attempt(KEY)
    assert (attempt.number, attempt.undecided) == (2, 1)
    assert (
        attempt.begin()
        .end(result(FAIL))
        .reason.endswith(f"; 1 line of {path} could not be read and counts as not written")
    )


def test_evidence_of_another_major_version_is_refused(memory):
    measure(memory(), PASS)
    path = memory().path(KEY)
    path.write_text(path.read_text().replace("diffspeed/1", "diffspeed/2"))
    with pytest.raises(RecordError, match="reads diffspeed/1 only"):
        memory().attempt(KEY)


def test_a_key_explains_itself_and_git_ignores_it(memory, tmp_path):
    measure(memory(), PASS)
    start, end = map(json.loads, memory().path(KEY).read_text().splitlines())
    assert start["parts"] == {"tree": "a"}
    assert end["result"]["verdict"] == "PASS"
    assert (tmp_path / ".diffspeed" / ".gitignore").is_file()


APPEND = """
import sys
from pathlib import Path
from pytest_diffspeed.evidence.key import EvidenceKey
from pytest_diffspeed.evidence.verdict_store import EvidenceMemory
memory, key = EvidenceMemory(Path(sys.argv[1])), EvidenceKey({"tree": "a"})
print("ready", flush=True)
sys.stdin.readline()
for _ in range(60):
    memory.attempt(key).begin()
"""


def test_processes_beside_each_other_spoil_nothing(memory, tmp_path):
    command = [sys.executable, "-c", APPEND, str(tmp_path)]
    pipes = {"stdin": subprocess.PIPE, "stdout": subprocess.PIPE, "text": True}
    running = [subprocess.Popen(command, **pipes) for _ in range(3)]
    for process in running:
        assert process.stdout.readline() == "ready\n"
    for process in running:
        process.stdin.write("go\n")
        process.stdin.flush()
    for process in running:
        process.communicate()
        assert process.returncode == 0
    attempt = memory().attempt(KEY)
    assert (attempt.undecided, attempt.note) == (180, None)
