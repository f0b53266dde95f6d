"""Run the test suite on other versions of what the plugin stands on.

    make test-versions                          every environment
    make test-versions ARGS="lowest newest"     these
    make test-versions ARGS="lowest --failed"   in the environment that is there, only what fell

Environments are made under ``build/versions``; results go to ``docs/versions.jsonl`` and into the
table in ``docs/versions.md``.  Ends with 1 if a test fell and with 2 if an environment was not run.
"""

from __future__ import annotations

import argparse
import datetime
import subprocess
import sys
from pathlib import Path
from typing import Any

import suite
import table
from environments import ENVIRONMENTS, SHOWN, Environment
from making import FOLDER, ROOT, CannotRun, find_interpreter, make, versions_in


def main() -> int:
    known = {environment.name: environment for environment in ENVIRONMENTS}
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("names", nargs="*", metavar="ENVIRONMENT", help=", ".join(known))
    parser.add_argument(
        "--failed", action="store_true", help="run again what fell, in the environment as it is"
    )
    parser.add_argument("--only-make", action="store_true", help="make them and run nothing")
    args = parser.parse_args()
    unknown = sorted(set(args.names) - set(known))
    if unknown:
        parser.error(f"no environment is called {unknown[0]!r}; valid: {', '.join(known)}")
    chosen = [known[name] for name in args.names or known]
    results = [one(environment, args.failed, args.only_make) for environment in chosen]
    print("\n== versions")
    for result in results:
        print(said(result))
    states = {result["status"] for result in results}
    return 1 if table.FELL in states else 2 if table.NOT_RUN in states else 0


def one(environment: Environment, failed_only: bool, only_make: bool) -> dict[str, Any]:
    """Make an environment, run the suite in it and keep the result."""
    print(f"== {environment.name}: {environment.what}, Python {environment.python}", flush=True)
    result: dict[str, Any] = {"environment": environment.name, "date": f"{today()}"}
    try:
        if failed_only:
            python = FOLDER / environment.name / "venv/bin/python"
            if not python.exists() or environment.name not in table.read():
                raise CannotRun("nothing ran in it yet; leave out --failed")
        else:
            python = make(environment, find_interpreter(environment.python))
        versions = versions_in(python)
    except CannotRun as error:
        print(f"NOT RUN: {error}", file=sys.stderr)
        result |= {"status": table.NOT_RUN, "why": str(error).splitlines()[0]}
        if not failed_only:
            table.keep(result)
        return result
    print("   " + ", ".join(f"{name} {versions.get(name, 'absent')}" for name in SHOWN), flush=True)
    if only_make:
        return {**result, "status": table.GREEN, "passed": 0, "failed": 0, "skipped": 0}
    commit = commit_now()
    seconds, number = suite.run(environment, python, failed_only)
    found = suite.summary(suite.outcomes(environment))
    again: list[dict[str, Any]] = []
    if failed_only:
        before = table.read()[environment.name]
        again = [*before["again"], {"date": f"{today()}", "commit": commit, "tests": number}]
        seconds, commit = before["seconds"], before["commit"]
    result |= {
        "status": table.FELL if found["failed"] or not found["passed"] else table.GREEN,
        "commit": commit,
        "seconds": round(seconds),
        **found,
        "again": again,
        "versions": versions,
    }
    table.keep(result)
    return result


def said(result: dict[str, Any]) -> str:
    """One line about an environment."""
    if result["status"] == table.NOT_RUN:
        return f"{result['environment']}: NOT RUN: {result['why']}"
    counts = f"{result['passed']} passed, {result['failed']} fell, {result['skipped']} skipped"
    log = FOLDER.relative_to(ROOT) / result["environment"] / "suite.log"
    return f"{result['environment']}: {counts}" + (f"; see {log}" if result["failed"] else "")


def today() -> datetime.date:
    return datetime.date.today()


def commit_now() -> str:
    """The commit, with a ``+`` where files of it were changed; results themselves do not count."""
    git = ["git", "-C", str(Path(__file__).parents[2])]
    commit = subprocess.run(
        [*git, "rev-parse", "--short=10", "HEAD"], check=True, capture_output=True, text=True
    )
    changed = subprocess.run(
        [*git, "status", "--porcelain", "--untracked-files=no", "--", ":!docs/versions.*"],
        check=True,
        capture_output=True,
        text=True,
    )
    return commit.stdout.strip() + ("+" if changed.stdout.strip() else "")


if __name__ == "__main__":
    sys.exit(main())
