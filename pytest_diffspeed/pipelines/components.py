"""The parts of a pipeline by their role."""

from __future__ import annotations

from collections import Counter
from typing import TYPE_CHECKING, Any, cast

from ..common.errors import SourceError

if TYPE_CHECKING:
    import torch
    from diffusers import DiffusionPipeline

DENOISER_NAMES = ("unet", "transformer")


def denoiser(pipeline: DiffusionPipeline) -> torch.nn.Module:
    """The denoiser of a pipeline that has one: what takes a timestep, or else the ``unet`` or
    ``transformer``.

    What really runs in the steps shows in a call only: see :mod:`.observed`.

    Raises:
        SourceError: the pipeline has none, or several.
    """
    from .call_watch import takes_a_timestep
    from .parts import parts

    kind = type(pipeline).__name__
    found = {name: part for name, part in parts(pipeline).items() if takes_a_timestep(part)}
    if len(found) > 1:
        raise SourceError(
            f"{kind} has several denoisers, {', '.join(found)}, so there is no telling which is "
            "meant by `denoiser`; use `denoisers`"
        )
    named = (getattr(pipeline, name, None) for name in DENOISER_NAMES)
    for part in (*found.values(), *named):
        if part is not None:
            return cast("torch.nn.Module", part)
    raise SourceError(
        f"{kind} has no denoiser: no component that takes a timestep, no `unet` and no "
        "`transformer`"
    )


def placement(pipeline: DiffusionPipeline) -> tuple[torch.device, torch.dtype]:
    """Where embeddings and latents go: the device and dtype of the denoiser, or of the component
    with most parameters where none has that name (a prior, a decoder).
    """
    from ..adapters.diffusers_layerwise import computed_in

    for name in DENOISER_NAMES:
        part = getattr(pipeline, name, None)
        if part is not None:
            name, parameter = next(part.named_parameters())
            if parameter.dtype.itemsize > 1:
                return parameter.device, parameter.dtype
            # Kept in 8 bits between calls, which nothing is computed in.
            return parameter.device, computed_in(part).get(name, parameter.dtype)
    parts = [list(part.parameters()) for part in modules(pipeline).values()]
    largest = max(parts, key=lambda one: sum(p.numel() for p in one), default=[])
    if not largest:
        return pipeline.device, pipeline.dtype
    return largest[0].device, largest[0].dtype


def vae(pipeline: DiffusionPipeline) -> Any:
    """The VAE, or ``None`` where the pipeline has none."""
    return getattr(pipeline, "vae", None)


def modules(pipeline: DiffusionPipeline) -> dict[str, torch.nn.Module]:
    """The components with weights, by name; none of a pipeline that registered nothing."""
    import torch

    registered: dict[str, Any] = getattr(pipeline, "components", {})
    return {name: part for name, part in registered.items() if isinstance(part, torch.nn.Module)}


def floating_dtypes(pipeline: DiffusionPipeline) -> dict[str, Counter[str]]:
    """For each component, how many floating-point parameters it has of each dtype."""
    return {
        name: Counter(str(p.dtype) for p in part.parameters() if p.is_floating_point())
        for name, part in modules(pipeline).items()
    }


def weights_fingerprint(pipeline: DiffusionPipeline) -> dict[str, str]:
    """A short digest of each component's weights: all names and shapes, and of each tensor its
    first, middle and last values.

    Reading every byte of a large model would take longer than a measured call; two loads of the
    same source differ in these values too if they differ at all by more than planted corruption.
    """
    import hashlib

    import torch

    digests: dict[str, str] = {}
    for component, part in modules(pipeline).items():
        digest = hashlib.sha256()
        for name, tensor in sorted(part.state_dict().items()):
            digest.update(f"{name} {tuple(tensor.shape)}".encode())
            flat = tensor.detach().reshape(-1)
            if flat.numel():
                spots = sorted({0, flat.numel() // 2, flat.numel() - 1})
                values = flat[torch.tensor(spots, device=flat.device)]
                digest.update(repr(values.to("cpu", torch.float64).tolist()).encode())
        digests[component] = digest.hexdigest()[:16]
    return digests
