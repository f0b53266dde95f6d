"""Process-wide state: what it is at a moment, what changed since, and how to put it back.

Precision flags (both of torch's APIs), settings of dynamo and inductor, attention kernels, default
dtype and device, grad mode, determinism, thread counts, CUDA's sync debug mode, and the states of
the random generators.  Knows torch, not pytest.
"""

from __future__ import annotations

import contextlib
import random
import sys
import warnings
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from functools import partial
from typing import Any

import numpy as np
import torch

from ..accelerators.registry import accelerators
from ..adapters import torch_state

UNREADABLE = "(unreadable: the new precision API contradicts the legacy one)"
"""Stands for a legacy flag that torch refuses to read.  Only the new flags tell its value then."""


@dataclass(frozen=True)
class Setting:
    """``write`` is called only with what ``read`` gave before."""

    name: str
    read: Callable[[], Any]
    write: Callable[[Any], object]


@dataclass(frozen=True)
class Change:
    """A setting that is not what it was."""

    name: str
    before: object
    after: object

    def __str__(self) -> str:
        return f"{self.name} was {self.before!r} and is {self.after!r}"


@dataclass
class GlobalState:
    """The state at one moment.  Taking one costs a fraction of a millisecond."""

    settings: dict[str, Any]
    compiler: dict[str, Any]
    generators: Mapping[str, Any]

    @classmethod
    def now(cls) -> GlobalState:
        """The state at this moment."""
        return cls(
            {setting.name: _read(setting) for setting in _settings()},
            torch_state.compiler_settings(),
            generators_now(),
        )

    def changes(self) -> list[Change]:
        """What is different at this moment, but for random generators: drawing is no change."""
        return self.changes_to(GlobalState.now())

    def changes_to(self, later: GlobalState) -> list[Change]:
        """What is different in a state that was taken later."""
        found = [
            Change(name, before, later.settings[name])
            for name, before in self.settings.items()
            if name in later.settings
            and later.settings[name] != before
            # Whoever made a legacy flag unreadable changed a new one, which is told itself.
            and UNREADABLE not in (before, later.settings[name])
        ]
        names = {**self.compiler, **later.compiler}
        for name in names:
            before = _compiler_value(self.compiler, name)
            after = _compiler_value(later.compiler, name)
            if before is not after and before != after:
                found.append(Change(name, before, after))
        return found

    def accept(self, name: str, value: object) -> None:
        """From now on ``value`` is what a setting is expected to be."""
        target = self.compiler if name.startswith(torch_state.CONFIGS) else self.settings
        target[name] = value

    def adopt(self, later: GlobalState) -> None:
        """Take over the settings that did not exist yet, since nobody had loaded their library.

        Those of the compiler have a default that is known without.
        """
        self.settings = {**later.settings, **self.settings}

    def restore(self) -> list[str]:
        """Put everything back, and return the names of what could not be.

        Only what differs is written.  The legacy precision flags come before the new ones, since
        writing a legacy one also writes new ones.
        """
        stuck: list[str] = []
        for setting in _settings():
            before = self.settings.get(setting.name, UNREADABLE)
            if before == UNREADABLE or _read(setting) == before:
                continue
            with contextlib.suppress(Exception), warnings.catch_warnings():
                warnings.simplefilter("ignore")  # torch warns about its own legacy flags
                setting.write(before)
            if _read(setting) != before:
                stuck.append(setting.name)
        compiler = torch_state.compiler_settings()
        for name in {**self.compiler, **compiler}:
            before = _compiler_value(self.compiler, name)
            if _compiler_value(compiler, name) != before:
                torch_state.set_compiler(name, before)
        restore_generators(self.generators)
        return stuck


@contextmanager
def preserved() -> Iterator[None]:
    """Whatever happens inside, afterwards the process is as it was, random generators included."""
    before = GlobalState.now()
    try:
        yield
    finally:
        before.restore()


def _compiler_value(settings: Mapping[str, Any], name: str) -> Any:
    return settings[name] if name in settings else torch_state.compiler_default(name)


def _read(setting: Setting) -> Any:
    with warnings.catch_warnings():
        # torch 2.9 warns once about its legacy precision flags, also of who reads them; with
        # `-W error` that would be raised here, and nothing is wrong.
        warnings.simplefilter("ignore")
        try:
            return setting.read()
        except RuntimeError:
            return UNREADABLE


def _owner(path: str) -> Any:
    owner: Any = torch
    for part in path.split(".")[1:]:
        owner = getattr(owner, part)
    return owner


def _attribute(path: str) -> Setting:
    owner, _, name = path.rpartition(".")
    found = _owner(owner)
    return Setting(path, lambda: getattr(found, name), partial(setattr, found, name))


def _sdp(kernel: str) -> Setting:
    cuda = torch.backends.cuda
    return Setting(
        f"torch.backends.cuda.enable_{kernel}_sdp",
        getattr(cuda, f"{kernel}_sdp_enabled"),
        getattr(cuda, f"enable_{kernel}_sdp"),
    )


# Not `torch.backends.{cudnn,mkldnn}.fp32_precision`: they are derived, and the setter of the latter
# writes the flag of *all* backends (torch 2.13).  Parents come before their parts.
_ATTRIBUTES = (
    "torch.backends.cuda.matmul.allow_tf32",
    "torch.backends.cudnn.allow_tf32",
    "torch.backends.fp32_precision",
    "torch.backends.cuda.matmul.fp32_precision",
    "torch.backends.cudnn.conv.fp32_precision",
    "torch.backends.cudnn.rnn.fp32_precision",
    "torch.backends.mkldnn.matmul.fp32_precision",
    "torch.backends.mkldnn.conv.fp32_precision",
    "torch.backends.mkldnn.rnn.fp32_precision",
    "torch.backends.cuda.matmul.allow_fp16_reduced_precision_reduction",
    "torch.backends.cuda.matmul.allow_bf16_reduced_precision_reduction",
    "torch.backends.cuda.matmul.allow_fp16_accumulation",
    "torch.backends.cudnn.enabled",
    "torch.backends.cudnn.benchmark",
    "torch.backends.cudnn.deterministic",
    "torch.backends.mkldnn.enabled",
    "torch.utils.deterministic.fill_uninitialized_memory",
)


def _determinism() -> tuple[bool, bool]:
    return (
        torch.are_deterministic_algorithms_enabled(),
        torch.is_deterministic_algorithms_warn_only_enabled(),
    )


def _default_device() -> str:
    return str(torch.get_default_device())


def _write_default_device(name: str) -> None:
    # A default of "cpu" is none: setting one would put a function mode around every call.
    torch.set_default_device(None if name == "cpu" else name)


def _settings() -> list[Setting]:
    """Everything with one value, in the order in which it is put back."""
    settings = [
        Setting(
            "torch.set_float32_matmul_precision",
            torch.get_float32_matmul_precision,
            torch.set_float32_matmul_precision,
        ),
        *map(_attribute, _ATTRIBUTES),
        *map(_sdp, ("flash", "mem_efficient", "math", "cudnn")),
        Setting("torch's order of attention kernels", torch_state.sdp_priority, _write_priority),
        Setting(
            "torch.use_deterministic_algorithms",
            _determinism,
            lambda value: torch.use_deterministic_algorithms(value[0], warn_only=value[1]),
        ),
        Setting("torch.set_default_dtype", torch.get_default_dtype, torch.set_default_dtype),
        Setting("torch.set_default_device", _default_device, _write_default_device),
        Setting("torch.set_grad_enabled", torch.is_grad_enabled, torch.set_grad_enabled),
        Setting("torch.inference_mode", torch.is_inference_mode_enabled, _cannot_write),
        Setting("torch.set_num_threads", torch.get_num_threads, torch.set_num_threads),
        Setting("torch.set_num_interop_threads", torch.get_num_interop_threads, _cannot_write),
    ]
    if "torch._dynamo.eval_frame" in sys.modules:
        settings.append(
            Setting(
                "torch.compiler.set_stance",
                torch_state.dynamo_stance,
                torch_state.set_dynamo_stance,
            )
        )
    if torch_state.attention_backend() is not None:
        settings.append(
            Setting(
                "diffusers' attention backend",
                torch_state.attention_backend,
                torch_state.set_attention_backend,
            )
        )
    if torch.cuda.is_available() and torch.cuda.is_initialized():
        settings.append(
            Setting(
                "torch.cuda.set_sync_debug_mode",
                torch.cuda.get_sync_debug_mode,
                torch.cuda.set_sync_debug_mode,
            )
        )
    return settings


def _write_priority(order: tuple[int, ...]) -> None:
    torch_state.set_sdp_priority(order)


def _cannot_write(value: object) -> None:
    """Torch sets it once, or ties it to an object that somebody else holds."""


def generators_now() -> dict[str, Any]:
    """The states of all random generators; a GPU has some once it was used."""
    states: dict[str, Any] = {
        "python": random.getstate(),
        "numpy": np.random.get_state(),
        "torch": torch.get_rng_state(),
    }
    for kind, accelerator in accelerators().items():
        own = accelerator.generator_states()
        if own is not None:
            states[kind] = own
    return states


def restore_generators(states: Mapping[str, Any]) -> None:
    """Put them back to what :func:`generators_now` gave."""
    random.setstate(states["python"])
    np.random.set_state(states["numpy"])
    torch.set_rng_state(states["torch"])
    for kind, accelerator in accelerators().items():
        if kind in states:
            accelerator.restore_generators(states[kind])
