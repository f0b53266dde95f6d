"""Are kernels, attention and bytes what can be counted without a GPU?

- ``attention: …``: the rule restated in ``attention_choice.py`` against torch's own choice on real
  tensors, the op that the package's watcher saw, and the kernel that ran;
- ``memory: …``: the peak that torch's allocator counts against that of the simulated GPU, by the
  product's own functions, within a fifth;
- ``kernels: …``: what a block of SDXL and of Flux launches at full width, eagerly and compiled, by
  kind and name; ``launches: …`` by op.  These two are figures for a model that is to come
  (``gpucost``); before there was a GPU the SDXL block was thought to take 66 kernels eagerly and
  47 compiled, with three for a group norm and one for any other op.

In a dry run the blocks are small, run on the CPU and are compiled with ``backend="eager"``, since
inductor takes minutes on two cores; the allocator is that of a simulated GPU called ``cuda``.

Planted: the first attention shape is kept to MATH, and the demo's denoiser holds a copy of its
weights.
"""

from __future__ import annotations

import contextlib
import json
import subprocess
import sys
import time
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

import attention_choice
import peak_bytes
import torch
from attention_choice import CHOICES, SHAPES, Shape
from checks import NoMeaning, Part
from kernel_kinds import attention_of_kernels, by_name
from profiler_traces import Work, profiled

HERE = Path(__file__).resolve().parents[1] / "bench"
BLOCKS = ("sdxl", "flux")
THOUGHT = {("sdxl", "eager"): 66, ("sdxl", "compiled"): 47}
LAUNCHES = {"native_group_norm": 3, "_safe_softmax": 5}
"""What was thought of ops that launch more than one kernel."""
SOURCES = ("demo", "random:sdxl-tiny")
NO_KERNELS = "without a GPU no kernel is launched; the call ran and its trace was read"


def run(part: Part) -> None:
    # The simulated GPU computes on the CPU, where other parts run beside.
    torch.set_num_threads(1 if part.small else 4)
    stages = [(block, stage) for stage in ("eager", "ops", "compiled") for block in BLOCKS]
    part.plan([f"attention: {shape.name}" for shape in SHAPES])
    part.plan([_stage_name(*one) for one in stages])
    part.plan([f"memory: {source}" for source in (*SOURCES, "SDXL block")])
    with _blocks(part) as blocks:
        _attention(part)
        for one in stages[:4]:
            _stage(part, blocks, *one)
        for source in SOURCES:
            with part.check(f"memory: {source}", "as counted, within 20 %") as check:
                peak_bytes.of_source(part, source, check)
        with part.check("memory: SDXL block", "as counted, within 20 %") as check:
            peak_bytes.of_block(part, check)
        for one in stages[4:]:
            _stage(part, blocks, *one)


# -- attention


def _attention(part: Part) -> None:
    shapes = [shape.small if part.small else shape for shape in SHAPES]
    forced = SHAPES[0].name if part.planted else None
    works: dict[str, Work] = {}
    problem: Exception | None = None
    try:
        works = _attention_kernels(part, shapes, forced)
    except Exception as error:  # the other columns stand without it
        problem = error
    for shape in shapes:
        with part.check(f"attention: {shape.name}", "torch's choice, as the rule has it") as check:
            hardware = _hardware(part)
            rule = attention_choice.rule(shape, device=part.device, **hardware)
            choice, op = _chosen(part, shape, forced)
            seen = {"choice": choice, "op": op}
            check.figures |= {"shape": vars(shape), "rule": rule, **seen, **hardware}
            if part.device == "cuda":
                if problem is not None:
                    raise problem
                seen["kernel"] = attention_of_kernels(works[shape.name].kernels)
                check.figures |= {"kernels": by_name(works[shape.name].kernels)}
            told = ", ".join(f"{name} {value}" for name, value in seen.items())
            check.expect(set(seen.values()) == {rule}, f"rule {rule}: {told}")


def _hardware(part: Part) -> dict[str, Any]:
    if part.device != "cuda":
        return {}
    return {
        "capability": torch.cuda.get_device_capability(),
        "cudnn": torch.backends.cudnn.version() or 0,
    }


@contextlib.contextmanager
def _kept_to(shape: Shape, forced: str | None) -> Iterator[None]:
    from torch.nn.attention import SDPBackend, sdpa_kernel

    with torch.no_grad(), contextlib.ExitStack() as stack:
        if shape.name == forced:
            stack.enter_context(sdpa_kernel(SDPBackend.MATH))
        yield


def _chosen(part: Part, shape: Shape, forced: str | None) -> tuple[str, str]:
    """Torch's choice, and the op that the package's own watcher sees."""
    from torch.nn.functional import scaled_dot_product_attention

    from pytest_diffspeed.techniques.observe import OpCounter

    given, mask = attention_choice.inputs(shape, part.device)
    watch = OpCounter()
    watch.inside.append(("denoiser", "", False))
    with _kept_to(shape, forced):
        chosen: Any = torch._fused_sdp_choice  # torch's stub leaves out its arguments
        choice = int(chosen(*given, mask, 0.0, False))
        with watch:
            scaled_dot_product_attention(*given, attn_mask=mask)
    seen: Mapping[str, int] = watch.attention.get("denoiser", {})
    return CHOICES.get(choice, str(choice)), attention_choice.op_of(seen)


def _attention_kernels(part: Part, shapes: Sequence[Shape], forced: str | None) -> dict[str, Work]:
    """Of one call of each shape, after one that lets libraries plan."""
    from torch.nn.functional import scaled_dot_product_attention

    def attend(shape: Shape, given: tuple[Any, Any, Any], mask: Any) -> None:
        with _kept_to(shape, forced):
            scaled_dot_product_attention(*given, attn_mask=mask)

    made = [(shape, *attention_choice.inputs(shape, part.device)) for shape in shapes]
    for one in made:
        attend(*one)
    with profiled(part.work / "attention.json", part.device) as recording:
        for one in made:
            with torch.profiler.record_function(f"attention:{one[0].name}"):
                attend(*one)
    trace = recording.trace
    if part.device == "cuda" and not trace.saw_the_device:
        raise RuntimeError("the profiler saw nothing of the GPU: CUPTI gave no event")
    labels = trace.named("attention:")
    return {label.name.partition(":")[2]: trace.work_of(label) for label in labels}


# -- blocks, in processes of their own that run meanwhile


class _Running:
    """A process that profiles blocks, and what it has written so far."""

    def __init__(self, part: Part, blocks: Sequence[str]) -> None:
        self._out = part.work / f"{'_'.join(blocks)}.jsonl"
        words = [sys.executable, str(HERE / "profiled_block.py"), *blocks]
        words += ["--device", part.device, "--out", str(self._out)]
        self._process = subprocess.Popen(words)

    def line(self, block: str, stage: str, until_s: float) -> Mapping[str, Any]:
        """What the stage found, once it has ended.

        Raises:
            RuntimeError: it failed, or did not end in time.
        """
        ends = time.monotonic() + until_s
        while True:
            ended = self._process.poll() is not None
            text = self._out.read_text(encoding="utf-8") if self._out.exists() else ""
            complete = text.rpartition("\n")[0].splitlines()
            for found in map(json.loads, complete):
                if (found["block"], found["stage"]) == (block, stage):
                    if "error" in found:
                        raise RuntimeError(found["error"])
                    return found
            if ended:
                status = self._process.returncode
                raise RuntimeError(f"its process ended with exit status {status}: see log.txt")
            if time.monotonic() > ends:
                raise RuntimeError("it did not end within the time of this part")
            time.sleep(0.2)

    def end(self) -> None:
        if self._process.poll() is None:
            self._process.kill()
        self._process.wait()


@contextlib.contextmanager
def _blocks(part: Part) -> Iterator[dict[str, _Running]]:
    # Two cores are better used by one process, which imports once.
    groups = [BLOCKS] if part.small else [(block,) for block in BLOCKS]
    running = [_Running(part, group) for group in groups]
    try:
        yield {block: one for group, one in zip(groups, running, strict=True) for block in group}
    finally:
        for one in running:
            one.end()


def _stage_name(block: str, stage: str) -> str:
    return f"launches: {block} by op" if stage == "ops" else f"kernels: {block}, {stage}"


def _stage(part: Part, blocks: Mapping[str, _Running], block: str, stage: str) -> None:
    expected = "each kernel belongs to an op" if stage == "ops" else ""
    with part.check(_stage_name(block, stage), expected) as check:
        found = blocks[block].line(block, stage, part.time_left_s - 3)
        check.figures |= {key: found[key] for key in found if key not in ("block", "stage")}
        if part.device != "cuda":
            raise NoMeaning(_in_a_dry_run(found, stage))
        if stage == "ops":
            check.expect(0 < found["total"] == found["attributed"], launches_told(found))
        else:
            check.record(kernels_told(found, THOUGHT.get((block, stage))))


def _in_a_dry_run(found: Mapping[str, Any], stage: str) -> str:
    if stage == "ops":
        calls = sum(one["calls"] for one in found["ops"].values())
        return f"{NO_KERNELS}: {calls} calls of {len(found['ops'])} ops"
    if stage == "compiled":
        return f"{NO_KERNELS}, compiled with backend={found['backend']!r}"
    return NO_KERNELS


def kernels_told(found: Mapping[str, Any], thought: int | None) -> str:
    """One phrase: how many, of what kinds, launched and taking how long."""
    head = f"{found['kernels']} kernels"
    if thought is not None:
        head += f" ({thought} counted without a GPU)"
    kinds = ", ".join(f"{count} {kind}" for kind, count in found["by_kind"].items())
    text = f"{head}: {kinds}; {found['launches']} launches, {found['device_us']:.0f} us"
    if "first_call_s" in found:
        text += f", first call {found['first_call_s']} s"
    return text


def launches_told(found: Mapping[str, Any]) -> str:
    """Which ops launch another number of kernels than was thought."""
    other = {}
    for name, one in found["ops"].items():
        thought = str(LAUNCHES.get(name, 1))
        counts = {count: times for count, times in one["per_call"].items() if count != "0"}
        if set(counts) - {thought}:
            other[name] = "/".join(sorted(counts))
    text = f"{found['attributed']} of {found['total']} kernels and copies by op"
    if not other:
        return f"{text}; as many an op as was thought"
    return f"{text}; another number than thought: " + ", ".join(
        f"{name} {counts}" for name, counts in other.items()
    )
