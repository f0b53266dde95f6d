"""What techniques that quantize linear layers to 8 bits share: which layers, and how it is proven.

Such a technique is a subclass with a filter (:meth:`QuantizedLinears.leaves`) and what torchao is
to do (:meth:`QuantizedLinears.quantize`).
"""

from __future__ import annotations

from abc import abstractmethod
from collections.abc import Callable, Mapping
from typing import TYPE_CHECKING, Any, ClassVar

from ..common.errors import IncompatibleError, NotEffectiveError, UsageError
from ..common.text import listed, size
from .observation import LinearCalls, Observation, PartOps
from .targets import Targets, targets_of
from .technique import Family, Proof, Technique
from .undo_notes import memory

if TYPE_CHECKING:
    import torch
    from diffusers import DiffusionPipeline


class QuantizedLinears(Technique):
    """Linear layers of denoisers and the VAE with weights in 8 bits, by torchao.

    Taken are those that a call ran, that :meth:`leaves` has nothing against, and that their model
    does not keep in float32 by its own word.  Any floating dtype may come before it.
    """

    family: ClassVar[Family] = Family.QUANTIZATION
    watches: ClassVar[bool] = True
    kind: ClassVar[str]
    """``"int8"`` or ``"float8"``."""
    dynamic: ClassVar[bool] = True
    """Whether activations are quantized too, in each call, so that the product itself is in 8 bits;
    else the weights are converted back in each call, and only memory is saved."""

    @abstractmethod
    def leaves(self, linear: LinearCalls) -> str | None:
        """Why a layer is left as it is, or ``None``."""

    @abstractmethod
    def quantize(self, module: torch.nn.Module, paths: set[str]) -> None:
        """Quantize the linear layers at ``paths`` in ``module`` in place."""

    @abstractmethod
    def slow(self, to_compile: str | None) -> str | None:
        """What is published of a stack with it, with its figures, that makes it no gain in time.

        ``to_compile`` is what to write so that the stack is compiled; ``None``: it is.
        """

    def device_refuses(self, linear: LinearCalls, device: torch.device) -> str | None:
        """What of a layer that the filter takes torch refuses on ``device``, with the next step."""
        return None

    def incompatible(self, pipeline: DiffusionPipeline) -> str | None:
        from ..adapters.torchao_internals import why_unusable

        return why_unusable()

    def incompatible_with_call(
        self, pipeline: DiffusionPipeline, before: Observation
    ) -> str | None:
        denoisers = targets_of(pipeline).denoisers
        linears = {
            name: linear
            for name, linear in before.linears.items()
            if name.startswith(tuple(f"{part}." for part in denoisers))
        }
        left = self._left(pipeline, linears)
        if not left:
            return f"no linear layer ran in its {' or '.join(denoisers)}"
        if None not in left.values():
            widest = max(linears, key=lambda name: linears[name].flops)
            return (
                f"its filter takes none of {len(left)} linear layers; the one with most FLOPs, "
                f"{widest}, is left for {left[widest]}"
            )
        return None

    def known_slow(self, stack: Mapping[str, Technique]) -> str | None:
        step: str | None = "add 'compile'"
        for one in stack.values():
            if one.family is Family.COMPILE:
                step = None
            elif Family.COMPILE in one.contradicts_families:
                step = f"write 'compile' in place of {one.name!r}, beside which nothing is compiled"
        slow = self.slow(step)
        return None if slow is None else f"{'+'.join(stack)}: {slow}"

    def apply(self, pipeline: DiffusionPipeline) -> None:
        raise UsageError(
            f"{self.name} chooses layers by a call; use pytest_diffspeed.apply_stack, which runs it"
        )

    def apply_seen(self, pipeline: DiffusionPipeline, observe: Callable[[], Observation]) -> None:
        from ..adapters.torchao_internals import weight_bytes

        linears = observe().linears
        left = self._left(pipeline, linears)
        taken = [name for name, reason in left.items() if reason is None]
        targets = targets_of(pipeline)
        device = next(next(iter(targets.denoisers.values())).parameters()).device
        for name in taken:
            refused = self.device_refuses(linears[name], device)
            if refused is not None:
                raise IncompatibleError(
                    f"{self.name} is incompatible with {type(pipeline).__name__}: its filter "
                    f"takes {name}, which has {refused}"
                )
        split = {name: targets.split(name) for name in taken}
        layers = {n: targets.all[part].get_submodule(path) for n, (part, path) in split.items()}
        memory(pipeline, self.name).update(
            linears=linears, left=left, bytes={n: weight_bytes(one) for n, one in layers.items()}
        )
        for part, module in targets.all.items():
            self.quantize(module, {path for owner, path in split.values() if owner == part})

    def _left(
        self, pipeline: DiffusionPipeline, linears: Mapping[str, LinearCalls]
    ) -> dict[str, str | None]:
        """Why each layer is left; ``None``: it is taken."""
        import torch

        from ..adapters.diffusers_internals import float32_islands

        kept = {
            f"{part}.{name}"
            for part, model in targets_of(pipeline).all.items()
            for name in float32_islands(model, torch.bfloat16)
        }
        own_word = "its model keeps it in float32 by its own word"
        return {
            name: own_word if f"{name}.weight" in kept else self.leaves(linear)
            for name, linear in linears.items()
        }

    def prove(self, pipeline: DiffusionPipeline, seen: Observation) -> Proof:
        from ..adapters.torchao_internals import is_quantized, lost_rows, weight_bytes

        notes = memory(pipeline, self.name)
        linears: Mapping[str, LinearCalls] = notes["linears"]
        left: Mapping[str, str | None] = notes["left"]
        targets = targets_of(pipeline)
        taken = {name for name, reason in left.items() if reason is None}
        split = {name: targets.split(name) for name in taken}
        layers = {n: targets.all[part].get_submodule(path) for n, (part, path) in split.items()}
        quantized = {
            name
            for name, layer in layers.items()
            if is_quantized(layer, self.kind, dynamic=self.dynamic)
        }
        if quantized != taken or not taken:
            missing = sorted(taken - quantized)
            raise NotEffectiveError(
                f"{self.name}: expected {self.kind} weights in {len(taken)} linear layers that the "
                f"filter takes, found them in {len(quantized)}; "
                f"without: {', '.join(missing[:3]) or '–'}"
            )
        lost = sorted(n for n, one in layers.items() if self.kind == "float8" and lost_rows(one))
        if lost:
            raise NotEffectiveError(
                f"{self.name}: weights that are all zeros have no scale in float8 and became NaN "
                f"in {listed(lost)}",
                next_step="use the same in int8, which torchao scales by more than zero",
            )
        taken_in = {part: [n for n in taken if split[n][0] == part] for part in targets.all}
        products = 0
        for part, names in taken_in.items():
            ran = {name: self._ran(seen.part(part), split[name][1]) for name in names}
            products += sum(ran.values())
            self._require_ran(part, {n: linears[n] for n in names}, ran, seen.steps)
        total = sum(linear.flops for linear in linears.values())
        share = sum(linears[name].flops for name in taken) / total
        held = sum(notes["bytes"].values()), sum(weight_bytes(one) for one in layers.values())
        found = (
            f"{len(taken)} of {len(linears)} linear layers quantized, {share:.1%} of linear FLOPs"
        )
        if self.dynamic:
            found += f"; {products} {self.kind} products in {seen.steps} steps"
        else:
            found += (
                f"; {products} products with weights out of {self.kind} in {seen.steps} steps; "
                f"{size(held[0])} of weights became {size(held[1])} (counted)"
            )
        return Proof(
            self.name,
            found + _none_in(taken_in, targets),
            {
                "layers_taken": len(taken),
                "layers_left": len(linears) - len(taken),
                "layers_taken_in": {part: len(names) for part, names in taken_in.items()},
                "flops_share": share,
                f"{self.kind}_products" if self.dynamic else "products": products,
                "weight_bytes_before": held[0],
                "weight_bytes": held[1],
                "taken": _by_flops({n: linears[n] for n in taken}, left, total),
                "left": _by_flops({n: linears[n] for n in linears.keys() - taken}, left, total),
            },
        )

    def prove_compiled(
        self, pipeline: DiffusionPipeline, seen: Observation
    ) -> Mapping[str, Any] | None:
        """The products in 8 bits that compiled code called torch for, by their ops.

        Where the compiler writes kernels of its own for products (``max-autotune``, and int8 on a
        CPU) these have other names, so that none is seen is no evidence against the technique.
        """
        if not self.dynamic or seen.compiled is None:
            return None
        return {"compiled_products": {n: dict(p.narrow_products) for n, p in seen.compiled.items()}}

    def _ran(self, ops: PartOps, path: str) -> int:
        """How often the layer at ``path`` multiplied as this technique would have it."""
        if self.dynamic:
            return ops.narrow_products.get(self.kind, {}).get(path, 0)
        return min(ops.widened.get(self.kind, {}).get(path, 0), ops.products_at(path))

    def _require_ran(
        self, part: str, linears: Mapping[str, LinearCalls], ran: Mapping[str, int], steps: int
    ) -> None:
        """Each layer as often as it was called before it was quantized.

        Raises:
            NotEffectiveError: with those that did not.
        """
        too_few = [name for name, linear in linears.items() if ran[name] < len(linear.rows)]
        if too_few:
            what = f"{self.kind} products" if self.dynamic else f"products with {self.kind} weights"
            raise NotEffectiveError(
                f"{self.name}: expected {sum(len(one.rows) for one in linears.values())} {what} "
                f"of the {part} in {steps} steps, found {sum(ran.values())}; too few in "
                f"{listed(sorted(too_few))}"
            )


def _by_flops(
    linears: Mapping[str, LinearCalls], left: Mapping[str, str | None], total: int
) -> list[dict[str, Any]]:
    """Layers of one shape and fate together, those with most FLOPs first."""
    groups: dict[tuple[int, int, str], list[LinearCalls]] = {}
    for name, linear in linears.items():
        key = (linear.in_features, linear.out_features, left[name] or "")
        groups.setdefault(key, []).append(linear)
    rows = [
        {
            "in_features": fan_in,
            "out_features": fan_out,
            "least_rows": min(min(linear.rows) for linear in group),
            "layers": len(group),
            "flops_share": sum(linear.flops for linear in group) / total,
            **({"reason": reason} if reason else {}),
        }
        for (fan_in, fan_out, reason), group in groups.items()
    ]
    rows.sort(key=lambda row: -float(str(row["flops_share"])))
    return rows


def _none_in(taken_in: Mapping[str, list[str]], targets: Targets) -> str:
    without = [part for part in targets.denoisers if not taken_in[part]]
    return f"; none in the {' and '.join(without)}, by the filter" if without else ""
