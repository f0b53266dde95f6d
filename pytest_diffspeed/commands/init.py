"""``diffspeed init``: a first test file whose gates fit this pipeline and this machine.

It writes the file with gates that allow nothing, runs it, and writes what is red today into the
markers as allowances with their lines.  So the first run is green, says what it leaves alone, and
goes red as soon as anything grows.
"""

from __future__ import annotations

import argparse
import os
import shutil
import subprocess
import sys
import tempfile
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path

from ..common.errors import UsageError
from ..common.files import replace_file
from ..common.progress import Progress
from ..common.text import listed
from ..common.workdir import workdir
from ..pipelines.sources import parse_source
from ..records.reader import RecordedSession, read_journal
from .first_look import Look, look_at, pipelines_in
from .first_tests import draft, final, stack_of

TEST_FILE = "test_diffspeed.py"
TRY_FILE = "diffspeed_init_try.py"
ADDED_WORDS = "PYTEST_ADDOPTS"
"""Where a shell keeps options for all sessions, such as ``-x`` or ``-k``."""
COUNTS = ("diffspeed-counts.txt", "diffspeed-gpu-costs")
WORKFLOW = Path(".github", "workflows", "diffspeed.yml")
TEMPLATE = Path(__file__).parent / "first_files" / "github.yml"
_INSTALL = "python -m pip install --requirement requirements.txt"
_CONFIGURED = {
    "pytest.ini": "",
    ".pytest.ini": "",
    "pytest.toml": "",
    "pyproject.toml": "[tool.pytest",
    "tox.ini": "[pytest]",
    "setup.cfg": "[tool:pytest]",
}
"""Where pytest looks for its options, and what must stand there for it to take that file."""


def add_parser(commands: argparse._SubParsersAction[argparse.ArgumentParser]) -> None:
    """Declare the command."""
    parser = commands.add_parser(
        "init",
        help="write a first test file whose gates fit a pipeline and this machine",
        description="Looks at a pipeline, writes tests, counts and a CI workflow into this folder, "
        "and prints what it found.  What is red today is allowed, with its line.  A file that is "
        "there is kept as it is.",
    )
    parser.add_argument(
        "source",
        nargs="?",
        metavar="SOURCE",
        help="a folder, a hub id, package.module:factory or random:NAME (default: the pipeline "
        "that lies in this folder)",
    )
    parser.add_argument(
        "--stacks", metavar="STACKS", help="by comma (default: bf16, on a GPU bf16+compile too)"
    )
    parser.add_argument("--device", default="auto", help="auto (default), cpu, cuda or cuda:N")
    parser.set_defaults(run=run)


def run(arguments: argparse.Namespace) -> int:
    """0: each gate that was tried is in the file, or says nothing here.

    1: one is not, or a stack could not be tested; why, and what to do, is printed.  The file holds
    the others; without any stack that could be tested none is written.

    Raises:
        DiffspeedError: there is no such pipeline, or it cannot be called.
    """
    folder = Path.cwd()
    tests = folder / "tests" if (folder / "tests").is_dir() else folder
    path = tests / TEST_FILE
    if path.exists():
        print(f"{_shown(path)} is there and was kept; delete it to have it written anew")
        return 0
    source = arguments.source or _only_pipeline(folder)
    parse_source(source).require_there()
    configured = configured_by(tests)
    # Where pytest has its rootdir, which the session of the try and all later ones agree on.
    project = configured if configured and folder.is_relative_to(configured) else folder
    progress = Progress(_say)
    with progress.phase(f"looking at {source}"), _importable(folder), _without_chatter():
        look = look_at(source, arguments.device)
    print(look)
    stacks = _stacks(arguments.stacks, look)
    fresh = not _written_counts(project)
    with progress.phase(f"trying {listed(stacks)}"):
        recorded = _tried(tests / TRY_FILE, look, stacks, project=project, fresh=fresh)
    found = [stack_of(stack, recorded, look) for stack in stacks]
    for one in found:
        print("\n".join(one.lines()))
    kept = [one for one in found if one.why_not is None]
    if not kept:
        print("no test was written: none of these stacks could be tested on this pipeline")
        if fresh:
            _remove_counts(project)
        return 1
    written = [path, *_written_counts(project)]
    named = source if configured else None
    if named is None:
        (folder / "pytest.ini").write_text(f"[pytest]\ndiffspeed_pipeline = {source}\n", "utf-8")
        written.append(folder / "pytest.ini")
    replace_file(path, final(look, kept, named))
    written += _workflow(folder)
    print(f"written: {', '.join(_shown(one) for one in written)}")
    print(f"next: python -m pytest --diffspeed{_device_word(arguments.device)} {_shown(path)}")
    missing = [f"{one.stack}: {gate.name}" for one in kept for gate in one.gates if gate.missing]
    missing += [f"{one.stack}: all" for one in found if one.why_not is not None]
    if missing:
        print(f"not gated: {listed(missing, len(missing))}; why stands above")
    return 1 if missing else 0


@contextmanager
def _importable(folder: Path) -> Iterator[None]:
    """A factory may stand in a module of ``folder``, as for ``python -m pytest``."""
    sys.path.insert(0, str(folder))
    try:
        yield
    finally:
        sys.path.remove(str(folder))


@contextmanager
def _without_chatter() -> Iterator[None]:
    """What libraries print to stderr while they are imported is no finding of ours."""
    kept = os.dup(2)
    nowhere = os.open(os.devnull, os.O_WRONLY)
    os.dup2(nowhere, 2)
    try:
        yield
    finally:
        os.dup2(kept, 2)
        os.close(nowhere)
        os.close(kept)


def _only_pipeline(folder: Path) -> str:
    found = pipelines_in(folder)
    if len(found) == 1:
        return f"./{found[0]}" if os.sep not in str(found[0]) else str(found[0])
    if found:
        raise UsageError(
            f"there are several pipelines here ({listed([str(one) for one in found])}); name one: "
            f"diffspeed init {found[0]}"
        )
    raise UsageError(
        "no folder here has a model_index.json; name a pipeline: a folder, a hub id, "
        "package.module:factory, or random:NAME for random weights"
    )


def _stacks(given: str | None, look: Look) -> list[str]:
    from ..techniques.stacks import parse_stacks

    stacks = parse_stacks(given or ("bf16,bf16+compile" if look.on_gpu else "bf16"))
    if any(stack.is_baseline for stack in stacks):
        raise UsageError("--stacks: fp32 is what the others are held against; leave it out")
    return list(dict.fromkeys(stack.name for stack in stacks))


def _tried(
    path: Path, look: Look, stacks: Sequence[str], *, project: Path, fresh: bool
) -> RecordedSession:
    """What the gates find that allow nothing, in a session of its own.

    The draft at ``path`` has a name that pytest takes only when it is given: one that a kill
    leaves behind is never taken for what is kept.  ``fresh``: no counts are in ``project``, so they
    are saved there.

    Raises:
        UsageError: the session did not come to its end.
    """
    with tempfile.TemporaryDirectory(prefix="diffspeed-init-") as temporary:
        records = Path(temporary, "records.jsonl")
        words = [
            *("--diffspeed", f"--diffspeed-json={records}", "--diffspeed-store=none"),
            *(f"--diffspeed-device={look.device}", "--override-ini=addopts="),
            *("-q", "-p", "no:cacheprovider", f"--rootdir={project}"),
            *(("--diffspeed-save-counts",) if fresh else ()),
        ]
        replace_file(path, draft(look, stacks))
        ended = False
        try:
            done = subprocess.run(
                [sys.executable, "-m", "pytest", str(path), *words],
                stdout=subprocess.PIPE,
                stderr=subprocess.STDOUT,
                text=True,
                errors="replace",
                env={name: value for name, value in os.environ.items() if name != ADDED_WORDS},
            )
            ended = done.returncode in (0, 1) and records.is_file()
        finally:
            path.unlink()  # it allows nothing; what is kept is written when all is known
            if fresh and not ended:  # stopped by the user, or dead
                _remove_counts(project)  # of a part of its gates
        (workdir(Path.cwd()) / "init.log").write_text(done.stdout, "utf-8")
        if not ended:
            raise UsageError(
                f"the session that was to try {listed(list(stacks))} did not come to its end "
                f"({_ended(done.returncode)}), so nothing was written:\n"
                + "\n".join(done.stdout.splitlines()[-15:])
            )
        return read_journal(records)


def _ended(code: int) -> str:
    return f"exit status {code}" if code >= 0 else f"signal {-code}"


def _remove_counts(folder: Path) -> None:
    for path in _written_counts(folder):
        shutil.rmtree(path) if path.is_dir() else path.unlink()


def _written_counts(folder: Path) -> list[Path]:
    return [folder / name for name in COUNTS if (folder / name).exists()]


def configured_by(folder: Path) -> Path | None:
    """The folder of the file with pytest's options for tests in ``folder``: it, or one above it.

    Pytest takes the nearest, and files of a project's root are for its packages too.
    """
    return next((place for place in (folder, *folder.parents) if _is_configured(place)), None)


def _is_configured(folder: Path) -> bool:
    """Whether a file here has pytest's options."""
    files = {folder / name: word for name, word in _CONFIGURED.items()}
    return any(
        path.is_file() and word in path.read_text("utf-8", errors="replace")
        for path, word in files.items()
    )


def _workflow(folder: Path) -> list[Path]:
    """GitHub's workflow, where this is the root of a repository that has none of ours."""
    if not (folder / ".git").exists():
        print("no CI workflow was written: this folder is not the root of a git repository")
        return []
    if (folder / ".gitlab-ci.yml").exists():
        print("no CI workflow was written: examples/ci of pytest-diffspeed has one for GitLab")
        return []
    path = folder / WORKFLOW
    if path.exists():
        print(f"{_shown(path)} is there and was kept")
        return []
    text = TEMPLATE.read_text("utf-8")
    assert _INSTALL in text
    if not (folder / "requirements.txt").is_file():
        own = " --editable ." if (folder / "pyproject.toml").is_file() else ""
        text = text.replace(_INSTALL, f"python -m pip install pytest-diffspeed{own}")
        text = text.replace("          cache: pip\n", "")  # it hashes a requirements.txt
    replace_file(path, text)
    return [path]


def _device_word(device: str) -> str:
    return "" if device == "auto" else f" --diffspeed-device={device}"


def _shown(path: Path) -> str:
    return Path(os.path.relpath(path)).as_posix()


def _say(text: str) -> None:
    print(text, file=sys.stderr, flush=True)
