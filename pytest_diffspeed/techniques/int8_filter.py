"""Which linear layers dynamic int8 quantization takes, and why it leaves the others.

Each filter answers with the reason for which a layer is left, or ``None`` if it is taken.
"""

from __future__ import annotations

from .observation import LinearCalls

LEAST_ROWS = 17
MULTIPLE = 8
"""What ``torch._int_mm`` takes on CUDA: more than 16 rows, and features that are multiples of 8.
Source: ``_int_mm_out_cuda`` in ``aten/src/ATen/native/cuda/Blas.cpp`` of PyTorch, which checks
``self.size(0) > 16``, ``self.size(1) % 8 == 0`` and ``mat2.size(1) % 8 == 0``."""

LEAST_SAVED_PER_ELEMENT = 64.0
"""Modelled, not measured.  Each of ``rows × in`` elements is read, scaled and rounded to int8, and
each of ``rows × out`` is scaled back; that work grows with ``in + out``, the product's with
``in × out``.  So ``in × out ÷ (in + out)`` multiply-adds stand against each element that is
converted, whatever the number of rows; a layer of 128 × 128 has 64.  An A100 does 156 T
multiply-adds of 16-bit numbers in the time in which it moves 2 TB, 78 for a byte, so with fewer
there is next to nothing for int8 to save.  That the layers above pay is not said by this: only a
measurement on the device says it."""

PUBLISHED_SDXL_LEFT = frozenset(
    {
        (1280, 640),
        (1920, 1280),
        (1920, 640),
        (2048, 1280),
        (2048, 2560),
        (2560, 1280),
        (256, 128),
        (2816, 1280),
        (320, 640),
        (512, 1536),
        (512, 256),
        (512, 512),
        (640, 1280),
        (640, 1920),
        (640, 320),
        (640, 5120),
        (640, 640),
        (960, 320),
        (960, 640),
    }
)
"""The (in, out) shapes that the published SDXL recipe leaves, found by trying on an A100."""


def torch_refuses(linear: LinearCalls) -> str | None:
    """What ``torch._int_mm`` would refuse on CUDA."""
    if min(linear.rows) < LEAST_ROWS:
        return f"{min(linear.rows)} rows, and torch._int_mm needs more than 16"
    for name, features in (("in", linear.in_features), ("out", linear.out_features)):
        if features % MULTIPLE:
            return f"{features} {name}_features, and torch._int_mm needs a multiple of {MULTIPLE}"
    return None


def derived(linear: LinearCalls) -> str | None:
    """By the shapes of the layer and the rows that a real call gave it."""
    return torch_refuses(linear) or saves_too_little(linear)


def saves_too_little(linear: LinearCalls) -> str | None:
    """What of a layer makes 8 bits a loss, or ``None``; by :data:`LEAST_SAVED_PER_ELEMENT`."""
    saved = linear.in_features * linear.out_features / (linear.in_features + linear.out_features)
    if saved < LEAST_SAVED_PER_ELEMENT:
        return (
            f"{saved:.0f} multiply-adds for each element to convert, fewer than "
            f"{LEAST_SAVED_PER_ELEMENT:.0f}"
        )
    return None


def published_sdxl(linear: LinearCalls) -> str | None:
    """The published list for SDXL on an A100, by shape alone."""
    if linear.in_features <= 16:
        return f"{linear.in_features} in_features, and the published list needs more than 16"
    if (linear.in_features, linear.out_features) in PUBLISHED_SDXL_LEFT:
        return "on the published list of shapes that lose"
    return None
