"""LPIPS and FLIP, where they are installed.

Neither is a dependency: LPIPS needs a torchvision that fits torch and a backbone's weights from the
network, and FLIP is a compiled package.  Whatever they do, down to ending the process, becomes an
:class:`ExtraUnavailableError`.
"""

from __future__ import annotations

import contextlib
import io
import math
import warnings
from collections.abc import Iterable
from typing import Any

import torch

EXTRAS = ("lpips", "flip")
INSTALL = {
    "lpips": 'pip install "pytest-diffspeed[lpips]"',
    "flip": 'pip install "pytest-diffspeed[flip]"',
}


class ExtraUnavailableError(RuntimeError):
    """An optional metric cannot be computed here, with the reason and what to do."""


Pairs = Iterable[tuple[torch.Tensor, torch.Tensor]]


def extra(name: str, pairs: Pairs) -> list[float]:
    """The metric ``name`` of each pair of images, ``C × H × W`` in [0, 1].

    Raises:
        ExtraUnavailableError: it is not installed, does not load, or failed on these images.
    """
    # What it prints (FLIP before it exits, LPIPS while it loads) is said by our error.
    sentence = io.StringIO()
    try:
        with contextlib.redirect_stdout(sentence), warnings.catch_warnings():
            warnings.simplefilter("ignore")  # torchvision's, about how LPIPS calls it
            figures = {"lpips": _lpips, "flip": _flip}[name](pairs)
    except ModuleNotFoundError as error:
        raise ExtraUnavailableError(_missing(name, error.name)) from error
    except (Exception, SystemExit) as error:  # FLIP calls sys.exit on arguments that it dislikes
        reason = f"{type(error).__name__}: {error}" + "".join(
            f" ({line.strip()})" for line in sentence.getvalue().splitlines()[:1]
        )
        if "torchvision" in reason:  # "operator torchvision::nms does not exist"
            reason += f"; {_fitting_torchvision()}"
        raise ExtraUnavailableError(f"{name} failed: {reason}") from error
    if not all(math.isfinite(figure) for figure in figures):
        raise ExtraUnavailableError(f"{name} failed: it gave {figures}")
    return figures


def _missing(name: str, module: str | None) -> str:
    if module == "torchvision":
        return f"{name} needs torchvision; {_fitting_torchvision()}"
    return f"{name} is not installed (no module {module!r}); {INSTALL[name]}"


def _fitting_torchvision() -> str:
    """Each of its releases is for one of torch, so the extra cannot name one."""
    return f"install the release and build of torchvision that fits torch {torch.__version__}"


def _lpips(pairs: Pairs) -> list[float]:
    import lpips

    network: Any = lpips.LPIPS(net="alex", verbose=False)
    figures = []
    with torch.no_grad():
        for x, y in pairs:
            network = network.to(x.device)
            first, second = (_rgb(image).float().unsqueeze(0) for image in (x, y))
            figures.append(float(network(first, second, normalize=True)))
    return figures


def _flip(pairs: Pairs) -> list[float]:
    import flip_evaluator

    return [
        float(flip_evaluator.evaluate(_pixels(x), _pixels(y), "LDR", applyMagma=False)[1])
        for x, y in pairs
    ]


def _pixels(image: torch.Tensor) -> Any:
    return _rgb(image).permute(1, 2, 0).to("cpu", torch.float32).contiguous().numpy()


def _rgb(image: torch.Tensor) -> torch.Tensor:
    return image.expand(3, -1, -1).clamp(0.0, 1.0)
