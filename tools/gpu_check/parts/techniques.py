"""Does every technique of the registry take hold, and does its proof fail where it does not?

For each: ``apply_stack`` with its proof on a new pipeline, and beside it evidence that the package
has no part in (:mod:`technique_evidence`): how exactly products were computed, dtypes, strides, and
the kernels that torch's profiler names.  Then proofs that must fail, one or more for each family;
what only a GPU refuses; CUDA graphs that are launched, and one that inductor skips.  Compilation is
tried on a toy first, since choosing kernels by measuring them may take long, and last on a real
pipeline, there without the search of block sizes that the guide's flags ask for.

Planted: TF32 is switched on inside the denoiser while ``fp32`` runs and off again before its flags
are read back, so that the proof holds and the evidence does not.  In a dry run, where there is no
TF32: ``bf16`` forgets a text encoder.
"""

from __future__ import annotations

import warnings

from checks import NoMeaning, Part
from technique_bench import Bench
from technique_compiled import compile_pipeline, compile_toy, graph_skipped
from technique_evidence import OF_THE_HOST
from technique_negatives import NEGATIVES, families_without
from technique_numbers import BORDER, attention_errors, reference_errors

NUMBERS = "products and convolutions against float64"
HARDWARE = "no technique is refused for hardware"
FAMILIES = "each family has a proof that must fail"
INT_MM = "rows that torch._int_mm takes"
ONE_IMAGE = "int8_dynamic_sdxl, one image"
WIDE_HEAD = "sdpa_flash, a VAE with a head of 512"
UNDONE = "undone techniques fail their proof"
SKIPPED = "compile_max_autotune must fail: a CUDA graph is skipped"


def run(part: Part) -> None:
    warnings.simplefilter("ignore")
    _quiet_progress()
    eager, compiled = registered()
    part.plan(planned(eager, compiled))
    bench = Bench(part)
    _numbers(part)
    for name in eager:
        bench.try_technique(name)
    for negative in NEGATIVES:
        bench.must_fail(negative)
    bench.hardware(HARDWARE)
    with part.check(FAMILIES, "one at least") as check:
        missing = families_without()
        check.expect(not missing, f"without one: {', '.join(missing) or 'none'}")
    _int_mm(part)
    bench.one_image(ONE_IMAGE)
    bench.wide_head(WIDE_HEAD)
    for name in compiled:
        compile_toy(bench, name, f"{name}: a toy")
    graph_skipped(bench, SKIPPED)
    bench.undone(UNDONE, eager)
    for name in compiled:
        compile_pipeline(bench, name, f"{name}: a pipeline")


def planned(eager: list[str], compiled: list[str]) -> list[str]:
    """The checks by name, in the order in which they come."""
    return [
        NUMBERS,
        *(f"{name}: {what}" for name in eager for what in ("proof", "evidence")),
        *(negative.title for negative in NEGATIVES),
        *(HARDWARE, FAMILIES, INT_MM, ONE_IMAGE, WIDE_HEAD),
        *(f"{name}: a toy" for name in compiled),
        *(SKIPPED, UNDONE),
        *(f"{name}: a pipeline" for name in compiled),
    ]


def registered() -> tuple[list[str], list[str]]:
    """Names of the techniques that do not compile, and of those that do, in canonical order."""
    from pytest_diffspeed.techniques.registry import techniques
    from pytest_diffspeed.techniques.technique import Family

    tried = [t for t in techniques().values() if t.family.name not in OF_THE_HOST]
    known = sorted(tried, key=lambda technique: technique.family)
    compiled = [t.name for t in known if t.family is Family.COMPILE]
    return [t.name for t in known if t.family is not Family.COMPILE], compiled


def _quiet_progress() -> None:
    import diffusers
    import transformers

    diffusers.utils.logging.disable_progress_bar()
    diffusers.utils.logging.set_verbosity_error()
    transformers.utils.logging.disable_progress_bar()


def _numbers(part: Part) -> None:
    with part.check(NUMBERS, "IEEE in fp32, TF32 in tf32") as check:
        from pytest_diffspeed.techniques.apply import running
        from pytest_diffspeed.techniques.stacks import parse_stack

        side = 256 if part.small else 2048
        found = {"as torch starts": reference_errors(part.device, side)}
        for name in ("fp32",) if part.small else ("fp32", "tf32"):
            with running(parse_stack(name)):
                found[name] = reference_errors(part.device, side)
        found["afterwards"] = reference_errors(part.device, side)
        exact = max(found["fp32"].values()) < BORDER
        rounded = part.small or min(found["tf32"].values()) > BORDER
        said = "; ".join(
            f"{name} {errors['linear']:.1e} and {errors['convolution']:.1e}"
            for name, errors in found.items()
        )
        kernels = attention_errors(part.device)
        check.expect(exact and rounded, said, errors=found, fp32_attention=kernels)


def _int_mm(part: Part) -> None:
    from pytest_diffspeed.techniques.int8_filter import LEAST_ROWS

    with part.check(INT_MM, f"those from {LEAST_ROWS} on, and exact") as check:
        if part.small:
            raise NoMeaning("on a CPU it takes any")
        import torch

        answers: dict[int, str] = {}
        for rows in (1, 2, 8, 15, 16, 17, 18, 24, 32, 64):
            a = torch.randint(-128, 128, (rows, 64), dtype=torch.int8)
            b = torch.randint(-128, 128, (64, 32), dtype=torch.int8)
            try:
                product = torch._int_mm(a.cuda(), b.cuda()).cpu()
            except RuntimeError as error:
                answers[rows] = str(error).splitlines()[0]
            else:
                right = torch.equal(product.long(), a.long() @ b.long())
                answers[rows] = "exact" if right else "wrong"
        taken = [rows for rows, answer in answers.items() if answer == "exact"]
        expected = [rows for rows in answers if rows >= LEAST_ROWS]
        check.expect(taken == expected, f"exact with {taken} rows", answers=answers)
