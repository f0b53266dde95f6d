"""Graphs, graph breaks and their reasons of real diffusers models, and what a look costs.

    python benchmarks/graph_breaks.py            # all, as the table of docs/graph_breaks.md
    python benchmarks/graph_breaks.py flux wan   # some
    python benchmarks/graph_breaks.py --cost     # wall time of a look beside a call and a compile

Models have the real classes and small configurations (one or two blocks), random weights and random
inputs of valid shapes: where a graph breaks depends on the code that runs, not on weights.  Counted
by `find_graph_breaks`, so on two calls.
"""

from __future__ import annotations

import argparse
import functools
import sys
import time
from collections.abc import Callable
from typing import Any

import torch

from pytest_diffspeed.common.quiet import third_party

Inputs = dict[str, Any]
Model = tuple[Callable[..., Any], Inputs]

HIDDEN = 32
TOKENS = 6


def text(width: int = HIDDEN, tokens: int = TOKENS, batch: int = 2) -> torch.Tensor:
    return torch.randn(batch, tokens, width)


def steps(batch: int = 2) -> torch.Tensor:
    return torch.full((batch,), 500)


def unet_sd15() -> Model:
    from diffusers import UNet2DConditionModel

    model = UNet2DConditionModel(
        block_out_channels=(8, 16),
        down_block_types=("CrossAttnDownBlock2D", "DownBlock2D"),
        up_block_types=("UpBlock2D", "CrossAttnUpBlock2D"),
        layers_per_block=1,
        norm_num_groups=4,
        cross_attention_dim=HIDDEN,
        attention_head_dim=4,
    )
    return model, {
        "sample": torch.randn(2, 4, 8, 8),
        "timestep": torch.tensor(500),
        "encoder_hidden_states": text(),
    }


def unet_sdxl() -> Model:
    from diffusers import UNet2DConditionModel

    model = UNet2DConditionModel(
        block_out_channels=(8, 16),
        down_block_types=("DownBlock2D", "CrossAttnDownBlock2D"),
        up_block_types=("CrossAttnUpBlock2D", "UpBlock2D"),
        layers_per_block=1,
        norm_num_groups=4,
        cross_attention_dim=HIDDEN,
        attention_head_dim=(2, 4),
        use_linear_projection=True,
        addition_embed_type="text_time",
        addition_time_embed_dim=8,
        projection_class_embeddings_input_dim=80,
    )
    return model, {
        "sample": torch.randn(2, 4, 8, 8),
        "timestep": torch.tensor(500),
        "encoder_hidden_states": text(),
        "added_cond_kwargs": {"text_embeds": torch.randn(2, 32), "time_ids": torch.ones(2, 6)},
    }


def flux() -> Model:
    from diffusers import FluxTransformer2DModel

    model = FluxTransformer2DModel(
        in_channels=4,
        num_layers=1,
        num_single_layers=1,
        attention_head_dim=16,
        num_attention_heads=2,
        joint_attention_dim=HIDDEN,
        pooled_projection_dim=HIDDEN,
        axes_dims_rope=(4, 4, 8),
        guidance_embeds=True,
    )
    return model, {
        "hidden_states": torch.randn(2, 16, 4),
        "encoder_hidden_states": text(),
        "pooled_projections": torch.randn(2, HIDDEN),
        "timestep": torch.full((2,), 0.5),
        "img_ids": torch.zeros(16, 3),
        "txt_ids": torch.zeros(TOKENS, 3),
        "guidance": torch.full((2,), 3.5),
    }


def sd3() -> Model:
    from diffusers import SD3Transformer2DModel

    model = SD3Transformer2DModel(
        sample_size=8,
        in_channels=4,
        out_channels=4,
        num_layers=2,
        attention_head_dim=8,
        num_attention_heads=4,
        joint_attention_dim=HIDDEN,
        caption_projection_dim=32,
        pooled_projection_dim=HIDDEN,
        pos_embed_max_size=8,
    )
    return model, {
        "hidden_states": torch.randn(2, 4, 8, 8),
        "encoder_hidden_states": text(),
        "pooled_projections": torch.randn(2, HIDDEN),
        "timestep": steps(),
    }


def pixart() -> Model:
    from diffusers import PixArtTransformer2DModel

    model = PixArtTransformer2DModel(
        num_attention_heads=2,
        attention_head_dim=8,
        num_layers=1,
        cross_attention_dim=16,
        sample_size=8,
        caption_channels=HIDDEN,
        use_additional_conditions=False,
    )
    return model, {
        "hidden_states": torch.randn(2, 4, 8, 8),
        "encoder_hidden_states": text(),
        "timestep": steps(),
        "added_cond_kwargs": {"resolution": None, "aspect_ratio": None},
        "encoder_attention_mask": torch.ones(2, TOKENS),
    }


def sana() -> Model:
    from diffusers import SanaTransformer2DModel

    model = SanaTransformer2DModel(
        in_channels=4,
        out_channels=4,
        num_attention_heads=2,
        attention_head_dim=8,
        num_layers=1,
        num_cross_attention_heads=2,
        cross_attention_head_dim=8,
        cross_attention_dim=16,
        caption_channels=HIDDEN,
        sample_size=8,
    )
    return model, {
        "hidden_states": torch.randn(2, 4, 8, 8),
        "encoder_hidden_states": text(),
        "timestep": steps(),
        "encoder_attention_mask": torch.ones(2, TOKENS),
    }


def wan() -> Model:
    from diffusers import WanTransformer3DModel

    model = WanTransformer3DModel(
        num_attention_heads=2,
        attention_head_dim=12,
        in_channels=4,
        out_channels=4,
        text_dim=HIDDEN,
        freq_dim=16,
        ffn_dim=32,
        num_layers=1,
        rope_max_seq_len=32,
    )
    return model, {
        "hidden_states": torch.randn(2, 4, 2, 8, 8),
        "timestep": steps(),
        "encoder_hidden_states": text(),
    }


def ltx() -> Model:
    from diffusers import LTXVideoTransformer3DModel

    model = LTXVideoTransformer3DModel(
        in_channels=4,
        out_channels=4,
        num_attention_heads=2,
        attention_head_dim=16,
        cross_attention_dim=32,
        num_layers=1,
        caption_channels=HIDDEN,
    )
    return model, {
        "hidden_states": torch.randn(2, 2 * 4 * 4, 4),
        "encoder_hidden_states": text(),
        "timestep": steps(),
        "encoder_attention_mask": torch.ones(2, TOKENS),
        "num_frames": 2,
        "height": 4,
        "width": 4,
    }


def qwen_image() -> Model:
    from diffusers import QwenImageTransformer2DModel

    model = QwenImageTransformer2DModel(
        in_channels=16,
        out_channels=4,
        num_layers=1,
        attention_head_dim=16,
        num_attention_heads=2,
        joint_attention_dim=HIDDEN,
        axes_dims_rope=(8, 4, 4),
    )
    return model, {
        "hidden_states": torch.randn(2, 16, 16),
        "encoder_hidden_states": text(),
        "encoder_hidden_states_mask": torch.ones(2, TOKENS, dtype=torch.bool),
        "timestep": torch.full((2,), 0.5),
        "img_shapes": [[(1, 4, 4)]] * 2,
    }


def z_image() -> Model:
    from diffusers import ZImageTransformer2DModel

    model = ZImageTransformer2DModel(
        in_channels=4,
        dim=32,
        n_layers=1,
        n_refiner_layers=1,
        n_heads=2,
        n_kv_heads=2,
        cap_feat_dim=HIDDEN,
        axes_dims=[8, 4, 4],
        axes_lens=[256, 32, 32],
    )
    return model, {
        "x": [torch.randn(4, 1, 8, 8) for _ in range(2)],
        "t": torch.full((2,), 0.5),
        "cap_feats": [torch.randn(TOKENS, HIDDEN) for _ in range(2)],
    }


def cogvideox() -> Model:
    from diffusers import CogVideoXTransformer3DModel

    model = CogVideoXTransformer3DModel(
        num_attention_heads=2,
        attention_head_dim=16,
        in_channels=4,
        out_channels=4,
        time_embed_dim=8,
        text_embed_dim=HIDDEN,
        num_layers=1,
        sample_width=8,
        sample_height=8,
        sample_frames=5,
        max_text_seq_length=TOKENS,
    )
    return model, {
        "hidden_states": torch.randn(2, 2, 4, 8, 8),
        "encoder_hidden_states": text(),
        "timestep": steps(),
    }


def chroma() -> Model:
    from diffusers import ChromaTransformer2DModel

    model = ChromaTransformer2DModel(
        in_channels=4,
        num_layers=1,
        num_single_layers=1,
        attention_head_dim=16,
        num_attention_heads=2,
        joint_attention_dim=HIDDEN,
        axes_dims_rope=(4, 4, 8),
        approximator_num_channels=8,
        approximator_hidden_dim=32,
        approximator_layers=1,
    )
    return model, {
        "hidden_states": torch.randn(2, 16, 4),
        "encoder_hidden_states": text(),
        "timestep": torch.full((2,), 0.5),
        "img_ids": torch.zeros(16, 3),
        "txt_ids": torch.zeros(TOKENS, 3),
        "attention_mask": torch.ones(2, TOKENS + 16, dtype=torch.bool),
    }


def auraflow() -> Model:
    from diffusers import AuraFlowTransformer2DModel

    model = AuraFlowTransformer2DModel(
        sample_size=8,
        num_mmdit_layers=1,
        num_single_dit_layers=1,
        attention_head_dim=8,
        num_attention_heads=4,
        joint_attention_dim=HIDDEN,
        caption_projection_dim=32,
        pos_embed_max_size=16,
    )
    return model, {
        "hidden_states": torch.randn(2, 4, 8, 8),
        "encoder_hidden_states": text(),
        "timestep": torch.full((2,), 0.5),
    }


def lumina2() -> Model:
    from diffusers import Lumina2Transformer2DModel

    model = Lumina2Transformer2DModel(
        sample_size=8,
        in_channels=4,
        hidden_size=32,
        num_layers=1,
        num_refiner_layers=1,
        num_attention_heads=2,
        num_kv_heads=1,
        multiple_of=16,
        axes_dim_rope=(8, 4, 4),
        axes_lens=(64, 32, 32),
        cap_feat_dim=HIDDEN,
    )
    return model, {
        "hidden_states": torch.randn(2, 4, 8, 8),
        "timestep": torch.full((2,), 0.5),
        "encoder_hidden_states": text(),
        "encoder_attention_mask": torch.ones(2, TOKENS, dtype=torch.bool),
    }


def cogview4() -> Model:
    from diffusers import CogView4Transformer2DModel

    model = CogView4Transformer2DModel(
        in_channels=4,
        out_channels=4,
        num_layers=1,
        attention_head_dim=8,
        num_attention_heads=4,
        text_embed_dim=HIDDEN,
        time_embed_dim=8,
        condition_dim=4,
        pos_embed_max_size=8,
        sample_size=8,
        rope_axes_dim=(8, 8),
    )
    size = torch.full((2, 2), 64)
    return model, {
        "hidden_states": torch.randn(2, 4, 8, 8),
        "encoder_hidden_states": text(),
        "timestep": steps(),
        "original_size": size,
        "target_size": size,
        "crop_coords": torch.zeros(2, 2),
    }


def vae_kl() -> Model:
    from diffusers import AutoencoderKL

    vae = AutoencoderKL(
        block_out_channels=(8, 16),
        down_block_types=("DownEncoderBlock2D",) * 2,
        up_block_types=("UpDecoderBlock2D",) * 2,
        norm_num_groups=4,
    ).eval()
    return vae.decode, {"z": torch.randn(1, 4, 8, 8)}


def vae_wan() -> Model:
    from diffusers import AutoencoderKLWan

    vae = AutoencoderKLWan(
        base_dim=4, z_dim=4, dim_mult=[1, 1], num_res_blocks=1, temperal_downsample=[True]
    ).eval()
    return vae.decode, {"z": torch.randn(1, 4, 2, 8, 8)}


MODELS: dict[str, tuple[str, Callable[[], Model]]] = {
    "sd15": ("UNet2DConditionModel (SD 1.5)", unet_sd15),
    "sdxl": ("UNet2DConditionModel (SDXL)", unet_sdxl),
    "flux": ("FluxTransformer2DModel", flux),
    "sd3": ("SD3Transformer2DModel", sd3),
    "pixart": ("PixArtTransformer2DModel", pixart),
    "sana": ("SanaTransformer2DModel", sana),
    "wan": ("WanTransformer3DModel", wan),
    "ltx": ("LTXVideoTransformer3DModel", ltx),
    "qwen-image": ("QwenImageTransformer2DModel", qwen_image),
    "z-image": ("ZImageTransformer2DModel", z_image),
    "cogvideox": ("CogVideoXTransformer3DModel", cogvideox),
    "chroma": ("ChromaTransformer2DModel", chroma),
    "auraflow": ("AuraFlowTransformer2DModel", auraflow),
    "lumina2": ("Lumina2Transformer2DModel", lumina2),
    "cogview4": ("CogView4Transformer2DModel", cogview4),
    "vae": ("AutoencoderKL.decode", vae_kl),
    "vae-wan": ("AutoencoderKLWan.decode", vae_wan),
}


def row(label: str, make: Callable[[], Model]) -> tuple[str, list[str]]:
    """One line of the table, and the report's lines on the breaks."""
    from pytest_diffspeed import find_graph_breaks
    from pytest_diffspeed.common.errors import DiffspeedError

    torch.manual_seed(0)
    with third_party(), torch.no_grad():
        model, inputs = make()
        if isinstance(model, torch.nn.Module):
            model.eval()
        try:
            report = find_graph_breaks(model, **inputs, return_dict=False)
        except DiffspeedError as error:
            return f"| {label} | – | – | – | {error} |", []
    kinds = dict.fromkeys(found.reason.partition(":")[0] for found in report.breaks)
    reasons = "; ".join(kinds) or "none"
    cells = (label, report.graphs, len(report.breaks), report.ops, reasons)
    return f"| {' | '.join(map(str, cells))} |", str(report).splitlines() if report.breaks else []


def demo_rows() -> list[str]:
    """The demo pipeline, with the inputs of a real call."""
    from pytest_diffspeed.compilation.probe import probe_breaks
    from pytest_diffspeed.pipelines.call import PipelineCall
    from pytest_diffspeed.pipelines.capture import capture
    from pytest_diffspeed.pipelines.sources import parse_source

    source = parse_source("demo")
    pipeline = source.build()
    call = PipelineCall(pipeline, source.defaults(pipeline), "owl")
    wanted = ("denoiser", "vae.decode", "text_encoder", "scheduler.step")
    lines = []
    with third_party():
        for one in capture(pipeline, lambda: call(pipeline, steps=2), wanted):
            report = probe_breaks(one.fn, one.calls, name=one.name, restart=one.restart)
            kinds = dict.fromkeys(found.reason.partition(":")[0] for found in report.breaks)
            cells = (f"demo: {one.name}", report.graphs, len(report.breaks), report.ops)
            lines.append(f"| {' | '.join(map(str, cells))} | {'; '.join(kinds) or 'none'} |")
    return lines


def cost(rounds: int = 3) -> None:
    """Seconds of an eager call, a look and a compilation with the eager backend, of one model."""
    from pytest_diffspeed import find_graph_breaks

    def timed(run: Callable[[], object]) -> float:
        started = time.perf_counter()
        run()
        return time.perf_counter() - started

    times: dict[str, list[float]] = {}
    with third_party(), torch.no_grad():
        model, inputs = unet_sdxl()
        model(**inputs)  # type: ignore[operator]
        for _ in range(rounds):
            times.setdefault("one eager call", []).append(timed(lambda: model(**inputs)))
            look = lambda: find_graph_breaks(model, **inputs, return_dict=False)  # noqa: E731
            times.setdefault("one look (two calls)", []).append(timed(look))
            torch.compiler.reset()
            captured = functools.partial(torch.compile(model, backend="eager"), **inputs)
            times.setdefault("first call, dynamo only", []).append(timed(captured))
            torch.compiler.reset()
        compiled = functools.partial(torch.compile(model), **inputs)
        times["first call, with inductor (once)"] = [timed(compiled)]
    print("small SDXL UNet")
    show(times)
    gate_cost(rounds, timed)


def gate_cost(rounds: int, timed: Callable[[Callable[[], object]], float]) -> None:
    """The same for the whole gate on the demo pipeline: denoiser and `vae.decode`, two steps."""
    from pytest_diffspeed.accelerators.registry import resolve_device
    from pytest_diffspeed.arms.builder import Builder
    from pytest_diffspeed.arms.spec import ArmSpec
    from pytest_diffspeed.gates.catalog.graph_breaks import graph_breaks
    from pytest_diffspeed.pipelines.sources import parse_source
    from pytest_diffspeed.techniques.stacks import parse_stack

    builder = Builder(resolve_device("cpu"))
    source = parse_source("demo")
    times: dict[str, list[float]] = {}
    with third_party():
        pipeline = source.build()
        spec = ArmSpec("demo", parse_stack("channels_last"))
        arm = builder.prepare(spec, pipeline, builder.call(source, pipeline))
        for _ in range(rounds):
            with arm.running():
                call = functools.partial(arm.call, arm.pipeline)
                short = functools.partial(arm.call, arm.pipeline, steps=2)
                times.setdefault("one eager call, 20 steps", []).append(timed(call))
                times.setdefault("one eager call, 2 steps", []).append(timed(short))
            arm.memo.clear()
            gate = functools.partial(graph_breaks, arm, None)
            times.setdefault("the gate, first on this arm", []).append(timed(gate))
            times.setdefault("the gate, again on this arm", []).append(timed(gate))
        pipeline = source.build()
        spec = ArmSpec("demo", parse_stack("compile"))
        torch.compiler.reset()
        arm = builder.prepare(spec, pipeline, builder.call(source, pipeline))
        seconds, cache = arm.applied.first_call_s, arm.compilation.cache
        times[f"first compiled call ({cache} cache, once)"] = [seconds]
    print("\ndemo pipeline")
    show(times)


def show(times: dict[str, list[float]]) -> None:
    for name, seconds in times.items():
        print(f"{name:38} {min(seconds):8.3f} – {max(seconds):.3f} s")


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("models", nargs="*", metavar="MODEL", help=", ".join([*MODELS, "demo"]))
    parser.add_argument("--cost", action="store_true", help="wall time of a look")
    words = parser.parse_args()
    if words.cost:
        cost()
        return
    unknown = sorted(set(words.models) - {*MODELS, "demo"})
    if unknown:
        valid = ", ".join([*MODELS, "demo"])
        parser.error(f"no model is called {', '.join(unknown)}; valid: {valid}")
    import diffusers

    print(f"torch {torch.__version__}, diffusers {diffusers.__version__}\n")
    print("| model | graphs | breaks | ops | reasons |\n|---|---|---|---|---|")
    details: list[str] = []
    for name in words.models or [*MODELS, "demo"]:
        if name == "demo":
            print("\n".join(demo_rows()), flush=True)
            continue
        line, told = row(*MODELS[name])
        print(line, flush=True)
        details += told
    if details:
        print("\n" + "\n".join(details))


if __name__ == "__main__":
    sys.exit(main())
