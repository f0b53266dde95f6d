"""GPUs by their data sheets: what a count needs to know of one, and its peaks."""

from __future__ import annotations

import dataclasses
import json
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from types import MappingProxyType
from typing import Any

from .errors import GpuCostError

UNITS = ("f64", "f32", "tf32", "b16", "i8", "f8")
"""What a product is computed in, the costliest first: float64, float32 without and with TF32,
float16 or bfloat16, int8, float8."""


@dataclass(frozen=True)
class Gpu:
    """One GPU.  Everything is of its data sheet, without sparsity.

    ``capability`` and ``multiprocessors`` decide what Inductor writes; ``flops_per_s`` (by unit of
    :data:`UNITS`; 0: the GPU has none) and ``bytes_per_s`` are read by bounds only, never by a
    count.  ``shared_per_block`` is the most that a block may ask for.
    """

    name: str
    capability: tuple[int, int]
    multiprocessors: int
    memory_bytes: int
    bytes_per_s: float
    l2_bytes: int
    shared_per_multiprocessor: int
    shared_per_block: int
    threads_per_multiprocessor: int
    flops_per_s: Mapping[str, float]
    source: str

    def __post_init__(self) -> None:
        unknown = set(self.flops_per_s) - set(UNITS)
        if unknown or len(self.capability) != 2 or self.multiprocessors < 1:
            raise GpuCostError(
                f"{self.name} is not a GPU that can be counted for: it needs a capability of two "
                f"numbers, multiprocessors, and FLOP/s by {', '.join(UNITS)}"
                + (f", not {', '.join(sorted(unknown))}" if unknown else "")
            )

    @classmethod
    def from_json(cls, text: str) -> Gpu:
        """The GPU of a JSON object that has the fields of this class.

        Raises:
            GpuCostError: with the fields that are missing, unknown or no JSON at all.
        """
        try:
            fields: Any = json.loads(text)
        except ValueError as error:
            raise GpuCostError(f"a GPU of one's own is a JSON object: {error}") from None
        wanted = {field.name for field in dataclasses.fields(cls)}
        if not isinstance(fields, dict) or set(fields) != wanted:
            given = set(fields) if isinstance(fields, dict) else set()
            raise GpuCostError(
                f"a GPU of one's own is a JSON object with {', '.join(sorted(wanted))}; missing: "
                f"{', '.join(sorted(wanted - given)) or 'none'}, unknown: "
                f"{', '.join(sorted(given - wanted)) or 'none'}"
            )
        fields["capability"] = tuple(fields["capability"])
        return cls(**fields)


def _tera(**units: float) -> Mapping[str, float]:
    return MappingProxyType({unit: value * 1e12 for unit, value in units.items()})


# Shared memory, L2 and threads: CUDA C++ Programming Guide, "Technical Specifications per Compute
# Capability"; a block can ask for 1 KB less than the multiprocessor has for one (the same table).
GPUS: Mapping[str, Gpu] = MappingProxyType(
    {
        "a100": Gpu(
            name="NVIDIA A100-SXM4-80GB",
            capability=(8, 0),
            multiprocessors=108,
            memory_bytes=80 << 30,
            bytes_per_s=2039e9,
            l2_bytes=40 << 20,
            shared_per_multiprocessor=164 << 10,
            shared_per_block=163 << 10,
            threads_per_multiprocessor=2048,
            # float64 by its tensor cores; 9.7 without
            flops_per_s=_tera(f64=19.5, f32=19.5, tf32=156, b16=312, i8=624, f8=0),
            source="NVIDIA A100 80GB data sheet, SXM",
        ),
        "h100": Gpu(
            name="NVIDIA H100 80GB HBM3",
            capability=(9, 0),
            multiprocessors=132,
            memory_bytes=80 << 30,
            bytes_per_s=3352e9,
            l2_bytes=50 << 20,
            shared_per_multiprocessor=228 << 10,
            shared_per_block=227 << 10,
            threads_per_multiprocessor=2048,
            # the data sheet's figures are with sparsity: half of them
            flops_per_s=_tera(f64=67, f32=67, tf32=494.5, b16=989.5, i8=1979, f8=1979),
            source="NVIDIA H100 data sheet, SXM",
        ),
        "l40s": Gpu(
            name="NVIDIA L40S",
            capability=(8, 9),
            multiprocessors=142,
            memory_bytes=48 << 30,
            bytes_per_s=864e9,
            l2_bytes=96 << 20,
            shared_per_multiprocessor=100 << 10,
            shared_per_block=99 << 10,
            threads_per_multiprocessor=1536,
            # float64: 1/64 of float32 (the Ada white paper)
            flops_per_s=_tera(f64=1.43, f32=91.6, tf32=183, b16=362, i8=733, f8=733),
            source="NVIDIA L40S data sheet",
        ),
        "rtx4090": Gpu(
            name="NVIDIA GeForce RTX 4090",
            capability=(8, 9),
            multiprocessors=128,
            memory_bytes=24 << 30,
            bytes_per_s=1008e9,
            l2_bytes=72 << 20,
            shared_per_multiprocessor=100 << 10,
            shared_per_block=99 << 10,
            threads_per_multiprocessor=1536,
            # products summed in float32, as torch does: half the rate of those summed in float16
            flops_per_s=_tera(f64=1.29, f32=82.6, tf32=82.6, b16=165.2, i8=660.6, f8=330.3),
            source="NVIDIA Ada GPU architecture white paper, appendix A",
        ),
    }
)


def named_gpu(name: str) -> Gpu:
    """One of :data:`GPUS`, or that of a file ``….json`` (see :meth:`Gpu.from_json`).

    Raises:
        GpuCostError: for an unknown name, with those that there are.
    """
    if name.lower() in GPUS:
        return GPUS[name.lower()]
    if name.endswith(".json"):
        path = Path(name)
        if not path.is_file():
            raise GpuCostError(f"there is no file {name} with the data of a GPU")
        return Gpu.from_json(path.read_text("utf-8"))
    raise GpuCostError(
        f"{name!r} is not a GPU known here: {', '.join(GPUS)}, or a .json file with one of your own"
    )
