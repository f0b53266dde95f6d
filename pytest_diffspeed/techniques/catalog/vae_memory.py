"""Less memory for the last thing that a call does: the VAE decodes in tiles, or image by image.

Neither makes anything faster: tiles overlap, so some of the picture is decoded twice.
"""

from __future__ import annotations

from collections.abc import Mapping
from contextlib import AbstractContextManager
from types import MappingProxyType
from typing import TYPE_CHECKING, Any, ClassVar

from ...adapters.diffusers_tiling import (
    decode_in_tiles,
    restore_tiling,
    tile_side,
    tiling_of,
    why_not_tiled,
)
from ...common.errors import NotEffectiveError
from ...common.text import plural, size
from ..arguments import Parameter
from ..decode_watch import Decodes, watched_decodes
from ..targets import targets_of
from ..technique import Family, Observation, Proof, Technique
from ..undo_notes import memory

if TYPE_CHECKING:
    from diffusers import DiffusionPipeline

_NOT_COMPILED = (
    "torch.compile unrolls all tiles or images of a decode into one graph, in which inductor "
    "decides what is computed when and nothing shows that less is alive at once"
)


class _LessAtOnce(Technique):
    """What decoding in pieces has in common: it must hold less at once, or it is no use."""

    changes: ClassVar[frozenset[str] | None] = frozenset({"vae"})
    undoable: ClassVar[bool] = True
    saves_memory: ClassVar[bool] = True
    watches: ClassVar[bool] = True
    contradicts: ClassVar[Mapping[str, str]] = MappingProxyType(
        {"compile": _NOT_COMPILED, "compile_max_autotune": _NOT_COMPILED}
    )

    def why_not(self, vae: Any) -> str | None:
        """Why this VAE cannot decode so, or ``None``."""
        raise NotImplementedError

    def fitting(self, pipeline: DiffusionPipeline) -> dict[str, Any]:
        """The VAEs that can."""
        decoders = targets_of(pipeline).decoders
        return {name: vae for name, vae in decoders.items() if self.why_not(vae) is None}

    def incompatible(self, pipeline: DiffusionPipeline) -> str | None:
        decoders = targets_of(pipeline).decoders
        if not decoders:
            return "it has no VAE that decodes"
        reasons = [self.why_not(vae) for vae in decoders.values()]
        return None if None in reasons else reasons[0]

    def watch(self, pipeline: DiffusionPipeline) -> AbstractContextManager[object]:
        return watched_decodes(pipeline)

    def decodes(self, seen: Observation) -> tuple[dict[str, Decodes], dict[str, Decodes]]:
        """Those of the untouched pipeline, and those of this one."""
        before = {} if seen.before is None else seen.before.own.get(self.name, {})
        return before, seen.own.get(self.name, {})

    def require_less(self, part: str, before: Decodes, now: Decodes) -> None:
        """Raises :class:`NotEffectiveError` where the peak of a decode is what it was, or what it
        gave has another size: not every tile fits into every picture.
        """
        if now.output != before.output:
            raise NotEffectiveError(
                f"{self.text}: expected {part} to give {_sides(before.output)} pixels as before, "
                f"found {_sides(now.output)}: its tiles do not fit together; take another size"
            )
        if now.peak_bytes >= before.peak_bytes:
            raise NotEffectiveError(
                f"{self.text}: expected {part} to hold less than {size(before.peak_bytes)} of "
                f"tensors at once while it decodes, found {size(now.peak_bytes)}"
            )


class VaeTiling(_LessAtOnce):
    """The VAE decodes a picture in tiles that overlap, and blends them where they do.

    Group normalization then sees a tile instead of the picture, so colours of tiles may differ:
    images have a preset of their own.
    """

    name: ClassVar[str] = "vae_tiling"
    family: ClassVar[Family] = Family.TILING
    summary: ClassVar[str] = "the VAE decodes in tiles"
    image_preset: ClassVar[str] = "tiles"
    parameters: ClassVar[Mapping[str, Parameter]] = MappingProxyType(
        {"tile": Parameter(0, "pixels of a tile's side; 0: as the VAE has it")}
    )

    @property
    def tile(self) -> int:
        asked = self.argument("tile")
        return asked if isinstance(asked, int) else 0

    def why_not(self, vae: Any) -> str | None:
        return why_not_tiled(vae, self.tile)

    def apply(self, pipeline: DiffusionPipeline) -> None:
        notes = memory(pipeline, self.name)
        for name, vae in self.fitting(pipeline).items():
            notes[name] = tiling_of(vae)
            decode_in_tiles(vae, self.tile)

    def undo(self, pipeline: DiffusionPipeline) -> None:
        for name, before in memory(pipeline, self.name).items():
            restore_tiling(targets_of(pipeline).decoders[name], before)

    def prove(self, pipeline: DiffusionPipeline, seen: Observation) -> Proof:
        before, now = self.decodes(seen)
        parts = memory(pipeline, self.name)
        found, figures = [], {}
        for part in parts:
            if part not in before or part not in now:
                raise NotEffectiveError(
                    f"{self.text}: expected {part} to decode through its `decoder`, found no run "
                    "of it"
                )
            was, is_ = before[part], now[part]
            side = tile_side(targets_of(pipeline).decoders[part])
            if is_.runs <= was.runs or _area(is_) >= _area(was):
                raise NotEffectiveError(
                    f"{self.text}: expected {part} to decode {_shape(was)} latents in tiles, found "
                    f"{plural(is_.runs, 'run')} of {_shape(is_)}: a picture that is no larger than "
                    f"a tile ({side} pixels) is decoded whole; write a smaller "
                    f"'{self.name}(tile=…)', or draw larger pictures"
                )
            self.require_less(part, was, is_)
            found.append(
                f"{part} decoded in {is_.runs} tiles of at most {_shape(is_)} latents in place of "
                f"{was.runs} of {_shape(was)}, holding {size(is_.peak_bytes)} at once in place of "
                f"{size(was.peak_bytes)}"
            )
            figures[part] = {
                "tiles": is_.runs,
                "runs_before": was.runs,
                "tile_latents": list(is_.largest),
                "latents": list(was.largest),
                "latents_decoded": sum(_areas(is_)) / sum(_areas(was)),
                "peak_bytes": is_.peak_bytes,
                "peak_bytes_before": was.peak_bytes,
            }
        return Proof(self.name, "; ".join(found), figures)


class VaeSlicing(_LessAtOnce):
    """The VAE decodes the images of a batch one after the other."""

    name: ClassVar[str] = "vae_slicing"
    family: ClassVar[Family] = Family.SLICING
    summary: ClassVar[str] = "the VAE decodes the images of a batch one by one"

    def why_not(self, vae: Any) -> str | None:
        kind = type(vae).__name__
        if not hasattr(vae, "use_slicing") or not hasattr(vae, "enable_slicing"):
            return f"its {kind} cannot decode image by image"
        if vae.use_slicing:
            return f"its {kind} decodes image by image of itself"
        return None

    def incompatible_with_call(
        self, pipeline: DiffusionPipeline, before: Observation
    ) -> str | None:
        decodes: dict[str, Decodes] | None = before.own.get(self.name)
        if decodes is None:  # nobody watched them: the proof will tell
            return None
        if any(
            decodes[name].images_at_once > 1 for name in self.fitting(pipeline) if name in decodes
        ):
            return None
        return (
            "its calls decode one image at a time, so there is nothing to slice; give the source "
            "more images a call (`num_images_per_prompt=2`), or leave it out"
        )

    def apply(self, pipeline: DiffusionPipeline) -> None:
        notes = memory(pipeline, self.name)
        for name, vae in self.fitting(pipeline).items():
            notes[name] = True
            vae.enable_slicing()

    def undo(self, pipeline: DiffusionPipeline) -> None:
        for name in memory(pipeline, self.name):
            targets_of(pipeline).decoders[name].use_slicing = False

    def prove(self, pipeline: DiffusionPipeline, seen: Observation) -> Proof:
        before, now = self.decodes(seen)
        batches = {part: was for part, was in before.items() if was.images_at_once > 1}
        found, figures = [], {}
        for part, was in batches.items():
            if part not in memory(pipeline, self.name):
                continue
            is_ = now.get(part, Decodes((), 0))
            if is_.images_at_once != 1 or is_.runs <= was.runs:
                raise NotEffectiveError(
                    f"{self.name}: expected {part} to decode {was.images_at_once} images one by "
                    f"one, found {is_.images_at_once} at once in {plural(is_.runs, 'run')}"
                )
            self.require_less(part, was, is_)
            found.append(
                f"{part} decoded {was.images_at_once} images one by one, in "
                f"{plural(is_.runs, 'run')} in place of {was.runs}, holding {size(is_.peak_bytes)} "
                f"at once in place of {size(was.peak_bytes)}"
            )
            figures[part] = {
                "images": was.images_at_once,
                "runs": is_.runs,
                "runs_before": was.runs,
                "peak_bytes": is_.peak_bytes,
                "peak_bytes_before": was.peak_bytes,
            }
        if not found:
            raise NotEffectiveError(
                f"{self.name}: expected a call that decodes several images at once, found none"
            )
        return Proof(self.name, "; ".join(found), figures)


def _areas(decodes: Decodes) -> list[int]:
    """Latents that the decoder got in each run."""
    return [shape[0] * shape[-2] * shape[-1] for shape in decodes.inputs]


def _area(decodes: Decodes) -> int:
    height, width = decodes.largest
    return height * width


def _shape(decodes: Decodes) -> str:
    return _sides(decodes.largest)


def _sides(shape: tuple[int, ...]) -> str:
    return " × ".join(map(str, shape[-2:]))


TECHNIQUES: tuple[Technique, ...] = (VaeTiling(), VaeSlicing())
