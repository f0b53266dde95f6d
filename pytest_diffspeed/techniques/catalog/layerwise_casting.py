"""Layerwise casting by diffusers: weights of denoisers in float8 between calls of their layers."""

from __future__ import annotations

from collections.abc import Mapping
from types import MappingProxyType
from typing import TYPE_CHECKING, Any, ClassVar

from ...common.errors import NotEffectiveError
from ...common.text import listed, size
from ..arguments import Parameter
from ..observation import PartOps
from ..targets import denoisers, models_with, targets_of
from ..technique import Family, Observation, Proof, Technique
from ..undo_notes import memory

if TYPE_CHECKING:
    import torch
    from diffusers import DiffusionPipeline

_ENABLE = "enable_layerwise_casting"
_ONE_GRAPH = (
    "diffusers casts a layer inside of its own call by `module.to()`, which makes new parameters, "
    "and dynamo traces none of that into one graph; use fp8_weight_only or int8_weight_only"
)


class LayerwiseCasting(Technique):
    """Linear layers, convolutions and embeddings of denoisers stored in float8, without a scale.

    Each call of a layer casts its weights to the dtype that the stack computes in, and back
    afterwards, so that one layer at a time is wide.  Which layers stay as they are diffusers says:
    norms, patch and position embeddings, the first and last projection, and what the model's class
    names in ``_skip_layerwise_casting_patterns`` or keeps in float32.
    """

    name: ClassVar[str] = "layerwise_casting"
    family: ClassVar[Family] = Family.QUANTIZATION
    summary: ClassVar[str] = "denoisers stored in float8, each layer widened for its own call"
    changes: ClassVar[frozenset[str] | None] = frozenset({"denoiser"})
    image_preset: ClassVar[str] = "w8a8"
    saves_memory: ClassVar[bool] = True
    on_plain_tensors: ClassVar[bool] = True
    contradicts_families: ClassVar[Mapping[Family, str]] = MappingProxyType(
        {Family.COMPILE: _ONE_GRAPH}
    )
    parameters: ClassVar[Mapping[str, Parameter]] = MappingProxyType(
        {
            "storage": Parameter(
                "float8_e4m3fn", "dtype between calls", ("float8_e4m3fn", "float8_e5m2")
            )
        }
    )
    why_not_undoable: ClassVar[str] = "it rounded the weights to float8"

    def incompatible(self, pipeline: DiffusionPipeline) -> str | None:
        from ...adapters.diffusers_layerwise import why_unusable

        for name, model in _models(pipeline).items():
            if not callable(getattr(model, _ENABLE, None)):
                return f"its {name} has no {_ENABLE}, which models of diffusers have"
        return why_unusable()

    def apply(self, pipeline: DiffusionPipeline) -> None:
        import torch

        from ...adapters.diffusers_layerwise import cast_layers

        notes = memory(pipeline, self.name)
        storage: torch.dtype = getattr(torch, str(self.argument("storage")))
        for name, model in _models(pipeline).items():
            before, peaks = _bytes_of(model), _peaks(model)
            getattr(model, _ENABLE)(storage_dtype=storage, compute_dtype=model.dtype)
            notes[name] = (before, peaks, cast_layers(model))

    def prove(self, pipeline: DiffusionPipeline, seen: Observation) -> Proof:
        from ...adapters.diffusers_layerwise import left_layers, skip_patterns

        notes = memory(pipeline, self.name)
        figures: dict[str, Any] = {"storage": str(self.argument("storage"))}
        cast = casts = before = after = left = 0
        computed: set[str] = set()
        without: list[str] = []
        for name, model in _models(pipeline).items():
            bytes_before, peaks, layers = notes[name]
            self._require_in_range(name, peaks, layers)
            part, prefix = targets_of(pipeline).split(name)
            found = self._casts(name, model, layers, seen.part(part), prefix)
            skipped = left_layers(model)
            figures[name] = {
                "layers": len(layers),
                "casts": found,
                "left": skipped,
                "patterns": skip_patterns(model),
                "weight_bytes_before": bytes_before,
                "weight_bytes": _bytes_of(model),
            }
            cast, casts, left = cast + len(layers), casts + found, left + len(skipped)
            before, after = before + bytes_before, after + _bytes_of(model)
            computed |= {str(compute).removeprefix("torch.") for _, compute in layers.values()}
            without += [f"{name}.{path}" for path in skipped]
        return Proof(
            self.name,
            f"{cast} layers stored in {self.argument('storage')} and computed in "
            f"{' and '.join(sorted(computed))}, widened {casts} times in {seen.steps} steps; "
            f"{size(before)} of weights became {size(after)} (counted)"
            + (f"; {left} layers left by diffusers' and the models' patterns" if left else ""),
            {
                "layers": cast,
                "layers_left": left,
                "casts": casts,
                "weight_bytes_before": before,
                "weight_bytes": after,
                **figures,
            },
        )

    def _require_in_range(
        self,
        name: str,
        peaks: Mapping[str, torch.Tensor],
        layers: Mapping[str, tuple[torch.dtype, torch.dtype]],
    ) -> None:
        """Nothing scales weights here: what is beyond float8 becomes NaN, or the end of the range.
        Which of them depends on the device and on torch's version.

        Raises:
            NotEffectiveError: with the layers that lost weights.
        """
        import torch

        lost = [
            path
            for path, (storage, _) in layers.items()
            if any(
                float(peak) > torch.finfo(storage).max
                for parameter, peak in peaks.items()
                if parameter.rpartition(".")[0] == path
            )
        ]
        if lost:
            end = torch.finfo(layers[lost[0]][0]).max
            raise NotEffectiveError(
                f"{self.name}: weights of the {name} are beyond {end:g}, where "
                f"{self.argument('storage')} ends, in {listed(lost)}",
                next_step="store them in float8_e5m2, or use fp8_weight_only, which scales them",
            )

    def _casts(
        self,
        name: str,
        model: torch.nn.Module,
        layers: Mapping[str, tuple[torch.dtype, torch.dtype]],
        ops: PartOps,
        prefix: str,
    ) -> int:
        """How often weights of the layers were widened for a product of theirs.

        Raises:
            NotEffectiveError: no layer was cast, one is not stored as it should be, or ran and was
                not widened, or multiplied in another dtype.
        """
        if not layers:
            raise NotEffectiveError(
                f"{self.name}: expected layers of the {name} in {self.argument('storage')}, found "
                "that all are left by diffusers' and the model's patterns"
            )
        wide = [path for path, (storage, _) in layers.items() if not _stored(model, path, storage)]
        if wide:
            raise NotEffectiveError(
                f"{self.name}: expected weights of the {name} in {self.argument('storage')} "
                f"between its calls, found others in {listed(wide)}"
            )
        casts, narrow, other = 0, [], []
        for path, (_, compute) in layers.items():
            at = f"{prefix}.{path}".strip(".")
            ran, widened = ops.products_at(at), ops.widened.get("float8", {}).get(at, 0)
            casts += widened
            if widened < ran:
                narrow.append(path)
            if ops.op_places.get(str(compute), {}).get(at, 0) != ran:
                other.append(path)
        if narrow or other or not casts:
            what = (
                f"products of {listed(other)} in another dtype"
                if other
                else f"fewer casts than products in {listed(narrow)}"
                if narrow
                else "that none of its layers was cast"
            )
            raise NotEffectiveError(
                f"{self.name}: expected each layer of the {name} widened in each of its calls, "
                f"found {what}"
            )
        return casts


def _models(pipeline: DiffusionPipeline) -> dict[str, Any]:
    return models_with(denoisers(pipeline), _ENABLE)


def _bytes_of(model: torch.nn.Module) -> int:
    return sum(parameter.nbytes for parameter in model.parameters())


def _stored(model: torch.nn.Module, path: str, storage: torch.dtype) -> bool:
    return all(parameter.dtype is storage for parameter in model.get_submodule(path).parameters())


def _peaks(model: torch.nn.Module) -> dict[str, torch.Tensor]:
    """The largest absolute value of each parameter, still as a tensor: a fake one tells none."""
    return {n: p.detach().abs().amax() for n, p in model.named_parameters() if p.numel()}


TECHNIQUES: tuple[Technique, ...] = (LayerwiseCasting(),)
