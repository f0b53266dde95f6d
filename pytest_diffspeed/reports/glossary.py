"""Words that reports explain where they stand: as ``docs/glossary.md`` has them, without its links.

A test holds the two against each other, word for word.
"""

from __future__ import annotations

from collections.abc import Mapping
from types import MappingProxyType

TERMS: Mapping[str, str] = MappingProxyType(
    {
        "other-image ratio": (
            "how far an image is from its own baseline image ÷ how far the baseline's images of"
            " other prompts are from each other: 0 is the same picture, 1 is another one"
        ),
        "rank-1": (
            "the share of images that are nearer to their own baseline image than to that of "
            "any other prompt"
        ),
        "PSNR": (
            "how alike two images are, by squared error, in dB: higher is nearer, and 100 "
            "stands for identical"
        ),
        "SSIM": "how alike two images are, by local structure: 1 is identical",
        "counted": (
            "the same every time, from what the code did: syncs, graph breaks, kernels, layers"
        ),
        "measured": "by a clock, on the device that is named",
        "modelled": (
            "calculated from counts by a rule, such as which attention kernel a GPU would "
            "choose. Each figure says which of the three it is"
        ),
        "e-value": (
            "how much the pairs speak against a threshold: 20 is what happens to luck in at "
            "most one of twenty measurements, however long it looked, so a gate at 5 % ends "
            "there"
        ),
        "noise floor": "what the baseline shows when it is timed against itself",
        "pair": (
            "one timed call of each of two arms, next to each other, in an order that is drawn anew"
        ),
        "ratio": (
            "seconds of the baseline ÷ seconds of the candidate, the median over pairs: 1.6× is"
            " faster"
        ),
        "interval": "where the ratio lies with 90 %, however long the gate looked",
        "alpha": (
            "the probability of a wrong PASS, at the threshold; 5 % unless the marker says "
            "otherwise"
        ),
        "process instance": (
            "one process in which an arm was built. Two processes that run the same code differ"
            " by a little for good"
        ),
        "order bias": "whether the later call of a pair is slower",
        "break-even": ("the number of images after which a longer first call has paid for itself"),
        "graph break": (
            "a place where dynamo cannot go on capturing, so that the compiled code falls into "
            "pieces with Python between them"
        ),
        "recompilation": (
            "compiling again since an input is not what the compiled code was made for, such as"
            " another size"
        ),
        "host sync": (
            "a point where the CPU waits for the GPU, such as .item(). One in each step keeps "
            "the GPU idle while Python prepares the next launch"
        ),
        "GPU cost": (
            "kernels, bytes and FLOPs that a pipeline asks of a GPU, counted where there is none"
        ),
        "simulated GPU": (
            "a device that runs the real pipeline on the CPU and writes down where a GPU would "
            "have been waited for"
        ),
        "baseline, fp32": (
            "the pipeline in true float32, eager, with nothing applied; each claim is relative "
            "to it unless over= says otherwise"
        ),
        "stack": "techniques that are applied together: bf16+compile",
        "proof": (
            "what shows that a technique took hold, by what ran in a call and not by what was "
            "asked for. Without it the test fails"
        ),
        "speed index": "ratios of neighbouring commits, multiplied along the history",
        "preset": "a named set of limits for images: exact, lossless, int8 …",
        "verdict": (
            "PASS, FAIL, INCONCLUSIVE (the evidence shows neither) or NOT_APPLICABLE (asked for"
            " elsewhere, or the hardware is missing)"
        ),
        "record": (
            "the JSON lines of a session: each pair and each verdict, written before it is raised"
        ),
    }
)
"""By the word, one sentence or two."""

SAID_OF: Mapping[str, str] = MappingProxyType(
    {
        "a ratio": "ratio",
        "pairs": "pair",
        "a pair is of": "pair",
        "noise a pair": "pair",
        "baseline against itself": "noise floor",
        "process instances": "process instance",
        "error rate": "alpha",
        "other cases differ by": "other-image ratio",
        "PSNR, dB": "PSNR",
        "counted on": "counted",
        "counted with": "counted",
        "e-values": "e-value",
    }
)
"""The word that explains a label which is none itself."""


def term_of(label: str) -> str:
    """The word that explains ``label``; empty where none does."""
    known = SAID_OF.get(label, label)
    return known if known in TERMS else ""
