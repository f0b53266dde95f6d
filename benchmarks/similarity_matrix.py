"""What each preset of image similarity lets through: real techniques and broken pipelines.

    python benchmarks/similarity_matrix.py                  # the tables of docs/image_similarity.md
    python benchmarks/similarity_matrix.py --only bf16 --only 'black image' --images 8

Every variant changes a fresh copy of the trained demo pipeline and draws the same images from the
same float32 latents as the baseline. What each must pass and must fail is declared here, before
anything is drawn; a row that does otherwise makes the command exit with 1. Approximations are
simulated by rounding to the same grid, since the packed kernels need hardware; they say so.
"""

from __future__ import annotations

import argparse
import sys
import time
import warnings
from collections.abc import Callable, Sequence
from contextlib import AbstractContextManager, nullcontext
from dataclasses import dataclass, field, replace
from typing import Any

import torch

from pytest_diffspeed import apply_stack
from pytest_diffspeed.accelerators.catalog.cpu import cpu_name
from pytest_diffspeed.common.quiet import third_party
from pytest_diffspeed.evidence.key import installed_version
from pytest_diffspeed.pipelines.call import PipelineCall
from pytest_diffspeed.pipelines.cases import Case, image_cases
from pytest_diffspeed.pipelines.kernels import other_kernels
from pytest_diffspeed.pipelines.sources import parse_source
from pytest_diffspeed.similarity import (
    PRESETS,
    SimilarityReport,
    compare_images,
    relative_l2,
    teacher_forced,
)
from pytest_diffspeed.techniques.catalog.vae_memory import VaeTiling
from pytest_diffspeed.techniques.precision_flags import ieee_fp32
from pytest_diffspeed.techniques.technique import KnownSlowWarning

SOURCE = "demo"
ATTENTION_OF_2 = (
    "pyramid_attention(spatial_attention_block_skip_range=2,cross_attention_block_skip_range=2)"
)
ATTENTION_OF_5 = ATTENTION_OF_2.replace("=2", "=5")
Images = torch.Tensor
Change = Callable[[Any], None]


def unchanged(pipeline: Any) -> None:
    pass


def same(images: Images) -> Images:
    return images


@dataclass(frozen=True)
class Variant:
    """``change`` alters the pipeline, ``call`` the call's defaults, ``after`` the images.

    ``passes`` is the strictest preset that it must pass (and all looser ones with it); ``fails``
    is the loosest that it must fail (and all stricter ones with it). What is between is free.
    """

    name: str
    kind: str
    change: Change = unchanged
    passes: str | None = None
    fails: str | None = None
    call: dict[str, Any] = field(default_factory=dict)
    prompts: Callable[[tuple[str, ...]], tuple[str, ...]] = tuple
    after: Callable[[Images], Images] = same
    around: Callable[[], AbstractContextManager[Any]] = nullcontext

    def expected(self, preset: str) -> str:
        names = list(PRESETS)
        position = names.index(preset)
        if self.passes is not None and position >= names.index(self.passes):
            return "pass"
        if self.fails is not None and position <= names.index(self.fails):
            return "fail"
        return "free"


# --- Techniques -------------------------------------------------------------------------------


def to(dtype: torch.dtype) -> Change:
    return lambda pipeline: pipeline.to(dtype=dtype)


def channels_last(pipeline: Any) -> None:
    for part in (pipeline.unet, pipeline.vae):
        part.to(memory_format=torch.channels_last)


def fused_qkv(pipeline: Any) -> None:
    pipeline.fuse_qkv_projections()
    assert any(hasattr(module, "to_qkv") for module in pipeline.unet.modules()), "nothing is fused"


def compiled(pipeline: Any) -> None:
    pipeline.unet.compile(fullgraph=True)
    pipeline.vae.decode = torch.compile(pipeline.vae.decode, fullgraph=True)


def wide(module: torch.nn.Module, name: str) -> bool:
    """Linear layers of at least 128 features in and out: those that int8 kernels are worth."""
    return isinstance(module, torch.nn.Linear) and min(module.weight.shape) >= 128


def int8(weight_only: bool, dtype: torch.dtype) -> Change:
    def change(pipeline: Any) -> None:
        from torchao.quantization import (
            Int8DynamicActivationInt8WeightConfig,
            Int8WeightOnlyConfig,
            quantize_,
        )

        kind = Int8WeightOnlyConfig if weight_only else Int8DynamicActivationInt8WeightConfig
        pipeline.to(dtype=dtype)
        quantize_(pipeline.unet, kind(set_inductor_config=False), filter_fn=wide)

    return change


def tiles(side: int, overlap: float = 0.25) -> Change:
    """The VAE decodes in tiles of ``side`` pixels: ``vae_tiling(tile=side)``, or with another
    overlap than it has of itself.
    """

    def change(pipeline: Any) -> None:
        VaeTiling().with_arguments({"tile": side}).apply(pipeline)
        pipeline.vae.tile_overlap_factor = overlap

    return change


def stacked(stack: str) -> Change:
    """By a stack of this package, with the layers that its techniques choose, proven."""

    def change(pipeline: Any) -> None:
        source = parse_source(SOURCE)
        call = PipelineCall(pipeline, source.defaults(pipeline), "a red apple")
        with warnings.catch_warnings():
            warnings.simplefilter("ignore", KnownSlowWarning)
            apply_stack(pipeline, stack, call=call)

    return change


# --- Approximations ---------------------------------------------------------------------------


def layers(pipeline: Any) -> list[torch.nn.Module]:
    kinds = (torch.nn.Linear, torch.nn.Conv2d)
    return [module for module in pipeline.unet.modules() if isinstance(module, kinds)]


def rounded(values: torch.Tensor, bits: int) -> torch.Tensor:
    """To a symmetric grid with one scale for the whole tensor."""
    top = 2 ** (bits - 1) - 1
    scale = values.abs().amax().clamp_min(1e-12) / top
    return (values / scale).round().clamp(-top, top) * scale


def w8a8_per_tensor(pipeline: Any) -> None:
    for layer in layers(pipeline):
        layer.weight.data = rounded(layer.weight.data, 8)
        layer.register_forward_pre_hook(lambda _, args: (rounded(args[0], 8), *args[1:]))


def int4_groups(pipeline: Any) -> None:
    """Linear weights to 16 levels between each group of 32 weights' minimum and maximum."""
    for layer in layers(pipeline):
        if isinstance(layer, torch.nn.Linear) and layer.in_features % 32 == 0:
            groups = layer.weight.data.unflatten(1, (-1, 32))
            low, high = groups.amin(dim=2, keepdim=True), groups.amax(dim=2, keepdim=True)
            scale = ((high - low) / 15).clamp_min(1e-12)
            layer.weight.data = (((groups - low) / scale).round() * scale + low).flatten(1)


def reuse_every_second_step(pipeline: Any) -> None:
    """The denoiser's output of one step serves the next one too, but for the first steps."""
    forward = pipeline.unet.forward
    state: dict[str, Any] = {"calls": 0, "output": None}

    def cached(sample: torch.Tensor, timestep: Any, *args: Any, **kwargs: Any) -> Any:
        if float(timestep) >= float(pipeline.scheduler.timesteps[0]):
            state["calls"] = 0
        state["calls"] += 1
        if state["calls"] <= 3 or state["calls"] % 2 == 0:
            state["output"] = forward(sample, timestep, *args, **kwargs)
        return state["output"]

    pipeline.unet.forward = cached


# --- Broken on purpose ------------------------------------------------------------------------


def four_bit_weights(pipeline: Any) -> None:
    for layer in layers(pipeline):
        layer.weight.data = rounded(layer.weight.data, 4)


def drop(name: str) -> Change:
    def change(pipeline: Any) -> None:
        layer = pipeline.unet.get_submodule(name)
        layer.forward = lambda hidden, *args, **kwargs: (
            (hidden,) if kwargs.get("return_dict") is False else hidden
        )

    return change


def timestep_off_by_one(pipeline: Any) -> None:
    """The denoiser is told the time step after the one that the latents are at."""
    forward = pipeline.unet.forward

    def shifted(sample: torch.Tensor, timestep: Any, *args: Any, **kwargs: Any) -> Any:
        steps = pipeline.scheduler.timesteps
        index = int((steps - timestep).abs().argmin())
        return forward(sample, steps[min(index + 1, len(steps) - 1)], *args, **kwargs)

    pipeline.unet.forward = shifted


def nan_in_one_head(pipeline: Any) -> None:
    attention = pipeline.unet.mid_block.attentions[0].transformer_blocks[0].attn1
    width = attention.to_v.out_features // attention.heads
    attention.to_v.weight.data[:width] = float("nan")


def black(images: Images) -> Images:
    return torch.zeros_like(images)


def swapped_channels(images: Images) -> Images:
    return images.flip(1)


def shifted_by_one(prompts: tuple[str, ...]) -> tuple[str, ...]:
    return (*prompts[1:], prompts[0])


def scheduled(name: str, **values: Any) -> Change:
    """By another scheduler of the same configuration."""

    def change(pipeline: Any) -> None:
        import diffusers

        made = getattr(diffusers, name)
        pipeline.scheduler = made.from_config(pipeline.scheduler.config, **values)

    return change


DPM_SOLVER = "DPMSolverMultistepScheduler"
TECHNIQUE, APPROXIMATION, BROKEN = "technique", "approximation", "broken"
SCHEDULE = "schedule"
VARIANTS = (
    Variant("baseline again", TECHNIQUE, passes="exact"),
    Variant("other kernels", TECHNIQUE, passes="exact", around=other_kernels),
    Variant("channels-last", TECHNIQUE, channels_last, passes="exact"),
    Variant("fused QKV", TECHNIQUE, fused_qkv, passes="exact"),
    Variant("compile", TECHNIQUE, compiled, passes="exact"),
    Variant("fp16", TECHNIQUE, to(torch.float16), passes="lossless"),
    Variant("bf16", TECHNIQUE, to(torch.bfloat16), passes="lossless", fails="exact"),
    Variant("int8 weight-only", TECHNIQUE, int8(True, torch.bfloat16), passes="int8"),
    Variant("int8 dynamic", TECHNIQUE, int8(False, torch.bfloat16), passes="int8"),
    Variant("attention of 2 steps", TECHNIQUE, stacked(ATTENTION_OF_2), passes="cache"),
    Variant("attention of 5 steps", TECHNIQUE, stacked(ATTENTION_OF_5), passes="cache"),
    Variant("tiles of 48 px", TECHNIQUE, tiles(48), passes="tiles", fails="lossless"),
    Variant("tiles of 32 px", TECHNIQUE, tiles(32), fails="tiles"),
    Variant("tiles of 48 px, no overlap", BROKEN, tiles(48, 0.0), fails="tiles"),
    *(
        Variant(stack.removeprefix("bf16+"), TECHNIQUE, stacked(stack), passes, "exact")
        for stack, passes in (
            ("bf16+int8_weight_only", "lossless"),
            ("bf16+fp8_weight_only", "lossless"),
            ("bf16+fp8_dynamic", "w8a8"),
            ("bf16+fp8_dynamic(granularity=row)", "w8a8"),
            ("bf16+layerwise_casting", "w8a8"),
            ("bf16+layerwise_casting(storage=float8_e5m2)", "w8a8"),
        )
    ),
    Variant("w8a8 per tensor", APPROXIMATION, w8a8_per_tensor, passes="w8a8"),
    Variant("int4 in groups of 32", APPROXIMATION, int4_groups, passes="int4"),
    Variant("output of every second step", APPROXIMATION, reuse_every_second_step, passes="cache"),
    Variant("half the steps", SCHEDULE, call={"steps": 10}, passes="fewer_steps", fails="lossless"),
    Variant("8 steps", SCHEDULE, call={"steps": 8}, passes="fewer_steps", fails="lossless"),
    Variant("6 steps", SCHEDULE, call={"steps": 6}, fails="tiles"),
    Variant(
        "10 steps, DPM-Solver++",
        SCHEDULE,
        scheduled(DPM_SOLVER),
        call={"steps": 10},
        passes="fewer_steps",
        fails="lossless",
    ),
    Variant(
        "8 steps, DPM-Solver++",
        SCHEDULE,
        scheduled(DPM_SOLVER),
        call={"steps": 8},
        passes="fewer_steps",
        fails="lossless",
    ),
    Variant("6 steps, DPM-Solver++", SCHEDULE, scheduled(DPM_SOLVER), call={"steps": 6}),
    Variant("DDIM", SCHEDULE, scheduled("DDIMScheduler", clip_sample=False)),
    Variant("DDIM that clips latents", SCHEDULE, scheduled("DDIMScheduler"), fails="tiles"),
    Variant("scheduler off by one", BROKEN, timestep_off_by_one, fails="lossless"),
    Variant("guidance left out", BROKEN, call={"guidance": 1.0}, fails="tiles"),
    Variant("guidance three times", BROKEN, call={"guidance": 9.0}, fails="tiles"),
    Variant("4-bit rounding", BROKEN, four_bit_weights, fails="tiles"),
    *(
        Variant(f"dropped {name}", BROKEN, drop(name), fails="tiles")
        for name in (
            "mid_block.attentions.0",
            "mid_block.resnets.1",
            "down_blocks.0.resnets.0",
            "down_blocks.1.attentions.0",
            "up_blocks.0.attentions.0",
            "up_blocks.0.attentions.1",
        )
    ),
    Variant("NaN in one head", BROKEN, nan_in_one_head, fails="tiles"),
    Variant("black image", BROKEN, after=black, fails="tiles"),
    Variant("swapped channels", BROKEN, after=swapped_channels, fails="tiles"),
    Variant("another prompt", BROKEN, prompts=shifted_by_one, fails="tiles"),
)


# --- Running ----------------------------------------------------------------------------------


@dataclass(frozen=True)
class Drawing:
    images: Images
    latents: torch.Tensor
    seconds: float


class Studio:
    """Draws the variants; the baseline's images once."""

    def __init__(self, number: int, steps: int | None = None) -> None:
        self.source = parse_source(SOURCE)
        self.pipeline = self.source.build()
        self.defaults = self.source.defaults(self.pipeline).overridden(steps=steps)
        self.cases = image_cases(self.defaults, number)
        self.baseline = self._draw(self.pipeline, VARIANTS[0])

    def draw(self, variant: Variant) -> tuple[Drawing, list[float]]:
        """The images, and the teacher-forced error of each denoiser call of one image."""
        pipeline = self.source.build()
        variant.change(pipeline)
        drawing = self._draw(pipeline, variant)
        call = PipelineCall(self.pipeline, self.defaults, self.cases[0].prompt)
        with ieee_fp32(), teacher_forced(self.pipeline.unet, pipeline.unet) as errors:
            call.draw(self.pipeline)
        return drawing, errors

    def _draw(self, pipeline: Any, variant: Variant) -> Drawing:
        defaults = replace(self.defaults, **variant.call)
        call = PipelineCall(pipeline, defaults, defaults.prompts[0])
        names = dict(zip(defaults.prompts, variant.prompts(defaults.prompts), strict=True))
        started = time.perf_counter()
        with ieee_fp32(), variant.around():
            drawn = [
                call.of(Case(names[case.prompt], case.seed)).draw(pipeline) for case in self.cases
            ]
        images = variant.after(torch.stack([one.output.data for one in drawn]))
        latents = torch.stack([one.latents for one in drawn if one.latents is not None])
        return Drawing(images, latents, time.perf_counter() - started)


COLUMNS = ("psnr", "ssim", "ssim_full", "ms_ssim", "mae", "other_image_ratio", "rank1")
SHORT = {"other_image_ratio": "ratio", "latent_l2": "latents", "denoiser_l2": "denoiser"}


def row_of(report: SimilarityReport) -> list[str]:
    cells = []
    for name in (*COLUMNS, "latent_l2", "denoiser_l2"):
        digits = 1 if name == "psnr" else 3
        mean, worst = report.metrics.get(name, (float("nan"), float("nan")))
        cells.append(f"{mean:.{digits}f} / {worst:.{digits}f}")
    return cells


def main(argv: Sequence[str] | None = None) -> int:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--images", type=int, default=16, help="images of each variant (16)")
    parser.add_argument("--only", action="append", help="a variant's name; may be repeated")
    parser.add_argument(
        "--steps", type=int, help="other than those the presets are fitted for (20)"
    )
    words = parser.parse_args(argv)
    unknown = set(words.only or ()) - {variant.name for variant in VARIANTS}
    if unknown:
        parser.error(f"no such variant: {', '.join(sorted(unknown))}")
    chosen = [v for v in VARIANTS if words.only is None or v.name in words.only]
    with third_party():
        studio = Studio(words.images, words.steps)
    told = ", ".join(f"{name} {installed_version(name)}" for name in ("diffusers", "torchao"))
    print(
        f"{len(studio.cases)} images of {SOURCE!r} ({len(studio.defaults.prompts)} prompts), "
        f"{studio.defaults.steps} steps, guidance {studio.defaults.guidance}; "
        f"torch {torch.__version__}, {told}; {cpu_name()}, {torch.get_num_threads()} thread(s)"
    )
    prompts = [case.prompt for case in studio.cases]
    seeds = [case.seed for case in studio.cases]
    scores, verdicts, wrong = [], [], []
    for variant in chosen:
        with third_party():
            drawing, errors = studio.draw(variant)
            given = {
                "latent_l2": relative_l2(studio.baseline.latents, drawing.latents).tolist(),
                "denoiser_l2": [sum(errors) / len(errors)],
            }
            reports = {
                preset: compare_images(
                    studio.baseline.images.float(),
                    drawing.images,
                    preset=preset,
                    prompts=prompts,
                    seeds=seeds,
                    layout="NCHW",
                    given=given,
                )
                for preset in PRESETS
            }
        first = next(iter(reports.values()))
        scores.append([variant.name, *row_of(first)])
        cells = []
        for preset, report in reports.items():
            expected = variant.expected(preset)
            got = report.verdict.lower()
            cells.append(got if expected == got else f"{got} ({expected})")
            if expected not in ("free", got):
                wrong.append(f"{variant.name} × {preset}: must {expected}, but: {report.reason}")
        verdicts.append([variant.name, *cells])
        print(
            f"{variant.name}: {drawing.seconds:.1f} s",
            scores[-1][1:],
            cells,
            file=sys.stderr,
            flush=True,
        )
    headers = [SHORT.get(name, name) for name in (*COLUMNS, "latent_l2", "denoiser_l2")]
    for title, head, rows in (
        ("Scores (mean / worst)", headers, scores),
        ("Verdicts", list(PRESETS), verdicts),
    ):
        print(f"\n{title}\n\n| variant | {' | '.join(head)} |\n|---|{'---|' * len(head)}")
        for row in rows:
            print(f"| {' | '.join(row)} |")
    for line in wrong:
        print(f"\nNOT AS DECLARED: {line}")
    return 1 if wrong else 0


if __name__ == "__main__":
    sys.exit(main())
