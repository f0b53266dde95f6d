"""Sees every module and scheduler that runs in a call of a pipeline.

Nothing of the pipeline is changed but for methods such as ``vae.decode``, which are put back.
Calls of modules are seen at ``torch.nn.Module.__call__``; a method of a component that runs modules
inside (``text_encoder.generate``) is found on the Python stack when the first of them runs.
"""

from __future__ import annotations

import inspect
from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager
from types import FrameType
from typing import TYPE_CHECKING, Any

from ..adapters.attributes import replaced
from ..adapters.module_calls import module_calls
from ..adapters.module_state import uncompiled
from .parts import named_parts
from .roles import Loop, Ran, Roles, StepSpan, roles
from .scheduler_watch import ENDS_STEP, STEP_METHODS, schedulers_of, telling, watch_schedulers
from .what_ran import ObservedCall, ObservedComponent, ObservedScheduler, Role

if TYPE_CHECKING:
    import torch
    from diffusers import DiffusionPipeline

_METHODS = ("decode", "encode", "generate")
"""Methods that may compute without running a module.  Others are found by the modules they run."""
_CHECKER = "safety_checker"
"""What all pipelines of diffusers that have one call it.  When it runs it cannot be told from a
decoder, and nothing in its class says what it is for."""


class CallWatch:
    """Watches one call: :meth:`open` around it, then :meth:`observed`."""

    def __init__(self, pipeline: DiffusionPipeline) -> None:
        self._pipeline = pipeline
        self._names: dict[int, list[str]] = {}
        self._modules: dict[str, torch.nn.Module] = {}
        for name, module in named_parts(pipeline).items():
            known = self._names.setdefault(id(module), [])
            known.append(name)
            self._modules.setdefault(known[0], module)
        self._owners = {id(module): (name, "") for name, module in self._modules.items()}
        for name, module in self._modules.items():
            for path, inner in module.named_modules():
                self._owners.setdefault(id(inner), (name, path))
        self._active: list[str] = []
        self._frames: dict[str, tuple[FrameType, Ran]] = {}
        self._ran: list[Ran] = []
        self._steps: list[StepSpan] = []
        self._inner_steps: list[StepSpan] = []
        self._scaled: list[int] = []
        self._running_steps: list[StepSpan] = []
        self._in_scheduler = 0
        self._now = 0

    @contextmanager
    def open(self, *, eagerly: bool = False) -> Iterator[None]:
        """Watch what runs while this is open.

        With ``eagerly`` what is compiled runs eagerly.  Without it, what compiles anew meanwhile is
        compiled with the watcher around it, and goes stale afterwards.
        """
        schedulers = schedulers_of(self._pipeline).values()
        told = telling(self._scheduler_begins, self._scheduler_ends)
        with ExitStack() as stack:
            for name, module in self._modules.items():
                for method, function in _entrances(module).items():
                    watched = self._method(name, method, function)
                    stack.enter_context(replaced(module, method, watched))
            stack.enter_context(watch_schedulers(told, schedulers, STEP_METHODS))
            stack.enter_context(module_calls(self._module, eagerly=eagerly))
            yield
        self._frames.clear()  # they keep the tensors of the call alive

    @property
    def now(self) -> int:
        """The time of the watch, which only grows: that of :class:`.roles.Loop`."""
        return self._now

    @property
    def in_scheduler(self) -> bool:
        """Whether a scheduler steps, or scales the input of a step, right now."""
        return self._in_scheduler > 0

    def loops(self) -> tuple[Loop, ...]:
        """The denoising loops that were seen, in order."""
        return self._roles().loops

    def _roles(self) -> Roles:
        return roles(self._ran, self._steps, self._scaled, self._takes_a_timestep)

    def observed(self) -> ObservedCall:
        """What was seen."""
        loops = self._roles()
        components = []
        for name in dict.fromkeys(ran.component for ran in self._ran):
            own = [ran for ran in self._ran if ran.component == name]
            entries: dict[str, int] = {}
            for ran in own:
                entries[ran.entry] = entries.get(ran.entry, 0) + 1
            module = self._modules[name]
            role, steps = loops.of(name)
            if role is not Role.DENOISER and name.rpartition(".")[2] == _CHECKER:
                role = Role.CHECKER
            components.append(
                ObservedComponent(
                    name,
                    role,
                    len(own),
                    steps,
                    entries,
                    tuple(n for n in self._names.get(id(module), ()) if n != name),
                    module,
                )
            )
        ran_names = {component.name for component in components}
        silent = tuple(name for name in self._modules if name not in ran_names)
        unused = tuple(name for name in silent if takes_a_timestep(self._modules[name]))
        return ObservedCall(tuple(components), self._stepped(), loops.steps, silent, unused)

    def _stepped(self) -> tuple[ObservedScheduler, ...]:
        known = {id(s): name for name, s in schedulers_of(self._pipeline).items()}
        counts: dict[tuple[str, str], int] = {}
        for step in (*self._steps, *self._inner_steps):
            kind = type(step.scheduler).__name__
            key = known.get(id(step.scheduler), f"<{kind}>"), kind
            counts[key] = counts.get(key, 0) + 1
        return tuple(ObservedScheduler(name, kind, n) for (name, kind), n in counts.items())

    def _tick(self) -> int:
        self._now += 1
        return self._now

    def _scheduler_begins(self, scheduler: Any, method: str) -> None:
        at = self._tick()
        self._in_scheduler += 1
        if method in ENDS_STEP:
            timesteps = getattr(scheduler, "__dict__", {}).get("timesteps")
            step = StepSpan(scheduler, timesteps, at)
            self._running_steps.append(step)
            # A component may step a scheduler of its own (the decoder of consistency models): that
            # is no denoising step of the pipeline.
            (self._inner_steps if self._active else self._steps).append(step)
        elif not self._active:
            self._scaled.append(at)

    def _scheduler_ends(self, scheduler: Any, method: str) -> None:
        at = self._tick()
        self._in_scheduler -= 1
        if method in ENDS_STEP:
            self._running_steps.pop().ended = at

    def _method(self, name: str, method: str, function: Callable[..., Any]) -> Callable[..., Any]:
        def watched(*args: Any, **kwargs: Any) -> Any:
            if name in self._active:
                return function(*args, **kwargs)
            return self._running(name, method, lambda: function(*args, **kwargs))

        return watched

    def _module(self, module: torch.nn.Module, run: Callable[[], Any]) -> Any:
        name, path = self._owners.get(id(module), ("", ""))
        if not name:
            # Helpers without weights (transforms of images) and what runs inside of a component.
            if self._active or next(module.parameters(), None) is None:
                return run()
            name = self._stray(module)
        if name in self._active:
            return run()
        frame, method = self._method_on_the_stack(name)
        if frame is None:
            return self._running(name, path or "forward", run)
        before, ran = self._frames.get(name, (None, None))
        if frame is before:  # a further module that the same method runs
            assert ran is not None
            return self._running(name, method, run, ran)
        return self._running(name, method, run, frame=frame)

    def _running(
        self,
        name: str,
        entry: str,
        run: Callable[[], Any],
        ran: Ran | None = None,
        frame: FrameType | None = None,
    ) -> Any:
        if ran is None:
            ran = Ran(name, entry, self._tick())
            self._ran.append(ran)
        if frame is not None:
            self._frames[name] = (frame, ran)
        self._active.append(name)
        try:
            return run()
        finally:
            self._active.remove(name)
            ran.ended = self._tick()

    def _method_on_the_stack(self, name: str) -> tuple[FrameType | None, str]:
        """The outermost method of the component that is running, with its name."""
        found: tuple[FrameType | None, str] = (None, "")
        frame = inspect.currentframe()
        while frame is not None:
            code = frame.f_code
            if code.co_argcount:
                first = frame.f_locals.get(code.co_varnames[0])
                if first is self._pipeline:
                    break
                owner, path = self._owners.get(id(first), ("", ""))
                # Decorators stand on the stack too, under names such as `wrapper`.
                if owner == name and hasattr(type(first), code.co_name):
                    method = "forward" if code.co_name == "__call__" else code.co_name
                    found = (frame, f"{path}.{method}" if path else method)
            frame = frame.f_back
        return found

    def _stray(self, module: torch.nn.Module) -> str:
        """A name for a module with weights that does not hang on the pipeline."""
        kind = type(module).__name__
        name, number = f"<{kind}>", 1
        while name in self._modules:
            number += 1
            name = f"<{kind} {number}>"
        self._modules[name] = module
        self._owners[id(module)] = (name, "")
        for path, inner in module.named_modules():
            self._owners.setdefault(id(inner), (name, path))
        return name

    def _takes_a_timestep(self, name: str) -> bool:
        return takes_a_timestep(self._modules[name])


def takes_a_timestep(module: torch.nn.Module) -> bool:
    """Whether it is called with the noise level of a step, by the parameters of ``forward``."""
    module = uncompiled(module)
    try:
        parameters = inspect.signature(type(module).forward).parameters
    except (TypeError, ValueError):
        return False
    return any("timestep" in name or name in ("t", "sigma") for name in parameters)


def _entrances(module: torch.nn.Module) -> dict[str, Callable[..., Any]]:
    """Methods that are watched on the instance: the usual ones, and what somebody put there."""
    own = {
        name: value
        for name, value in vars(module).items()
        if callable(value)
        and not isinstance(value, type)
        and not name.startswith("_")
        and name != "forward"  # seen as a call of the module
    }
    usual = {name: getattr(module, name, None) for name in _METHODS}
    return {**{name: value for name, value in usual.items() if callable(value)}, **own}
