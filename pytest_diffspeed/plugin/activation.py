"""What ``--diffspeed`` switches on, before the first test is collected."""

from __future__ import annotations

import functools
from collections.abc import Callable
from contextlib import AbstractContextManager, ExitStack, nullcontext
from typing import Any

import pytest

from ..accelerators.device import Device
from ..accelerators.registry import device_of_worker, numbered_devices, resolve_device
from ..adapters.pytest_benchmark_internals import add_arm
from ..arms.base_commit.base import Base
from ..arms.session import Session
from ..arms.session_options import Options
from ..common.errors import UsageError
from ..common.progress import Progress
from ..common.quiet import third_party
from ..compilation.cache_folder import CompileCache, conditions
from ..evidence.key import installed_version
from .compile_pools import bound_compile_pool
from .gateways import Gateways
from .options import project_folder as _project
from .pytest_sections import NAME as SECTIONS
from .pytest_sections import OthersSections, PytestSections
from .stash import SESSION, STATE_GUARD
from .state_guard import StateGuard
from .summary import NAME as SUMMARY
from .summary import Summary


def activate(config: pytest.Config, options: Options) -> None:
    """Resolve the device and register what only a diffspeed session needs.

    Raises:
        pytest.UsageError: the device is not there.
    """
    bound_compile_pool(config)
    try:
        with third_party():
            worker = getattr(config, "workerinput", {}).get("workerid")
            counts = numbered_devices() if worker is not None else {}
            device = resolve_device(device_of_worker(options.device, worker, counts))
    except UsageError as error:
        raise pytest.UsageError(f"--diffspeed-device: {error}") from None
    base = _base(config, options)

    cache = _compile_cache(config, options, device)
    summary = Summary(config, options, device, cache, base)

    @functools.cache
    def session() -> Session:
        made = Session(options, device, _project(config), _progress(config), base)
        config.add_cleanup(made.workers.close)  # before the base's, whose folder they run in
        made.arm_listeners.append(functools.partial(add_arm, config))
        summary.journal = made.journal.path
        made.journal.write("asked", tests=summary.asked)
        return made

    make: Callable[[], Session] = session
    config.stash[SESSION] = make
    guard = StateGuard()
    config.stash[STATE_GUARD] = guard
    config.pluginmanager.register(guard, "diffspeed-state-guard")
    config.pluginmanager.register(summary, SUMMARY)
    config.pluginmanager.register(Gateways(config), "diffspeed-gateways")
    sections = PytestSections(summary, config)
    config.pluginmanager.register(sections, SECTIONS)
    config.pluginmanager.register(OthersSections(sections), f"{SECTIONS}-of-others")
    if config.getoption("--diffspeed-strict") or config.getini("diffspeed_strict"):
        from .strict import NAME, Strict

        config.pluginmanager.register(Strict(config), NAME)


def _base(config: pytest.Config, options: Options) -> Base | None:
    """What this tree is compared with; it is removed when pytest ends.

    Raises:
        pytest.UsageError: there is no such commit or environment.
    """
    if not options.has_base:
        return None
    try:
        base = Base(_project(config), options.base, options.base_python)
    except UsageError as error:
        raise pytest.UsageError(str(error)) from None
    config.add_cleanup(base.close)
    return base


def _compile_cache(
    config: pytest.Config, options: Options, device: Device
) -> tuple[CompileCache, str] | None:
    """The folder of ``--diffspeed-compile-cache``, in use until pytest ends, and what was in it.

    Raises:
        pytest.UsageError: it cannot be written, or nothing would ever be kept in it.
    """
    if options.compile_cache is None:
        return None
    with third_party():
        from ..adapters.torch_internals import caches_switched_off

        cache = CompileCache(options.compile_cache, conditions(device, installed_version("triton")))
        off = caches_switched_off()
    if off is not None:
        raise pytest.UsageError(f"--diffspeed-compile-cache: {off}, so nothing would be kept")
    found = cache.found()
    in_use = ExitStack()
    try:
        in_use.enter_context(cache.used())
    except OSError as error:
        raise pytest.UsageError(
            f"--diffspeed-compile-cache: cannot write to {cache.folder}: {error.strerror}"
        ) from None
    config.add_cleanup(in_use.close)
    return cache, found


def _progress(config: pytest.Config) -> Progress:
    terminal: Any = config.pluginmanager.get_plugin("terminalreporter")
    capture: Any = config.pluginmanager.get_plugin("capturemanager")
    if terminal is None or config.getoption("verbose") < 0:
        return Progress()

    def uncaptured() -> AbstractContextManager[Any]:
        return nullcontext() if capture is None else capture.global_and_fixture_disabled()

    def write(text: str) -> None:
        with uncaptured():
            terminal.ensure_newline()
            terminal.write_line(text)
            terminal.flush()

    def rewrite(text: str) -> None:
        with uncaptured():
            terminal.rewrite(text, erase=True)
            terminal.flush()

    return Progress(write, rewrite if terminal.isatty else None)
