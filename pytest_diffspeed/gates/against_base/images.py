"""What both trees draw: each worker writes it into a file."""

from __future__ import annotations

import tempfile
from collections.abc import Iterable
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

from ...arms.counts import Counts
from ...arms.probes import Probe
from ...common.errors import MeasurementError

if TYPE_CHECKING:
    from ...arms.prepared_arm import PreparedArm
    from ...arms.worker.arm import WorkerArm
    from ...pipelines.cases import Case
    from ..compare_outputs import Outputs


def drawn_by(arm: WorkerArm, like: Outputs, cases: tuple[Case, ...]) -> Outputs:
    """The outputs of ``cases`` as the arm of a worker draws them.

    ``like`` is what this process drew of the pipeline: media of the same kinds are read alike.

    Raises:
        MeasurementError: it could not, gave other media, or the file cannot be read.
    """
    import numpy as np
    import torch

    with tempfile.TemporaryDirectory(prefix="diffspeed-images-") as folder:
        path = Path(folder) / "images.npz"
        plain = [[case.name, case.prompt, case.seed] for case in cases]
        arm.probe(Probe("images", draw_images), cases=plain, path=str(path))
        try:
            with np.load(path, allow_pickle=False) as file:
                media = [torch.from_numpy(file[f"arr_{at}"]) for at in range(len(file.files))]
        except (OSError, ValueError, KeyError) as error:
            raise MeasurementError(f"the images of {arm.name} cannot be read: {error}") from None
    known = (like, *like.beside)
    if len(media) != len(known):
        raise MeasurementError(
            f"a call gives {len(media)} media in the worker process of {arm.name} and "
            f"{len(known)} in this process; only outputs of the same kinds can be compared"
        )
    first, *beside = (
        replace(one, data=data, latents=None) for one, data in zip(known, media, strict=True)
    )
    return replace(first, beside=tuple(beside))


def draw_images(arm: PreparedArm, root: Path, *, cases: Iterable[Any], path: str) -> Counts:
    """Draw ``cases`` into the file ``path``: ``N × …``, as outputs are, of each medium that a call
    gives.

    Each is a name, a prompt (``None`` where it has none) and a seed.
    """
    import numpy as np
    import torch

    drawn: list[list[Any]] = []
    for name, prompt, seed in cases:
        case = arm.call.for_case(name, prompt, seed)
        with arm.running():
            output = arm.call.of(case).draw(arm.pipeline).output
        given = (output, *output.beside)
        drawn.append([one.data.to("cpu", torch.float32).numpy() for one in given])
    media = zip(*drawn, strict=True)
    np.savez(Path(path), *(np.stack(of_all) for of_all in media))
    return Counts({"images": {"drawn": len(drawn)}})
