"""FLOPs of the convolutions of a call, by layer."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from typing import Any

import torch

from .module_hooks import hooked

_CONVOLUTIONS = (torch.nn.Conv1d, torch.nn.Conv2d, torch.nn.Conv3d)


@contextmanager
def convolution_flops(parts: Mapping[str, torch.nn.Module]) -> Iterator[Counter[str]]:
    """What convolutions of ``parts`` compute while this is open, by ``part.path.of.the.layer``.

    Two for each multiply-add; each element of the output takes as many of these as a filter has
    weights.  The bias is not counted.
    """
    flops: Counter[str] = Counter()
    handles = []
    for part, module in parts.items():
        for path, layer in module.named_modules():
            if isinstance(layer, _CONVOLUTIONS):

                def count(
                    layer: torch.nn.Module, _: object, result: Any, name: str = f"{part}.{path}"
                ) -> None:
                    weight = layer.weight
                    if isinstance(result, torch.Tensor) and isinstance(weight, torch.Tensor):
                        flops[name] += 2 * result.numel() * weight[0].numel()

                handles.append(layer.register_forward_hook(count))
    with hooked(handles):
        yield flops
