"""What to do about the graph breaks that everybody meets.

Found by dynamo's own first line (its type of break, the same for all users), by what stands on the
source line, and by the frames around it.  Where none fits, dynamo's first hint is passed on.
"""

from __future__ import annotations

import re
from collections.abc import Sequence

_BY_MESSAGE: tuple[tuple[str, str], ...] = (
    (
        r"Tensor\.(item|tolist)\(\)|_local_scalar_dense|Unsupported Tensor\.item",
        "keep the value a tensor (`torch.where`), or read it before the compiled call",
    ),
    (
        r"Data-dependent branching|Data-dependent assertion|data-dependent expression",
        "decide outside the compiled part, or write both sides with `torch.where` or `torch.cond`",
    ),
    (
        r"builtin `print`|builtin operator `print`|Logger method|reorderable_logging",
        "take the output out of the compiled part (return the value and print it there)",
    ),
    (
        r"torch\.compiler\.disable",
        "somebody asked for this break: take `torch.compiler.disable` off, or use `max_breaks`",
    ),
    (r"torch\._dynamo\.graph_break", "take the call of `torch._dynamo.graph_break()` out"),
    (
        r"[Dd]ynamic shape operator|data-dependent shape|aten\.nonzero|masked_select",
        "its output's size depends on values: use a mask of fixed size, or do it before",
    ),
    (
        r"numpy\.random|random\.Random|Random number",
        "draw random numbers before the compiled call, or with torch",
    ),
    (
        r"[Bb]ackward hook",
        "take the hook off before compiling",
    ),
    (
        r"Failed to trace builtin operator|Unsupported builtin|unsupported builtin|"
        r"marked as skipped|C/C\+\+|non-traceable",
        "dynamo cannot look into this function: call it outside, or write it with torch",
    ),
)
_OUTPUT_CLASS = re.compile(r"(utils/outputs\.py|transformers/utils/generic\.py)$")
_HOOKS_OF_LIBRARIES = re.compile(r"(diffusers/hooks/\w+|accelerate/hooks)\.py$")
_HOOK_CALL = re.compile(r"\bhook\(")
_HINT = re.compile(r"^\s*Hint: (.+)$", re.MULTILINE)
_CONTINUED = re.compile(r"\n\n\*\*\* While handling this graph break")


def remedy(
    message: str, stack: Sequence[tuple[str, int, str]], source: str, lines: Sequence[str]
) -> str | None:
    """What removes the break, or ``None`` where nothing is known.

    ``lines`` are the source lines of ``stack``, ``source`` that of the break.
    """
    if any(_HOOKS_OF_LIBRARIES.search(file) for file, _, _ in stack):
        return "an offload, cache or casting hook: compile without it, or the repeated blocks only"
    if any(_HOOK_CALL.search(line) for line in lines):
        return "a hook does this: take it off before compiling, or let it do tensor operations only"
    if any(_OUTPUT_CLASS.search(file) for file, _, _ in stack) or "return_dict=True" in source:
        return "call it with `return_dict=False`: a tuple needs no output class"
    first = _CONTINUED.split(message, maxsplit=1)[0]
    for pattern, advice in _BY_MESSAGE:
        if re.search(pattern, first):
            return advice
    hint = _HINT.search(first)
    return None if hint is None else hint.group(1)


def first_reason(message: str) -> str:
    """Dynamo's type of break and its explanation, in one line.

    A break that dynamo met while it handled another one is told by that other one.
    """
    first = _CONTINUED.split(message.strip(), maxsplit=1)[0]
    kind = (first.splitlines() or ["no reason given"])[0].strip()
    explanation = re.search(r"^\s*Explanation: (.+)$", first, re.MULTILINE)
    sentence = kind if explanation is None else f"{kind}: {explanation.group(1).strip()}"
    return re.sub(r" at 0x[0-9a-f]+", "", sentence)
