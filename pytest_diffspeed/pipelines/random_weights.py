"""Pipelines of a published architecture's size with random weights.

Timing, graph breaks, syncs and memory depend on shapes and not on what a model has learned, so a
machine without access to a model hub still gets real figures for SDXL from a configuration in this
package.  The images mean nothing: image similarity on such a source is a usage error.

``configs/NAME`` is a diffusers folder without weights and without a vocabulary.  All text encoders
read the demo pipeline's tokenizer, at the length that the configuration gives (what a tokenizer
costs is its length, not its words), and are told that tokenizer's special ids: CLIP pools at the
position of the end-of-text id.
"""

from __future__ import annotations

import contextlib
import json
import zlib
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any

from ..accelerators.registry import accelerator_of, accelerators
from ..common.errors import SourceError, UsageError, nearest
from ..common.quiet import third_party

if TYPE_CHECKING:
    import torch
    from diffusers import DiffusionPipeline

CONFIGS = Path(__file__).parent / "configs"
TOKENIZER = Path(__file__).parent / "demo_weights" / "tokenizer"


def names() -> tuple[str, ...]:
    """The names that :func:`build` knows, sorted."""
    return tuple(sorted(path.parent.name for path in CONFIGS.glob("*/model_index.json")))


def check_name(name: str) -> None:
    """Raise :class:`~..common.errors.UsageError` (a ``ValueError``) unless it is a name.

    Reads the package's folder only: cheap enough for the parsing of options.
    """
    if name not in names():
        raise UsageError(f"there is no random-weight pipeline {name!r}; {nearest(name, names())}")


def build(
    name: str,
    *,
    shared: Mapping[str, Any] | None = None,
    dtype: torch.dtype | None = None,
    seed: int = 0,
    device: str | torch.device = "cpu",
) -> DiffusionPipeline:
    """The pipeline ``name`` in eval mode, on ``device``, its weights drawn from ``seed``.

    The weights are the default initialization of diffusers and transformers, drawn directly in
    ``dtype`` (``None``: float32), so the peak of memory is the pipeline itself: 13.9 GB for
    ``sdxl-base`` and 67.5 GB for ``flux-dev`` in float32, half of it in 16 bits.  They are the same
    for the same name, seed, dtype and type of device, whatever the state of torch's global random
    generators, which is left as it was.  On ``meta`` the pipeline has shapes and no weights.
    No network is touched.

    ``shared`` holds components of an earlier build to use as they are; the others get the weights
    that they get without it.

    Raises :class:`~..common.errors.UsageError` (a ``ValueError``) for an unknown name and
    :class:`~..common.errors.SourceError` where the tokenizer does not fit.
    """
    check_name(name)
    with third_party():
        return _build(name, dict(shared or {}), dtype, seed, device)


def _build(
    name: str,
    shared: dict[str, Any],
    dtype: torch.dtype | None,
    seed: int,
    device: str | torch.device,
) -> DiffusionPipeline:
    import diffusers
    import torch

    folder = CONFIGS / name
    index = _read(folder / "model_index.json")
    pipeline_class = getattr(diffusers, index.pop("_class_name"))
    target = torch.device(device)
    # A GPU draws billions of weights much faster than a CPU.  Where torch cannot draw on
    # the device (a simulated one, for instance), the CPU draws and the finished pipeline moves.
    own = accelerators().get(target.type)
    draws_itself = target.type == "meta" or (own is not None and own.is_available())
    drawn_on = target if draws_itself else torch.device("cpu")
    parts: dict[str, Any] = {}
    for part, entry in sorted(index.items()):
        if not isinstance(entry, list):
            parts[part] = entry  # an option of the pipeline, not a component
            continue
        library, class_name = entry
        if part in shared:
            parts[part] = shared[part]
        elif "Tokenizer" in class_name:
            parts[part] = _tokenizer(_read(folder / part / "tokenizer_config.json"))
        elif "Scheduler" in class_name:
            values = _read(folder / part / "scheduler_config.json")
            parts[part] = getattr(diffusers, class_name).from_config(values)
        else:
            # Each model has a stream of its own: it does not change when another one does.
            stream = zlib.crc32(f"{part}/{seed}".encode())
            with _fresh_weights(dtype or torch.float32, stream, drawn_on):
                parts[part] = _model(folder / part, library, class_name)
    if pipeline_class is diffusers.StableDiffusionXLPipeline:
        parts["add_watermarker"] = False  # work on the CPU that is no part of the model
    pipeline: DiffusionPipeline = pipeline_class(**parts)
    return pipeline if drawn_on == target else pipeline.to(target)


def _model(folder: Path, library: str, class_name: str) -> Any:
    """A model in eval mode with the default initialization of its library."""
    values = _read(folder / "config.json")
    if library == "diffusers":
        import diffusers

        return getattr(diffusers, class_name).from_config(values).eval()
    import transformers

    tokenizer = _tokenizer({})
    if len(tokenizer) > values["vocab_size"]:
        raise SourceError(
            f"the demo tokenizer has {len(tokenizer)} tokens, more than the {values['vocab_size']} "
            f"that this {class_name} has embeddings for"
        )
    values["bos_token_id"] = tokenizer.bos_token_id
    values["eos_token_id"] = tokenizer.eos_token_id
    values["pad_token_id"] = tokenizer.pad_token_id
    model_class = getattr(transformers, class_name)
    return model_class(model_class.config_class.from_dict(values)).eval()


def _tokenizer(options: dict[str, Any]) -> Any:
    """The demo pipeline's tokenizer with ``options`` (its length) in place of its own."""
    from transformers import CLIPTokenizer

    if not TOKENIZER.is_dir():
        raise SourceError(
            f"the demo pipeline's tokenizer is missing from this installation ({TOKENIZER}); "
            "install pytest-diffspeed again"
        )
    return CLIPTokenizer.from_pretrained(str(TOKENIZER), local_files_only=True, **options)


@contextlib.contextmanager
def _fresh_weights(dtype: torch.dtype, stream: int, device: torch.device) -> Iterator[None]:
    """New modules get ``dtype`` and ``device``; draws come from ``stream`` and leave no trace."""
    import torch

    previous = torch.get_default_dtype()
    with accelerator_of(device).seeded(stream, device), device:
        torch.set_default_dtype(dtype)
        try:
            yield
        finally:
            torch.set_default_dtype(previous)


def _read(path: Path) -> dict[str, Any]:
    values: dict[str, Any] = json.loads(path.read_text(encoding="utf-8"))
    return values
