"""Dynamic int8 quantization of linear layers in denoisers and the VAE, by torchao."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import TYPE_CHECKING, Any, ClassVar

from ...accelerators.features import INT8, INT8_OF_ANY_SHAPE, Feature
from ...accelerators.registry import missing_feature
from ...common.errors import IncompatibleError, NotEffectiveError, UsageError
from ..int8_filter import derived, published_sdxl, torch_refuses
from ..observation import LinearCalls
from ..targets import Targets, targets_of
from ..technique import Family, Observation, Proof, Technique
from ..undo_notes import memory

if TYPE_CHECKING:
    from diffusers import DiffusionPipeline

PUBLISHED_SLOWDOWN = (
    "quantized but not compiled, each layer converts its input in kernels of their own: Flux on an "
    "H100 took 119.7 s an image with int8 that was not compiled, against 6.57 s in bf16 "
    "(published); add 'compile'"
)


class Int8Dynamic(Technique):
    """Int8 weights per channel, int8 activations per token, scaled in each call.

    Which layers: those that :func:`~pytest_diffspeed.techniques.int8_filter.derived` takes, by
    their shapes and the rows that a real call gave them.  Any floating dtype may come before it:
    torchao was made for bfloat16, and float32 gives right results too, so it is no contradiction.
    """

    name: ClassVar[str] = "int8_dynamic"
    family: ClassVar[Family] = Family.QUANTIZATION
    summary: ClassVar[str] = "dynamic int8 by torchao, layers chosen from the model and a call"
    needs: ClassVar[tuple[Feature, ...]] = (INT8,)
    why_not_undoable: ClassVar[str] = "it rounded the weights to int8"
    watches: ClassVar[bool] = True

    def leaves(self, linear: LinearCalls) -> str | None:
        """Why a layer is left as it is, or ``None``."""
        return derived(linear)

    def incompatible(self, pipeline: DiffusionPipeline) -> str | None:
        from ...adapters.torchao_internals import why_unusable

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
        left = {name: self.leaves(linear) for name, linear in linears.items()}
        if not left:
            return f"no linear layer ran in its {' or '.join(denoisers)}"
        if None not in left.values():
            widest = max(linears, key=lambda name: linears[name].flops)
            return (
                f"its filter takes none of {len(left)} linear layers; the one with most FLOPs, "
                f"{widest}, is left for {left[widest]}"
            )
        return None

    def known_slow(self, names: tuple[str, ...]) -> str | None:
        if any(name.startswith("compile") for name in names):
            return None
        return f"{'+'.join(names)}: {PUBLISHED_SLOWDOWN}"

    def apply(self, pipeline: DiffusionPipeline) -> None:
        raise UsageError(
            f"{self.name} chooses layers by a call; use pytest_diffspeed.apply_stack, which runs it"
        )

    def apply_seen(self, pipeline: DiffusionPipeline, observe: Callable[[], Observation]) -> None:
        from ...adapters.torchao_internals import quantize_int8_dynamic

        linears = observe().linears
        left = {name: self.leaves(linear) for name, linear in linears.items()}
        taken = [name for name, reason in left.items() if reason is None]
        targets = targets_of(pipeline)
        denoiser = next(iter(targets.denoisers.values()))
        if missing_feature(next(denoiser.parameters()).device, INT8_OF_ANY_SHAPE) is not None:
            for name in taken:
                refused = torch_refuses(linears[name])
                if refused is not None:
                    raise IncompatibleError(
                        f"{self.name} is incompatible with {type(pipeline).__name__}: its filter "
                        f"takes {name}, which has {refused}; use "
                        "'int8_dynamic', which reads the rows"
                    )
        memory(pipeline, self.name).update(linears=linears, left=left)
        split = [targets.split(name) for name in taken]
        for part, module in targets.all.items():
            paths = {path for owner, path in split if owner == part}
            quantize_int8_dynamic(module, paths)

    def prove(self, pipeline: DiffusionPipeline, seen: Observation) -> Proof:
        from ...adapters.torchao_internals import is_int8

        notes = memory(pipeline, self.name)
        linears: Mapping[str, LinearCalls] = notes["linears"]
        left: Mapping[str, str | None] = notes["left"]
        targets = targets_of(pipeline)
        taken = {name for name, reason in left.items() if reason is None}
        split = {name: targets.split(name) for name in taken}
        quantized = {
            name
            for name, (part, path) in split.items()
            if is_int8(targets.all[part].get_submodule(path))
        }
        if quantized != taken or not taken:
            missing = sorted(taken - quantized)
            raise NotEffectiveError(
                f"{self.name}: expected int8 weights in {len(taken)} linear layers that the filter "
                f"takes, found them in {len(quantized)}; without: {', '.join(missing[:3]) or '–'}"
            )
        taken_in = {part: [n for n in taken if split[n][0] == part] for part in targets.all}
        for part, names in taken_in.items():
            calls = sum(len(linears[name].rows) for name in names)
            found = seen.part(part).int8_products
            if found < calls:
                raise NotEffectiveError(
                    f"{self.name}: expected {calls} int8 products of the {part} in {seen.steps} "
                    f"steps, found {found}"
                )
        products = sum(part.int8_products for part in seen.parts.values())
        total = sum(linear.flops for linear in linears.values())
        share = sum(linears[name].flops for name in taken) / total
        return Proof(
            self.name,
            f"{len(taken)} of {len(linears)} linear layers quantized, {share:.1%} of linear FLOPs; "
            f"{products} int8 products in {seen.steps} steps{_none_in(taken_in, targets)}",
            {
                "layers_taken": len(taken),
                "layers_left": len(linears) - len(taken),
                "layers_taken_in": {part: len(names) for part, names in taken_in.items()},
                "flops_share": share,
                "int8_products": products,
                "taken": _by_flops({n: linears[n] for n in taken}, left, total),
                "left": _by_flops({n: linears[n] for n in linears.keys() - taken}, left, total),
            },
        )


class Int8DynamicSdxl(Int8Dynamic):
    """With the list of shapes that was published for SDXL on an A100."""

    name: ClassVar[str] = "int8_dynamic_sdxl"
    summary: ClassVar[str] = "dynamic int8 by torchao, layers by the published SDXL list"

    def leaves(self, linear: LinearCalls) -> str | None:
        return published_sdxl(linear)


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


TECHNIQUES: tuple[Technique, ...] = (Int8Dynamic(), Int8DynamicSdxl())
