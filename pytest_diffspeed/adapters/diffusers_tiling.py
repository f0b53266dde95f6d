"""How the VAEs of diffusers are told to decode in tiles, and of what size.

There are two kinds of attributes, seen in diffusers 0.39 to 0.42: ``tile_sample_min_size`` with
``tile_latent_min_size`` and ``tile_overlap_factor`` (``AutoencoderKL``, ``AutoencoderTiny``), and
``tile_sample_min_height`` and ``…_width`` with strides or overlaps beside them (the VAEs of videos,
Qwen-Image's, Sana's), which ``enable_tiling`` takes as arguments.  All have ``use_tiling``.
"""

from __future__ import annotations

import inspect
from typing import Any

_SIDES = ("height", "width")


def tiling_of(vae: Any) -> dict[str, object]:
    """Whether it decodes in tiles, and everything that it says of their size."""
    return {
        name: value
        for name, value in vars(vae).items()
        if name == "use_tiling" or name.startswith("tile_")
    }


def restore_tiling(vae: Any, before: dict[str, object]) -> None:
    """Make it what :func:`tiling_of` said before."""
    for name in tiling_of(vae).keys() - before.keys():
        delattr(vae, name)
    vars(vae).update(before)


def tile_side(vae: Any) -> int | None:
    """The longer side of its tiles in pixels, or ``None`` where it has another way of saying so."""
    sides = [getattr(vae, f"tile_sample_min_{side}", None) for side in (*_SIDES, "size")]
    known = [max(side) if isinstance(side, (list, tuple)) else side for side in sides if side]
    return int(max(known)) if known else None


def why_not_tiled(vae: Any, side: int) -> str | None:
    """Why it cannot decode in tiles of ``side`` pixels (0: of its own size), or ``None``."""
    kind = type(vae).__name__
    if not hasattr(vae, "use_tiling") or not hasattr(vae, "enable_tiling"):
        return f"its {kind} cannot decode in tiles"
    if vae.use_tiling:
        return f"its {kind} decodes in tiles of itself; leave `enable_tiling` out of the source"
    if not side:
        return None
    if _has_sides(vae):
        return _why_sides_do_not_fit(vae, side)
    if not _has_one_size(vae):
        return f"the size of its {kind}'s tiles cannot be set; leave out `tile`"
    if not _fits(vae, side):
        near = [n for n in range(_ratio(vae), 2 * side + 64 * _ratio(vae)) if _fits(vae, n)]
        best = min(near, key=lambda number: abs(number - side), default=0)
        return (
            f"tiles of {side} pixels do not fit together in its {kind}, which overlaps them by "
            f"{vae.tile_overlap_factor:g} and makes {_ratio(vae)} pixels of one latent; "
            f"write tile={best}"
        )
    return None


def decode_in_tiles(vae: Any, side: int) -> None:
    """Switch it on, with tiles of ``side`` pixels a side; 0: of its own size."""
    if not side:
        vae.enable_tiling()
    elif _has_sides(vae):
        vae.enable_tiling(**_arguments(vae, side))
    else:
        ratio = _ratio(vae)
        vae.enable_tiling()
        vae.tile_sample_min_size, vae.tile_latent_min_size = side, side // ratio


def _has_sides(vae: Any) -> bool:
    takes = inspect.signature(vae.enable_tiling).parameters
    return all(
        f"tile_sample_min_{side}" in takes and hasattr(vae, f"tile_sample_min_{side}")
        for side in _SIDES
    )


def _arguments(vae: Any, side: int) -> dict[str, int]:
    """Strides keep their share of a tile; overlaps that are shares stay as they are."""
    takes = inspect.signature(vae.enable_tiling).parameters
    given = {f"tile_sample_min_{edge}": side for edge in _SIDES}
    for edge in _SIDES:
        for word in ("tile_sample_stride", "tile_sample_min_overlap"):
            before = getattr(vae, f"{word}_{edge}", None)
            if f"{word}_{edge}" in takes and before:
                given[f"{word}_{edge}"] = round(
                    side * before / getattr(vae, f"tile_sample_min_{edge}")
                )
    return given


def _why_sides_do_not_fit(vae: Any, side: int) -> str | None:
    ratio = int(getattr(vae, "spatial_compression_ratio", 1))
    wrong = {name: value for name, value in _arguments(vae, side).items() if value % ratio}
    if not wrong:
        return None
    said = ", ".join(f"{name}={value}" for name, value in wrong.items())
    return (
        f"its {type(vae).__name__} makes {ratio} pixels of one latent, and tiles of {side} would "
        f"be cut inside of one ({said}); write another `tile`"
    )


def _has_one_size(vae: Any) -> bool:
    names = ("tile_sample_min_size", "tile_latent_min_size", "tile_overlap_factor")
    return all(getattr(vae, name, None) for name in names)


def _ratio(vae: Any) -> int:
    """Pixels of one latent, a side."""
    return int((tile_side(vae) or 0) // vae.tile_latent_min_size)


def _fits(vae: Any, side: int) -> bool:
    """Whether the tiles' strides in latents and in pixels are the same, as ``tiled_decode`` of
    ``AutoencoderKL`` rounds each by itself.
    """
    ratio, overlap = _ratio(vae), vae.tile_overlap_factor
    latents = side // ratio
    stride = int(latents * (1 - overlap))
    return bool(side % ratio == 0 and stride > 0 and stride * ratio == side - int(side * overlap))
