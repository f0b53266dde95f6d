"""Calls of a pipeline that stop at the end of each denoising step until the next one is wanted."""

from __future__ import annotations

import contextvars
import threading
from collections.abc import Callable
from typing import Any

from ..pipelines.kept_call import Surroundings, modes_of_thread
from ..pipelines.step_calls import StepEnds
from ..techniques.global_state import GlobalState
from .component_calls import NotAloneError

_OF_THREAD = ("torch.set_grad_enabled", "torch.inference_mode", "torch.set_default_device")
"""Settings that torch keeps by thread: a held call has its own, and keeps them."""


class _Abandoned(BaseException):
    """Ends a call that nobody waits for any more; no ``except Exception`` holds it up."""


class HeldCall:
    """Calls of one arm, one after the other, each held at the end of every step.

    Only one thread runs at a time: whoever calls :meth:`advance` waits for it.
    """

    def __init__(self, call: Callable[[], object], name: str) -> None:
        self._call = call
        self._name = name
        self._go = threading.Semaphore(0)
        self._held = threading.Semaphore(0)
        self._ends = StepEnds()
        self._thread: threading.Thread | None = None
        self._abandoned = False
        self._error: BaseException | None = None
        self._began_in: GlobalState
        self.steps_ended = 0
        """Of the call that is held."""
        self.is_running = False

    def advance(self) -> bool:
        """Go on to the end of the next step; false where the call ended instead.

        Raises:
            Exception: what the call raised.
        """
        if self._thread is None:
            self._begin()
        self._go.release()
        self._held.acquire()
        if self._error is not None:
            error, self._error = self._error, None
            raise error
        return self.is_running

    def end(self) -> None:
        """Give the call up where it is held; the next advance begins another one."""
        thread = self._thread
        if thread is not None:
            self._abandoned = True
            self._go.release()
            thread.join()
            self._thread = self._error = None

    def owns(self, thread: int) -> bool:
        return self._thread is not None and self._thread.ident == thread

    def scheduler_stepped(self, scheduler: Any) -> None:
        """Told in the call's own thread; returns when the next step is wanted.

        Raises:
            _Abandoned: no further one is.
            NotAloneError: the call has changed what the process is in.
        """
        if self._ends.is_new(scheduler):
            self.steps_ended += 1
            if self.steps_ended == 1:
                self._refuse_own_settings()
            self._hold()

    def _refuse_own_settings(self) -> None:
        """A step runs in the state of its arm alone, so one that a call makes must not matter."""
        changes = [c for c in self._began_in.changes() if c.name not in _OF_THREAD]
        if changes:
            raise NotAloneError(
                f"the call of {self._name} changes the process for its steps "
                f"({'; '.join(map(str, changes))}), and a step that is timed alone would run "
                "without that; time whole calls: unit='call'"
            )

    def _hold(self) -> None:
        if not self._abandoned:  # else code of the call's kept it from ending at the last step
            self._held.release()
            self._go.acquire()
        if self._abandoned:
            raise _Abandoned

    def _begin(self) -> None:
        self._ends = StepEnds()
        # New ones: of a call that was given up, perhaps while it ran, something may be left.
        self._go, self._held = threading.Semaphore(0), threading.Semaphore(0)
        self._abandoned = False
        self.steps_ended = 0
        self.is_running = True
        context, modes = contextvars.copy_context(), modes_of_thread()
        self._thread = threading.Thread(
            target=context.run,
            args=(self._run, modes),
            name=f"diffspeed-{self._name}",
            daemon=True,
        )
        self._thread.start()

    def _run(self, modes: Surroundings) -> None:
        self._go.acquire()
        try:
            if not self._abandoned:
                with modes():
                    self._began_in = GlobalState.now()
                    self._call()
        except _Abandoned:
            pass
        except BaseException as error:
            self._error = error
        self.is_running = False
        self._thread = None
        self._held.release()
