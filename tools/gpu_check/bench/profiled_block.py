"""Kernels of one block of a real denoiser at full width, in a process of its own.

    python profiled_block.py sdxl flux --device cuda --out FILE

Writes a JSON line of each block as each stage ends: ``eager`` (one call), ``ops`` (the same, with
what each op launched) and ``compiled`` (inductor's default mode).
"""

from __future__ import annotations

import argparse
import json
import sys
import time
import traceback
from collections import Counter
from collections.abc import Callable
from pathlib import Path
from typing import Any

sys.path.insert(0, str(Path(__file__).parents[1]))
sys.path.insert(0, str(Path(__file__).parent))

import torch
from kernel_kinds import by_kind, by_name
from profiler_traces import Trace, Work, profiled
from torch.utils._python_dispatch import TorchDispatchMode

STAGES = ("eager", "ops", "compiled")


class SdxlBlock(torch.nn.Module):
    """Resnet, transformer, resnet, as in SDXL's second level; 64×64 latents are 1024² / 8 / 2."""

    def __init__(self, small: bool) -> None:
        super().__init__()
        from diffusers.models.resnet import ResnetBlock2D
        from diffusers.models.transformers.transformer_2d import Transformer2DModel

        self.before, self.width, self.size = (32, 64, 8) if small else (320, 640, 64)
        self.time, self.text = (64, 64) if small else (1280, 2048)
        self.resnet_1 = ResnetBlock2D(
            in_channels=self.before, out_channels=self.width, temb_channels=self.time
        )
        self.transformer = Transformer2DModel(
            num_attention_heads=self.width // 64,
            attention_head_dim=64,
            in_channels=self.width,
            num_layers=1,
            cross_attention_dim=self.text,
            use_linear_projection=True,
        )
        self.resnet_2 = ResnetBlock2D(in_channels=self.width, temb_channels=self.time)

    def inputs(self, device: Any, dtype: Any) -> dict[str, Any]:
        made = {"device": device, "dtype": dtype}
        hidden = torch.randn(2, self.before, self.size, self.size, **made)
        return {
            "hidden": hidden.contiguous(memory_format=torch.channels_last),
            "time": torch.randn(2, self.time, **made),
            "text": torch.randn(2, 77, self.text, **made),
        }

    def forward(self, hidden: Any, time: Any, text: Any) -> Any:
        hidden = self.resnet_1(hidden, time)
        hidden = self.transformer(hidden, encoder_hidden_states=text, return_dict=False)[0]
        return self.resnet_2(hidden, time)


class FluxBlock(torch.nn.Module):
    """Flux's transformer with one double and one single block; 4096 tokens are 1024² / 8 / 2."""

    def __init__(self, small: bool) -> None:
        super().__init__()
        from diffusers import FluxTransformer2DModel

        heads, self.text, self.pooled = (2, 64, 32) if small else (24, 4096, 768)
        self.image_tokens, self.text_tokens = (64, 16) if small else (4096, 512)
        self.transformer = FluxTransformer2DModel(
            num_layers=1,
            num_single_layers=1,
            num_attention_heads=heads,
            attention_head_dim=128,
            joint_attention_dim=self.text,
            pooled_projection_dim=self.pooled,
            guidance_embeds=True,
        )

    def inputs(self, device: Any, dtype: Any) -> dict[str, Any]:
        made = {"device": device, "dtype": dtype}
        return {
            "hidden_states": torch.randn(1, self.image_tokens, 64, **made),
            "encoder_hidden_states": torch.randn(1, self.text_tokens, self.text, **made),
            "pooled_projections": torch.randn(1, self.pooled, **made),
            "timestep": torch.full((1,), 0.5, **made),
            "img_ids": torch.zeros(self.image_tokens, 3, **made),
            "txt_ids": torch.zeros(self.text_tokens, 3, **made),
            "guidance": torch.full((1,), 3.5, device=device),
        }

    def forward(self, **inputs: Any) -> Any:
        return self.transformer(**inputs, return_dict=False)[0]


BLOCKS: dict[str, Callable[[bool], Any]] = {"sdxl": SdxlBlock, "flux": FluxBlock}


def build(name: str, small: bool, device: str, dtype: Any) -> Any:
    """On the device, with weights drawn there; convolutions in channels-last."""
    before = torch.get_default_dtype()
    torch.set_default_dtype(dtype)
    try:
        with torch.device(device):
            torch.manual_seed(0)
            block = BLOCKS[name](small)
    finally:
        torch.set_default_dtype(before)
    return block.to(memory_format=torch.channels_last).eval().requires_grad_(False)


class OpLabels(TorchDispatchMode):
    """A label for the profiler around each op that reaches the dispatcher."""

    def __torch_dispatch__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        shapes = [
            f"{str(value.dtype).removeprefix('torch.')}{list(value.shape)}"
            for value in args
            if isinstance(value, torch.Tensor)
        ]
        label = f"op:{func._schema.name.partition('::')[2]}|{' '.join(shapes)}"
        with torch.profiler.record_function(label):
            return func(*args, **(kwargs or {}))


def figures(work: Work) -> dict[str, Any]:
    """What one call did on the device."""
    return {
        "kernels": len(work.kernels),
        "by_kind": by_kind(work.kernels),
        "by_name": by_name(work.kernels),
        "launches": work.launches,
        "calls": dict(work.calls.most_common()),
        "copies": dict(Counter(work.copies)),
        "sets": work.sets,
        "device_us": round(work.device_us, 1),
    }


def per_op(trace: Trace) -> dict[str, Any]:
    """By op: calls, how many kernels a call launched (and how often), and which.

    An op of which not all calls launched the same number has its shapes too.
    """
    found: dict[str, Any] = {}
    shapes: dict[str, dict[str, set[str]]] = {}
    for label in trace.named("op:"):
        name, _, shape = label.name.removeprefix("op:").partition("|")
        work = trace.work_of(label)
        count = len(work.kernels) + len(work.copies) + work.sets
        one = found.setdefault(
            name, {"calls": 0, "per_call": Counter(), "kernels": Counter(), "us": 0.0}
        )
        one["calls"] += 1
        one["per_call"][str(count)] += 1
        one["kernels"].update(by_name([*work.kernels, *work.copies], 90))
        one["us"] = round(one["us"] + work.device_us, 1)
        shapes.setdefault(name, {}).setdefault(str(count), set()).add(shape)
    for name, one in found.items():
        if len(one["per_call"]) > 1:
            one["shapes"] = {count: sorted(some)[:4] for count, some in shapes[name].items()}
    return found


class Stages:
    """Runs the stages and writes each one's line."""

    def __init__(self, name: str, device: str, small: bool, out: Path) -> None:
        self._device, self._out = device, out
        dtype = torch.float32 if small else torch.bfloat16
        self._block = build(name, small, device, dtype)
        self._inputs = self._block.inputs(device, dtype)

    def _call(self, block: Any) -> None:
        block(**self._inputs)
        if self._device == "cuda":
            torch.cuda.synchronize()

    def _trace(self, block: Any) -> Trace:
        path = self._out.with_suffix(".trace.json")
        with (
            profiled(path, self._device) as recording,
            torch.profiler.record_function("one call"),
        ):
            block(**self._inputs)
        trace = recording.trace
        if self._device == "cuda" and not trace.saw_the_device:
            raise RuntimeError("the profiler saw nothing of the GPU: CUPTI gave no event")
        return trace

    def _one_call(self, block: Any) -> dict[str, Any]:
        for _ in range(2):
            self._call(block)
        trace = self._trace(block)
        (label,) = trace.named("one call")
        started = time.perf_counter()
        self._call(block)
        seconds = time.perf_counter() - started
        return {**figures(trace.work_of(label)), "call_ms": round(seconds * 1000, 3)}

    def eager(self) -> dict[str, Any]:
        return self._one_call(self._block)

    def ops(self) -> dict[str, Any]:
        def labelled(**inputs: Any) -> None:
            with OpLabels():
                self._block(**inputs)

        trace = self._trace(labelled)
        (label,) = trace.named("one call")
        whole = figures(trace.work_of(label))
        ops = per_op(trace)
        attributed = sum(sum(one["kernels"].values()) for one in ops.values())
        total = whole["kernels"] + sum(whole["copies"].values())
        return {"ops": ops, "attributed": attributed, "total": total}

    def compiled(self) -> dict[str, Any]:
        backend = "inductor" if self._device == "cuda" else "eager"  # see the part's docstring
        block = torch.compile(self._block, backend=backend)
        started = time.perf_counter()
        self._call(block)
        seconds = time.perf_counter() - started
        return {**self._one_call(block), "backend": backend, "first_call_s": round(seconds, 1)}


def main() -> None:
    parser = argparse.ArgumentParser()
    parser.add_argument("blocks", nargs="+", choices=sorted(BLOCKS))
    parser.add_argument("--device", choices=("cuda", "cpu"), required=True)
    parser.add_argument("--out", type=Path, required=True)
    arguments = parser.parse_args()
    if arguments.device == "cpu":
        torch.set_num_threads(1)  # small blocks, beside other parts
    for block in arguments.blocks:
        stages = Stages(block, arguments.device, arguments.device == "cpu", arguments.out)
        for stage in STAGES:
            try:
                with torch.no_grad():
                    found: dict[str, Any] = getattr(stages, stage)()
            except Exception as error:  # the next stage may run all the same
                found = {"error": f"{type(error).__name__}: {error}"[:1000]}
                traceback.print_exc()
            with arguments.out.open("a", encoding="utf-8") as file:
                file.write(json.dumps({"block": block, "stage": stage, **found}) + "\n")


if __name__ == "__main__":
    main()
