"""What a component carries from one call to the next, as far as can be seen from outside."""

from __future__ import annotations

import types
from collections.abc import Iterator, Sequence
from typing import Any

import torch

from ..adapters.module_state import edits
from ..pipelines.copied_inputs import tensors_in

TOLERANCE = 1e-3
"""Relative, of float32: calls of the same kernels differ by their order of sums at most, 1e-6."""
TOLERANCE_OF_16_BITS = 3e-2
"""The same of float16 and bfloat16, whose rounding adds up over layers."""

_PLAIN = (bool, int, float, complex, str, bytes, type(None))
_CODE = (type, types.ModuleType, types.FunctionType, types.MethodType, types.BuiltinFunctionType)


def is_like(expected: Sequence[torch.Tensor], output: Any) -> bool:
    """Whether ``output`` holds the tensors ``expected``, but for rounding; false without any."""
    found = list(tensors_in(output))
    same = zip(expected, found, strict=False)
    return bool(expected) and len(expected) == len(found) and all(_close(a, b) for a, b in same)


def _close(expected: torch.Tensor, found: torch.Tensor) -> bool:
    if expected.shape != found.shape or expected.dtype != found.dtype:
        return False
    if not expected.is_floating_point():
        return bool(torch.equal(expected, found))
    tolerance = TOLERANCE if expected.element_size() >= 4 else TOLERANCE_OF_16_BITS
    one, other = expected.double(), found.double()
    if not torch.equal(one.isfinite(), other.isfinite()):
        return False
    one, other = one.nan_to_num(0, 0, 0), other.nan_to_num(0, 0, 0)
    size = float(torch.linalg.vector_norm(one))
    return float(torch.linalg.vector_norm(one - other)) <= tolerance * size


def marks_of(module: torch.nn.Module) -> dict[str, object]:
    """Marks that change where a call leaves something on ``module``, on a module in it, or on a
    plain object that hangs on one: counters, kept tensors, lists that grow.

    Weights and buffers count by how often they were written to.
    """
    found: dict[str, object] = {}
    for path, inner in module.named_modules():
        for name, value in _attributes(inner):
            found[f"{path}.{name}" if path else name] = _mark(value)
            if _is_plain_object(value):
                for below, part in vars(value).items():
                    found[f"{path}.{name}.{below}" if path else f"{name}.{below}"] = _mark(part)
    return found


def _attributes(module: torch.nn.Module) -> Iterator[tuple[str, Any]]:
    yield from vars(module).items()
    yield from module.named_buffers(recurse=False)


def _is_plain_object(value: Any) -> bool:
    return hasattr(value, "__dict__") and not isinstance(
        value, (torch.nn.Module, torch.Tensor, *_CODE)
    )


def _mark(value: Any) -> object:
    if isinstance(value, _PLAIN):
        return repr(value)
    if isinstance(value, torch.Tensor):
        return f"tensor {id(value)} {edits(value)}"
    if isinstance(value, dict):
        value = list(value.values())
    if isinstance(value, (list, tuple, set)):
        return f"{len(value)} {[id(one) for one in value]}"
    return f"object {id(value)}"
