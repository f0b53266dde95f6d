"""What collected tests ask for: stacks and gates, read from their markers and checked.

Every problem of a module is reported at once, each with the test, its file and line.
"""

from __future__ import annotations

import difflib
import unittest
from collections.abc import Iterable

import pytest

from ..adapters.pytest_internals import fixture_module, fixture_place
from ..arms.session_options import Options
from ..arms.spec import ArmSpec
from ..common.errors import UsageError, nearest
from ..gates.marker import GateMarker, parse
from ..gates.registry import gates, marker_types
from ..pipelines.names import check_source_text
from ..techniques.stacks import Stack
from .plan import Plan
from .public_names import (
    FIXTURES,
    GATED_FIXTURE,
    OUR_FIXTURES,
    PIPELINE_FIXTURE,
    STACK_FIXTURE,
    is_ours,
    our_marks,
    signatures,
)
from .stacks_marker import Diffspeed, parse_diffspeed
from .stash import PLAN, SPECS


def stacks_of(node: pytest.Item, options_techniques: tuple[Stack, ...]) -> tuple[Stack, ...]:
    """The stacks of a test; empty where neither its marker nor the command line names one.

    Raises:
        UsageError: the marker makes no sense.
    """
    marker = _diffspeed_marker(node)
    if options_techniques:
        return options_techniques
    return marker.stacks if marker is not None else ()


def source_of(node: pytest.Item) -> str | None:
    """The pipeline source that the test's marker names."""
    marker = _diffspeed_marker(node)
    return None if marker is None else marker.pipeline


def plan(item: pytest.Item, options_techniques: tuple[Stack, ...], default_source: str) -> Plan:
    """Read and check everything that one test asks for.

    Raises:
        UsageError: the first thing that makes no sense, in a sentence.
    """
    stacks = stacks_of(item, options_techniques)
    source = source_of(item)
    if source is not None:
        try:
            check_source_text(source)
        except Exception as error:
            raise UsageError(f"diffspeed(pipeline={source!r}): {error}") from None
    asked = tuple(
        parse(_marker_type(mark.name), mark.args, mark.kwargs)
        for mark in our_marks(item)
        if mark.name != Diffspeed.marker
    )
    _refuse_misspelt(item)
    names = getattr(item, "fixturenames", ())
    _refuse_overridden(item, gated=bool(asked))
    needed = GATED_FIXTURE if asked else STACK_FIXTURE
    marked = sorted({mark.name for mark in our_marks(item)})
    if marked and needed not in names:
        used = [name for name in FIXTURES if name in names]
        has = f"only {', '.join(used)}" if used else "no diffspeed fixture"
        raise UsageError(
            f"it is marked {', '.join(marked)} but takes {has}, so nothing could ever be checked; "
            "let the test take `optimized_pipeline`"
        )
    if STACK_FIXTURE in names and stacks:
        _refuse_unparametrized(item)
    if STACK_FIXTURE in names and not stacks:
        raise UsageError(
            "it uses `optimized_pipeline` or `technique` but names no stack; add for example "
            "@pytest.mark.diffspeed('compile')"
        )
    for gate in asked:
        _check_gate(gate, stacks, source or default_source, overridden=bool(options_techniques))
    return Plan(stacks, source, asked, our_marks(item))


def _marker_type(name: str) -> type[GateMarker]:
    """The marker of that name.

    Raises:
        UsageError: its file registers it and has no gate for it.
    """
    found = marker_types().get(name)
    if found is None:
        raise UsageError(
            f"{name}: this version has no such gate yet, and a gate that cannot fire must not look "
            f"like one; remove the marker. It has: {', '.join(sorted(marker_types()))}"
        )
    return found


def _refuse_overridden(item: pytest.Item, *, gated: bool) -> None:
    """Refuse another ``optimized_pipeline``: gates would look at ours, and the body at theirs.

    Raises:
        UsageError: names the place of the other one.
    """
    module = fixture_module(item, PIPELINE_FIXTURE)
    if gated and module not in (None, OUR_FIXTURES):
        raise UsageError(
            f"`{PIPELINE_FIXTURE}` is overridden at {fixture_place(item, PIPELINE_FIXTURE)}: gates "
            "look at the pipeline that pytest-diffspeed built, and the test's body would get "
            "another object; give your fixture another name, or change the pipeline in a technique "
            "or in its source"
        )


def _refuse_unparametrized(item: pytest.Item) -> None:
    """Refuse a test that names stacks and was not made to run once for each of them.

    Raises:
        UsageError: says why, and what to write.
    """
    if STACK_FIXTURE in getattr(getattr(item, "callspec", None), "params", {}):
        return
    if issubclass(getattr(item, "cls", None) or object, unittest.TestCase):
        raise UsageError(
            "it is a method of a unittest.TestCase, which pytest cannot run once per stack; write "
            "it as a function, or in a class without that base"
        )
    raise UsageError(
        "its diffspeed marker comes too late to run it once per stack, as that of a "
        "pytest.param(…, marks=…) does; mark the function itself"
    )


def _refuse_misspelt(item: pytest.Item) -> None:
    """Refuse a marker that is nearly one of ours: pytest would ignore it, and nothing be checked.

    Raises:
        UsageError: names the marker and the one that is meant.
    """
    registered = {
        line.partition(":")[0].partition("(")[0] for line in item.config.getini("markers")
    }
    for mark in item.iter_markers():
        if mark.name in registered:
            continue
        meant = [
            *difflib.get_close_matches(mark.name, signatures(), n=1, cutoff=0.85),
            *(known for known in signatures() if known.partition("_")[2] == mark.name),
        ]
        if meant:
            raise UsageError(
                f"no marker is called {mark.name!r}, so it would check nothing; did you mean "
                f"{meant[0]!r}? (If it is one of your own, register it in `markers`.)"
            )


def parametrize(metafunc: pytest.Metafunc, options: Options) -> None:
    """Run a test once per stack.  A marker that makes no sense is left to :func:`plan`."""
    try:
        stacks = stacks_of(metafunc.definition, options.techniques)
        source = source_of(metafunc.definition) or options.pipeline
    except UsageError:
        return
    # One object per arm: pytest keeps a session-scoped fixture for as long as the parameter *is*
    # the same, and orders the tests of a session by it (`group_by_value`).
    specs = metafunc.config.stash.setdefault(SPECS, {})
    chosen = [specs.setdefault((source, stack), ArmSpec(source, stack)) for stack in stacks]
    if chosen:
        ids = [stack.name for stack in stacks]
        metafunc.parametrize("_arm_spec", chosen, ids=ids, indirect=True, scope="session")


def _check_gate(
    gate: GateMarker, stacks: tuple[Stack, ...], source: str, *, overridden: bool
) -> None:
    known = gates()[type(gate)]
    unavailable = known.unavailable(gate) or known.unfit(gate, source)
    if unavailable is not None:
        raise UsageError(f"{gate.marker}: {unavailable}")
    if gate.only_stack is not None and gate.only_stack not in stacks and not overridden:
        names = [stack.name for stack in stacks]
        raise UsageError(
            f"{gate.marker}(stack={gate.only_stack.name!r}): the test does not run with that "
            f"stack, so the gate could never fire; {nearest(gate.only_stack.name, names)}"
        )


def _diffspeed_marker(node: pytest.Item) -> Diffspeed | None:
    """The closest one: a test's own replaces that of its class or module, ``pipeline=`` too."""
    mark = node.get_closest_marker(Diffspeed.marker)
    return None if mark is None else parse_diffspeed(mark.args, mark.kwargs)


def plan_again(items: Iterable[pytest.Item], options: Options) -> None:
    """Plan the tests whose markers changed since they were collected.

    Raises:
        pytest.UsageError: what a conftest or a plugin added makes no sense.
    """
    problems: dict[str, None] = {}
    for item in items:
        before = item.stash.get(PLAN, None)
        if before is not None and before.marks == our_marks(item):
            continue
        try:
            now = plan(item, options.techniques, options.pipeline)
            if before is not None and before.stacks != now.stacks:
                raise UsageError(
                    "a diffspeed marker was added after it was collected, too late to run it once "
                    "per stack; mark it in its file"
                )
            gone = _claims(before) - _claims(now)
            if gone:
                raise UsageError(
                    f"{', '.join(sorted(gone))}: the marker was removed after it was collected, so "
                    "its gate would vanish without a word; skip or deselect the test instead, or "
                    "restrict the gate with `device=` or `stack=`"
                )
            item.stash[PLAN] = now
        except UsageError as error:
            problems[_format(item, error)] = None
    if problems:
        raise pytest.UsageError("diffspeed usage error\n" + "\n".join(problems))


def _claims(planned: Plan | None) -> set[str]:
    return set() if planned is None else {gate.claim for gate in planned.gates}


def require_planned(item: pytest.Item, planned: Plan | None) -> None:
    """Fail a test to which a marker was added while it ran: its gate was never checked."""
    before = () if planned is None else planned.marks
    if our_marks(item) != before:
        pytest.fail(
            "a diffspeed marker was added while the test ran, when gates are chosen already; mark "
            "it in its file, or in pytest_collection_modifyitems",
            pytrace=False,
        )


def check_collected(report: pytest.CollectReport, options: Options) -> None:
    """Plan every test of a collect report; turn the report into an error if one makes no sense."""
    problems = _problems(report.result, options)
    if problems:
        # Pytest does not go into the classes of a module with an error, and all problems of a
        # module are told at once.
        classes = [node for node in report.result if isinstance(node, pytest.Class)]
        problems |= _problems_in_classes(classes, options)
        report.outcome = "failed"
        report.longrepr = "diffspeed usage error\n" + "\n".join(problems)
        report.result = []


def _problems(nodes: Iterable[pytest.Item | pytest.Collector], options: Options) -> dict[str, None]:
    """What is wrong with the tests among ``nodes``, each once; the good ones get their plan."""
    problems: dict[str, None] = {}
    for item in nodes:
        if not isinstance(item, pytest.Item) or not is_ours(item):
            continue
        try:
            item.stash[PLAN] = plan(item, options.techniques, options.pipeline)
        except UsageError as error:
            problems[_format(item, error)] = None
    return problems


def _format(item: pytest.Item, error: UsageError) -> str:
    path, line, _ = item.location
    name = getattr(item, "originalname", None) or item.name
    return f"{path}:{(line or 0) + 1}: {name}: {error}"


def _problems_in_classes(classes: Iterable[pytest.Class], options: Options) -> dict[str, None]:
    problems: dict[str, None] = {}
    for cls in classes:
        nodes = list(cls.collect())
        problems |= _problems(nodes, options)
        inner = [node for node in nodes if isinstance(node, pytest.Class)]
        problems |= _problems_in_classes(inner, options)
    return problems
