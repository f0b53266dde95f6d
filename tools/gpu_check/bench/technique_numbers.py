"""How exactly products were computed: their error against float64, whatever the kernels are called.

An error is divided by the root of the sum of squared addends, so it is that of one rounding of the
inputs and does not depend on how much the addends cancel: about 1e-7 for IEEE float32, 3e-4 for
TF32 (10 bits of mantissa) and 2e-3 for bfloat16.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    import torch

BORDER = 3e-5
"""Between IEEE float32 and TF32: a factor of ten away from both."""


@dataclass(frozen=True)
class Product:
    """One call of a linear layer (``linear``) or of a convolution (``convolution``)."""

    kind: str
    where: str
    dtype: str
    error: float
    channels_last: bool | None
    """Of a convolution's output; ``None`` where its shape has both layouts at once."""


@contextmanager
def watched_products(modules: Mapping[str, torch.nn.Module]) -> Iterator[list[Product]]:
    """Every plain linear layer and 2-d convolution that runs inside ``modules`` meanwhile.

    For code that is not compiled: it puts hooks on layers.  The list is filled when it ends.
    """
    import torch

    products: list[Product] = []
    found: list[tuple[str, str, str, torch.Tensor, bool | None]] = []
    handles = []

    def hook(kind: str, where: str) -> Callable[..., None]:
        def compare(layer: Any, args: tuple[Any, ...], output: torch.Tensor) -> None:
            weight = layer.weight
            if type(weight) is torch.nn.Parameter and args and weight.is_floating_point():
                error = error_of(kind, layer, args[0].detach(), output.detach())
                row = (kind, where, str(output.dtype), error, _layout(kind, output))
                found.append(row)

        return compare

    for part, root in modules.items():
        for name, layer in root.named_modules():
            kind = _kind(layer)
            if kind is not None:
                handles.append(layer.register_forward_hook(hook(kind, f"{part}.{name}")))
    try:
        yield products
    finally:
        for handle in handles:
            handle.remove()
        products += [Product(k, w, d, float(e), c) for k, w, d, e, c in found]


def error_of(kind: str, layer: Any, given: torch.Tensor, output: torch.Tensor) -> torch.Tensor:
    """The error of one product against float64, as the module says."""
    import torch

    weight = layer.weight.detach().double()
    bias = None if layer.bias is None else layer.bias.detach().double()

    def product(x: torch.Tensor, w: torch.Tensor, b: torch.Tensor | None) -> torch.Tensor:
        if kind == "linear":
            return torch.nn.functional.linear(x, w, b)
        words = (layer.stride, layer.padding, layer.dilation, layer.groups)
        return torch.nn.functional.conv2d(x, w, b, *words)

    with torch.no_grad():
        x = given.double()
        exact = product(x, weight, bias)
        addends = product(x.square(), weight.square(), None).sum().sqrt()
        return (output.double() - exact).norm() / addends


def worst(products: Iterable[Product]) -> dict[str, float]:
    """The largest error of each kind."""
    found: dict[str, float] = {}
    for product in products:
        found[product.kind] = max(product.error, found.get(product.kind, 0.0))
    return found


def reference_errors(device: str, side: int) -> dict[str, float]:
    """Errors of a product and a convolution of ``side``, in the precision that is set now."""
    import torch

    generator = torch.Generator().manual_seed(0)

    def draw(*shape: int) -> torch.Tensor:
        return torch.randn(shape, generator=generator).to(device)

    linear = torch.nn.Linear(side, side, bias=False).to(device)
    convolution = torch.nn.Conv2d(side // 4, side // 4, 3, padding=1).to(device)
    with torch.no_grad():
        linear.weight.copy_(draw(side, side))
        convolution.weight.copy_(draw(side // 4, side // 4, 3, 3))
        found = {}
        for kind, layer, given in (
            ("linear", linear, draw(side, side)),
            ("convolution", convolution, draw(2, side // 4, 32, 32)),
        ):
            found[kind] = float(error_of(kind, layer, given, layer(given)))
    return found


def attention_errors(device: str) -> dict[str, float | str]:
    """Of attention in float32 under IEEE and TF32 flags, by backend: a figure, nothing is expected.

    An error is relative to the exact result.  A backend that refuses says why.
    """
    import torch
    from torch.nn.attention import SDPBackend, sdpa_kernel

    from pytest_diffspeed.techniques.precision_flags import fp32_precision

    generator = torch.Generator().manual_seed(0)
    q, k, v = (torch.randn(1, 4, 256, 64, generator=generator).to(device) for _ in range(3))
    attend = torch.nn.functional.scaled_dot_product_attention
    with torch.no_grad(), sdpa_kernel(SDPBackend.MATH):
        exact = attend(q.double(), k.double(), v.double())
    found: dict[str, float | str] = {}
    for value in ("ieee", "tf32"):
        for backend in (SDPBackend.MATH, SDPBackend.EFFICIENT_ATTENTION):
            name = f"{backend.name.lower()}, {value}"
            try:
                with torch.no_grad(), fp32_precision(value), sdpa_kernel(backend):
                    output = attend(q, k, v).double()
            except RuntimeError as error:
                found[name] = str(error).splitlines()[0]
            else:
                found[name] = float((output - exact).norm() / exact.norm())
    return found


def _kind(layer: object) -> str | None:
    import torch

    if isinstance(layer, torch.nn.Linear):
        return "linear"
    if isinstance(layer, torch.nn.Conv2d) and layer.padding_mode == "zeros":
        return "convolution"
    return None


def _layout(kind: str, output: torch.Tensor) -> bool | None:
    import torch

    if kind != "convolution" or output.dim() != 4:
        return None
    channels_last = output.is_contiguous(memory_format=torch.channels_last)
    return None if channels_last and output.is_contiguous() else channels_last
