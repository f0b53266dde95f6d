"""Tries techniques that do not compile on one device, and what their proofs must refuse."""

from __future__ import annotations

import functools
import re
from contextlib import AbstractContextManager, nullcontext
from dataclasses import replace
from typing import Any

import technique_pipelines as pipelines
from checks import NoMeaning, Part
from technique_evidence import RULES, Case, look
from technique_negatives import Negative, encoder_left_in_fp32, set_precision
from technique_pipelines import Tried

IN_BF16 = (
    "channels_last",
    "fp8_dynamic",
    "fp8_weight_only",
    "int8_dynamic",
    "int8_dynamic_sdxl",
    "int8_weight_only",
    "layerwise_casting",
)
"""Techniques that are tried in 16 bits although float32 would do: where they are used."""
OWN_PIPELINE = ("cpu_sigmas", "int8_dynamic_sdxl")
"""Techniques that are tried on a pipeline or a call of their own."""


class Bench:
    """Tries techniques on one device, and keeps what it saw of stacks to compare with."""

    def __init__(self, part: Part) -> None:
        import torch

        from pytest_diffspeed.accelerators.registry import resolve_device

        if part.small:
            torch.set_num_threads(
                1
            )  # the models are tiny: threads that wait cost more than they do
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
            reasons = [
                t.incompatible_with_stack(stack.by_name, self.device) for t in stack.techniques()
            ]
            if not any(reasons):
                return text
        raise AssertionError(f"{name} fits neither alone nor in bf16: {reasons}")

    def tried(self, name: str) -> Tried:
        """A new pipeline for the technique, and its call."""
        if name == "cpu_sigmas":
            return pipelines.stable_diffusion(self.part.device)
        demo = pipelines.from_source("demo", self.part.device)
        return pipelines.batched(demo) if name == "int8_dynamic_sdxl" else demo

    def case(
        self, name: str, stack: str, planted: AbstractContextManager[object] | None = None
    ) -> Case:
        """``stack`` applied to a new pipeline of ``name``; nothing of it was looked at."""
        from pytest_diffspeed import apply_stack

        tried = self.tried(name)
        if self.part.planted and self.cuda and stack == "fp32":
            tf32_inside(tried)
        with planted or nullcontext():
            applied = apply_stack(tried.pipeline, stack, call=tried.call, device=self.device)
        proofs = {proof.technique: vars(proof) for proof in applied.proofs}
        case = Case(stack, self.cuda, proofs, plain=functools.partial(self._plain, name))
        case.look = functools.partial(look, case, tried, applied, whole=name == "cpu_sigmas")
        return case

    def _plain(self, name: str, stack: str) -> Case:
        """The case of ``stack`` on the kind of pipeline that ``name`` is tried on."""
        if (_kind(name), stack) not in self._seen:
            case = self.case(name, stack)
            case.look()
            self._seen[_kind(name), stack] = case
        return self._seen[_kind(name), stack]

    def try_technique(self, name: str) -> None:
        """Its proof, and evidence that the package has no part in."""
        from pytest_diffspeed.common.errors import (
            IncompatibleError,
            MissingHardwareError,
            NotEffectiveError,
        )
        from pytest_diffspeed.techniques.registry import techniques

        part, case = self.part, None
        planted = part.planted and part.small and name == "bf16"
        with part.check(f"{name}: proof", "proven") as check:
            missing = techniques()[name].missing_hardware(self.device)
            if missing and part.small:
                raise NoMeaning(missing)
            stack = self.stack_for(name)
            try:
                case = self.case(name, stack, encoder_left_in_fp32() if planted else None)
            except (NotEffectiveError, IncompatibleError, MissingHardwareError) as error:
                check.expect(False, f"{stack}: {type(error).__name__}: {error}")
            else:
                check.expect(True, f"{stack}: {case.proofs[name]['found']}", proofs=case.proofs)
        with part.check(f"{name}: evidence", "" if name not in RULES else "the same") as check:
            if case is None:
                raise NoMeaning("there is nothing to look at: see the check of its proof")
            case.look()
            case.look = lambda: None  # lets go of the pipeline
            self._seen.setdefault((_kind(name), case.stack), case)
            if name not in RULES:
                check.record("no rule for this technique; what ran is kept", **case.figures())
            else:
                check.figures |= case.figures()  # kept although the rule may raise
                check.expect(*RULES[name](case))

    def must_fail(self, negative: Negative) -> None:
        """A proof of what was undone."""
        from pytest_diffspeed import apply_stack
        from pytest_diffspeed.common.errors import NotEffectiveError

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

    def hardware(self, title: str) -> None:
        """What the device is said to lack."""
        from pytest_diffspeed.techniques.registry import techniques

        with self.part.check(title, "none") as check:
            refused = {
                name: why
                for name, technique in techniques().items()
                if (why := technique.missing_hardware(self.device)) is not None
            }
            if self.part.small:
                raise NoMeaning(f"a CPU lacks {', '.join(refused)}")
            check.expect(not refused, f"{self.device.name}: {refused or 'none'}")

    def one_image(self, title: str) -> None:
        """The published list takes layers that see two rows."""
        from pytest_diffspeed import apply_stack
        from pytest_diffspeed.common.errors import IncompatibleError

        with self.part.check(title, "refused for its rows") as check:
            if not self.cuda:
                raise NoMeaning("only CUDA refuses few rows")
            tried = pipelines.from_source("demo", self.part.device)
            stack = "bf16+int8_dynamic_sdxl"
            try:
                applied = apply_stack(tried.pipeline, stack, call=tried.call, device=self.device)
            except IncompatibleError as error:
                check.expect("rows, and torch._int_mm needs" in str(error), error)
            else:
                check.expect(False, f"proven: {applied.proofs[-1].found}")

    def wide_head(self, title: str) -> None:
        """No flash kernel takes heads of 512."""
        from pytest_diffspeed import apply_stack

        with self.part.check(title, "proven; the VAE keeps its own, and it says so") as check:
            if not self.cuda:
                raise NoMeaning("the CPU's flash kernel takes heads of any size")
            tried = pipelines.with_wide_head(self.part.device)
            stack = "bf16+sdpa_flash"
            applied = apply_stack(tried.pipeline, stack, call=tried.call, device=self.device)
            proof = applied.proofs[-1]
            check.expect("vae_left" in proof.figures, proof.found, proof=vars(proof))

    def undone(self, title: str, names: list[str]) -> None:
        """Those that can be undone and fit alone; attention may be torch's own choice."""
        with self.part.check(title, "all, but attention that torch chooses itself") as check:
            said, wrong = {}, []
            for name in names:
                answer = self._undo(name)
                if answer is not None:
                    ok, said[name] = answer
                    wrong += [] if ok else [name]
            found = f"{len(said)} undone; proven all the same: {', '.join(wrong) or 'none'}"
            check.expect(bool(said) and not wrong, found, said=said)

    def _undo(self, name: str) -> tuple[bool, str] | None:
        """What its proof says when it was undone; ``None`` where it cannot be undone here."""
        from pytest_diffspeed import apply_stack
        from pytest_diffspeed.common.errors import NotEffectiveError
        from pytest_diffspeed.common.quiet import third_party
        from pytest_diffspeed.techniques.apply import running, undo_stack
        from pytest_diffspeed.techniques.observe import observe
        from pytest_diffspeed.techniques.registry import techniques
        from pytest_diffspeed.techniques.stacks import parse_stack
        from pytest_diffspeed.techniques.technique import Family

        technique = techniques()[name]
        alone = technique.incompatible_with_stack({name: technique}, self.device) is None
        lacks = technique.missing_hardware(self.device) is not None
        if name == "fp32" or not technique.undoable or not alone or lacks:
            return None
        tried = self.tried(name)
        short = functools.partial(tried.call, tried.pipeline, steps=pipelines.STEPS)
        with third_party(), running(parse_stack("fp32")):
            before = observe(tried.pipeline, short, steps=pipelines.STEPS)
            apply_stack(tried.pipeline, name, call=tried.call, device=self.device)
            undo_stack(tried.pipeline, name)
            after = observe(tried.pipeline, short, steps=pipelines.STEPS)
            try:
                technique.prove(tried.pipeline, replace(after, before=before))
            except NotEffectiveError as error:
                return True, str(error)
        own = set(before.part("denoiser").attention) & set(getattr(technique, "ops", ()))
        chosen = technique.family is Family.ATTENTION and bool(own)
        return chosen, "proven: torch chooses that kernel itself" if chosen else "proven"


def tf32_inside(tried: Tried) -> None:
    """The planted fault: TF32 while the denoiser runs, and IEEE again when it is done."""
    from pytest_diffspeed.pipelines.components import denoiser

    def switch(value: str) -> Any:
        def hook(*_: object) -> None:
            set_precision(value)

        return hook

    denoiser(tried.pipeline).register_forward_pre_hook(switch("tf32"))
    denoiser(tried.pipeline).register_forward_hook(switch("ieee"))


def _kind(name: str) -> str:
    return name if name in OWN_PIPELINE else "demo"
