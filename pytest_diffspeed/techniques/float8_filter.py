"""Which linear layers dynamic float8 quantization takes, and why it leaves the others."""

from __future__ import annotations

from .int8_filter import saves_too_little
from .observation import LinearCalls

MULTIPLE = 16
"""What ``torch._scaled_mm`` takes on CUDA: features that are multiples of 16.  Source:
``_check_scaled_mm_sizes`` in ``torch/_meta_registrations.py``, which checks ``self.size(1) % 16``,
``mat2.size(0) % 16`` and ``mat2.size(1) % 16``.  It takes any number of rows."""

LEAST_ROWS = 17
"""Modelled, not measured.  A row for each image (time embeddings, modulations) is a product that
takes as long as reading its weights, and one on which the whole image hangs: nothing to gain, and
most to lose.  The number is that of int8, so that both take the same layers by it."""


def derived(linear: LinearCalls) -> str | None:
    """Why a layer is left, by its shapes and the rows that a real call gave it; ``None``: taken."""
    for name, features in (("in", linear.in_features), ("out", linear.out_features)):
        if features % MULTIPLE:
            return (
                f"{features} {name}_features, and torch._scaled_mm needs a multiple of {MULTIPLE}"
            )
    if min(linear.rows) < LEAST_ROWS:
        return f"{min(linear.rows)} rows, too few for its product to take long"
    return saves_too_little(linear)
