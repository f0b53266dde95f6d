"""Whether two commits write the same records: ten small sessions in the tree of each.

    python tools/compare_sessions 2299ca5            that commit against the working tree
    python tools/compare_sessions 2299ca5 HEAD~3     two commits
    python tools/compare_sessions 2299ca5 --only base_commit

For a change that should move code and no behaviour.  Records are compared field by field, apart
from what differs between two runs of one tree: times, ids, seeds, folders (:data:`RUN_OWN`).  What
is left is printed; the command ends with 1 if there is anything.  Ratios are exactly 1: sessions
time with a clock on which every call takes a second.
"""

from __future__ import annotations

import argparse
import contextlib
import json
import os
import re
import subprocess
import sys
import tempfile
from collections.abc import Iterator
from pathlib import Path
from typing import Any

ROOT = Path(__file__).resolve().parents[2]
SESSIONS = Path(__file__).with_name("sessions")
RUN_OWN = re.compile(
    r"_s$|^(at|committed_at|seconds|candidate_first|time|date|seed|session|id|pid|commit|dirty|tree|digest|key|duration|process|processes"
    r"|rootdir|command|environment|noise|noise_floor|floor|budget|store|version|packages|started)$"
)
"""Names of fields that differ between two runs of one tree."""


def main() -> int:
    parser = argparse.ArgumentParser(
        prog="compare_sessions", description=(__doc__ or "").splitlines()[0]
    )
    parser.add_argument("before", help="a commit")
    parser.add_argument("after", nargs="?", help="a commit; the working tree if left out")
    names = sorted(path.stem for path in SESSIONS.glob("*.py") if path.stem != "conftest")
    parser.add_argument("--only", choices=names, action="append", help="these sessions")
    args = parser.parse_args()
    differences = 0
    with tree_of(args.before) as before, tree_of(args.after) as after:
        for name in args.only or names:
            found = list(differing(records_of(before, name), records_of(after, name)))
            print(f"{name}: {'the same' if not found else f'{len(found)} differences'}", flush=True)
            for line in found:
                print(f"  {line}")
            differences += len(found)
    print(f"{differences} differences in {len(args.only or names)} sessions")
    return 1 if differences else 0


@contextlib.contextmanager
def tree_of(commit: str | None) -> Iterator[Path]:
    """The files of a commit in a folder of its own; the working tree for ``None``."""
    if commit is None:
        yield ROOT
        return
    with tempfile.TemporaryDirectory() as folder:
        tree = Path(folder) / "tree"
        git("worktree", "add", "--detach", str(tree), commit)
        try:
            yield tree
        finally:
            git("worktree", "remove", "--force", str(tree))


def git(*args: str, cwd: Path = ROOT) -> str:
    run = subprocess.run(["git", *args], cwd=cwd, capture_output=True, text=True)
    if run.returncode:
        raise SystemExit(f"git {' '.join(args)}: {run.stderr.strip()}")
    return run.stdout


def records_of(tree: Path, name: str) -> list[dict[str, Any]]:
    """Run one session with the package of ``tree``; its records."""
    with tempfile.TemporaryDirectory() as folder:
        project = Path(folder) / "project"
        project.mkdir()
        for file in ("conftest.py", f"{name}.py"):
            target = file if file == "conftest.py" else f"test_{file}"
            (project / target).write_text((SESSIONS / file).read_text("utf-8"), "utf-8")
        args = ["--diffspeed-device=cpu", "--diffspeed-pipeline=random:sdxl-tiny"]
        args += ["--diffspeed-steps=2", "--diffspeed-store=none"]
        if name == "base_commit":
            git("init", "-q", cwd=project)
            git("add", "-A", cwd=project)
            who = ("-c", "user.name=a", "-c", "user.email=a@b")
            git(*who, "commit", "-q", "-m", "base", cwd=project)
            (project / f"test_{name}.py").open("a").write("\n# edited\n")
            args.append("--diffspeed-base=HEAD")
        environment = {**os.environ, "PYTHONPATH": str(tree), "OMP_NUM_THREADS": "1"}
        environment |= {"TMPDIR": folder, "PYTHONDONTWRITEBYTECODE": "1"}
        # By name: what is installed here says where the plugin is in one of the two trees only.
        environment["PYTEST_DISABLE_PLUGIN_AUTOLOAD"] = "1"
        plugin = re.search(r'pytest11\]\ndiffspeed = "(.+)"', (tree / "pyproject.toml").read_text())
        assert plugin is not None, "unreachable because every tree of ours declares its plugin"
        options = ["-q", "-p", "no:cacheprovider", "-p", plugin.group(1), "--diffspeed", *args]
        run = subprocess.run(
            [sys.executable, "-m", "pytest", *options, "--diffspeed-json=records.jsonl"],
            cwd=project,
            env=environment,
            capture_output=True,
            text=True,
        )
        path = project / "records.jsonl"
        if not path.exists():
            raise SystemExit(f"{name} in {tree} wrote no records:\n{run.stdout}{run.stderr}")
        lines = path.read_text("utf-8").splitlines()
        exit_line = {"kind": "exit", "code": run.returncode}
        return [*(normal(json.loads(line), folder) for line in lines), exit_line]


def normal(value: Any, folder: str) -> Any:
    """Without what is a run's own; numbers of a clock in sentences are ``#``."""
    if isinstance(value, dict):
        return {k: normal(v, folder) for k, v in value.items() if not RUN_OWN.search(k)}
    if isinstance(value, list):
        return [normal(item, folder) for item in value]
    if isinstance(value, str):
        value = value.replace(os.path.realpath(folder), "~").replace(folder, "~")
        return re.sub(r"\b\d+(\.\d+)?(e-?\d+)? s\b", "# s", value)
    return value


def differing(before: list[Any], after: list[Any]) -> Iterator[str]:
    """Where two sessions differ, as ``kind.field: before -> after``."""

    def sorted_of(records: list[Any]) -> list[tuple[tuple[str, ...], Any]]:
        keyed = [
            (tuple(str(r.get(k, "")) for k in ("kind", "test", "stack", "claim")), r)
            for r in records
        ]
        return sorted(keyed, key=lambda pair: pair[0])

    one, other = sorted_of(before), sorted_of(after)
    if [key for key, _ in one] != [key for key, _ in other]:
        for sign, these, those in (("-", one, other), ("+", other, one)):
            rest = [key for key, _ in those]
            for key, _ in these:
                if key in rest:
                    rest.remove(key)
                else:
                    yield f"{sign} {' '.join(filter(None, key))}"
        return
    for (key, was), (_, now) in zip(one, other, strict=True):
        for path, a, b in leaves(was, now, ()):
            where = " ".join(filter(None, key))
            yield f"{where}: {'.'.join(path)}: {short(a)} -> {short(b)}"


def leaves(a: Any, b: Any, path: tuple[str, ...]) -> Iterator[tuple[tuple[str, ...], Any, Any]]:
    if isinstance(a, dict) and isinstance(b, dict):
        for name in dict.fromkeys([*a, *b]):
            yield from leaves(a.get(name, "absent"), b.get(name, "absent"), (*path, name))
    elif isinstance(a, list) and isinstance(b, list) and len(a) == len(b):
        for place, (x, y) in enumerate(zip(a, b, strict=True)):
            yield from leaves(x, y, (*path, str(place)))
    elif isinstance(a, float) and isinstance(b, float):
        if abs(a - b) > 1e-6 * max(abs(a), abs(b)):
            yield path, a, b
    elif a != b:
        yield path, a, b


def short(value: Any) -> str:
    text = json.dumps(value, ensure_ascii=False) if not isinstance(value, str) else value
    return text if len(text) <= 200 else f"{text[:199]}…"


if __name__ == "__main__":
    sys.exit(main())
