"""The ways into a pipeline's components that a call took, and the words that choose among them."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from contextlib import AbstractContextManager
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from ..adapters.attributes import replaced
from ..common.errors import UsageError, nearest
from .what_ran import ObservedCall, ObservedComponent, Role

if TYPE_CHECKING:
    import torch

FORWARD = "forward"
SCHEDULER_STEP = "scheduler.step"


@dataclass(frozen=True)
class Entry:
    """One way into one component: its ``forward``, a method (``decode``), or a module inside it.

    ``how`` is a key of :attr:`ObservedComponent.entries`.
    """

    component: ObservedComponent
    how: str

    @property
    def name(self) -> str:
        """``"unet"`` for its ``forward``, ``"vae.decode"``, ``"text_encoder.text_model"``."""
        whole = self.how == FORWARD
        return self.component.name if whole else f"{self.component.name}.{self.how}"

    @property
    def calls(self) -> int:
        return self.component.entries[self.how]

    @property
    def ran(self) -> str:
        """``"controlnet (ran 4 ×)"``, for a sentence."""
        return f"{self.name} (ran {self.calls} ×)"

    def target(self) -> tuple[torch.nn.Module, str]:
        """The module that is called, and the method of it; ``"forward"`` for a plain call."""
        import torch

        module: Any = self.component.module
        *path, last = self.how.split(".")
        for name in path:
            module = getattr(module, name)
        inner = getattr(module, last)
        return (inner, FORWARD) if isinstance(inner, torch.nn.Module) else (module, last)

    def function(self) -> Callable[..., Any]:
        """What the pipeline calls, as it stands there now: possibly compiled."""
        module, method = self.target()
        return module if method == FORWARD else getattr(module, method)

    def watched(
        self, wrap: Callable[[Callable[..., Any]], Callable[..., Any]]
    ) -> AbstractContextManager[None]:
        """Every call through this entry goes through ``wrap(what it called before)``."""
        from ..adapters.torch_internals import around_calls

        module, method = self.target()
        if method == FORWARD:
            return around_calls(module, wrap)
        return replaced(module, method, wrap(getattr(module, method)))


def entries(observed: ObservedCall) -> tuple[Entry, ...]:
    """All that a call took."""
    return tuple(Entry(c, how) for c in observed.components for how in c.entries)


def default_entries(observed: ObservedCall) -> tuple[Entry, ...]:
    """The denoisers, and the decoders after the steps: what makes the images."""
    return tuple(
        entry
        for entry in entries(observed)
        if entry.component.role is Role.DENOISER
        or (entry.component.role is Role.DECODER and entry.how != "encode")
    )


def chosen_entries(
    observed: ObservedCall, words: Sequence[str], argument: str
) -> tuple[Entry, ...]:
    """Those that ``words`` mean: a component by its name, one way into it (``vae.decode``), or a
    group: ``denoiser``, ``encoder``, ``decoder``, ``checker``, and ``text_encoder`` for all text
    encoders.

    Raises:
        UsageError: with the word and what ran; ``argument`` is where it was written.
    """
    found: dict[str, Entry] = {}
    for word in words:
        meant = tuple(_meant(observed, word))
        if not meant:
            raise UsageError(f"{argument}: {_nothing(observed, word)}")
        found.update((entry.name, entry) for entry in meant)
    return tuple(found.values())


def _meant(observed: ObservedCall, word: str) -> Iterator[Entry]:
    for entry in entries(observed):
        component = entry.component
        names = (component.name, *component.aliases)
        ways = (name if entry.how == FORWARD else f"{name}.{entry.how}" for name in names)
        if (
            word in names
            or word in ways
            or word == component.role.value
            or (word == "text_encoder" and any(n.startswith("text_encoder_") for n in names))
        ):
            yield entry


def _nothing(observed: ObservedCall, word: str) -> str:
    known = (component.name for component in observed.components)
    if word in observed.silent or word.rpartition(".")[0] in observed.silent:
        return f"{word!r} did not run in the call; {observed.what_ran()}"
    words = dict.fromkeys([*known, *(e.name for e in entries(observed)), "denoiser"])
    return f"the pipeline ran no {word!r}; {nearest(word, tuple(words))}; {observed.what_ran()}"
