"""Pytest hooks, and nothing else: options, collection, and when gates run.

Pytest imports this file in every session of an environment that has the package.  So it imports
next to nothing; a test or an option of ours brings in the rest, and ``--diffspeed`` torch.
"""

from __future__ import annotations

from collections.abc import Generator

import pytest

from ..adapters.pytest_internals import group_by_value
from . import declared_options as command_line
from . import hookspecs
from .fixtures import (  # noqa: F401  pytest finds the fixtures by these names
    _arm_spec,
    _prepared,
    baseline_pipeline,
    diffspeed,
    optimized_pipeline,
    session_of,
    technique,
)
from .public_names import NEEDS_OPTION, STACK_FIXTURE, is_ours, signatures
from .stash import OUTCOME, PLAN, is_red, new_outcome, options_of


def pytest_addhooks(pluginmanager: pytest.PytestPluginManager) -> None:
    pluginmanager.add_hookspecs(hookspecs)


def pytest_addoption(parser: pytest.Parser) -> None:
    command_line.add_options(parser)


def pytest_configure(config: pytest.Config) -> None:
    for signature in signatures().values():
        config.addinivalue_line("markers", signature)
    if command_line.any_given(config):
        options = options_of(config)
        if command_line.enabled(config):
            from .activation import activate

            activate(config, options)
    in_vain = command_line.given_in_vain(config)
    if in_vain is not None:
        raise pytest.UsageError(
            f"{in_vain} was given without --diffspeed, and without it every diffspeed test is "
            "skipped; add --diffspeed (what may always stand there belongs into the ini file)"
        )


def pytest_generate_tests(metafunc: pytest.Metafunc) -> None:
    if STACK_FIXTURE in metafunc.fixturenames:
        from .collection import parametrize

        parametrize(metafunc, options_of(metafunc.config))


@pytest.hookimpl(wrapper=True)
def pytest_make_collect_report(
    collector: pytest.Collector,
) -> Generator[None, pytest.CollectReport, pytest.CollectReport]:
    report = yield
    tests = (node for node in report.result if isinstance(node, pytest.Item))
    if report.passed and any(is_ours(test) for test in tests):
        from .collection import check_collected

        check_collected(report, options_of(collector.config))
    if report.passed and command_line.enabled(collector.config):
        from .stray_marks import refuse_stray_marks

        refuse_stray_marks(collector, report)
    return report


@pytest.hookimpl(wrapper=True)
def pytest_collection_modifyitems(
    config: pytest.Config, items: list[pytest.Item]
) -> Generator[None, None, None]:
    group_by_value(items, STACK_FIXTURE)
    yield  # pytest orders them here, and a conftest may add markers
    ours = [item for item in items if is_ours(item)]
    if ours:
        from .collection import plan_again

        plan_again(ours, options_of(config))
    if not command_line.enabled(config):
        for item in ours:
            item.add_marker(pytest.mark.skip(reason=NEEDS_OPTION))


@pytest.hookimpl(wrapper=True)
def pytest_pyfunc_call(pyfuncitem: pytest.Function) -> Generator[None, object, object]:
    """Gates run in the call phase, after the body: a failing gate is a failure of this test."""
    if not command_line.enabled(pyfuncitem.config) or not is_ours(pyfuncitem):
        return (yield)
    try:
        return (yield from _with_gates(pyfuncitem))
    except KeyboardInterrupt:  # no report is made of this test: what it found is told here
        from .gate_phase import tell_stopped

        tell_stopped(pyfuncitem)
        raise


def _with_gates(pyfuncitem: pytest.Function) -> Generator[None, object, object]:
    plan = pyfuncitem.stash.get(PLAN, None)
    if plan is None or not plan.gates:
        from .collection import require_planned

        result = yield
        require_planned(pyfuncitem, plan)
        return result
    from .collection import require_planned
    from .gate_phase import check_gates

    # A new one each time: plugins that run a failed test again use the same item.
    outcome = new_outcome()
    pyfuncitem.stash[OUTCOME] = outcome
    outcome["not_run"] = sorted({marker.claim for marker in plan.gates})
    result = yield  # a body that raises wins, and leaves its gates "not run"
    outcome["not_run"] = []
    require_planned(pyfuncitem, plan)
    check_gates(pyfuncitem, plan, session_of(pyfuncitem.config), outcome)
    return result


@pytest.hookimpl(wrapper=True)
def pytest_runtest_makereport(
    item: pytest.Item, call: pytest.CallInfo[None]
) -> Generator[None, pytest.TestReport, pytest.TestReport]:
    """Put what the gates found on the report: plain data, so that xdist carries it over."""
    report = yield
    plan = item.stash.get(PLAN, None)
    if (plan is not None or OUTCOME in item.stash) and command_line.enabled(item.config):
        calls = command_line.runs_tests(item.config)
        gates = plan.gates if plan is not None and calls else ()
        claims = sorted({gate.claim for gate in gates})
        found = item.stash.get(OUTCOME, None) if report.when == "call" else None
        outcome = found or new_outcome()
        pictures = {}
        if found is not None:
            from .gateways import pictures_to_carry

            pictures = pictures_to_carry(item.config, found)
        if report.failed and report.when == "setup":
            outcome["not_run"] = claims
        if report.failed and not is_red(outcome):
            from .beside_gates import failure_beside_gates

            ran = bool(gates) and report.when != "setup" and not outcome["not_run"]
            told = failure_beside_gates(report, call.excinfo, has_gates=bool(gates), gates_ran=ran)
            outcome.update(told)
        report.diffspeed = {  # type: ignore[attr-defined]
            "asked": len(gates) if report.when == "setup" else 0,
            "claims": claims,
            **outcome,
            "pictures": pictures,
        }
    return report
