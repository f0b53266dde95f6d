"""How far a denoiser is from the baseline's before the VAE draws a picture of it."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
from contextlib import AbstractContextManager, contextmanager, nullcontext
from typing import Any

import torch


def relative_l2(baseline: torch.Tensor, candidate: torch.Tensor) -> torch.Tensor:
    """``‖candidate - baseline‖ ÷ ‖baseline‖`` of each item of a batch, ``(N,)``.

    NaN or infinity where the candidate is not finite; infinity where the baseline is zero and the
    candidate is not.

    Raises:
        ValueError: the shapes differ.
    """
    if baseline.shape != candidate.shape:
        raise ValueError(
            f"shapes differ: {tuple(baseline.shape)} and {tuple(candidate.shape)}; compare tensors "
            "of the same call"
        )
    x = baseline.detach().flatten(1).to(torch.float64)
    y = candidate.detach().to(baseline.device).flatten(1).to(torch.float64)
    difference, norm = (y - x).norm(dim=1), x.norm(dim=1)
    return torch.where(difference == 0, torch.zeros_like(norm), difference / norm)


@contextmanager
def teacher_forced(
    baseline: torch.nn.Module,
    candidate: torch.nn.Module,
    running: Callable[[], AbstractContextManager[Any]] = nullcontext,
) -> Iterator[list[float]]:
    """While the baseline's pipeline runs, give each call of its denoiser to the candidate's too.

    Errors do not add up over the steps this way: each step of the candidate starts from where the
    baseline is.  Yields a list that grows by the relative L2 error of each call's output.

    Args:
        baseline: an eager module; both live on devices of their own, in dtypes of their own.
        candidate: called with the baseline's arguments in its own dtype, that of most of its
            parameters: some keep a few in float32.  Tensors without dimensions (time steps) keep
            theirs, as pipelines pass them.
        running: makes the context in which the candidate runs.
    """
    errors: list[float] = []
    parameter = _typical_parameter(candidate)

    def moved(value: Any) -> Any:
        if isinstance(value, torch.Tensor) and parameter is not None:
            cast = value.is_floating_point() and value.dim() > 0
            return value.to(parameter.device, parameter.dtype if cast else value.dtype)
        if isinstance(value, dict):
            return {key: moved(entry) for key, entry in value.items()}
        if isinstance(value, (list, tuple)) and type(value) in (list, tuple):
            return type(value)(moved(entry) for entry in value)
        return value

    def compare(_: Any, args: tuple[Any, ...], kwargs: dict[str, Any], output: Any) -> None:
        if candidate is baseline:  # arms share what a stack does not change
            errors.append(0.0)
            return
        with torch.no_grad(), running():
            theirs = candidate(*moved(args), **moved(kwargs))
        first, second = (_flat(result) for result in (output, theirs))
        errors.append(float(relative_l2(first, second)))

    handle = baseline.register_forward_hook(compare, with_kwargs=True)
    try:
        yield errors
    finally:
        handle.remove()


def _typical_parameter(module: torch.nn.Module) -> torch.nn.Parameter | None:
    """One of the dtype that most floating-point parameters have, counted by their elements.

    Those of 8 bits do not count where there are others: they are kept so, and computed wider.
    """
    elements: dict[torch.dtype, int] = {}
    typical: dict[torch.dtype, torch.nn.Parameter] = {}
    for parameter in module.parameters():
        if parameter.is_floating_point():
            dtype = parameter.dtype
            elements[dtype] = elements.get(dtype, 0) + parameter.numel()
            typical.setdefault(dtype, parameter)
    wide = {dtype: many for dtype, many in elements.items() if dtype.itemsize > 1} or elements
    return typical[max(wide, key=wide.__getitem__)] if wide else None


def _flat(output: Any) -> torch.Tensor:
    """All floating-point values that a denoiser returned, ``1 × …``: a sample, or the residuals of
    a ControlNet.
    """
    values = [tensor.detach().flatten().to(torch.float64) for tensor in _tensors(output)]
    return torch.cat(values).unsqueeze(0)


def _tensors(output: Any) -> Iterator[torch.Tensor]:
    if isinstance(output, torch.Tensor):
        if output.is_floating_point():
            yield output
    elif isinstance(output, Mapping):
        for value in output.values():
            yield from _tensors(value)
    elif isinstance(output, (list, tuple)):
        for value in output:
            yield from _tensors(value)
