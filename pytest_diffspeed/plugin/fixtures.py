"""The fixtures.  Importing this file imports no torch; using a fixture does."""

from __future__ import annotations

import warnings
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import TYPE_CHECKING, Any

import pytest

from .public_names import NEEDS_OPTION
from .stash import PLAN, SESSION

if TYPE_CHECKING:
    from diffusers import DiffusionPipeline

    from ..arms.prepared_arm import PreparedArm
    from ..arms.session import Session
    from ..arms.spec import ArmSpec
    from ..techniques.stacks import Stack
    from ..timing.comparison import SpeedupResult


def session_of(config: pytest.Config) -> Session:
    """The diffspeed session of this pytest process; skips without ``--diffspeed``.

    Tests that take a fixture of ours never get here without it; those that call
    ``request.getfixturevalue`` do.
    """
    make = config.stash.get(SESSION, None)
    if make is None:
        pytest.skip(NEEDS_OPTION)
    return make()


class DiffspeedHandle:
    """What the ``diffspeed`` fixture gives: the session's device and options, to use in a body."""

    def __init__(self, session: Session, source: str, stack: Stack) -> None:
        self._session = session
        self._source = source
        self._stack = stack

    @property
    def device(self) -> str:
        """``"cpu"`` or ``"cuda:0"``."""
        return str(self._session.device)

    @property
    def baseline(self) -> PreparedArm:
        """The fp32 arm: its ``pipeline``, the fixed ``call`` and its proofs."""
        return self._session.arms.baseline(self._source, self._stack)

    def run(self, pipeline: DiffusionPipeline, **changes: Any) -> Any:
        """Call ``pipeline`` with the session's fixed prompt, seed, steps and latents.

        Returns images, ``1 × 3 × height × width`` in [0, 1].
        """
        __tracebackhide__ = True
        from ..common.quiet import third_party

        with third_party():
            return self.baseline.call(pipeline, **changes)

    def measure_speedup(
        self,
        baseline: Callable[[], object],
        candidate: Callable[[], object],
        *,
        min_ratio: float,
        **options: Any,
    ) -> SpeedupResult:
        """:func:`pytest_diffspeed.measure_speedup` with the session's clock and budget, alone on
        the device.
        """
        __tracebackhide__ = True
        from ..timing.speedup import measure_speedup

        options.setdefault("budget_s", self._session.options.budget_s)
        options.setdefault("clock", self._session.clock)
        with self._session.exclusive_device():
            return measure_speedup(baseline, candidate, min_ratio=min_ratio, **options)


@pytest.fixture(scope="session")
def _arm_spec(request: pytest.FixtureRequest) -> ArmSpec:
    if not hasattr(request, "param"):
        session_of(request.config)
        pytest.fail(
            "`optimized_pipeline` and `technique` must be arguments of the test, which runs once "
            "per stack; request.getfixturevalue comes too late for that",
            pytrace=False,
        )
    spec: ArmSpec = request.param
    return spec


@pytest.fixture(scope="session")
def technique(_arm_spec: ArmSpec) -> Stack:
    """The stack that this test runs with; ``str(technique)`` is its canonical name."""
    return _arm_spec.stack


@pytest.fixture(scope="session")
def _prepared(_arm_spec: ArmSpec, request: pytest.FixtureRequest) -> Iterator[PreparedArm]:
    from ..techniques.technique import KnownSlowWarning

    with _in_one_sentence():
        session = session_of(request.config)
        prepared = session.arms.prepare(_arm_spec)
    for sentence in prepared.applied.known_slow:
        warnings.warn(KnownSlowWarning(sentence), stacklevel=1)
    yield prepared
    session.arms.release(prepared)


@pytest.fixture
def optimized_pipeline(_prepared: PreparedArm) -> Iterator[DiffusionPipeline]:
    """The pipeline with this test's stack applied and proven effective."""
    from ..techniques.apply import defined_state

    with defined_state(
        _prepared.spec.stack
    ):  # the flags only: a body's own warnings are its user's
        yield _prepared.pipeline


@pytest.fixture
def baseline_pipeline(request: pytest.FixtureRequest) -> Iterator[DiffusionPipeline]:
    """The pipeline in true fp32, eager, with the adapters of this test's stack; built once a
    session.
    """
    with _in_one_sentence():
        prepared = session_of(request.config).arms.baseline(_source(request), _stack(request))
    from ..techniques.apply import defined_state

    with defined_state(prepared.spec.stack):
        yield prepared.pipeline


@pytest.fixture
def diffspeed(request: pytest.FixtureRequest) -> DiffspeedHandle:
    """The session's device, options and measuring functions, for imperative use."""
    return DiffspeedHandle(session_of(request.config), _source(request), _stack(request))


@contextmanager
def _in_one_sentence() -> Iterator[None]:
    """Say what went wrong without a traceback through our own code."""
    from ..common.errors import DiffspeedError, IncompatibleError, MissingHardwareError

    try:
        yield
    except MissingHardwareError as error:
        pytest.skip(f"NOT_APPLICABLE: {error}")
    except IncompatibleError as error:
        sentence = f"{error}; a skip would stay green forever, so name another stack or pipeline"
        raise pytest.fail.Exception(sentence, pytrace=False) from None
    except DiffspeedError as error:
        raise pytest.fail.Exception(str(error), pytrace=False) from None


def _stack(request: pytest.FixtureRequest) -> Stack:
    """That of the test; fp32 of one that runs with none."""
    from ..techniques.stacks import FP32

    callspec = getattr(request.node, "callspec", None)
    spec: ArmSpec | None = None if callspec is None else callspec.params.get("_arm_spec")
    return FP32 if spec is None else spec.stack


def _source(request: pytest.FixtureRequest) -> str:
    plan = request.node.stash.get(PLAN, None)
    session = session_of(request.config)
    return session.options.pipeline if plan is None or plan.source is None else plan.source
