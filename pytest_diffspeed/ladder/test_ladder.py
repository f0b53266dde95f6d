"""Run with ``pytest --diffspeed --pyargs pytest_diffspeed.ladder``: one test a row."""

from __future__ import annotations

import pytest

from ..errors import DiffspeedError, DoesNotFitError, MissingHardwareError
from ..fixtures import session_of
from ..specs import ArmSpec
from ..stash import OUTCOME, new_outcome, options_of
from ..techniques.stacks import Stack
from .measure import measure_row, row_of
from .steps import Step, climb, steps_of


def pytest_generate_tests(metafunc: pytest.Metafunc) -> None:
    steps = steps_of(options_of(metafunc.config).techniques)
    metafunc.parametrize("step", steps, ids=[step.id for step in steps])


@pytest.mark.usefixtures("diffspeed")
def test_ladder(step: Step, request: pytest.FixtureRequest) -> None:
    """One stack against the baseline and against the step before."""
    from ..techniques.apply import check_fit

    session = session_of(request.config)
    source = session.options.pipeline
    baseline = session.baseline(source)

    def why_not(stack: Stack) -> str | None:
        try:
            check_fit(stack, baseline.pipeline, session.device)
        except (MissingHardwareError, DoesNotFitError) as error:
            return str(error)
        return session.misfits.get(ArmSpec(source, stack))

    climbed = climb(steps_of(session.options.techniques), step, why_not)
    row = row_of(climbed, source=source, cumulative=step.adds is not None)
    request.node.stash[OUTCOME] = outcome = new_outcome()
    outcome["ladder"].append(row)
    spec = ArmSpec(source, climbed.stack)
    candidate = None
    try:
        candidate = session.prepare(spec)
        measure_row(climbed, candidate, session, row)
    except MissingHardwareError as error:
        row |= {"status": "missing hardware", "reason": str(error)}
        pytest.skip(f"NOT_APPLICABLE: {error}")
    except DoesNotFitError as error:
        session.misfits[spec] = str(error)
        row |= {"status": "does not fit", "reason": str(error)}
        pytest.skip(f"does not fit: {error}")
    except DiffspeedError as error:
        row |= {"status": "failed", "reason": str(error)}
        pytest.fail(str(error), pytrace=False)
    finally:
        session.journal.write("ladder", **row)
        session.release(candidate)
