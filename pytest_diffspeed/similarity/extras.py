"""LPIPS and FLIP, where they are installed.

Neither is a dependency: LPIPS needs a torchvision that fits torch and a backbone's weights from the
network, and FLIP is a compiled package.  Whatever they do, down to ending the process, becomes an
:class:`ExtraUnavailableError`.
"""

from __future__ import annotations

import contextlib
import io
import math
from typing import Any

import torch

EXTRAS = ("lpips", "flip")
INSTALL = {
    "lpips": 'pip install "pytest-diffspeed[lpips]"',
    "flip": 'pip install "pytest-diffspeed[flip]"',
}


class ExtraUnavailableError(RuntimeError):
    """An optional metric cannot be computed here, with the reason and what to do."""


def extra(name: str, baseline: torch.Tensor, candidate: torch.Tensor) -> list[float]:
    """The metric ``name`` of each pair of ``N × 3 × H × W`` images in [0, 1].

    Raises:
        ExtraUnavailableError: it is not installed, does not load, or failed on these images.
    """
    try:
        # What it prints (FLIP before it exits, LPIPS while it loads) is said by our error.
        with contextlib.redirect_stdout(io.StringIO()) as said:
            figures = {"lpips": _lpips, "flip": _flip}[name](baseline, candidate)
    except ModuleNotFoundError as error:
        raise ExtraUnavailableError(
            f"{name} is not installed (no module {error.name!r}); {INSTALL[name]}"
        ) from error
    except (Exception, SystemExit) as error:  # FLIP calls sys.exit on arguments that it dislikes
        reason = f"{type(error).__name__}: {error}" + "".join(
            f" ({line.strip()})" for line in said.getvalue().splitlines()[:1]
        )
        raise ExtraUnavailableError(f"{name} failed: {reason}") from error
    if not all(math.isfinite(figure) for figure in figures):
        raise ExtraUnavailableError(f"{name} failed: it gave {figures}")
    return figures


def _lpips(baseline: torch.Tensor, candidate: torch.Tensor) -> list[float]:
    import lpips

    network: Any = lpips.LPIPS(net="alex", verbose=False).to(baseline.device)
    with torch.no_grad():
        return [
            float(network(x.float(), y.float(), normalize=True))
            for x, y in zip(_rgb(baseline).split(1), _rgb(candidate).split(1), strict=True)
        ]


def _flip(baseline: torch.Tensor, candidate: torch.Tensor) -> list[float]:
    import flip_evaluator

    pairs = zip(_pixels(baseline), _pixels(candidate), strict=True)
    return [float(flip_evaluator.evaluate(x, y, "LDR", applyMagma=False)[1]) for x, y in pairs]


def _pixels(images: torch.Tensor) -> list[Any]:
    array = _rgb(images).permute(0, 2, 3, 1).to("cpu", torch.float32).contiguous().numpy()
    return list(array)


def _rgb(images: torch.Tensor) -> torch.Tensor:
    return images.expand(-1, 3, -1, -1).clamp(0.0, 1.0)
