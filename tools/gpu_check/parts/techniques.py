"""Does every technique of the registry take hold, and does its proof fail where it does not?

For each: ``apply_stack`` with its proof on a new pipeline, and beside it evidence that the package
has no part in (:mod:`technique_evidence`): how exactly products were computed, dtypes, strides, and
the kernels that torch's profiler names.  Then proofs that must fail, one or more for each family;
what only a GPU refuses; CUDA graphs that are launched, and one that inductor skips.  Compilation is
tried on a toy first, since choosing kernels by measuring them may take long, and last on a real
pipeline.

Planted: TF32 is switched on inside the denoiser while ``fp32`` runs and off again before its flags
are read back, so that the proof holds and the evidence does not.  In a dry run, where there is no
TF32: ``bf16`` forgets a text encoder.
"""

from __future__ import annotations

import functools
import re
import warnings
from contextlib import AbstractContextManager, nullcontext
from dataclasses import replace
from typing import Any

import technique_pipelines as pipelines
from checks import Found, NoMeaning, Part
from technique_evidence import RULES, Case, look
from technique_negatives import (
    NEGATIVES,
    Negative,
    encoder_left_in_fp32,
    families_without,
    set_precision,
)
from technique_numbers import BORDER, reference_errors
from technique_pipelines import Tried
from technique_traces import profiled

IN_BF16 = ("channels_last", "int8_dynamic", "int8_dynamic_sdxl")
"""Techniques that are tried in 16 bits although float32 would do: where they are used."""
PIPELINE_NEEDS_S = {"compile": 45.0, "compile_max_autotune": 75.0}
"""Guesses, not measured: with less time left, compilation of a real pipeline is not begun."""

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
    eager, compiled = _registered()
    part.plan(
        [NUMBERS]
        + [f"{name}: {what}" for name in eager for what in ("proof", "evidence")]
        + [negative.title for negative in NEGATIVES]
        + [f"{name}: a toy" for name in compiled]
        + [SKIPPED, HARDWARE, FAMILIES, INT_MM, ONE_IMAGE, WIDE_HEAD, UNDONE]
        + [f"{name}: a pipeline" for name in compiled]
    )
    bench = Bench(part)
    _numbers(part)
    for name in eager:
        bench.try_technique(name)
    for negative in NEGATIVES:
        bench.must_fail(negative)
    for name in compiled:
        bench.compile_toy(name)
    bench.graph_skipped()
    bench.hardware()
    with part.check(FAMILIES, "one at least") as check:
        missing = families_without()
        check.expect(not missing, f"without one: {', '.join(missing) or 'none'}")
    _int_mm(part)
    bench.one_image()
    bench.wide_head()
    bench.undone()
    for name in compiled:
        bench.compile_pipeline(name)


class Bench:
    """Tries techniques on one device, and keeps what it saw of stacks to compare with."""

    def __init__(self, part: Part) -> None:
        import torch

        from pytest_diffspeed.device import resolve_device

        if part.small:
            torch.set_num_threads(
                1
            )  # the models are tiny; threads that wait cost more than they do

        self.part = part
        self.cuda = part.device == "cuda"
        self.device = resolve_device(part.device)
        self._seen: dict[tuple[str, str], Case] = {}

    def stack_for(self, name: str) -> str:
        """The technique alone, or in bf16 where it needs or is used in 16 bits."""
        from pytest_diffspeed.techniques.stacks import parse_stack

        candidates = (f"bf16+{name}",) if name in IN_BF16 else (name, f"bf16+{name}")
        for text in candidates:
            stack = parse_stack(text)
            reasons = [t.does_not_fit_stack(stack.names, self.device) for t in stack.techniques()]
            if not any(reasons):
                return text
        raise AssertionError(f"{name} fits neither alone nor in bf16: {reasons}")

    def tried(self, name: str) -> Tried:
        if name == "cpu_sigmas":
            return pipelines.stable_diffusion(self.part.device)
        demo = pipelines.from_source("demo", self.part.device)
        return pipelines.batched(demo) if name == "int8_dynamic_sdxl" else demo

    def case(self, name: str, stack: str, planted: AbstractContextManager[object]) -> Case:
        """Apply ``stack`` to a new pipeline of ``name`` and look at it."""
        from pytest_diffspeed import apply_stack

        tried = self.tried(name)
        if self.part.planted and self.cuda and stack == "fp32":
            _tf32_inside(tried)
        with planted:
            applied = apply_stack(tried.pipeline, stack, call=tried.call, device=self.device)
        proofs = {proof.technique: vars(proof) for proof in applied.proofs}
        case = Case(stack, self.cuda, proofs, plain=functools.partial(self._plain, name))
        look(case, tried, applied, whole=name == "cpu_sigmas")
        return case

    def _plain(self, name: str, stack: str) -> Case:
        """The case of ``stack`` on the kind of pipeline that ``name`` is tried on."""
        kind = name if name in ("cpu_sigmas", "int8_dynamic_sdxl") else "demo"
        if (kind, stack) not in self._seen:
            self._seen[kind, stack] = self.case(name, stack, nullcontext())
        return self._seen[kind, stack]

    def try_technique(self, name: str) -> None:
        from pytest_diffspeed.techniques.registry import techniques

        part, case = self.part, None
        planted = part.planted and part.small and name == "bf16"
        with part.check(f"{name}: proof", "proven") as check:
            missing = techniques()[name].missing_hardware(self.device)
            if missing and part.small:
                raise NoMeaning(missing)
            stack = self.stack_for(name)
            case = self.case(name, stack, encoder_left_in_fp32() if planted else nullcontext())
            self._seen.setdefault(("demo", stack), case) if name not in RULE_KINDS else None
            proof = case.proofs[name]
            check.expect(True, f"{stack}: {proof['found']}", proofs=case.proofs)
        with part.check(f"{name}: evidence", "" if name not in RULES else "the same") as check:
            if case is None:
                raise NoMeaning("there is no pipeline to look at: see the check of its proof")
            if name not in RULES:
                check.record("no rule for this technique; what ran is kept", **case.figures())
            else:
                ok, found = RULES[name](case)
                check.expect(ok, found, **case.figures())

    def must_fail(self, negative: Negative) -> None:
        from pytest_diffspeed import apply_stack
        from pytest_diffspeed.errors import NotEffectiveError

        with self.part.check(negative.title, "NotEffectiveError") as check:
            if negative.cuda_only and not self.cuda:
                raise NoMeaning("the technique exists on CUDA only")
            tried = self.tried(negative.technique)
            stack = self.stack_for(negative.technique)
            try:
                with negative.undo():
                    apply_stack(tried.pipeline, stack, call=tried.call, device=self.device)
            except NotEffectiveError as error:
                said = str(error)
                check.expect(re.search(negative.words, said) is not None, said)
            else:
                check.expect(False, f"{stack} was proven")

    def compile_toy(self, name: str) -> None:
        with self.part.check(f"{name}: a toy", "proven, and its compiled code ran") as check:
            if self.part.small and name != "compile":
                raise NoMeaning("the dry run compiles once")
            self._compile(check, name, name, pipelines.toy(self.part.device))

    def compile_pipeline(self, name: str) -> None:
        with self.part.check(f"{name}: a pipeline", "proven, and its compiled code ran") as check:
            if self.part.small:
                raise NoMeaning("the dry run compiles once, and that is a toy")
            left, needed = self.part.time_left_s, PIPELINE_NEEDS_S.get(name, 45.0)
            if left < needed:
                raise NoMeaning(f"not begun: {left:.0f} s were left, and it may take {needed:.0f}")
            source = "demo" if left > 2 * needed else "random:flux-tiny"
            tried = pipelines.from_source(source, self.part.device)
            self._compile(check, name, f"bf16+{name}", tried)
            check.found = f"{source}: {check.found}"

    def _compile(self, check: Found, name: str, stack: str, tried: Tried) -> None:
        from pytest_diffspeed import apply_stack
        from pytest_diffspeed.quiet import third_party
        from pytest_diffspeed.techniques.apply import running

        applied = apply_stack(tried.pipeline, stack, call=tried.call, device=self.device)
        (proof,) = (proof for proof in applied.proofs if proof.technique == name)
        with third_party(), running(applied.stack):
            seen = profiled(lambda: tried.call(tried.pipeline, steps=3), cuda=self.cuda)
        graphs = sum(n for mark, n in (seen.marks + seen.ops).items() if "CompiledFxGraph" in mark)
        ok = seen.triton_kernels > 0 if self.cuda else graphs > 0
        if self.cuda and name == "compile_max_autotune":
            ok = ok and seen.graph_launches > 0
        check.expect(
            ok,
            f"{proof.found}; in a steady call {graphs} graphs of inductor, {seen.triton_kernels} "
            f"triton kernels, {seen.graph_launches} CUDA graphs launched",
            first_call_s=applied.first_call_s,
            proofs=[vars(proof) for proof in applied.proofs],
            **seen.figures(),
        )

    def graph_skipped(self) -> None:
        from pytest_diffspeed import apply_stack
        from pytest_diffspeed.errors import NotEffectiveError

        with self.part.check(SKIPPED, "NotEffectiveError that says so") as check:
            if not self.cuda:
                raise NoMeaning("CUDA graphs do not exist on a CPU")
            tried = pipelines.toy(self.part.device, mutates=True)
            try:
                applied = apply_stack(
                    tried.pipeline, "compile_max_autotune", call=tried.call, device=self.device
                )
            except NotEffectiveError as error:
                check.expect(re.search(r"[1-9]\d* skipped \(.*mutat", str(error)), str(error))
            else:
                check.expect(False, f"proven: {applied.proofs[0].found}")

    def hardware(self) -> None:
        from pytest_diffspeed.techniques.registry import techniques

        with self.part.check(HARDWARE, "none") as check:
            refused = {
                name: why
                for name, technique in techniques().items()
                if (why := technique.missing_hardware(self.device)) is not None
            }
            if self.part.small:
                raise NoMeaning(f"a CPU lacks {', '.join(refused)}")
            check.expect(not refused, f"{self.device.name}: {refused or 'none'}")

    def one_image(self) -> None:
        from pytest_diffspeed import apply_stack
        from pytest_diffspeed.errors import DoesNotFitError

        with self.part.check(ONE_IMAGE, "refused for its rows") as check:
            if not self.cuda:
                raise NoMeaning("only CUDA refuses few rows")
            tried = pipelines.from_source("demo", self.part.device)
            stack = "bf16+int8_dynamic_sdxl"
            try:
                applied = apply_stack(tried.pipeline, stack, call=tried.call, device=self.device)
            except DoesNotFitError as error:
                check.expect("rows, and torch._int_mm needs" in str(error), error)
            else:
                check.expect(False, f"proven: {applied.proofs[-1].found}")

    def wide_head(self) -> None:
        from pytest_diffspeed import apply_stack

        with self.part.check(WIDE_HEAD, "proven; the VAE keeps its own, and it says so") as check:
            if not self.cuda:
                raise NoMeaning("the CPU's flash kernel takes heads of any size")
            tried = pipelines.with_wide_head(self.part.device)
            stack = "bf16+sdpa_flash"
            applied = apply_stack(tried.pipeline, stack, call=tried.call, device=self.device)
            proof = applied.proofs[-1]
            kept = "vae_left" in proof.figures
            check.expect(kept, proof.found, proof=vars(proof))

    def undone(self) -> None:
        """Of techniques that can be undone and fit alone; attention may be torch's own choice."""
        from pytest_diffspeed import apply_stack
        from pytest_diffspeed.errors import NotEffectiveError
        from pytest_diffspeed.techniques.apply import running, undo_stack
        from pytest_diffspeed.techniques.base import Family
        from pytest_diffspeed.techniques.observe import observe
        from pytest_diffspeed.techniques.registry import techniques
        from pytest_diffspeed.techniques.stacks import parse_stack

        with self.part.check(UNDONE, "all, but attention that torch chooses itself") as check:
            said, wrong = {}, []
            for name in _registered()[0]:
                technique = techniques()[name]
                alone = technique.does_not_fit_stack((name,), self.device) is None
                lacks = technique.missing_hardware(self.device) is not None
                if name == "fp32" or not technique.undoable or not alone or lacks:
                    continue
                tried = self.tried(name)
                pipeline, call = tried.pipeline, functools.partial(tried.call, tried.pipeline)
                with running(parse_stack("fp32")):
                    before = observe(pipeline, functools.partial(call, steps=2), steps=2)
                    apply_stack(pipeline, name, call=tried.call, device=self.device)
                    undo_stack(pipeline, name)
                    after = observe(pipeline, functools.partial(call, steps=2), steps=2)
                    try:
                        technique.prove(pipeline, replace(after, before=before))
                        said[name] = "proven all the same"
                    except NotEffectiveError as error:
                        said[name] = str(error)
                        continue
                own = set(before.part("denoiser").attention) & set(getattr(technique, "ops", ()))
                if technique.family is not Family.ATTENTION or not own:
                    wrong.append(name)
            found = f"{len(said)} undone; proven all the same: {', '.join(wrong) or 'none'}"
            check.expect(bool(said) and not wrong, found, said=said)


RULE_KINDS = ("cpu_sigmas", "int8_dynamic_sdxl")
"""Techniques that are tried on a pipeline or a call of their own."""


def _registered() -> tuple[list[str], list[str]]:
    """Names of the techniques that do not compile, and of those that do, in canonical order."""
    from pytest_diffspeed.techniques.base import Family
    from pytest_diffspeed.techniques.registry import techniques

    known = sorted(techniques().values(), key=lambda technique: technique.family)
    compiled = [t.name for t in known if t.family is Family.COMPILE]
    return [t.name for t in known if t.family is not Family.COMPILE], compiled


def _quiet_progress() -> None:
    import diffusers
    import transformers

    diffusers.utils.logging.disable_progress_bar()
    transformers.utils.logging.disable_progress_bar()


def _tf32_inside(tried: Tried) -> None:
    """The planted fault: TF32 while the denoiser runs, and IEEE again when it is done."""
    from pytest_diffspeed.pipelines.components import denoiser

    def switch(value: str) -> Any:
        return lambda *_: set_precision(value)

    denoiser(tried.pipeline).register_forward_pre_hook(switch("tf32"))
    denoiser(tried.pipeline).register_forward_hook(switch("ieee"))


def _numbers(part: Part) -> None:
    from pytest_diffspeed.techniques.apply import running
    from pytest_diffspeed.techniques.stacks import parse_stack

    with part.check(NUMBERS, "IEEE in fp32, TF32 in tf32, each back afterwards") as check:
        import torch

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
        check.expect(exact and rounded, said, errors=found, torch=torch.__version__)


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
        found = f"exact with {taken} rows"
        check.expect(taken == expected, found, answers=answers)
