"""Run with ``pytest --diffspeed --pyargs pytest_diffspeed.ladder``: one test a row."""

from __future__ import annotations

from collections.abc import Callable
from typing import TYPE_CHECKING, Any

import pytest

from ..arms.spec import ArmSpec
from ..common.errors import (
    DiffspeedError,
    IncompatibleError,
    MissingHardwareError,
    UnknownStackError,
)
from ..plugin.fixtures import session_of
from ..plugin.stash import OUTCOME, new_outcome, options_of
from ..techniques.stacks import Stack
from .measure import measure_row, row_of
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
    candidate = None
    try:
        candidate = session.arms.prepare(spec)
        measure_row(candidate, _previous(session, source, resolved, row), session, row)
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


def _misfits(session: Session) -> dict[ArmSpec, str]:
    """Stacks that turned out not to fit when they were applied, and why."""
    found: dict[ArmSpec, str] = session.memo.setdefault("incompatible stacks", {})
    return found


def _why_not(session: Session, source: str) -> Callable[[Stack], str | None]:
    """Tells why a stack cannot be run, without building it."""
    from ..techniques.apply import check_compatible, check_compatible_with_call, observe_untouched

    baseline = session.arms.baseline(source)

    def why_not(stack: Stack) -> str | None:
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
