"""Run with ``pytest --diffspeed --pyargs pytest_diffspeed.ladder``: one test a row."""

from __future__ import annotations

import time
from collections.abc import Callable
from typing import TYPE_CHECKING, Any

import pytest

from ..arms.session_options import FULL, QUICK
from ..arms.spec import ArmSpec
from ..common.errors import (
    DiffspeedError,
    IncompatibleError,
    MissingHardwareError,
    UnknownStackError,
)
from ..common.text import plural
from ..plugin.fixtures import session_of
from ..plugin.stash import OUTCOME, new_outcome, options_of
from ..techniques.stacks import Stack
from ..techniques.technique import Family
from .composed import measure_composed
from .images import add_images
from .measure import measure_row, row_of
from .progress import RowsLeft
from .steps import ResolvedStep, Step, climb, steps_of

if TYPE_CHECKING:
    from ..arms.prepared_arm import PreparedArm
    from ..arms.session import Session


def pytest_generate_tests(metafunc: pytest.Metafunc) -> None:
    try:
        steps = steps_of(options_of(metafunc.config).techniques)
    except UnknownStackError as error:
        raise pytest.UsageError(str(error)) from None
    metafunc.parametrize("step", steps, ids=[step.id for step in steps])


@pytest.mark.usefixtures("diffspeed")
def test_ladder(step: Step, request: pytest.FixtureRequest) -> None:
    """One stack against the baseline and against the step before."""
    session = session_of(request.config)
    source = session.options.pipeline
    resolved = climb(steps_of(session.options.techniques), step, _why_not(session, source))
    row = row_of(resolved, source=source, cumulative=step.adds is not None)
    request.node.stash[OUTCOME] = outcome = new_outcome()
    outcome["about"] = session.about
    outcome["ladder"].append(row)
    spec = ArmSpec(source, resolved.stack)
    session.progress.line(f"{resolved.stack}: {_rows_left(request, session)}")
    candidate = None
    try:
        left_out = _left_out(session, source, resolved.stack)
        if left_out is not None:
            row |= {"status": "left out", "reason": left_out}
            pytest.skip(left_out)
        candidate = session.arms.prepare(spec)
        _measure(candidate, _previous(session, source, resolved, row), session, row)
        add_images(candidate, session, row)
    except MissingHardwareError as error:
        row |= {"status": "missing hardware", "reason": str(error)}
        pytest.skip(f"NOT_APPLICABLE: {error}")
    except IncompatibleError as error:
        _misfits(session)[spec] = str(error)
        row |= {"status": "incompatible", "reason": str(error)}
        pytest.skip(f"incompatible: {error}")
    except DiffspeedError as error:
        if candidate is None:  # it could not be built: the steps above it do without
            _misfits(session)[spec] = str(error)
        row |= {"status": "failed", "reason": str(error)}
        pytest.fail(str(error), pytrace=False)
    finally:
        session.journal.write("ladder", **row)
        session.arms.release(candidate)


def _measure(
    candidate: PreparedArm, previous: PreparedArm | None, session: Session, row: dict[str, Any]
) -> None:
    """By component calls, or by whole calls where these were asked for or nothing else is right."""
    from ..arms.component_calls import NotAloneError

    if session.options.ladder == QUICK:
        try:
            return measure_composed(candidate, previous, session, row)
        except NotAloneError as error:
            row["why_whole_calls"] = str(error)
            session.progress.line(f"{candidate.spec.stack} is timed in whole calls: {error}")
    measure_row(candidate, previous, session, row)


def _left_to_full(session: Session, stack: Stack) -> str | None:
    """Why the quick ladder leaves ``stack`` out; stacks that the user names are all measured."""
    asked = session.options.ladder == FULL or session.options.techniques
    if asked or all(t.family is not Family.COMPILE for t in stack.techniques()):
        return None
    return "it compiles, which takes minutes: --diffspeed-ladder=full"


def _left_out(session: Session, source: str, stack: Stack) -> str | None:
    """Why nobody who did not ask for ``stack`` wants to see it measured."""
    steps = stack.call_steps
    if steps is not None and not session.options.techniques:
        own = session.arms.baseline(source).call.defaults.steps
        if own <= steps:
            return f"the baseline's calls have {plural(own, 'step')}, so {steps} are not fewer"
    return _left_to_full(session, stack)


def _rows_left(request: pytest.FixtureRequest, session: Session) -> str:
    ours = [item for item in request.session.items if item.path == request.node.path]
    rows: RowsLeft = session.memo.setdefault(
        "rows of the ladder", RowsLeft(len(ours), time.monotonic())
    )
    return rows.next_row(time.monotonic())


def _misfits(session: Session) -> dict[ArmSpec, str]:
    """Stacks that turned out not to fit when they were applied, and why."""
    found: dict[ArmSpec, str] = session.memo.setdefault("incompatible stacks", {})
    return found


def _why_not(session: Session, source: str) -> Callable[[Stack], str | None]:
    """Tells why a stack cannot be run, without building it."""
    from ..techniques.apply import check_compatible, check_compatible_with_call, observe_untouched

    baseline = session.arms.baseline(source)

    def why_not(stack: Stack) -> str | None:
        left_out = _left_out(session, source, stack)
        if left_out is not None:
            return left_out
        try:
            check_compatible(stack, baseline.pipeline, session.device)
            if any(technique.watches for technique in stack.techniques()):
                if "untouched" not in baseline.memo:
                    seen = observe_untouched(baseline.pipeline, baseline.call)
                    baseline.memo["untouched"] = seen
                check_compatible_with_call(stack, baseline.pipeline, baseline.memo["untouched"])
        except (MissingHardwareError, IncompatibleError) as error:
            return str(error)
        return _misfits(session).get(ArmSpec(source, stack))

    return why_not


def _previous(
    session: Session, source: str, resolved: ResolvedStep, row: dict[str, Any]
) -> PreparedArm | None:
    """The step before; if it cannot be built, this row does without it and says so."""
    if resolved.previous is None:
        return None
    spec = ArmSpec(source, resolved.previous)
    try:
        return session.arms.other(spec)
    except DiffspeedError as error:
        _misfits(session)[spec] = str(error)
        row |= {"previous": None, "without_previous": str(error)}
        return None
