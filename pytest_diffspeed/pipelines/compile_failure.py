"""Why a compiled pipeline's first call failed: our report instead of dynamo's trace."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager
from typing import TYPE_CHECKING

from ..adapters.attributes import replaced
from ..common.errors import DiffspeedError
from ..common.quiet import third_party
from ..common.text import first_line
from ..compilation.probe import probe_breaks, root_error
from ..compilation.report import GraphBreakReport
from ..compilation.targets import outermost_marks
from .capture import capture
from .parts import parts

if TYPE_CHECKING:
    from diffusers import DiffusionPipeline


def explain_compile_failure(
    pipeline: DiffusionPipeline, call: Callable[[], object], error: BaseException
) -> str:
    """What kept the pipeline from compiling, with the place of every graph break.

    The pipeline is run uncompiled to get the inputs of its components, and each is looked at.  To
    be called where its compiled call raised ``error``; ``call()`` runs it, in few steps.
    Whatever goes wrong in here, the answer is a sentence.
    """
    try:
        with third_party():
            broken = [report for report in _reports(pipeline, call) if report.breaks]
    except DiffspeedError as failure:
        return str(failure)
    except Exception as failure:
        return (
            f"{root_error(error)} (and looking for the reason failed, {type(failure).__name__}: "
            f"{first_line(failure)})"
        )
    if not broken:
        return (
            f"there is no graph break; the compiler itself failed with {root_error(error)}. With "
            "TORCHDYNAMO_VERBOSE=1 in the environment torch tells more"
        )
    return "\n".join(str(report) for report in broken)


def _reports(pipeline: DiffusionPipeline, call: Callable[[], object]) -> Iterator[GraphBreakReport]:
    with _uncompiled(pipeline):
        captured = capture(pipeline, call)
    for one in captured:
        yield probe_breaks(one.fn, one.calls, name=one.name, restart=one.restart)


@contextmanager
def _uncompiled(pipeline: DiffusionPipeline) -> Iterator[None]:
    with ExitStack() as stack:
        for part in parts(pipeline).values():
            for mark in outermost_marks(part):
                stack.enter_context(replaced(mark.owner, mark.attribute, mark.original))
        yield
