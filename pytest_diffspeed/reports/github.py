"""What GitHub Actions shows beside the lines of a pull request: ``::error`` and ``::warning``.

Workflow commands as GitHub documents them: ``::error file=,line=,title=::text`` at the beginning of
a line; in the text ``%``, carriage return and line feed are escaped, in a property ``:`` and ``,``
too.  A step shows ten errors and ten warnings and drops the rest silently.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from ..records.reader import RecordedGate, RecordedSession
from ..records.verdict import VerdictKind
from .causes import cause_of_test, step_of_gate
from .guilty_lines import guilty_lines, in_checkout
from .terminal import describe, in_order, next_step

PER_STEP = 10
"""Annotations of one kind that GitHub shows of a step."""
LONGEST = 4000
"""Characters of one annotation: GitHub cuts longer ones (at 64 KB a message), people sooner."""


def annotation_lines(session: RecordedSession, *, workspace: Path | None = None) -> list[str]:
    """The commands, surest failure first.

    Errors are gates that fail their test, warnings are INCONCLUSIVE ones that do not.  What is more
    than GitHub shows is counted in the last one.  Gates of a test that was expected to fail say
    nothing.  ``workspace`` is the root of the checkout, from which GitHub counts paths, and
    ``session.path`` the folder that those of the records start from.

    A gate that failed for lines of the checkout's own code stands at the first of them, which is
    where a pull request that brought it has changed something, and names its test; others stand at
    their test.
    """
    places = {str(test["test"]): test for test in session.tests}
    expected = {id(gate.result) for gate in session.expected_failures}
    errors: list[str] = []
    warnings: list[str] = []
    for gate in _in_order(session.latest):
        result, place = gate.result, places.get(gate.result.test, {})
        if result.blocking and id(result) not in expected:
            errors.append(_annotation("error", gate, place, session.path, workspace))
        elif result.verdict is VerdictKind.INCONCLUSIVE and not result.blocking:
            warnings.append(_annotation("warning", gate, place, session.path, workspace))
    errors += [_failed(line, session.path, workspace) for line in session.failed_otherwise]
    return [*_at_most("error", errors), *_at_most("warning", warnings)]


def _in_order(gates: Sequence[RecordedGate]) -> list[RecordedGate]:
    by_result = {id(gate.result): gate for gate in gates}
    return [by_result[id(result)] for result in in_order([gate.result for gate in gates])]


def _at_most(kind: str, commands: list[str]) -> list[str]:
    if len(commands) <= PER_STEP:
        return commands
    shown = commands[: PER_STEP - 1]
    left = len(commands) - len(shown)
    what = "gates or tests failed" if kind == "error" else "gates were INCONCLUSIVE"
    return [*shown, f"::{kind} title=diffspeed::{left} more {what}: see the log of this step"]


def _annotation(
    kind: str,
    gate: RecordedGate,
    place: Mapping[str, Any],
    root: Path,
    workspace: Path | None,
) -> str:
    result = gate.result
    verdict = result.verdict if gate.error is None else "not checked:"
    title = f"{verdict} {result.claim} [{result.stack}]"
    test = result.test
    source = _source(gate, root, workspace)
    if source is not None:
        if "file" in place:
            file = _from_workspace(str(place["file"]), root, workspace)
            test += f" ({file}:{place.get('line', 1)})"
        # From the root of the checkout already.
        place, root = source, workspace or root
    parts = (test, describe(result), result.reason, *step_of_gate(gate))
    text = "\n".join(part for part in parts if part)
    return _command(kind, title, text, place, root, workspace)


def _source(gate: RecordedGate, root: Path, workspace: Path | None) -> Mapping[str, Any] | None:
    """The first line of the checkout that a gate failed for."""
    if gate.result.verdict is not VerdictKind.FAIL:
        return None
    for file, line in guilty_lines(gate.result.figures):
        own = in_checkout(file, root, workspace or root)
        if own is not None:
            return {"file": own, "line": line}
    return None


def _failed(place: Mapping[str, Any], root: Path, workspace: Path | None) -> str:
    """A test that failed before its gates: a proof, a fixture, its own body."""
    cause = cause_of_test(place)
    error = place.get("error") or cause.found
    text = "\n".join([str(place["test"]), str(error), *next_step(cause)])
    return _command("error", "diffspeed test failed", text, place, root, workspace)


def _command(
    kind: str,
    title: str,
    text: str,
    place: Mapping[str, Any],
    root: Path,
    workspace: Path | None,
) -> str:
    properties = {"title": title}
    if "file" in place:
        properties = {
            "file": _from_workspace(str(place["file"]), root, workspace),
            "line": str(place.get("line", 1)),
            **properties,
        }
    if len(text) > LONGEST:
        text = text[:LONGEST] + " …"
    written = ",".join(f"{name}={property_text(value)}" for name, value in properties.items())
    return f"::{kind} {written}::{message_text(text)}"


def _from_workspace(file: str, root: Path, workspace: Path | None) -> str:
    """``file`` as GitHub wants it: from the root of the checkout, with forward slashes."""
    if workspace is not None:
        whole = (root / file).resolve()
        if whole.is_relative_to(workspace.resolve()):
            return whole.relative_to(workspace.resolve()).as_posix()
    return file


def message_text(text: str) -> str:
    """``text`` as the message of a workflow command: one line, which starts no other command."""
    escaped = text.replace("%", "%25").replace("\r", "%0D").replace("\n", "%0A")
    # Other controls would move the cursor, or (U+2028, form feed) split the line for some readers.
    return "".join(c if c.isprintable() or c == "\t" else "\ufffd" for c in escaped)


def property_text(text: str) -> str:
    """``text`` as a property of a workflow command."""
    return message_text(text).replace(":", "%3A").replace(",", "%2C")
