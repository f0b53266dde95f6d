"""Precision: the fp32 baseline, TF32, bfloat16 and float16."""

from __future__ import annotations

import functools
from collections.abc import Callable, Iterable
from contextlib import AbstractContextManager
from typing import TYPE_CHECKING, Any, ClassVar

from ...accelerators.features import BFLOAT16, TF32, Feature
from ...common.errors import NotEffectiveError
from ...common.text import listed
from ..casts import casting_line
from ..targets import targets_of
from ..technique import Family, Observation, Proof, Technique

if TYPE_CHECKING:
    import torch
    from diffusers import DiffusionPipeline

_FP32 = "torch.float32"
_VAE = "vae"
_ENCODER = ("encoder", "quant_conv")


def _prove_dtype(
    technique: str,
    dtype_name: str,
    pipeline: DiffusionPipeline,
    seen: Observation,
    vae_upcast: bool = False,
) -> Proof:
    """Every floating parameter has the dtype, and so has every matrix product that ran.

    But what a model itself keeps in float32, which the proof lists; and the VAE's with
    ``vae_upcast``, whose pipeline casts it to float32 for its calls, or keeps it there.
    """
    from ...adapters.diffusers_layerwise import computed_in
    from ...pipelines.components import modules

    of_vae = {dtype_name, _FP32} if vae_upcast else {dtype_name}
    islands: dict[str, list[str]] = {}
    wrong: dict[str, list[str]] = {}
    tensors = 0
    for component, part in modules(pipeline).items():
        kept = set(_islands(part, dtype_name))
        islands[component] = sorted(kept)
        stored = computed_in(part)  # what layerwise casting keeps in 8 bits between calls
        dtypes = {
            n: str(stored.get(n, p.dtype))
            for n, p in part.named_parameters()
            if p.is_floating_point()
        }
        tensors += len(dtypes)
        allowed = of_vae if component == _VAE else {dtype_name}
        other = {
            d for n, d in dtypes.items() if d not in allowed and not (n in kept and d == _FP32)
        }
        if other:
            wrong[component] = sorted(other)
    if wrong:
        raise _not_effective(
            f"{technique}: expected every parameter in {dtype_name}, found {wrong}",
            f"parameters of {listed(list(wrong))} are not {dtype_name}",
            pipeline,
            wrong,
            dtype_name,
        )
    by_design = _require_op_dtypes(technique, dtype_name, pipeline, seen, of_vae)
    ops = seen.op_dtypes[dtype_name]
    found = f"{tensors} parameter tensors and {ops} matrix products or convolutions in {dtype_name}"
    figures: dict[str, Any] = {"parameter_tensors": tensors, "ops": ops, "dtype": dtype_name}
    kept_by_model = {component: names for component, names in islands.items() if names}
    if kept_by_model:
        number = sum(map(len, kept_by_model.values()))
        where = ", ".join(f"{len(names)} of the {c}" for c, names in kept_by_model.items())
        found += f"; {number} of the tensors stay in float32 by the models' own word ({where})"
        figures["float32_parameters"] = kept_by_model
    if by_design:
        where = ", ".join(f"{count} in {place}" for place, count in list(by_design.items())[:3])
        more = f" and {len(by_design) - 3} more places" if len(by_design) > 3 else ""
        found += f"; products in float32 by the models' or the pipeline's own code: {where}{more}"
        figures["float32_ops"] = by_design
    return Proof(technique, found, figures)


def _require_op_dtypes(
    technique: str,
    dtype_name: str,
    pipeline: DiffusionPipeline,
    seen: Observation,
    of_vae: set[str],
) -> dict[str, int]:
    """Refuse products in another dtype, but those in float32 by the models' own design: by place,
    how many of these ran.
    """
    by_design: dict[str, int] = {}
    other: dict[str, int] = {}
    # Image-to-image pipelines that read `force_upcast` encode in float32 whatever the dtype is.
    encodes_in_float32 = dtype_name != _FP32 and _keeps_float32(pipeline)
    for part, ops in seen.parts.items():
        for dtype, places in ops.op_places.items():
            if dtype in (of_vae if part == _VAE else {dtype_name}):
                continue
            for path, count in places.items():
                place = f"{part}.{path}".rstrip(".")
                own = dtype == _FP32 and (
                    _float32_by_design(pipeline, part, path, dtype_name)
                    or (encodes_in_float32 and part == _VAE and path.startswith(_ENCODER))
                )
                (by_design if own else other)[place] = count
    if other or not seen.op_dtypes:
        dtypes = {part: dict(ops.op_dtypes) for part, ops in seen.parts.items()}
        found = (
            f"{dtypes}, others in {', '.join(list(other)[:3])}"
            if seen.op_dtypes
            else "no matrix product or convolution at all"
        )
        raise _not_effective(
            f"{technique}: expected every matrix product and convolution of denoisers and VAE "
            f"in {dtype_name}, found {found}; a model that means it names the module in "
            "`_keep_in_fp32_modules`",
            f"products of {listed(list(other) or ['no part'])} are not {dtype_name}",
            pipeline,
            (place.partition(".")[0] for place in other),
            dtype_name,
        )
    return by_design


def _not_effective(
    message: str,
    clause: str,
    pipeline: DiffusionPipeline,
    components: Iterable[str],
    dtype_name: str,
) -> NotEffectiveError:
    """With the line that casts, where the components' own code, or the pipeline's, has one.

    That line was read, and not seen to run, which both the message and the next step say.
    """
    from ...pipelines.components import modules

    parts = modules(pipeline)
    names = [name for name in dict.fromkeys(components) if name in parts]
    code = [pipeline, *(module for name in names for module in parts[name].modules())]
    found = casting_line(code, dtype_name)
    if found is None:
        what = f"the code of {' and '.join(names)}" if names else "the pipeline's code"
        step = f"search {what} for .float() and .to(dtype), which undo it"
        return NotEffectiveError(message, clause=clause, next_step=step)
    place, source = found
    step = "take the cast out, if it is this one (read, not seen to run); else search for another"
    return NotEffectiveError(
        f"{message}; the source has a cast at {place}, which was not seen to run: {source}",
        clause=clause,
        next_step=step,
        place=place,
        source=source,
    )


def _float32_by_design(pipeline: DiffusionPipeline, part: str, path: str, dtype_name: str) -> bool:
    from ...adapters.diffusers_internals import casts_by_itself

    model = targets_of(pipeline).all[part]
    module = model.get_submodule(path)
    own = [name for name in _islands(model, dtype_name) if name.startswith(f"{path}.")]
    return bool(path and own) or casts_by_itself(module)


def _islands(model: torch.nn.Module, dtype_name: str) -> list[str]:
    import torch

    from ...adapters.diffusers_internals import float32_islands

    if dtype_name == _FP32:
        return []
    return float32_islands(model, getattr(torch, dtype_name.removeprefix("torch.")))


def _cast(model: torch.nn.Module, dtype: torch.dtype) -> None:
    """Cast a model as loading it in ``dtype`` would: what it keeps in float32 stays as it is."""
    import torch

    from ...adapters.diffusers_internals import float32_islands

    kept = set(float32_islands(model, dtype))
    before = {name: p.data for name, p in model.named_parameters() if name in kept}
    torch.nn.Module.to(model, dtype=dtype)  # some models have a `to` with other words
    for name, parameter in model.named_parameters():
        if name in before:
            parameter.data = before[name]


class Fp32(Technique):
    """The baseline: IEEE single precision in matrix products *and* convolutions."""

    name: ClassVar[str] = "fp32"
    family: ClassVar[Family] = Family.PRECISION
    summary: ClassVar[str] = "the baseline: true fp32, eager"
    changes: ClassVar[frozenset[str] | None] = frozenset()
    undoable: ClassVar[bool] = True

    def apply(self, pipeline: DiffusionPipeline) -> None:
        """Nothing to change: sources build in float32, and arms run with IEEE flags."""

    def undo(self, pipeline: DiffusionPipeline) -> None:
        """Nothing to undo."""

    def prove(self, pipeline: DiffusionPipeline, seen: Observation) -> Proof:
        from ..precision_flags import require_ieee

        proof = _prove_dtype(self.name, _FP32, pipeline, seen)
        flags = require_ieee()
        return Proof(self.name, proof.found + ", IEEE flags read back", {**proof.figures, **flags})


class Tf32(Technique):
    """Float32 weights, multiplied with 10 bits of mantissa: what published "fp32" arms often are.

    Both matrix products and convolutions; of itself torch does this to convolutions only.
    """

    name: ClassVar[str] = "tf32"
    family: ClassVar[Family] = Family.PRECISION
    summary: ClassVar[str] = "float32 weights, products and convolutions in TF32"
    needs: ClassVar[tuple[Feature, ...]] = (TF32,)
    changes: ClassVar[frozenset[str] | None] = frozenset()
    undoable: ClassVar[bool] = True

    def apply(self, pipeline: DiffusionPipeline) -> None:
        """Nothing to change on the pipeline: arms run inside :meth:`running`."""

    def undo(self, pipeline: DiffusionPipeline) -> None:
        """Nothing to undo: the flags are those of a call, not of the pipeline."""

    def running(self) -> AbstractContextManager[object]:
        from ..precision_flags import fp32_precision

        return fp32_precision("tf32")

    def prove(self, pipeline: DiffusionPipeline, seen: Observation) -> Proof:
        proof = _prove_dtype(self.name, _FP32, pipeline, seen)
        flags = _cuda_flags()
        wrong = {name: value for name, value in flags.items() if value != "tf32"}
        if wrong:
            raise NotEffectiveError(f"{self.name}: expected TF32 flags, found {wrong}")
        return Proof(self.name, proof.found + ", TF32 flags read back", {**proof.figures, **flags})


def _cuda_flags() -> dict[str, str]:
    import torch

    backends: Any = torch.backends  # the annotations lack `fp32_precision`
    return {
        "cuda.matmul": str(backends.cuda.matmul.fp32_precision),
        "cudnn.conv": str(backends.cudnn.conv.fp32_precision),
    }


class _SixteenBits(Technique):
    family: ClassVar[Family] = Family.PRECISION
    changes: ClassVar[frozenset[str] | None] = None
    why_not_undoable: ClassVar[str] = "it rounded the weights"


class Bf16(_SixteenBits):
    """All components in bfloat16."""

    name: ClassVar[str] = "bf16"
    summary: ClassVar[str] = "weights and activations in bfloat16"
    needs: ClassVar[tuple[Feature, ...]] = (BFLOAT16,)

    def apply(self, pipeline: DiffusionPipeline) -> None:
        import torch

        from ...pipelines.components import modules

        for part in modules(pipeline).values():
            _cast(part, torch.bfloat16)

    def prove(self, pipeline: DiffusionPipeline, seen: Observation) -> Proof:
        return _prove_dtype(self.name, "torch.bfloat16", pipeline, seen)


class Fp16(_SixteenBits):
    """All components in float16, but a VAE that the pipeline itself would cast to float32.

    ``force_upcast`` in its configuration says that activations of the VAE leave float16's range
    (SDXL's do).  Pipelines that read it cast the weights to float32 and back in every call; here
    they stay in float32 if the pipeline lets them, and ``vae.decode`` casts its input.  Pipelines
    that do not read it decode in float16, and so do they here.
    """

    name: ClassVar[str] = "fp16"
    summary: ClassVar[str] = "weights and activations in float16; the VAE as the pipeline has it"

    def apply(self, pipeline: DiffusionPipeline) -> None:
        import torch

        from ...pipelines.components import modules, vae

        keeps = _keeps_float32(pipeline)
        for name, part in modules(pipeline).items():
            if not (keeps and name == _VAE):
                _cast(part, torch.float16)
        if keeps:
            decoder = vae(pipeline)
            decoder.decode = _in_its_dtype(decoder, decoder.decode)

    def prove(self, pipeline: DiffusionPipeline, seen: Observation) -> Proof:
        kind = type(pipeline).__name__
        upcast = _keeps_float32(pipeline)
        proof = _prove_dtype(self.name, "torch.float16", pipeline, seen, vae_upcast=upcast)
        figures = dict(proof.figures)
        about_vae = ""
        if upcast:
            ran = dict(seen.part(_VAE).op_dtypes) or {_FP32: 0}
            about_vae = (
                f"; the VAE in {' and '.join(sorted(ran))}, since {kind} reads its force_upcast"
            )
            figures["vae_dtype"] = "+".join(sorted(ran))
        elif _forces_upcast(pipeline):
            about_vae = (
                f"; the VAE too: its configuration has force_upcast, which {kind} does not read, "
                "so it would decode in float16 without us"
            )
        return Proof(self.name, proof.found + about_vae, figures)


def _keeps_float32(pipeline: DiffusionPipeline) -> bool:
    from ...adapters.diffusers_internals import reads_force_upcast

    return _forces_upcast(pipeline) and reads_force_upcast(pipeline)


def _forces_upcast(pipeline: DiffusionPipeline) -> bool:
    from ...pipelines.components import vae

    return bool(getattr(getattr(vae(pipeline), "config", None), "force_upcast", False))


def _in_its_dtype(model: Any, decode: Callable[..., Any]) -> Callable[..., Any]:

    @functools.wraps(decode)
    def decode_in_its_dtype(z: torch.Tensor, *args: Any, **kwargs: Any) -> Any:
        return decode(z.to(model.dtype), *args, **kwargs)

    return decode_in_its_dtype


TECHNIQUES: tuple[Technique, ...] = (Fp32(), Tf32(), Bf16(), Fp16())
