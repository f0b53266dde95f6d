"""What a technique may need of a device beyond running torch.

A technique names a :class:`Feature` in its ``needs``, and the file of a kind of device in
:mod:`.catalog` lists those that this kind has.  So a new kind makes known techniques available, and
a new technique brings a feature of its own, without either being edited.
"""

from __future__ import annotations

from dataclasses import dataclass


@dataclass(frozen=True)
class Feature:
    """Something that some devices can do and others cannot.

    Attributes:
        name: What kinds of devices list in their ``features``.
        missing: What is said of a device that lacks it, after "tf32 on Tesla T4: ".
        compute_capability: The least that a CUDA device must have; ``None`` where CUDA lacks it.
    """

    name: str
    missing: str
    compute_capability: tuple[int, int] | None = None


TF32 = Feature("TF32 products", "TF32 is a mode of NVIDIA's tensor cores", (8, 0))
BFLOAT16 = Feature(
    "bfloat16 products",
    "nothing is known of its products in bfloat16",
    (8, 0),  # older GPUs emulate them, slowly
)
INT8 = Feature("int8 products", "nothing is known of its products in int8", (7, 5))
INT8_OF_ANY_SHAPE = Feature("int8 products of any shape", "torch._int_mm refuses some shapes there")
FLOAT8 = Feature(
    "float8 products",
    "nothing is known of its products in float8",
    (8, 9),  # `_scaled_mm_allowed_device` in PyTorch's aten/src/ATen/native/cuda/ScaledBlas.cpp
)
FLASH_ATTENTION = Feature(
    "flash attention", "torch has this attention kernel on CPUs and CUDA only", (8, 0)
)
EFFICIENT_ATTENTION = Feature(
    "memory-efficient attention", "torch has this attention kernel on CUDA only", (5, 0)
)
CUDNN_ATTENTION = Feature("cuDNN attention", "torch has this attention kernel on CUDA only", (8, 0))
MEMORY_OF_ITS_OWN = Feature(
    "memory of its own",
    "its memory is the host's, so there is nothing to move weights to and from",
    (5, 0),  # all that torch runs on
)
FAST_ATTENTION_IN_FLOAT32 = Feature(
    "flash and cuDNN attention in float32", "this kernel takes bfloat16 and float16 only there"
)
