"""Recipes around ``gate.sh``: what each hands to pytest, and what it does with pytest's status.

``test_action.py`` runs ``gate.sh`` with real gates.  Here its Python writes down its words and ends
as it is told, and GitHub's interface is a server of this test.
"""

import json
import os
import re
import shutil
import subprocess
import sys
import threading
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from urllib.parse import parse_qs, urlsplit

import pytest
import yaml

from pytest_diffspeed.records.journal import write_all
from tests.project.test_action import Repository, recorder, run_tool
from tests.services import leave_out

CI = Path(__file__).parents[2] / "examples/ci"
GITLAB = yaml.safe_load((CI / "gate.gitlab-ci.yml").read_text("utf-8"))["diffspeed"]
POD = yaml.safe_load((CI / "kubernetes_job.yml").read_text("utf-8"))["spec"]["template"]["spec"]
CONTAINER = POD["containers"][0]
JENKINS = re.search(r"sh '''(.*?)'''", (CI / "Jenkinsfile").read_text("utf-8"), re.S)[1]


@pytest.fixture
def repository(tmp_path):
    """A pull request beside a base that went on, with ``gate.sh`` copied as the recipes say."""
    repository = Repository(tmp_path / "project")
    (repository.path / "ci").mkdir()
    path = repository.path / "ci/gate.sh"
    path.write_bytes((CI / "gate.sh").read_bytes())
    path.chmod(0o755)
    repository.commit("a.txt", "a")
    change = repository.git("rev-parse", "HEAD")
    repository.git("switch", "--quiet", "main")
    repository.git("update-ref", "refs/remotes/origin/main", repository.commit("b.txt", "b"))
    repository.git("switch", "--quiet", "--detach", change)
    return repository


@pytest.fixture
def ran(repository, tmp_path):
    """Run a shell's text; its status, the folder and the words of pytest, and what it printed."""
    python = recorder(tmp_path / "bin")

    def ran_(words, environment, *, status=3, folder=None):
        done = subprocess.run(
            words,
            cwd=folder or repository.path,
            env={
                **{k: v for k, v in os.environ.items() if not k.startswith("GITHUB_")},
                "PATH": f"{python.parent}:{os.environ['PATH']}",
                "PYTHON": str(python),
                "STATUS": str(status),
                "TMPDIR": str(tmp_path),
                **environment,
            },
            capture_output=True,
            text=True,
            check=False,
        )
        told = tmp_path / "words"
        assert told.exists(), done.stderr
        where, *rest = told.read_text("utf-8").splitlines()
        return done.returncode, Path(where), rest

    return ran_


def shell(lines):
    return ["bash", "-eo", "pipefail", "-c", lines]


def recipes(repository, tmp_path):
    """By name: words, variables that the system would set, and the folder it begins in."""
    forked, change = repository.git("rev-parse", "main^"), repository.git("rev-parse", "HEAD")
    gitlab = {
        **GITLAB["variables"],
        "CI_PROJECT_DIR": str(repository.path),
        "CI_MERGE_REQUEST_DIFF_BASE_SHA": forked,
        "CI_JOB_URL": "https://example.org/1",
    }
    pod = {one["name"]: one["value"] for one in CONTAINER["env"]}
    scratch = tmp_path / "scratch"
    scratch.mkdir()
    # As `git clone` of a server sees it: its main, not a branch of this test's.
    pod |= {"REPOSITORY": str(repository.path), "HEAD_COMMIT": change}
    kept = {
        name: value.replace("/kept", str(tmp_path / "kept"))
        for name, value in pod.items()
        if "/kept" in value
    }
    (tmp_path / "kept").mkdir()
    jenkins = {"CHANGE_TARGET": "main", "BUILD_URL": "https://example.org/2"}
    activated = JENKINS.replace(". .venv/bin/activate\n", "")
    slurm = {"SLURM_SUBMIT_DIR": str(repository.path), "SLURM_JOB_ID": "7"}
    return {
        "gitlab": (shell("\n".join(GITLAB["script"])), gitlab, repository.path),
        "jenkins": (shell(activated), jenkins, repository.path),
        "kubernetes": ([*CONTAINER["command"], *CONTAINER["args"]], pod | kept, scratch),
        "slurm": ([str(CI / "slurm.sh"), change, "origin/main"], slurm, tmp_path),
    }


@pytest.mark.parametrize("name", ["gitlab", "jenkins", "kubernetes", "slurm"])
def test_a_recipe_gates_its_commit_against_where_it_forked(name, ran, repository, tmp_path):
    words, environment, folder = recipes(repository, tmp_path)[name]
    forked = repository.git("rev-parse", "main^")
    status, where, told = ran(words, environment, folder=folder)
    assert status == 3  # pytest's, which the job then ends with
    assert told[:3] == ["-m", "pytest", "--diffspeed"]
    assert {"--diffspeed-strict", f"--diffspeed-base={forked}"} <= set(told)
    device = {"gitlab": "cpu", "jenkins": "auto"}.get(name, "cuda")
    assert f"--diffspeed-device={device}" in told
    if name in ("kubernetes", "slurm"):
        assert where != repository.path  # a tree of its own
    records = next(word for word in told if word.startswith("--diffspeed-json="))
    report = where / Path(records.partition("=")[2]).parent  # a path with a root stands for itself
    comment = (report / "comment.md").read_text("utf-8")
    assert "**ERROR**: pytest ended with status 3 before" in comment
    if name == "slurm":
        assert not where.exists()
        assert repository.git("worktree", "list").count("\n") == 0


def test_nothing_that_ended_well_is_believed_without_records(ran, repository):
    status, _, _ = ran([str(CI / "gate.sh")], {"GATE_BASE": "none"}, status=0)
    assert status == 1
    told = (repository.path / "diffspeed-report/outputs.txt").read_text("utf-8")
    assert told.startswith("verdict=FAIL\nstatus=1\n")


def test_a_result_of_an_earlier_run_is_gone(ran, repository):
    out = repository.path / "diffspeed-report"
    out.mkdir()
    (out / "outputs.txt").write_text("verdict=PASS\npass=4\n")
    (out / "comment.md").write_text("<!-- diffspeed: diffspeed -->\n## diffspeed: 4 PASS\n")
    (out / "mine.txt").write_text("kept")
    status, _, _ = ran([str(CI / "gate.sh")], {"GATE_BASE": "none"}, status=5)
    assert status == 5
    assert (out / "outputs.txt").read_text("utf-8").startswith("verdict=ERROR\nstatus=5\n")
    assert "PASS" not in (out / "comment.md").read_text("utf-8")
    assert (out / "mine.txt").read_text("utf-8") == "kept"


def test_words_of_the_caller_come_last(ran):
    environment = {"GATE_BASE": "none", "GATE_ARGS": "-k 'a or b'", "GATE_FAIL_ON": "inconclusive"}
    _, _, told = ran([str(CI / "gate.sh"), "tests/speed", "-x"], environment)
    assert told[-4:] == ["-k", "a or b", "tests/speed", "-x"]
    assert "--diffspeed-inconclusive=fail" in told


@pytest.mark.parametrize("name", ["gate.sh", "slurm.sh"])
def test_shellcheck_finds_nothing_in(name):
    done = run_tool("shellcheck", str(CI / name))
    assert done.returncode == 0, done.stdout


COMMENT = yaml.safe_load((CI / "comment.yml").read_text("utf-8"))
MARK = "<!-- diffspeed: diffspeed -->"


class GitHub(ThreadingHTTPServer):
    """The four requests that the workflow makes; what it wrote stands in ``wrote``."""

    def __init__(self, pulls, comments):
        super().__init__(("127.0.0.1", 0), Answer)
        self.pulls, self.comments, self.wrote = pulls, comments, []


class Answer(BaseHTTPRequestHandler):
    def log_message(self, *_):
        pass

    def answer(self, value):
        body = json.dumps(value).encode()
        self.send_response(200)
        self.send_header("Content-Length", str(len(body)))
        self.end_headers()
        self.wfile.write(body)

    def do_GET(self):
        assert self.headers["Authorization"] == "Bearer secret"
        url = urlsplit(self.path)
        query = {name: value for name, (value,) in parse_qs(url.query).items()}
        if url.path == "/repos/a/b/pulls":
            self.server.head = query["head"]
            self.answer(self.server.pulls)
        elif url.path == "/repos/a/b/issues/5/comments":
            begin = (int(query["page"]) - 1) * 100
            self.answer(self.server.comments[begin : begin + 100])

    def write(self):
        body = json.loads(self.rfile.read(int(self.headers["Content-Length"])))
        self.server.wrote.append((self.command, self.path, body["body"]))
        self.answer({"html_url": "https://example.org/c"})

    do_PATCH = do_POST = write


def comment_of(number, login="github-actions[bot]", body=f"{MARK}\nold"):
    return {"id": number, "user": {"login": login}, "body": body}


def others(count):
    return [comment_of(n, "somebody", "hello") for n in range(count)]


NEW = ("POST", "/repos/a/b/issues/5/comments")
OLD = ("PATCH", "/repos/a/b/issues/comments/17")
BRANCH = "fork:a&b=$(touch pwned)\"'"


@pytest.mark.parametrize(
    ("comments", "expected"),
    [
        ([], NEW),
        ([*others(99), comment_of(17)], OLD),
        ([*others(100), comment_of(17), comment_of(18)], OLD),
        # Somebody's words with our mark are theirs, and another job's comment is another's.
        ([comment_of(17, "somebody"), comment_of(18, body="<!-- diffspeed: gpu -->")], NEW),
    ],
)
def test_one_comment_is_written_and_then_replaced(tmp_path, comments, expected):
    text = f'{MARK}\n## diffspeed: 1 FAIL\n`$(touch pwned)` "é"\n'
    server = posted(tmp_path, text, [{"number": 5, "head": {"sha": "new"}}], comments)
    assert server.wrote == [(*expected, text)]
    assert server.head == BRANCH
    assert not (tmp_path / "pwned").exists()


def test_a_pull_request_that_went_on_gets_no_comment_of_an_older_commit(tmp_path):
    assert posted(tmp_path, MARK, [{"number": 5, "head": {"sha": "newer"}}], []).wrote == []


def needed(*names):
    """What GitHub's runners have, and this machine may lack."""
    absent = [name for name in names if shutil.which(name) is None]
    if absent:
        leave_out(f"not installed: {', '.join(absent)}; on Debian: apt-get install curl jq")


def posted(tmp_path, text, pulls, comments):
    needed("curl", "jq")
    (tmp_path / "comment.md").write_text(text, "utf-8")
    server = GitHub(pulls, comments)
    threading.Thread(target=server.serve_forever, daemon=True).start()
    try:
        done = subprocess.run(
            shell(COMMENT["jobs"]["comment"]["steps"][-1]["run"]),
            cwd=tmp_path,
            env={
                "PATH": os.environ["PATH"],
                "GITHUB_API_URL": f"http://127.0.0.1:{server.server_port}",
                "GITHUB_REPOSITORY": "a/b",
                "TOKEN": "secret",
                "HEAD": BRANCH,
                "HEAD_COMMIT": "new",
                "no_proxy": "127.0.0.1",
            },
            capture_output=True,
            text=True,
            check=False,
        )
        assert done.returncode == 0, done.stdout + done.stderr
    finally:
        server.shutdown()
        server.server_close()
    return server


def test_the_one_job_with_a_token_that_writes_runs_nothing_of_the_pull_request():
    (job,) = COMMENT["jobs"].values()
    assert COMMENT["permissions"] == {}
    assert job["permissions"] == {"actions": "read", "pull-requests": "write"}
    assert "checkout" not in str(job)
    for step in job["steps"]:
        assert "${{" not in step.get("run", ""), "expressions go through env: no shell injection"
    install = next(step["run"] for step in job["steps"] if step.get("name") == "Install")
    assert "requirements" not in install


def gate_of(test, verdict, reason=""):
    return {
        **{"kind": "gate", "gate": "no_graph_breaks", "claim": "no_graph_breaks", "stack": "bf16"},
        **{"test": test, "verdict": verdict, "reason": reason, "evidence": "counted"},
        **{"blocking": verdict == "FAIL", "figures": {}},
    }


def test_what_the_token_carries_is_made_of_the_records(tmp_path):
    """Not of the text in the artifact, which the pull request's code may have written."""
    folder = tmp_path / "from-the-run/diffspeed-report"
    folder.mkdir(parents=True)
    (folder / "comment.md").write_text("[click](http://evil.example)")
    gate = gate_of("t.py::t[[x](http://evil.example)]", "FAIL", "@everyone")
    write_all(folder / "records.jsonl", [gate])
    step = next(s for s in COMMENT["jobs"]["comment"]["steps"] if s.get("name") == "Make the text")

    def made():
        done = run_with_ours(step["run"], tmp_path, {**step["env"], "LINK": "https://example.org"})
        assert done.returncode == 0, done.stderr
        return (tmp_path / "comment.md").read_text("utf-8")

    text = made()
    assert text.startswith(f"{MARK}\n## diffspeed: 1 FAIL\n")
    assert text.endswith("\n[Log and HTML report](https://example.org)\n")
    assert "](http://evil" not in text
    (folder / "records.jsonl").unlink()
    assert made().startswith(f"{MARK}\n## diffspeed: no report\n")


MATRIX = yaml.safe_load((CI / "matrix.yml").read_text("utf-8"))["jobs"]


def session_on(gpu, commit="0123abc"):
    return {
        **{"kind": "session", "session": gpu, "at": "2026-11-25T10:00:00+00:00", "machine": gpu},
        **{"environment": {"torch": "2.14.1"}, "device": {"kind": "cuda", "name": f"NVIDIA {gpu}"}},
        **{"commit": commit, "dirty": False},
    }


@pytest.mark.parametrize(
    ("verdicts", "status", "said"),
    [
        ({"L4": "PASS", "A100": "PASS"}, 0, "green: 2 gates PASS in 2 sessions"),
        ({"L4": "PASS", "A100": "FAIL"}, 1, "red: 1 gate FAIL"),
        ({"L4": "PASS"}, 1, "red: 1 session of 2 "),
        ({}, 2, "required: RECORDS"),
    ],
)
def test_one_report_of_all_gpus_is_the_verdict(tmp_path, verdicts, status, said):
    for gpu, verdict in verdicts.items():
        # As actions/download-artifact lays out the artifacts of several jobs.
        folder = tmp_path / f"from-the-jobs/diffspeed-{gpu}/diffspeed-report"
        folder.mkdir(parents=True)
        ended = {"kind": "end", "exit_status": 0}
        write_all(folder / "records.jsonl", [session_on(gpu), gate_of("t.py::t", verdict), ended])
    (tmp_path / "from-the-jobs").mkdir(exist_ok=True)
    (step,) = (s for s in MATRIX["report"]["steps"] if s.get("name") == "One report of all")
    jobs = str(step["env"]["JOBS"])
    assert jobs == str(len(MATRIX["gate"]["strategy"]["matrix"]["gpu"]))
    summary = tmp_path / "summary.md"
    environment = {"JOBS": jobs, "GITHUB_STEP_SUMMARY": str(summary)}
    done = run_with_ours(step["run"], tmp_path, environment)
    assert done.returncode == status, done.stdout + done.stderr
    assert said in done.stdout + done.stderr
    if verdicts:
        assert summary.read_text("utf-8").startswith("## diffspeed: ")
        assert (tmp_path / "report/comment.md").is_file()
        assert (tmp_path / "report/report.html").is_file()


def test_the_report_of_all_gpus_is_asked_for_whatever_they_say():
    assert MATRIX["report"]["if"] == "always()"
    assert MATRIX["gate"]["continue-on-error"] is True


def run_with_ours(text, folder, environment):
    return subprocess.run(
        shell(text),
        cwd=folder,
        env={
            **os.environ,
            "PATH": f"{Path(sys.executable).parent}:{os.environ['PATH']}",
            **environment,
        },
        capture_output=True,
        text=True,
        check=False,
    )
