"""Pytest hooks, and nothing else: options, collection, when gates run, and the terminal block.

Pytest imports this file in every session of an environment that has the package, so it imports no
torch; everything heavy is imported when ``--diffspeed`` asks for it.
"""

from __future__ import annotations

from collections.abc import Generator
from typing import Any

import pytest

from . import collection, options
from .fixtures import (  # noqa: F401  pytest finds the fixtures by these names
    NEEDS_OPTION,
    SESSION_KEY,
    _arm_spec,
    _prepared,
    baseline_pipeline,
    diffspeed,
    optimized_pipeline,
    session_of,
    technique,
)
from .markers import GATE_MARKERS, Diffspeed

OPTIONS = pytest.StashKey[options.Options]()
OUTCOME = pytest.StashKey[dict[str, Any]]()


def pytest_addoption(parser: pytest.Parser) -> None:
    options.add_options(parser)


def pytest_configure(config: pytest.Config) -> None:
    for signature in (Diffspeed.signature, *(marker.signature for marker in GATE_MARKERS)):
        config.addinivalue_line("markers", signature)
    config.stash[OPTIONS] = options.read_options(config)
    if options.enabled(config):
        from .active import activate

        activate(config, config.stash[OPTIONS])


def pytest_generate_tests(metafunc: pytest.Metafunc) -> None:
    if collection.STACK_FIXTURE not in metafunc.fixturenames:
        return
    collection.parametrize(metafunc, metafunc.config.stash[OPTIONS])


@pytest.hookimpl(wrapper=True)
def pytest_make_collect_report(
    collector: pytest.Collector,
) -> Generator[None, pytest.CollectReport, pytest.CollectReport]:
    report = yield
    if report.passed:
        collection.check_collected(report, collector.config.stash[OPTIONS].techniques)
    return report


def pytest_collection_modifyitems(config: pytest.Config, items: list[pytest.Item]) -> None:
    if options.enabled(config):
        return
    skip = pytest.mark.skip(reason=NEEDS_OPTION)
    for item in items:
        if collection.is_ours(item):
            item.add_marker(skip)


@pytest.hookimpl(wrapper=True)
def pytest_pyfunc_call(pyfuncitem: pytest.Function) -> Generator[None, object, object]:
    """Gates run in the call phase, after the body: a failing gate is a failure of this test."""
    plan = pyfuncitem.stash.get(collection.PLAN, None)
    if plan is None or not plan.gates or not options.enabled(pyfuncitem.config):
        return (yield)
    outcome = pyfuncitem.stash.setdefault(OUTCOME, {"gates": [], "not_run": [], "images": []})
    outcome["not_run"] = sorted({marker.claim for marker in plan.gates})
    result = yield  # a body that raises wins, and leaves its gates "not run"
    outcome["not_run"] = []
    from .active import check_gates

    check_gates(pyfuncitem, plan, session_of(pyfuncitem.config), outcome)
    return result


@pytest.hookimpl(wrapper=True)
def pytest_runtest_makereport(
    item: pytest.Item,
) -> Generator[None, pytest.TestReport, pytest.TestReport]:
    """Put what the gates found on the report: plain data, so that xdist carries it over."""
    report = yield
    plan = item.stash.get(collection.PLAN, None)
    if plan is not None and options.enabled(item.config):
        outcome = item.stash.get(OUTCOME, None) if report.when == "call" else None
        report.diffspeed = {  # type: ignore[attr-defined]
            "asked": len(plan.gates) if report.when == "setup" else 0,
            **(outcome or {"gates": [], "not_run": [], "images": []}),
        }
    return report
