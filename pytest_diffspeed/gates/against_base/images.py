"""Images of this tree against those of the base, for the same stack."""

from __future__ import annotations

import tempfile
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING

from ...common.errors import MeasurementError
from ...records.verdict import GateResult
from ..catalog.similarity import (
    ImageSimilarity,
    compare,
    gate_result,
    limits_of_marker,
    save_pictures,
)
from ..gate import GateContext
from .counts import claim_of

if TYPE_CHECKING:
    from ...arms.worker.arm import WorkerArm
    from ...pipelines.cases import Case
    from ..compare_outputs import Outputs


def compare_with_base(marker: ImageSimilarity, context: GateContext, arm: WorkerArm) -> GateResult:
    """Draw the same cases with both and compare, within the marker's limits.

    Raises:
        UsageError: no limit that can be meant.
        MeasurementError: one of them raised, or drew images that cannot be compared.
    """
    from ..baseline_images import BaselineImages, draw, reference

    session, candidate = context.session, context.candidate
    candidate.require_unchanged()
    preset, limits = limits_of_marker(marker, session, candidate)
    with session.shared_device():  # drawing beside somebody's timing would disturb it
        own = reference(session, candidate.spec.source)
        drawn = draw(session, candidate, own.cases)
        of_base = BaselineImages(own.cases, _drawn_by(arm, own.cases), own.floor, own.from_cache)
    report = compare(session, of_base, drawn, (), preset=preset, **limits)
    against = session.base
    assert against is not None
    result = gate_result(marker, context, report, of_base)
    result = replace(
        result,
        claim=claim_of(marker),
        reason=f"against {against.name}: {result.reason}",
        figures={**result.figures, "against_base": against.about()},
    )
    try:
        result.figures["pictures"] = save_pictures(
            context, of_base, drawn, report, beside="against base"
        )
    except Exception as error:  # a picture must not cost a verdict
        result.figures["pictures_error"] = f"{type(error).__name__}: {error}"
    return result


def _drawn_by(arm: WorkerArm, cases: tuple[Case, ...]) -> Outputs:
    import numpy as np
    import torch

    from ..compare_outputs import Outputs

    with tempfile.TemporaryDirectory(prefix="diffspeed-images-") as folder:
        path = Path(folder) / "images.npy"
        wanted = [[case.name, case.prompt, case.seed] for case in cases]
        arm.probe("images", cases=wanted, path=str(path))
        try:
            images = np.load(path, allow_pickle=False)
        except (OSError, ValueError) as error:
            raise MeasurementError(f"the base's images cannot be read: {error}") from None
    return Outputs(torch.from_numpy(images), None)
