"""Judge a trained demo pipeline against all of its training emoji.

    python examples/train_demo/evaluate.py --data build/demo/data --out build/demo/evaluation
    python examples/train_demo/evaluate.py build/demo/model --data build/demo/data --out build/e
    python examples/train_demo/evaluate.py --vae-checkpoint build/demo/vae.ckpt --data ... --out ...
    python examples/train_demo/evaluate.py --data ... \\
        --write-reference tests/pipelines/data/demo_emoji.png

Required: the VAE reconstructs all emoji at 24 dB or more on average, and of 64 captions that a
fixed seed draws from all training captions, one sample each, at least 95 % give a picture that is
nearer to its own emoji than to any other.  Writes ``evaluation.json`` and ``contact_sheet.png``;
exits with 1 if a requirement is missed.
"""

from __future__ import annotations

import argparse
import json
import textwrap
from collections.abc import Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import emoji_dataset
import model as architecture
import torch
import train
from diffusers import AutoencoderKL, StableDiffusionXLPipeline
from PIL import Image, ImageDraw, ImageFont
from PIL.PngImagePlugin import PngInfo
from tqdm import tqdm

MODEL_FOLDER = (
    Path(__file__).resolve().parents[2] / "pytest_diffspeed" / "pipelines" / "demo_weights"
)
REQUIRED_PSNR_DB = 24.0
REQUIRED_RANK1 = 0.95
CAPTION_SEED = 0  # fixed before the first model was judged; never redrawn
CAPTION_COUNT = 64
REFERENCE_COUNT = 12
SHEET_COUNT = 32
SHEET_LIMIT_BYTES = 200_000
STEPS = 20
GUIDANCE = 3.0


# --- Metrics: tensors in, numbers out ------------------------------------------------------------


def psnr_db(images: torch.Tensor, references: torch.Tensor) -> torch.Tensor:
    """Peak signal-to-noise ratio of each of N images, ``N x C x H x W`` in [0, 1], in dB.

    10·log10(1 / mean squared error); infinite where two images are equal.
    """
    error = (images.double() - references.double()).square().flatten(1).mean(1)
    return -10 * error.log10()


def nearest(images: torch.Tensor, gallery: torch.Tensor) -> torch.Tensor:
    """For each of N images the index of the gallery image at the smallest pixel distance (L2)."""
    distances = torch.cdist(
        images.double().flatten(1),
        gallery.double().flatten(1),
        compute_mode="donot_use_mm_for_euclid_dist",  # differences, not their cancelled squares
    )
    return distances.argmin(1)


def draw(population: int, count: int, seed: int = CAPTION_SEED) -> list[int]:
    """``count`` different indices below ``population`` (all, if there are fewer), in order."""
    order = torch.randperm(population, generator=torch.Generator().manual_seed(seed))
    return sorted(order[:count].tolist())


# --- The model -----------------------------------------------------------------------------------


def load_pipeline(folder: Path) -> StableDiffusionXLPipeline:
    """The exported pipeline in float32, from the folder and nothing else."""
    pipeline = StableDiffusionXLPipeline.from_pretrained(
        folder, dtype=torch.float32, local_files_only=True, add_watermarker=False
    )
    pipeline.set_progress_bar_config(disable=True)
    return pipeline


def load_vae_checkpoint(file: Path) -> AutoencoderKL:
    """The VAE of a training checkpoint with its averaged weights, as the export will have it."""
    saved: dict[str, Any] = torch.load(file, weights_only=True)
    vae = architecture.make_vae()
    average = train.Ema(vae.parameters(), decay=0.0)
    average.shadow = saved["ema"]
    average.copy_to_model()
    return vae.eval()


@torch.no_grad()
def reconstruct(vae: AutoencoderKL, images: torch.Tensor) -> torch.Tensor:
    """Encode (the mode, no noise) and decode ``N x 3 x H x W`` images in [0, 1]."""
    decoded = [
        vae.decode(vae.encode(chunk * 2 - 1).latent_dist.mode(), return_dict=False)[0]
        for chunk in images.split(32)
    ]
    return (torch.cat(decoded) / 2 + 0.5).clamp(0, 1)


@torch.no_grad()
def sample(
    pipeline: StableDiffusionXLPipeline,
    captions: Sequence[str],
    seeds: Sequence[int],
    *,
    steps: int = STEPS,
    guidance: float = GUIDANCE,
    batch: int = 8,
) -> torch.Tensor:
    """One image for each caption and seed, ``N x 3 x H x W`` in [0, 1].

    The latents are drawn one by one in float32 on the CPU, so an image does not depend on its
    neighbours in a batch.
    """
    size = pipeline.unet.config.sample_size
    shape = (pipeline.unet.config.in_channels, size, size)
    images = []
    for first in tqdm(range(0, len(captions), batch), desc="sampling", mininterval=5):
        chosen = seeds[first : first + batch]
        noise = [torch.randn(shape, generator=torch.Generator().manual_seed(s)) for s in chosen]
        images.append(
            pipeline(
                list(captions[first : first + batch]),
                latents=torch.stack(noise),
                num_inference_steps=steps,
                guidance_scale=guidance,
                output_type="pt",
            ).images
        )
    return torch.cat(images)


@dataclass(frozen=True)
class LinearFlops:
    """FLOPs of a module's ``nn.Linear`` layers in the calls that were counted."""

    total: int
    wide: int

    @property
    def wide_share(self) -> float:
        return self.wide / self.total


def count_linear_flops(
    pipeline: StableDiffusionXLPipeline, caption: str, *, guidance: float = GUIDANCE
) -> LinearFlops:
    """Count a real call of one step; wide: in and out ≥ 128 and multiples of 8, fit for int8."""
    total = wide = 0

    def count(layer: torch.nn.Linear, inputs: tuple[torch.Tensor, ...], _: object) -> None:
        nonlocal total, wide
        flops = 2 * inputs[0].numel() * layer.out_features
        total += flops
        sizes = (layer.in_features, layer.out_features)
        if all(size >= 128 and size % 8 == 0 for size in sizes):
            wide += flops

    layers = [m for m in pipeline.unet.modules() if isinstance(m, torch.nn.Linear)]
    hooks = [layer.register_forward_hook(count) for layer in layers]
    try:
        sample(pipeline, [caption], [0], steps=1, guidance=guidance)
    finally:
        for hook in hooks:
            hook.remove()
    return LinearFlops(total, wide)


# --- Verdicts ------------------------------------------------------------------------------------


@dataclass(frozen=True)
class Reconstruction:
    """PSNR of the VAE over all emoji, in dB."""

    mean_psnr_db: float
    min_psnr_db: float
    worst_caption: str

    @property
    def good(self) -> bool:
        return self.mean_psnr_db >= REQUIRED_PSNR_DB

    def __str__(self) -> str:
        return (
            f"VAE: {self.mean_psnr_db:.2f} dB on average (required {REQUIRED_PSNR_DB:g}), "
            f"at least {self.min_psnr_db:.2f} dB ({self.worst_caption!r})"
        )


@dataclass(frozen=True)
class Rank1:
    """How many samples are nearest to their own emoji; ``misses`` maps caption to the nearest."""

    count: int
    misses: dict[str, str]

    @property
    def share(self) -> float:
        return 1 - len(self.misses) / self.count

    @property
    def good(self) -> bool:
        return self.share >= REQUIRED_RANK1

    def __str__(self) -> str:
        head = (
            f"rank-1: {self.count - len(self.misses)} of {self.count} samples are nearest to their "
            f"own emoji: {self.share:.1%} (required {REQUIRED_RANK1:.0%})"
        )
        return "\n".join(
            [head, *(f"  {own!r} is nearest to {other!r}" for own, other in self.misses.items())]
        )


def judge_vae(vae: AutoencoderKL, captions: Sequence[str], images: torch.Tensor) -> Reconstruction:
    """Reconstruct all ``images`` (``N x 3 x H x W`` in [0, 1])."""
    values = psnr_db(reconstruct(vae, images), images)
    worst = int(values.argmin())
    return Reconstruction(float(values.mean()), float(values[worst]), captions[worst])


def judge_samples(
    samples: torch.Tensor, chosen: Sequence[int], captions: Sequence[str], gallery: torch.Tensor
) -> Rank1:
    """``samples[i]`` is meant to be ``gallery[chosen[i]]``, whose caption is ``captions[...]``."""
    found = nearest(samples, gallery).tolist()
    pairs = zip(chosen, found, strict=True)
    return Rank1(
        len(chosen), {captions[own]: captions[other] for own, other in pairs if own != other}
    )


# --- Pictures ------------------------------------------------------------------------------------


def to_picture(image: torch.Tensor) -> Image.Image:
    """A ``3 x H x W`` tensor in [0, 1] as an RGB picture."""
    pixels = (image.clamp(0, 1) * 255).round().to(torch.uint8)
    return Image.fromarray(pixels.permute(1, 2, 0).numpy())


def contact_sheet(
    captions: Sequence[str], real: torch.Tensor, samples: torch.Tensor, *, columns: int = 8
) -> Image.Image:
    """Each real emoji (left) beside its sample (right) over its caption, in a palette of 256."""
    size = real.shape[-1]
    margin, text_height = 6, 24
    width, height = 2 * size + 2 * margin, size + text_height + margin
    rows = -(-len(captions) // columns)
    sheet = Image.new("RGB", (columns * width, rows * height), "white")
    pen = ImageDraw.Draw(sheet)
    font = ImageFont.load_default(size=10)
    for i, caption in enumerate(captions):
        x, y = i % columns * width + margin, i // columns * height + margin
        sheet.paste(to_picture(real[i]), (x, y))
        sheet.paste(to_picture(samples[i]), (x + size, y))
        lines = textwrap.wrap(caption, 2 * size // 5)[:2]
        pen.multiline_text((x + size, y + size), "\n".join(lines), "black", font, "ma", 1)
    return sheet.quantize(256, dither=Image.Dither.NONE)


def write_reference(captions: Sequence[str], images: torch.Tensor, file: Path) -> None:
    """Put a few emoji in one row of one PNG of 256 colours, their captions in its metadata.

    The tests judge the shipped weights against it without the data set.
    """
    row = Image.new("RGB", (images.shape[-1] * len(images), images.shape[-2]))
    for i, image in enumerate(images):
        row.paste(to_picture(image), (i * images.shape[-1], 0))
    about = PngInfo()
    about.add_text("captions", json.dumps(list(captions)))
    about.add_text("Copyright", "Noto Emoji, Google LLC, Apache License 2.0")
    file.parent.mkdir(parents=True, exist_ok=True)
    row.quantize(256, dither=Image.Dither.NONE).save(file, optimize=True, pnginfo=about)


def read_reference(file: Path) -> tuple[list[str], torch.Tensor]:
    """Captions and images (``N x 3 x H x W`` in [0, 1]) that :func:`write_reference` wrote."""
    with Image.open(file) as picture:
        captions: list[str] = json.loads(picture.text["captions"])
        row = picture.convert("RGB")
    pixels = torch.frombuffer(bytearray(row.tobytes()), dtype=torch.uint8)
    pixels = pixels.view(row.height, len(captions), -1, 3).permute(1, 3, 0, 2)
    return captions, pixels.float() / 255


# --- The command ---------------------------------------------------------------------------------


def main(arguments: Sequence[str] | None = None) -> int:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("model", type=Path, nargs="?", default=MODEL_FOLDER)
    parser.add_argument("--data", type=Path, required=True, help="where the emoji are")
    parser.add_argument("--out", type=Path, help="where evaluation.json and the sheet go")
    parser.add_argument("--vae-checkpoint", type=Path, help="judge the VAE of a training run only")
    parser.add_argument("--write-reference", type=Path, metavar="PNG", help="write it and stop")
    args = parser.parse_args(arguments)
    if args.out is None and args.write_reference is None:
        parser.error("--out is needed")
    dataset = emoji_dataset.load(args.data)
    captions = dataset.captions
    images = dataset.images / 2 + 0.5
    if args.write_reference is not None:
        few = draw(len(captions), REFERENCE_COUNT)
        write_reference([captions[i] for i in few], images[few], args.write_reference)
        print(f"{args.write_reference}: {args.write_reference.stat().st_size} bytes")
        return 0
    args.out.mkdir(parents=True, exist_ok=True)
    if args.vae_checkpoint is not None:
        reconstruction = judge_vae(load_vae_checkpoint(args.vae_checkpoint), captions, images)
        print(reconstruction)
        return 0 if reconstruction.good else 1
    pipeline = load_pipeline(args.model)
    reconstruction = judge_vae(pipeline.vae, captions, images)
    print(reconstruction, flush=True)
    chosen = draw(len(captions), CAPTION_COUNT)
    samples = sample(pipeline, [captions[i] for i in chosen], chosen, steps=STEPS)
    rank1 = judge_samples(samples, chosen, captions, images)
    flops = count_linear_flops(pipeline, captions[0])
    print(rank1)
    print(f"layers wide enough for int8: {flops.wide_share:.1%} of the denoiser's linear FLOPs")
    _write_results(args.out, reconstruction, rank1, flops)
    # An even selection of the judged captions, hits and misses alike.
    shown = torch.linspace(0, len(chosen) - 1, min(len(chosen), SHEET_COUNT)).round().long()
    of_shown = [chosen[i] for i in shown.tolist()]
    sheet = contact_sheet([captions[i] for i in of_shown], images[of_shown], samples[shown])
    file = args.out / "contact_sheet.png"
    sheet.save(file, optimize=True)
    size = file.stat().st_size
    print(f"{file}: {size} bytes, limit {SHEET_LIMIT_BYTES}")
    return 0 if reconstruction.good and rank1.good and size < SHEET_LIMIT_BYTES else 1


def _write_results(
    folder: Path, reconstruction: Reconstruction, rank1: Rank1, flops: LinearFlops
) -> None:
    results = {
        "vae": asdict(reconstruction),
        "rank1": {**asdict(rank1), "share": rank1.share},
        "wide_share_of_linear_flops": flops.wide_share,
        "steps": STEPS,
        "guidance": GUIDANCE,
        "caption_seed": CAPTION_SEED,
    }
    text = json.dumps(results, indent=2) + "\n"
    (folder / "evaluation.json").write_text(text, encoding="utf-8")


if __name__ == "__main__":
    raise SystemExit(main())
