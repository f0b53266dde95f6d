"""Evidence of each technique that the package has no part in: numbers, dtypes, strides and kernels.

``RULES`` has a function for each technique that answers whether it took hold and says what was
found.  A technique without one is proven by its own proof alone, and what ran is recorded.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Mapping
from contextlib import ExitStack
from dataclasses import dataclass, field
from typing import Any

from technique_numbers import BORDER, Product, watched_products, worst
from technique_pipelines import STEPS, Tried
from technique_traces import Seen, profiled

OF_THE_HOST = ("ADAPTERS", "SOLVER", "STEPS", "TILING", "SLICING", "OFFLOAD", "CACHE")
"""Families that choose no kernels, so that their proofs count the same on any device: those that
change what the host does in a call, on how much at once, where weights lie in between, and what is
left out, and adapters, which need a file of the model."""
PRODUCTS = ("mm", "addmm", "bmm", "baddbmm", "_int_mm")


@dataclass
class Case:
    """A stack on a pipeline, and what a call of it showed.

    ``denoiser`` is the trace of one call of the denoiser, ``whole`` that of a call of the pipeline;
    ``look()`` fills them; ``plain(stack)`` is the case of another stack on such a pipeline.
    """

    stack: str
    cuda: bool
    proofs: Mapping[str, Any] = field(default_factory=dict)
    products: list[Product] = field(default_factory=list)
    denoiser: Seen = field(default_factory=Seen)
    whole: Seen = field(default_factory=Seen)
    plain: Callable[[str], Case] | None = None
    look: Callable[[], None] = lambda: None

    @property
    def without(self) -> Case:
        """The same without this case's last technique: what it is compared with."""
        assert self.plain is not None
        return self.plain(self.stack.rpartition("+")[0] or "fp32")

    @property
    def dtypes(self) -> dict[str, int]:
        return dict(Counter(product.dtype for product in self.products))

    def layouts(self) -> tuple[int, int]:
        """Convolutions whose output was channels-last, and all whose shape tells."""
        known = [p.channels_last for p in self.products if p.channels_last is not None]
        return sum(known), len(known)

    def figures(self) -> dict[str, Any]:
        largest = sorted(self.products, key=lambda product: -product.error)[:8]
        return {
            "stack": self.stack,
            "worst_errors": worst(self.products),
            "largest_errors": [vars(product) for product in largest],
            "product_dtypes": self.dtypes,
            "channels_last_outputs": self.layouts(),
            "denoiser": self.denoiser.figures(),
            "call": self.whole.figures(most=30),
        }


def look(case: Case, tried: Tried, applied: Any, *, whole: bool) -> None:
    """Fill a case: one call with every layer watched, then one of the denoiser in the profiler."""
    import torch

    from pytest_diffspeed.common.quiet import third_party
    from pytest_diffspeed.pipelines.components import denoiser, vae
    from pytest_diffspeed.techniques.apply import running

    pipeline = tried.pipeline
    model = denoiser(pipeline)
    given: list[tuple[Any, Any]] = []

    def keep(_: object, args: Any, kwargs: Any) -> None:
        given[:] = [(args, kwargs)]

    parts = {"denoiser": model, "vae": vae(pipeline)}
    with third_party(), running(applied.stack), torch.no_grad(), ExitStack() as stack:
        handle = model.register_forward_pre_hook(keep, with_kwargs=True)
        watched = {name: part for name, part in parts.items() if part is not None}
        products = stack.enter_context(watched_products(watched))
        tried.call(pipeline, steps=STEPS)
        handle.remove()
        stack.close()  # no hooks from here on
        case.products = products
        args, kwargs = given[0]
        model(*args, **kwargs)  # cuDNN and cuBLAS choose their kernels in the first call
        case.denoiser = profiled(lambda: model(*args, **kwargs), cuda=case.cuda)
        if whole:
            case.whole = profiled(lambda: tried.call(pipeline, steps=STEPS), cuda=case.cuda)


Answer = tuple[bool, str]


def _errors(case: Case) -> tuple[float, float, str]:
    found = worst(case.products)
    linear, convolution = found.get("linear", 0.0), found.get("convolution", 0.0)
    kernels = f"; kernels {case.denoiser.precisions()}" if case.cuda else ""
    said = f"largest error of linear layers {linear:.1e}, of convolutions {convolution:.1e}"
    return linear, convolution, f"{said} ({len(case.products)} products){kernels}"


def _fp32(case: Case) -> Answer:
    linear, convolution, said = _errors(case)
    exact = 0 < linear < BORDER and 0 < convolution < BORDER
    return exact and set(case.dtypes) == {"torch.float32"}, said


def _tf32(case: Case) -> Answer:
    linear, convolution, said = _errors(case)
    rounded = BORDER < linear < 1e-2 and BORDER < convolution < 1e-2
    return rounded and set(case.dtypes) == {"torch.float32"}, said


def _sixteen(dtype: str, kernels: str) -> Callable[[Case], Answer]:
    def rule(case: Case) -> Answer:
        found = case.denoiser.precisions()
        said = f"{case.dtypes} products; kernels {found}"
        wrong = sum(n for kind, n in found.items() if kind in ("fp32", "tf32"))
        named = not case.cuda or found.get(kernels, 0) > 0 or found.get("unknown", 0) > 0
        return set(case.dtypes) == {dtype} and not wrong and named, said

    return rule


def _channels_last(case: Case) -> Answer:
    (now, known), (before, _) = case.layouts(), case.without.layouts()
    said = f"{now} of {known} convolutions gave channels-last outputs, {before} without it"
    ok = 2 * now > known and before == 0
    if case.cuda:
        after, plain = case.denoiser.layout_transforms(), case.without.denoiser.layout_transforms()
        said += f"; {after} kernels that change a layout, {plain} without it"
        ok = ok and after <= plain
    return ok, said


def _fused_qkv(case: Case) -> Answer:
    now, before = case.denoiser.count(*PRODUCTS), case.without.denoiser.count(*PRODUCTS)
    said = f"{before} matrix products in a call of the denoiser became {now}"
    ok = 0 < now < before
    if case.cuda:
        after = sum(case.denoiser.precisions().values())
        plain = sum(case.without.denoiser.precisions().values())
        said += f"; {plain} kernels of products became {after}"
        ok = ok and after < plain
    return ok, said


def _int8(case: Case) -> Answer:
    ops, found = case.denoiser.count("_int_mm"), case.denoiser.precisions()
    said = f"{ops} _int_mm in a call of the denoiser"
    if not case.cuda:
        return ops > 0, said
    # A kernel whose name does not tell is no evidence against it: the op was dispatched.
    named = found.get("int8", 0) or found.get("unknown", 0)
    return ops > 0 and named > 0, f"{said}; kernels {found}"


def _float8(case: Case) -> Answer:
    ops, found = case.denoiser.count("_scaled_mm", "_scaled_mm_v2"), case.denoiser.precisions()
    said = f"{ops} _scaled_mm in a call of the denoiser"
    if not case.cuda:
        return ops > 0, said
    named = found.get("float8", 0) or found.get("unknown", 0)
    return ops > 0 and named > 0, f"{said}; kernels {found}"


def _widened(case: Case) -> Answer:
    """Weights in 8 bits are converted in each call, and nothing is multiplied in them."""
    now, before = case.denoiser.count("_to_copy"), case.without.denoiser.count("_to_copy")
    narrow = case.denoiser.count("_int_mm", "_scaled_mm", "_scaled_mm_v2")
    said = f"{before} _to_copy in a call of the denoiser became {now}, {narrow} products in 8 bits"
    return now > before and not narrow, said


def _cpu_sigmas(case: Case) -> Answer:
    now, before = case.whole.count("nonzero"), case.without.whole.count("nonzero")
    reads = case.whole.count("_local_scalar_dense")
    was = case.without.whole.count("_local_scalar_dense")
    said = f"{before} nonzero became {now} in a call, {was} values read became {reads}"
    return now < before and reads <= was, said


def _attention(kernel: str, op: str, cpu_op: str | None = None) -> Callable[[Case], Answer]:
    """By one fused kernel: its op, and on CUDA its kernel and no other family's."""

    def rule(case: Case) -> Answer:
        if not case.cuda:
            calls = case.denoiser.count(cpu_op or op)
            return calls > 0, f"{calls} {cpu_op or op}"
        calls, found = case.denoiser.count(op), case.denoiser.attention()
        others = {kind: n for kind, n in found.items() if kind != kernel}
        ok = calls > 0 and found.get(kernel, 0) >= calls and not others
        return ok, f"{calls} {op}, kernels of attention {found or 'none that its name tells'}"

    return rule


def _unfused(calls_sdpa: bool) -> Callable[[Case], Answer]:
    def rule(case: Case) -> Answer:
        calls = case.denoiser.count("scaled_dot_product_attention")
        softmaxes = case.denoiser.count("_softmax", "_safe_softmax")
        found = case.denoiser.attention()
        ok = softmaxes > 0 and (calls > 0) == calls_sdpa
        if case.cuda:
            ok = ok and set(found) == {"softmax"}
        said = f"{calls} scaled_dot_product_attention, {softmaxes} softmaxes"
        return ok, said + (f", kernels of attention {found}" if case.cuda else "")

    return rule


_SDPA = "_scaled_dot_product_{}_attention"
RULES: Mapping[str, Callable[[Case], Answer]] = {
    "fp32": _fp32,
    "tf32": _tf32,
    "bf16": _sixteen("torch.bfloat16", "bf16"),
    "fp16": _sixteen("torch.float16", "fp16"),
    "channels_last": _channels_last,
    "fused_qkv": _fused_qkv,
    "int8_dynamic": _int8,
    "int8_dynamic_sdxl": _int8,
    "int8_weight_only": _widened,
    "fp8_dynamic": _float8,
    "fp8_weight_only": _widened,
    "layerwise_casting": _widened,
    "cpu_sigmas": _cpu_sigmas,
    "no_sdpa": _unfused(calls_sdpa=False),
    "sdpa_math": _unfused(calls_sdpa=True),
    "sdpa_flash": _attention("flash", _SDPA.format("flash"), _SDPA.format("flash") + "_for_cpu"),
    "sdpa_efficient": _attention("efficient", _SDPA.format("efficient")),
    "sdpa_cudnn": _attention("cudnn", _SDPA.format("cudnn")),
}
