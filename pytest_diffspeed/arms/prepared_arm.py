"""A pipeline with its stack applied and proven, and the arms that time it."""

from __future__ import annotations

import copy
from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

from ..accelerators.accelerator import Allocator
from ..accelerators.clock import StampClock
from ..adapters.attributes import replaced
from ..adapters.offload_hooks import computes_on
from ..common.errors import MeasurementError
from ..common.quiet import third_party
from ..common.text import plural
from ..compilation.cost import Compilation
from ..pipelines.boundaries import require_unit, stage_boundaries
from ..pipelines.call import PipelineCall
from ..pipelines.components import modules
from ..pipelines.entries import entries
from ..pipelines.observed import ObservedCall, observe_steps
from ..pipelines.pipeline_state import changed_aspects, pipeline_state
from ..techniques.apply import PROOF_STEPS, Applied, running
from ..techniques.call_steps import untouched_steps
from ..techniques.targets import observed_untouched
from ..timing.arm import Arm
from ..timing.gc_paused import gc_paused
from ..timing.memory import PeakMemory, bytes_of, peak_of
from ..timing.simulated_memory import SimulatedPeak, simulated_peak
from ..timing.stages import Boundaries, StageTimer, StageTimes, time_stages
from ..timing.timer import whole_call
from .spec import ArmSpec

if TYPE_CHECKING:
    import numpy as np
    import numpy.typing as npt
    from diffusers import DiffusionPipeline


@dataclass
class PreparedArm:
    """A pipeline with its stack applied and proven, ready to be called and timed."""

    spec: ArmSpec
    pipeline: DiffusionPipeline
    call: PipelineCall
    applied: Applied
    compilation: Compilation = field(default_factory=Compilation)

    def __post_init__(self) -> None:
        self._arms: dict[str, Arm] = {}
        self.memo: dict[object, Any] = {}
        """What gates found out about this arm and need not find out again."""
        self._proven = pipeline_state(self.pipeline)

    def require_unchanged(self) -> None:
        """Refuse to time a pipeline that is no longer what was proven.

        Raises:
            MeasurementError: a test's body changed it; arms are shared by the tests of a session.
        """
        now = pipeline_state(self.pipeline)
        changed = changed_aspects(self._proven, now, self.applied.habits)
        if changed:
            raise MeasurementError(
                f"the pipeline with {self.spec.stack} is no longer what was proven: the body of "
                f"this test or of one before it changed {', '.join(changed)}; tests share their "
                "pipelines, so a body must leave them as they are"
            )

    def observed(self) -> tuple[ObservedCall, int]:
        """What runs in a call, and in how many steps: few, if every denoiser runs in few.

        Costs one call, the first time; a denoiser of late steps makes it one with all steps.  It
        costs none of a baseline by whose call the targets of techniques were found.
        """
        key = "observed"
        known = observed_untouched(self.pipeline) if self.spec.is_baseline else None
        if known is not None:
            seen, targets = known
            self.memo[key] = seen, self.call.defaults.steps if targets.whole else PROOF_STEPS
        if key not in self.memo:
            with self.running():
                self.memo[key] = observe_steps(
                    self.pipeline,
                    lambda steps: self.call(self.pipeline, steps=steps),
                    PROOF_STEPS,
                    self.call.defaults.steps,
                )
        found: tuple[ObservedCall, int] = self.memo[key]
        return found

    def steps_of_call(self) -> int:
        """How many steps a whole call has, which may be more than were asked for; 0: none.

        Counted in a whole call, once for all pipelines of a source: a shorter one does not tell.
        PNDM runs 3 for 2 and 21 for 20, Heun 3 and 39, and an end of denoising leaves some out.
        """
        if self.applied.call_steps is not None:
            return self.applied.call_steps
        observed, in_steps = self.observed()
        if in_steps == self.call.defaults.steps:
            return observed.steps
        with self.running():
            return untouched_steps(self.pipeline, self.call).ran

    def not_looked_at(self, looked_at: Iterable[str]) -> tuple[str, ...]:
        """What runs in a call and is not among the names in ``looked_at``, and denoisers that did
        not run at all: ``"controlnet (ran 4 ×)"``, ``"transformer_2 (did not run in 4 steps)"``.
        """
        observed, _ = self.observed()
        names = set(looked_at)
        ran = [e.ran for e in entries(observed) if not {e.name, e.component.name} & names]
        steps = plural(observed.steps, "step")
        return (*ran, *(f"{name} (did not run in {steps})" for name in observed.silent_denoisers))

    def proof_record(self) -> dict[str, Any]:
        """The content of a ``proof`` record: what shows that the stack took hold."""
        return {
            "source": self.spec.source,
            "stack": self.spec.stack.name,
            "first_call_s": self.applied.first_call_s,
            "proofs": [vars(proof) for proof in self.applied.proofs],
            "latents": self.call.latents_from,
            "latents_reason": self.call.latents_reason,
        }

    def arm_of(self, unit: str) -> Arm:
        """Timed by whole calls, steady steps (``step``) or a component that a call runs.

        Raises:
            SourceError: a call runs none of that name.
        """
        if unit not in self._arms:
            timer = whole_call if unit == "call" else self._stage_timer(unit)
            self._arms[unit] = Arm(self.spec.stack.name, self._once, self.running, timer)
        return self._arms[unit]

    def stage_times(self, clock: StampClock) -> StageTimes:
        """The stages of one more call."""
        boundaries = self._boundaries()
        with self.running(), gc_paused():
            return time_stages(self._once, boundaries, clock)[0]

    def peak_memory(self, allocator: Allocator) -> PeakMemory:
        """Of one more call, after one that leaves the allocator as calls do.

        Raises:
            MeasurementError: the pipeline was changed, or the call raised.
        """
        self.require_unchanged()
        arm = self.arm_of("call")
        arm.untimed_call()
        own = bytes_of(modules(self.pipeline).values(), computes_on(self.pipeline))
        return peak_of(arm.untimed_call, own, allocator)

    def simulated_peak(self) -> SimulatedPeak:
        """Of one more call, on a simulated GPU: for sessions on the CPU, eager stacks only.

        Raises:
            UncountableError: there can be no simulated GPU here.
            MeasurementError: the pipeline was changed, or the call raised.
            SourceError: the weights are not plain tensors on the CPU.
        """
        self.require_unchanged()
        arm = self.arm_of("call")
        # A copy, since set_timesteps leaves tensors of the device in its scheduler.
        scheduler = copy.deepcopy(getattr(self.pipeline, "scheduler", None))
        with replaced(self.pipeline, "scheduler", scheduler):
            return simulated_peak(arm.untimed_call, modules(self.pipeline))

    def _once(self) -> object:
        return self.call(self.pipeline)

    def _stage_timer(self, unit: str) -> StageTimer:
        observed, _ = self.observed()
        return StageTimer(require_unit(self.pipeline, observed, unit), self._boundaries())

    def _boundaries(self) -> Boundaries:
        return stage_boundaries(self.pipeline, self.observed()[0])

    def images(self) -> npt.NDArray[np.float32] | None:
        """What the last timed call drew: ``N × height × width × 3`` in [0, 1], or ``None``."""
        import torch

        outputs = [a.last_output for a in self._arms.values() if a.last_output is not None]
        output = outputs[-1] if outputs else None
        if not isinstance(output, torch.Tensor) or output.dim() != 4:
            return None
        pixels: npt.NDArray[np.float32] = (
            output.detach().permute(0, 2, 3, 1).to("cpu", torch.float32).numpy()
        )
        return pixels

    @contextmanager
    def running(self) -> Iterator[None]:
        """The process-wide state of a call; third parties' warnings are kept quiet in it."""
        with third_party(), running(self.spec.stack):
            yield
