"""What this package uses of peft's LoRA layers that peft does not promise to keep.

All of it was seen in peft 0.17.0 with diffusers 0.39.0 and in peft 0.21.2 with diffusers 0.42.1, as
these put such layers into their models: ``base_layer`` is the layer that is wrapped, ``lora_A`` and
``lora_B`` hold the two products of each adapter by its name, ``scaling`` what their result is
multiplied by (a number, or a tensor where hot-swapping was prepared), and ``scale_layer`` changes
it in place.
"""

from __future__ import annotations

import weakref
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

import torch

from ..common.text import first_line

_WORDS_OF_A_PAIR = (
    "peft 0.19 and later need torchao 0.16 or newer, earlier ones a torchao that still has "
    "`LinearActivationQuantizedTensor`"
)


def why_unusable() -> str | None:
    """Why the installed peft wraps no layer beside the installed torchao, or ``None``.

    Peft asks of each layer whether torchao has quantized it (``dispatch_torchao``, seen in peft
    0.17 to 0.21), and raises where it does not know this torchao.
    """
    import peft
    import torchao
    from peft.tuners.lora.torchao import dispatch_torchao

    try:
        dispatch_torchao(torch.nn.Linear(1, 1), "any", peft.LoraConfig())
    except ImportError as error:
        return (
            f"peft {peft.__version__} does not work beside torchao {torchao.__version__} "
            f"({first_line(error)}): {_WORDS_OF_A_PAIR}"
        )
    return None


PRODUCTS = ("lora_A", "lora_B")


def adapted_layers(module: torch.nn.Module) -> dict[str, Any]:
    """Layers inside ``module`` that a LoRA wraps, by path."""
    return {
        path: layer
        for path, layer in module.named_modules()
        if hasattr(layer, "base_layer")
        and all(isinstance(getattr(layer, name, None), torch.nn.ModuleDict) for name in PRODUCTS)
    }


def adapters_of(layer: Any) -> tuple[str, ...]:
    """Names of the adapters that a layer of :func:`adapted_layers` has, in use or not."""
    return tuple(layer.lora_A)


def products_of(layer: Any) -> list[torch.nn.Module]:
    """Both products of each adapter of a layer of :func:`adapted_layers`."""
    return [product for name in PRODUCTS for product in getattr(layer, name).values()]


def set_dtype(layer: Any) -> None:
    """Give the products the dtype of the layer that they are added to; a file may have another."""
    weight = layer.base_layer.weight
    if weight.is_floating_point():
        for product in products_of(layer):
            product.to(dtype=weight.dtype)


def scale(layer: Any, factor: float) -> None:
    """Multiply what the adapters in use add; a tensor of a prepared hot-swap stays a tensor."""
    if factor != 1.0:
        layer.scale_layer(factor)


def is_scaled_to_nothing(layer: Any, adapter: str) -> bool:
    """Whether what its products give is multiplied by 0."""
    return not float(layer.scaling[adapter])


def ends_in_zeros(layer: Any, adapter: str) -> bool:
    """Whether its second product has weights of 0 only, as before any training; not to be asked of
    one that is quantized.
    """
    return not bool(layer.lora_B[adapter].weight.detach().any())


@contextmanager
def kept(layers: list[Any]) -> Iterator[None]:
    """Whatever is swapped in meanwhile, what these layers are is put back, to the bit and in place.

    Peft writes weights of the same or a lower rank into the tensors that are there, and exchanges
    those of a higher one: a parameter with a weak reference gets other data and stays the object
    that it is, which is what can be put back.
    """
    weights = [weight for layer in layers for p in products_of(layer) for weight in p.parameters()]
    references = [weakref.ref(weight) for weight in weights]
    tensors = [weight.data for weight in weights]
    values = [tensor.clone() for tensor in tensors]
    scalings = [dict(layer.scaling) for layer in layers]
    numbers = [{name: float(value) for name, value in one.items()} for one in scalings]
    try:
        yield
    finally:
        for reference, tensor, value in zip(references, tensors, values, strict=True):
            weight = reference()
            tensor.copy_(value)
            if weight is not None and weight.data_ptr() != tensor.data_ptr():
                weight.data = tensor
        for layer, scaling, number in zip(layers, scalings, numbers, strict=True):
            for name, value in scaling.items():
                if isinstance(value, torch.Tensor):
                    value.fill_(number[name])
                layer.scaling[name] = value
