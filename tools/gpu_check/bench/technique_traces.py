"""What torch's profiler saw of one call: kernels, ops and calls of the CUDA runtime, by name.

Read from the trace that the profiler exports, in which each event says what it is (``cat``).  The
package reads ``profile.events()`` instead, so the two do not share a mistake.
"""

from __future__ import annotations

import json
import re
import tempfile
from collections import Counter
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

_FIELDS = {
    "kernel": "kernels",
    "cpu_op": "ops",
    "cuda_runtime": "runtime",
    "cuda_driver": "runtime",
    "user_annotation": "marks",
}

# Of what precision a kernel multiplies, by the names that cuBLAS, cuDNN and CUTLASS give theirs;
# the first that fits counts.  `s1688` is TF32 unless 16-bit inputs are named beside it.
_PRECISIONS = (
    ("float8", r"e4m3|e5m2|f8f8|nvjet_qq|fp8"),
    ("int8", r"i8816|i16832|imma|(?<![a-z])s8|u8s8|i8i8|int8"),
    ("bf16", r"bf16|bfloat16|nvjet_(sm\d+_)?t[a-z]{2}"),
    ("fp16", r"(?<![bt])f16|fp16|half|h16816|hgemm|h884|h1688|nvjet_(sm\d+_)?h[a-z]{2}"),
    ("tf32", r"tf32|s1688|nvjet_(sm\d+_)?s[a-z]{2}"),
    ("fp32", r"sgemm|scudnn|f32f32_f32f32|simt|ffma|gemv|gemmk1|float|winograd"),
)
_PRODUCTS = re.compile(
    r"gemm|gemv|xmma|cutlass|nvjet|conv|fprop|dgrad|winograd|splitk|cublas|implicit|dot_kernel"
    r"|triton_tem"
)
_NO_PRODUCTS = re.compile(
    r"fmha|attention|flash|sdpa|triton_(poi|red|per)|elementwise|tonhwc|tonchw|splitkreduce"
)
_LAYOUT = re.compile(r"nchwtonhwc|nhwctonchw|tonhwc|tonchw|layout_?transform")
_ATTENTION = (
    # cuDNN's kernels have "flash" in their names too, so they come first.
    ("cudnn", r"cudnn.*(sdpa|flash|mha|fmha)|sdpa.*fprop"),
    ("flash", r"flash_fwd|pytorch_flash|flash_attn|flashattn"),
    ("efficient", r"fmha_cutlass|pytorchmemeffattention|attentionkernel|mem_eff"),
    ("softmax", r"softmax"),
)


@dataclass
class Seen:
    """How often each name came; ``marks`` are regions that code marked for the profiler."""

    kernels: Counter[str] = field(default_factory=Counter)
    ops: Counter[str] = field(default_factory=Counter)
    runtime: Counter[str] = field(default_factory=Counter)
    marks: Counter[str] = field(default_factory=Counter)

    def count(self, *ops: str) -> int:
        """Ops of aten by their names without namespace."""
        return sum(self.ops[f"aten::{op}"] for op in ops)

    @property
    def graph_launches(self) -> int:
        return sum(n for name, n in self.runtime.items() if name.startswith("cudaGraphLaunch"))

    @property
    def triton_kernels(self) -> int:
        return sum(n for name, n in self.kernels.items() if name.startswith("triton_"))

    def precisions(self) -> dict[str, int]:
        """Kernels that multiply matrices or convolve, by the precision in their names."""
        found: Counter[str] = Counter()
        for name, count in self.kernels.items():
            if is_product(name):
                found[precision(name)] += count
        return dict(found)

    def attention(self) -> dict[str, int]:
        """Kernels of attention by family; ``softmax`` is that of unfused attention."""
        found: Counter[str] = Counter()
        for name, count in self.kernels.items():
            family = first_match(_ATTENTION, name)
            if family is not None:
                found[family] += count
        return dict(found)

    def layout_transforms(self) -> int:
        """Kernels with which cuDNN brings tensors into another layout."""
        return sum(n for name, n in self.kernels.items() if _LAYOUT.search(name.lower()))

    def figures(self, most: int = 60) -> dict[str, Any]:
        """For a check's line: names are cut, and the rarest ones left out."""
        return {
            "kernels": {name[:160]: n for name, n in self.kernels.most_common(most)},
            "kernel_names": len(self.kernels),
            "ops": dict(self.ops.most_common(most)),
            "runtime": dict(self.runtime.most_common(20)),
            "precisions": self.precisions(),
            "attention": self.attention(),
            "layout_transforms": self.layout_transforms(),
        }


def is_product(kernel: str) -> bool:
    """Whether a kernel multiplies matrices or convolves."""
    name = kernel.lower()
    return _PRODUCTS.search(name) is not None and _NO_PRODUCTS.search(name) is None


def precision(kernel: str) -> str:
    """``"tf32"``, ``"fp32"`` and so on; ``"unknown"`` where the name does not tell."""
    return first_match(_PRECISIONS, kernel) or "unknown"


def first_match(patterns: Iterable[tuple[str, str]], name: str) -> str | None:
    lower = name.lower()
    return next((kind for kind, pattern in patterns if re.search(pattern, lower)), None)


def profiled(call: Callable[[], object], *, cuda: bool) -> Seen:
    """Run ``call`` once under the profiler."""
    import torch

    activities = [torch.profiler.ProfilerActivity.CPU]
    if cuda:
        activities.append(torch.profiler.ProfilerActivity.CUDA)
    with torch.profiler.profile(activities=activities, acc_events=True) as profile:
        call()
        if cuda:
            torch.cuda.synchronize()
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder) / "trace.json"
        profile.export_chrome_trace(str(path))
        events = json.loads(path.read_text(encoding="utf-8", errors="replace"))["traceEvents"]
    return read_events(events)


def read_events(events: Iterable[Mapping[str, Any]]) -> Seen:
    """Count the events of an exported trace; copies of marks on the device's time line are left."""
    seen = Seen()
    for event in events:
        kind = _FIELDS.get(str(event.get("cat", "")).lower())
        if kind is not None and event.get("ph") == "X":
            getattr(seen, kind)[str(event["name"])] += 1
    return seen
