"""``load_pipeline``: a pipeline from its source, as every arm starts from one."""

from __future__ import annotations

import os
from pathlib import Path
from typing import TYPE_CHECKING

from ..accelerators.device import Device
from ..common.arguments import shown, spelt_keywords
from ..common.errors import SourceError, WrongTypeError
from ..common.quiet import third_party
from .load_errors import explain_load_error
from .sources import WAYS, FolderSource, parse_source

if TYPE_CHECKING:
    from diffusers import DiffusionPipeline


@spelt_keywords
def load_pipeline(
    source: str | os.PathLike[str], *, device: Device | str = "cpu"
) -> DiffusionPipeline:
    """Build the pipeline that ``--diffspeed-pipeline=SOURCE`` measures: in float32 and eager.

    Args:
        source: ``"demo"``, a hub id, a local folder (a path too), ``"package.module:factory"``,
            ``"random:FluxPipeline"``, or what an installed package adds by an entry point.
        device: where it is put: ``"cpu"``, ``"cuda"``, ``"cuda:N"``, or ``"auto"``, which takes a
            GPU if there is one.

    Returns:
        A new pipeline in evaluation mode, without progress bars; ready for
        :func:`~pytest_diffspeed.apply_stack`.

    Raises:
        WrongTypeError: ``source`` is neither a text nor a path.
        UsageError: a device that is not there, or an entry point that makes no sense.
        SourceError: there is no such source, or it gives no float32 pipeline, or one that does not
            fit on the device.
    """
    if not isinstance(source, (str, os.PathLike)):
        raise WrongTypeError(f"a pipeline source is a text: {WAYS}; not {shown(source)}")
    if not isinstance(device, Device):
        from ..accelerators.registry import resolve_device

        device = resolve_device(str(device))
    if isinstance(source, str):
        found = parse_source(source)
    else:
        found = FolderSource(os.fspath(source), Path(source))
    pipeline = found.build()
    to_device(pipeline, device, found.name)
    return pipeline


def to_device(pipeline: DiffusionPipeline, device: Device, text: str) -> None:
    """Move ``pipeline``, whose source is ``text``, to where it will run.

    Raises:
        SourceError: it does not fit there.
    """
    try:
        with third_party():
            pipeline.to(device.torch_device)
    except Exception as error:
        raise SourceError(
            f"pipeline source {text!r} on {device}: {explain_load_error(error)}"
        ) from error


def require_pipeline(who: str, pipeline: object) -> None:
    """Refuse what ``who`` cannot work on.

    Raises:
        WrongTypeError: it is no ``DiffusionPipeline``, with what to give.
    """
    with third_party():
        from diffusers import DiffusionPipeline

    if not isinstance(pipeline, DiffusionPipeline):
        step = "load_pipeline(source) gives one"
        if isinstance(pipeline, type):
            step = f"give an instance, such as {pipeline.__name__}.from_pretrained(…), or "
            step += "load_pipeline(source)"
        raise WrongTypeError(f"{who} takes a diffusers pipeline, not {shown(pipeline)}; {step}")
