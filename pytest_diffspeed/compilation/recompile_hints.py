"""What to do about a recompilation: by the guard that failed."""

from __future__ import annotations

import re

_BY_GUARD: tuple[tuple[str, str], ...] = (
    (
        # Peft's names of an adapter's products and of what these are multiplied by.
        r"lora_[AB]|scaling",
        "prepare hot-swapping: lora(…,target_rank=N), or enable_lora_hotswap() in the source",
    ),
    (
        r"size mismatch|size\(\)|\.shape|stride mismatch|tensor '.*' (size|stride)",
        "compile with dynamic=True, or call each size once in the warm-up",
    ),
    (
        r"dtype mismatch|dispatch key|device mismatch",
        "give every call tensors of one dtype and device",
    ),
    (
        r"requires_grad|grad_mode|inference_mode|GLOBAL_STATE",
        "make every call in the same mode (torch.no_grad)",
    ),
    (
        r"___check_obj_id|___check_type_id|is not the same object|for another object",
        "keep one object for all calls: what is made anew in each call compiles anew",
    ),
    (r"len\(", "keep the list's length the same in every call"),
    (r"[<>=]=|[<>]| is ", "pass the number as a tensor: a Python value is compiled in"),
    (r"for the first time", "run this kind of call in the warm-up"),
)


def remedy(why: str) -> str:
    """What keeps the guard ``why``, in dynamo's words, from failing."""
    for pattern, advice in _BY_GUARD:
        if re.search(pattern, why):
            return advice
    return "keep what the guard names the same in every call"
