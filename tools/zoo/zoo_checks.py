"""What is tried on one small pipeline, as the product does it: plain data out."""

from __future__ import annotations

import math
import time
import traceback
from collections.abc import Callable, Collection, Iterable, Iterator
from contextlib import contextmanager
from dataclasses import asdict, dataclass
from functools import partial
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from pytest_diffspeed.syncs.scope_names import ScopeName

RIGHT, REFUSED, CRASH, WRONG = "right", "refused", "crash", "wrong"
TECHNIQUES = ("bf16", "channels_last", "fused_qkv", "no_sdpa", "cpu_sigmas")
SAME_RESULT = ("channels_last", "fused_qkv", "no_sdpa", "cpu_sigmas")
"""They order the same arithmetic another way, so the output may differ by rounding only."""
CHECKS = ("syncs", "loop", *TECHNIQUES, "breaks", "recompiles", "images")
ROUNDING = 1e-2
"""Of the output's own spread.  Rounding of 1e-7 an operation grows in a random network; a fault,
such as a component that ran with other inputs, differs by the order of the spread itself."""


@dataclass(frozen=True)
class Outcome:
    """``verdict`` is one of the words above; ``found`` says what was proven or why not."""

    verdict: str
    found: str
    seconds: float = 0.0


class Wrong(Exception):
    """The product gave an answer, and it is not true."""


def tried(check: Callable[[], str]) -> Outcome:
    """``right`` with what ``check`` found; what the product refuses says so in its own errors."""
    from pytest_diffspeed.common.errors import DiffspeedError

    started = time.perf_counter()
    try:
        verdict, found = RIGHT, check()
    except Wrong as error:
        verdict, found = WRONG, str(error)
    except DiffspeedError as error:
        verdict, found = REFUSED, str(error)
        # A sentence around someone else's error is no refusal with a reason.
        if "the first call failed" in found or "Traceback" in found:
            verdict = CRASH
    except Exception as error:
        last = traceback.extract_tb(error.__traceback__)[-1]
        where = f"{last.filename.rpartition('site-packages/')[2].rpartition('/')[2]}:{last.lineno}"
        first_line = (str(error).strip() or "no message").splitlines()[0]
        verdict, found = CRASH, f"{type(error).__name__}: {first_line} ({where})"
    return Outcome(verdict, found, round(time.perf_counter() - started, 2))


class Zoo:
    """One pipeline, built and called as a session builds and calls it."""

    def __init__(self, name: str) -> None:
        from pytest_diffspeed.accelerators.registry import resolve_device
        from pytest_diffspeed.arms.builder import Builder
        from pytest_diffspeed.pipelines.sources import parse_source

        self.text = f"random:{name}"
        self.source = parse_source(self.text)
        self.builder = Builder(resolve_device("cpu"))
        self.baseline = self.arm("fp32")
        self.reference = numbers(self.baseline.call(self.baseline.pipeline))

    def arm(self, stack: str) -> Any:
        from pytest_diffspeed.arms.spec import ArmSpec
        from pytest_diffspeed.techniques.stacks import parse_stack

        pipeline = self.source.build()
        call = self.builder.call(self.source, pipeline)
        return self.builder.prepare(ArmSpec(self.text, parse_stack(stack)), pipeline, call)

    def observed(self) -> Any:
        from pytest_diffspeed.pipelines.observed import observe_call

        arm = self.baseline
        with arm.running():
            return observe_call(arm.pipeline, lambda: arm.call(arm.pipeline))

    def baseline_found(self) -> str:
        finite = bool(self.reference.isfinite().all())
        if not finite or float(self.reference.std()) == 0:
            raise Wrong("its output is not finite or constant, so nothing can be seen in it")
        return str(self.baseline.applied.proofs[0].found)

    def technique(self, name: str, denoisers: list[str]) -> str:
        arm = self.arm(name)
        with arm.running():
            output = numbers(arm.call(arm.pipeline))
        if not bool(output.isfinite().all()):
            raise Wrong("proven, but the output is not finite")
        if name in SAME_RESULT:
            off = distance(self.reference, output)
            if off > ROUNDING and off > 10 * (own := self.own_rounding()):
                raise Wrong(
                    f"proven, but the output differs by {off:.2g} of its spread; other kernels "
                    f"alone make a difference of {own:.2g}"
                )
        if name == "bf16":
            left = [part for part in denoisers if not mostly_bf16(arm.pipeline, part)]
            if left:
                raise Wrong(f"proven, but {', '.join(left)} ran and is in float32")
        return "; ".join(str(proof.found) for proof in arm.applied.proofs)

    def own_rounding(self) -> float:
        """How far the baseline is from itself with other kernels."""
        from pytest_diffspeed.pipelines.kernels import other_kernels

        with self.baseline.running(), other_kernels():
            again = numbers(self.baseline.call(self.baseline.pipeline))
        return distance(self.reference, again)

    def breaks(self, denoisers: list[str]) -> str:
        from pytest_diffspeed.gates.catalog.graph_breaks import graph_breaks

        reports = graph_breaks(self.baseline, None)
        seen = {report.name for report in reports}
        left = [name for name in denoisers if not any(covers(one, name) for one in seen)]
        if left:
            raise Wrong(f"nothing was said of {', '.join(left)}, which ran in the steps")
        return "; ".join(f"{report.name}: {len(report.breaks)}" for report in reports)

    def recompiles(self, denoisers: list[str]) -> str:
        """Each denoiser compiled by dynamo alone: the kernels are not the subject."""
        from pytest_diffspeed.gates.catalog.recompiles import recompiles

        arm = self.baseline
        _, steps = arm.observed()
        with dynamo_alone(component(arm.pipeline, name) for name in denoisers):
            with arm.running():
                arm.call(arm.pipeline, steps=steps)
            report = recompiles(arm)
        counts = report.by_component()
        left = [name for name in denoisers if not any(covers(one, name) for one in counts)]
        if left:
            raise Wrong(f"nothing was said of {', '.join(left)}, which ran in the steps")
        return "; ".join([*(f"{name}: {n}" for name, n in counts.items()), *report.eager])

    def syncs(self, scope: ScopeName) -> str:
        from pytest_diffspeed.gates.catalog.syncs import syncs

        report = syncs(self.baseline, scope=scope)
        return f"{report.first_step} / {max(report.per_step, default=0)}"

    def images(self) -> str:
        """The gate's comparison takes an output drawn again, and not that of another seed."""
        from dataclasses import replace

        from pytest_diffspeed.gates.compare_outputs import Outputs
        from pytest_diffspeed.pipelines.cases import image_cases

        call, pipeline = self.baseline.call, self.baseline.pipeline
        case = image_cases(call.defaults, 1)[0]
        drawn = []
        with self.baseline.running():
            for one in (case, replace(case, seed=case.seed + 1), case):
                output = call.of(one).draw(pipeline).output
                media = (output, *output.beside)
                drawn.append([Outputs(medium.data[None].float(), None) for medium in media])
        found = [itself(first, again) for first, _, again in zip(*drawn, strict=True)]
        found[0] += unlike(drawn[0][0], drawn[1][0])
        return "; ".join(found)


def itself(first: Any, again: Any) -> str:
    from pytest_diffspeed.gates.compare_outputs import compare_outputs

    same = compare_outputs(first, again, preset="lossless")
    if same.verdict != "PASS":
        raise Wrong(f"an {first.medium} drawn again is not itself: {same.reason}")
    return f"{first.medium}: itself passes"


def unlike(first: Any, other: Any) -> str:
    """Not asked of what stands beside: the sounds of random weights are nearly all the same."""
    import torch

    from pytest_diffspeed.gates.compare_outputs import compare_outputs

    if torch.equal(first.data, other.data):
        return ", another seed gives the same"
    if compare_outputs(first, other, preset="lossless").verdict == "PASS":
        raise Wrong(f"the {first.medium} of another seed passes as the same")
    return ", another seed fails"


def numbers(output: Any) -> Any:
    """All numbers of what a call returned, flat: tensors, arrays, PIL images, lists of them."""
    import numpy
    import torch

    if isinstance(output, torch.Tensor):
        return output.detach().float().flatten()
    if isinstance(output, (list, tuple)):
        return torch.cat([numbers(one) for one in output])
    if hasattr(output, "latents"):
        return numbers(output.latents)
    return torch.from_numpy(numpy.asarray(output).astype("float32")).flatten()


def distance(reference: Any, output: Any) -> float:
    """Root mean square of the difference over the reference's standard deviation."""
    if reference.shape != output.shape:
        return math.inf
    return float((reference - output).pow(2).mean().sqrt() / reference.std())


def component(pipeline: Any, name: str) -> Any:
    found = pipeline
    for word in name.split("."):
        found = found[int(word)] if word.isdigit() else getattr(found, word)
    return found


def mostly_bf16(pipeline: Any, name: str) -> bool:
    import torch

    weights = [p for p in component(pipeline, name).parameters() if p.is_floating_point()]
    changed = sum(p.dtype is torch.bfloat16 for p in weights)
    return not weights or 2 * changed > len(weights)


def covers(report: str, name: str) -> bool:
    return report == name or report.startswith(f"{name}.") or name.startswith(f"{report}.")


@contextmanager
def dynamo_alone(modules: Iterable[Any]) -> Iterator[None]:
    """Compile ``modules`` in place, with a backend that runs their graphs eagerly."""
    import torch

    compiled = list(modules)
    torch.compiler.reset()
    try:
        for module in compiled:
            module.compile(backend="eager")
        yield
    finally:
        for module in compiled:
            module._compiled_call_impl = None
        torch.compiler.reset()


def checked(name: str, wanted: Collection[str] = CHECKS) -> Iterator[dict[str, Any]]:
    """What is found of the pipeline ``name``, piece by piece: its components' roles, and the
    checks ``wanted``.
    """
    from pytest_diffspeed.pipelines import zoo as recipes

    yield {"pipeline": name, "kind": recipes.recipes()[name].kind}
    kept: list[Zoo] = []
    denoisers: list[str] = []
    roles: dict[str, list[Any]] = {}

    def build() -> str:
        kept.append(Zoo(name))
        return kept[0].baseline_found()

    def observe() -> str:
        seen = kept[0].observed()
        roles.update({part.name: [part.role.value, part.calls] for part in seen.components})
        denoisers.extend(part.name for part in seen.components if part.role == "denoiser")
        if not denoisers:
            raise Wrong("no component was seen in the steps")
        return ", ".join(denoisers)

    yield from outcome_of("fp32", build)
    if not kept:
        return
    yield from outcome_of("observed", observe)
    yield {"roles": roles}
    one = kept[0]
    run: dict[str, Callable[[], str]] = {
        "syncs": lambda: one.syncs("scheduler.step"),
        "loop": lambda: one.syncs("denoising_loop"),
        **{t: partial(one.technique, t, denoisers) for t in TECHNIQUES},
        "breaks": lambda: one.breaks(denoisers),
        "recompiles": lambda: one.recompiles(denoisers),
        "images": one.images,
    }
    for check in CHECKS:
        if check in wanted:
            yield from outcome_of(check, run[check])


def outcome_of(check: str, run: Callable[[], str]) -> Iterator[dict[str, Any]]:
    """That it begins, so that who waits knows what hangs, and then its outcome."""
    yield {"begins": check}
    yield {"outcomes": {check: asdict(tried(run))}}
