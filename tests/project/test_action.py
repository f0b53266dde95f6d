"""``action.yml``: its steps are run as GitHub does, in a repository with a base and a pull request.

What only GitHub has (``uses:``) is read and not run.  Of its expressions those that stand there are
filled in: names with dots, and comparisons with a word.
"""

import os
import re
import shlex
import shutil
import subprocess
import sys
from pathlib import Path

import pytest
import yaml

from pytest_diffspeed.records.reader import read_journal
from tests.services import leave_out

ROOT = Path(__file__).parents[2]
ACTION = yaml.safe_load((ROOT / "action.yml").read_text("utf-8"))
STEPS = ACTION["runs"]["steps"]
EXPRESSION = re.compile(r"\$\{\{ (.+?) \}\}")
SHELLS = {
    "bash": ["bash", "--noprofile", "--norc", "-eo", "pipefail"],
    "python": [sys.executable],
}
PIPES = """
import torch
from diffusers import DDPMPipeline, DDPMScheduler, UNet2DModel


class Scheduler(DDPMScheduler):
    def step(self, model_output, timestep, sample, **rest):
        return super().step(model_output, timestep, sample, **rest)


def small():
    torch.manual_seed(0)
    unet = UNet2DModel(
        sample_size=8,
        block_out_channels=(32,),
        layers_per_block=1,
        down_block_types=("DownBlock2D",),
        up_block_types=("UpBlock2D",),
    )
    return DDPMPipeline(unet, Scheduler())


small.call_defaults = {"steps": 2}
"""
"""Without a text encoder: half of the seconds are imports, in each process."""
STEP = "        return super().step("
SYNC = "        model_output.max().item()\n"
TEST = """
import pytest


@pytest.mark.diffspeed("fp32", pipeline="pipes:small")
@pytest.mark.no_gpu_syncs()
def test_syncs(optimized_pipeline): ...
"""
CLAIM = "test_syncs.py::test_syncs[fp32] | no_gpu_syncs in scheduler.step"
HOSTILE = "$(touch pwned) `touch pwned` \"; touch pwned; '\\"
"""As a part of a shell's text, each of these would make a file."""


def value_of(name, context):
    found = context
    for part in name.split("."):
        found = found.get(part) if isinstance(found, dict) else None
    return found or ""


def filled(text, context):
    return EXPRESSION.sub(lambda found: value_of(found[1], context), str(text))


def holds(condition, context, failed):
    """Whether a step runs: ``always()``, and names that are compared with a word."""
    parts = condition.split(" && ") if condition else []
    if failed and "always()" not in parts:
        return False
    for part in parts:
        if part != "always()":
            name, word = re.fullmatch(r"([\w.-]+) != '(\w*)'", part).groups()
            if value_of(name, context) == word:
                return False
    return True


@pytest.fixture
def repository(tmp_path):
    """``main``, and a branch beside it; ``merge(name)`` checks out what GitHub would."""
    return Repository(tmp_path / "project")


class Repository:
    def __init__(self, path):
        self.path = path
        path.mkdir()
        self.git("init", "--quiet", "--initial-branch=main")
        (path / "requirements.txt").write_text("pytest-diffspeed>=0.1\n")
        (path / ".gitignore").write_text("__pycache__\n")
        self.commit("pipes.py", PIPES)
        self.git("switch", "--quiet", "--create", "change")

    def git(self, *words):
        who = ("-c", "user.name=a", "-c", "user.email=a@example.org")
        done = subprocess.run(
            ["git", *who, *words], cwd=self.path, check=True, capture_output=True, text=True
        )
        return done.stdout.strip()

    def commit(self, file, text):
        (self.path / file).write_text(text, "utf-8")
        self.git("add", "--all")
        self.git("commit", "--quiet", f"--message=Write {file}")
        return self.git("rev-parse", "HEAD")

    def merge(self):
        """The merge commit that a job of a pull request checks out, and the base that it knows."""
        change = self.git("rev-parse", "HEAD")
        self.git("switch", "--quiet", "--detach", "main")
        self.git("merge", "--quiet", "--no-ff", "--message=Merge", change)
        self.git("update-ref", "refs/remotes/origin/main", "main")


@pytest.fixture
def act(repository, tmp_path):
    """Run the action's own commands; what each step ended with, and what the action hands on."""

    def act_(*, only=None, event="pull_request", github=None, environment=None, **inputs):
        given = {name: declared["default"] for name, declared in ACTION["inputs"].items()}
        assert set(name.replace("_", "-") for name in inputs) <= set(given)
        given |= {name.replace("_", "-"): value for name, value in inputs.items()}
        context = {
            "inputs": given,
            "steps": {},
            "github": {"server_url": "https://example.org", "repository": "a/b", "run_id": "17"}
            | (github or {}),
        }
        summary = tmp_path / "summary.md"
        done, failed = {}, False
        for number, step in enumerate(STEPS):
            if only is not None and step.get("id") != only:
                continue
            if not holds(step.get("if"), context, failed):
                context["steps"][step.get("id")] = {"outcome": "skipped"}
                continue
            if "uses" in step:
                done[step["name"]] = None
                continue
            script, output = tmp_path / f"step{number}", tmp_path / f"output{number}"
            script.write_text(step["run"], "utf-8")
            output.write_text("")
            ran = subprocess.run(
                [*SHELLS[step["shell"]], str(script)],
                cwd=repository.path / filled(step["working-directory"], context),
                env={
                    **{k: v for k, v in os.environ.items() if not k.startswith("PYTEST_")},
                    "PATH": os.pathsep.join([str(Path(sys.executable).parent), os.environ["PATH"]]),
                    "GITHUB_ACTIONS": "true",
                    "GITHUB_ACTION_PATH": str(ROOT),
                    "GITHUB_BASE_REF": "main" if event == "pull_request" else "",
                    "GITHUB_EVENT_NAME": event,
                    "GITHUB_OUTPUT": str(output),
                    "GITHUB_STEP_SUMMARY": str(summary),
                    "TMPDIR": str(tmp_path),
                    **{name: filled(text, context) for name, text in step["env"].items()},
                    **(environment or {}),
                },
                capture_output=True,
                text=True,
                check=False,
            )
            done[step["name"]] = ran
            failed |= ran.returncode != 0
            lines = output.read_text("utf-8").splitlines()
            context["steps"][step.get("id")] = {
                "outcome": "failure" if ran.returncode else "success",
                "outputs": dict(line.split("=", 1) for line in lines),
            }
        handed_on = {
            name: filled(declared["value"], context) for name, declared in ACTION["outputs"].items()
        }
        assert not list(tmp_path.rglob("pwned*")), "an input was run"
        return done, handed_on, summary.read_text("utf-8") if summary.exists() else ""

    return act_


GATE = "Gate against the base"


@pytest.fixture
def installed(tmp_path_factory):
    """The environment in which pip, without a network, puts this package into a new folder."""
    return {
        "PIP_NO_INDEX": "1",
        "PIP_NO_DEPS": "1",
        "PIP_NO_BUILD_ISOLATION": "0",  # which is how pip is told to build without isolation
        "PIP_TARGET": str(tmp_path_factory.mktemp("site")),
        "PIP_DISABLE_PIP_VERSION_CHECK": "1",
    }


@pytest.mark.slow
def test_a_pull_request_from_green_to_red(act, repository, installed, tmp_path):
    """It is green with the package that the action installs, and red once a sync is planted."""
    repository.commit("test_syncs.py", TEST)
    expect = f"gates {HOSTILE}.txt"
    repository.commit(expect, f"{CLAIM}\n")
    repository.merge()
    site = installed["PIP_TARGET"]
    environment = {**installed, "PYTHONPATH": site, "OMP_NUM_THREADS": "1"}
    out = f"reports {HOSTILE}"
    done, handed_on, summary = act(
        environment=environment,
        args=f"""-p no:benchmark --deselect='{HOSTILE.replace("'", "")}' """,
        base="none",
        device="cpu",
        expect=expect,
        report_folder=out,
        store=f"sqlite:///{tmp_path}/history {HOSTILE}.sqlite",
    )
    gate = done[GATE]
    assert gate.returncode == 0, gate.stdout + gate.stderr
    assert "1 of 1 gates verified" in gate.stdout
    assert (Path(site) / "pytest_diffspeed").is_dir()
    assert list(done) == [step["name"] for step in STEPS]
    assert {name: handed_on[name] for name in ("verdict", "status", "pass", "fail", "base")} == {
        **{"verdict": "PASS", "status": "0", "pass": "1", "fail": "0", "base": "none"}
    }
    report = repository.path / handed_on["report"]
    assert report.parent.name == out
    assert report.is_file()
    assert summary.startswith("## diffspeed: 1 PASS")
    comment = report.with_name("comment.md").read_text("utf-8")
    assert comment.startswith("<!-- diffspeed: diffspeed -->\n## diffspeed: 1 PASS\n")
    assert comment.endswith("[Log and HTML report](https://example.org/a/b/actions/runs/17)\n")
    assert repository.git("status", "--short") == ""

    # The same pull request with a sync in its step.
    repository.git("switch", "--quiet", "change")
    repository.commit("pipes.py", PIPES.replace(STEP, SYNC + STEP))
    repository.merge()
    # Not against the base: two processes more.  That the base arrives is tested below.
    done, handed_on, summary = act(
        environment=environment, args="-p no:benchmark", base="none", device="cpu", install=""
    )
    gate = done[GATE]
    assert gate.returncode == 1, gate.stdout + gate.stderr
    assert "Install" not in done
    assert done["Keep the reports"] is None  # it would be run, though the gate is red
    assert done["Keep the caches"] is None
    assert (handed_on["verdict"], handed_on["fail"]) == ("FAIL", "1")
    gates = read_journal(repository.path / "diffspeed-report/records.jsonl").gates
    assert [gate.result.claim for gate in gates if gate.result.blocking] == [CLAIM.split(" | ")[1]]
    line = PIPES[: PIPES.index(STEP)].count("\n") + 1
    assert f"::error file=pipes.py,line={line},title=FAIL no_gpu_syncs" in gate.stdout
    assert "## diffspeed: 1 FAIL" in summary
    comment = (repository.path / "diffspeed-report/comment.md").read_text("utf-8")
    assert "model_output.max().item()" in comment


RECORDER = """#!/usr/bin/env bash
[ "$1" != -c ] || exec {python} "$@"
[ "$2" = pytest ] || exit 0
printf '%s\\n' "$PWD" "$@" >"$TMPDIR/words"
exit "$STATUS"
"""
"""In the place of Python: writes down the folder and words of pytest, and ends as it is told."""


def recorder(folder):
    path = folder / "python"
    path.parent.mkdir(exist_ok=True)
    path.write_text(RECORDER.replace("{python}", sys.executable))
    path.chmod(0o755)
    return path


def test_what_pytest_is_asked_for(act, repository, tmp_path):
    repository.commit("a.txt", "a")
    repository.merge()
    environment = {"PYTHON": str(recorder(tmp_path / "bin")), "STATUS": "4"}
    done, handed_on, summary = act(
        environment=environment,
        install="",
        args=f"tests -k {shlex.quote(HOSTILE)}",
        device=f"cuda:1{HOSTILE}",
        fail_on="inconclusive",
        report_folder=f"reports {HOSTILE}",
        store=f"sqlite:///{HOSTILE}",
    )
    base = repository.git("rev-parse", "main")
    _, *told = (tmp_path / "words").read_text("utf-8").splitlines()
    assert told[:3] == ["-m", "pytest", "--diffspeed"]
    assert told[-3:] == ["tests", "-k", HOSTILE]
    assert {
        f"--diffspeed-base={base}",
        f"--diffspeed-device=cuda:1{HOSTILE}",
        f"--diffspeed-html=reports {HOSTILE}/report.html",
        "--diffspeed-inconclusive=fail",
        f"--diffspeed-store=sqlite:///{HOSTILE}",
        "--diffspeed-strict",
    } <= set(told)
    assert done[GATE].returncode == 4
    assert (handed_on["verdict"], handed_on["status"]) == ("ERROR", "4")
    assert handed_on["base"] == base
    assert "**ERROR**: pytest ended with status 4" in summary


@pytest.mark.parametrize(
    ("test", "args", "said"),
    [
        ("def test_it(): ...\n", "", "no diffspeed test was collected, so this session fails"),
        ("def test_it(): ...\n", "-p no:diffspeed", "unrecognized arguments: --diffspeed"),
    ],
)
def test_no_gates_are_red(act, repository, test, args, said):
    repository.commit("test_it.py", test)
    repository.merge()
    done, handed_on, summary = act(only="gate", args=args, device="cpu", environment=NO_BASE)
    gate = done[GATE]
    assert gate.returncode not in (0, None)
    assert handed_on["verdict"] in ("FAIL", "ERROR")
    assert said in gate.stdout + gate.stderr
    comment = (repository.path / "diffspeed-report/comment.md").read_text("utf-8")
    for text in (comment, summary):
        assert f"**{handed_on['verdict']}**: " in text
        assert "PASS" not in text


NO_BASE = {"GATE_BASE": "none", "OMP_NUM_THREADS": "1"}


@pytest.mark.parametrize(
    ("inputs", "said"),
    [
        ({"name": HOSTILE}, "GATE_NAME takes letters, digits and . _ - only"),
        ({"name": "a\nverdict=PASS"}, "GATE_NAME takes letters, digits and . _ - only"),
        ({"report_folder": "a\nverdict=PASS"}, "GATE_OUT is no name of a folder"),
        ({"strict": f"true {HOSTILE}"}, "GATE_STRICT is true or false"),
        ({"fail_on": HOSTILE}, "GATE_FAIL_ON is fail or inconclusive"),
        ({"annotations": HOSTILE}, "GATE_ANNOTATIONS is true or false"),
        ({"args": '"never closed'}, "GATE_ARGS: No closing quotation"),
    ],
)
def test_what_makes_no_sense_is_refused_before_anything_runs(act, repository, inputs, said):
    done, handed_on, _ = act(only="gate", environment=NO_BASE, **inputs)
    gate = done[GATE]
    assert gate.returncode != 0
    assert said in gate.stderr
    assert handed_on["verdict"] == "ERROR"
    assert "test session starts" not in gate.stdout


def test_a_gate_without_a_base_is_refused(act):
    done, _, _ = act(only="gate")
    assert done[GATE].returncode == 2
    assert "GATE_BASE is not set" in done[GATE].stderr


@pytest.fixture
def base_of(act, repository):
    """The base that a job finds, or ``None`` where its step is red."""

    def base_of_(base="", **more):
        done, handed_on, _ = act(only="base", base=base, **more)
        step = done["Find the base"]
        assert (step.returncode == 0) == bool(handed_on["base"])
        assert step.returncode == 0 or "::error title=diffspeed::No base commit" in step.stdout
        return handed_on["base"] or None

    return base_of_


def test_the_base_of_a_pull_request_is_where_it_forked(base_of, repository):
    forked = repository.git("rev-parse", "main")
    repository.commit("a.txt", "a")
    repository.merge()
    assert base_of() == forked
    # main went on after this merge commit was made, and that is none of the pull request's.
    repository.git("branch", "--force", "main", "main")
    merged = repository.git("rev-parse", "HEAD")
    repository.git("switch", "--quiet", "main")
    moved = repository.commit("b.txt", "b")
    repository.git("update-ref", "refs/remotes/origin/main", moved)
    repository.git("switch", "--quiet", "--detach", merged)
    assert base_of() == forked
    assert base_of("main") == moved
    assert base_of("none") == "none"


def test_the_base_of_a_push(base_of, repository):
    first = repository.git("rev-parse", "main")
    second = repository.commit("a.txt", "a")
    repository.commit("b.txt", "b")
    event = {"before": second, "repository": {"default_branch": "main"}}
    assert base_of(event="push", github={"event": event}) == second
    repository.git("update-ref", "refs/remotes/origin/main", "main")
    new = event | {"before": "0" * 40}
    assert base_of(event="push", github={"event": new}) == first
    # On the default branch itself, and by hand or by the clock: the commit before.
    repository.git("update-ref", "refs/remotes/origin/main", "HEAD")
    assert base_of(event="schedule", github={"event": new}) == second
    queued = {"merge_group": {"base_sha": first}}
    assert base_of(event="merge_group", github={"event": queued}) == first


@pytest.mark.parametrize("base", ["", HOSTILE, "--help", "main\nbase=none", "no-such-branch"])
def test_a_base_that_is_not_there_is_red(base_of, repository, base):
    assert base_of(base) is None


def test_every_input_reaches_a_step_and_no_text_of_a_command():
    text = (ROOT / "action.yml").read_text("utf-8")
    for step in STEPS:
        assert ("run" in step) != ("uses" in step)
        assert "${{" not in step.get("run", ""), "expressions go through env: no shell injection"
    steps = text[text.index("\nruns:") :]
    for name in ACTION["inputs"]:
        assert f"inputs.{name}" in steps
    for declared in ACTION["inputs"].values():
        assert isinstance(declared["default"], str)


def test_every_input_and_output_is_documented():
    page = (ROOT / "examples/ci/README.md").read_text("utf-8")
    for name in (*ACTION["inputs"], *ACTION["outputs"]):
        assert f"`{name}`" in page
    for name, declared in ACTION["inputs"].items():
        if declared["default"]:
            row = next(line for line in page.splitlines() if line.startswith(f"| `{name}`"))
            assert f"`{declared['default']}`" in row


PINNED = re.compile(r"uses: (actions/[\w/-]+)@([0-9a-f]{40}) # v\d+\.\d+\.\d+$")


def test_what_is_not_ours_is_githubs_own_and_pinned():
    """To a commit, the same one everywhere: a tag can be moved."""
    pins = {}
    for path in (ROOT / "action.yml", *sorted((ROOT / "examples/ci").glob("*.yml"))):
        for line in path.read_text("utf-8").splitlines():
            if re.match(r"\s*(- )?uses: ", line) and "pytest-diffspeed@" not in line:
                found = PINNED.search(line)
                assert found, f"{path.name}: {line.strip()}"
                owner = "/".join(found[1].split("/")[:2])
                assert pins.setdefault(owner, found[2]) == found[2], f"{path.name}: {line.strip()}"
    assert set(pins) >= {"actions/cache", "actions/setup-python", "actions/upload-artifact"}


CI = ROOT / "examples/ci"


def is_workflow(path):
    return "\njobs:" in path.read_text("utf-8")


def run_tool(name, *words):
    """One of the extra ``dev``, which an older environment may lack."""
    found = shutil.which(
        name, path=os.pathsep.join([str(Path(sys.executable).parent), os.environ["PATH"]])
    )
    if found is None:
        leave_out(f"{name} is not installed: make venv")
    return subprocess.run([found, *words], capture_output=True, text=True, check=False, cwd=ROOT)


@pytest.mark.parametrize(
    ("schema", "paths"),
    [
        ("github-actions", [ROOT / "action.yml"]),
        ("github-workflows", [p for p in sorted(CI.glob("*.yml")) if is_workflow(p)]),
        ("gitlab-ci", sorted(CI.glob("*.gitlab-ci.yml"))),
    ],
)
def test_files_fit_the_schema_that_is_published_of_them(schema, paths):
    assert paths
    done = run_tool("check-jsonschema", f"--builtin-schema=vendor.{schema}", *map(str, paths))
    assert done.returncode == 0, done.stdout
