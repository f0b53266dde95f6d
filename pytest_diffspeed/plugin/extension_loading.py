"""Gathers what plug-ins add, from hooks and from entry points."""

from __future__ import annotations

import os
from collections.abc import Callable

import pytest

from ..common.errors import UsageError
from ..common.extensions import Extensions, use
from ..pipelines.added_sources import add_installed_sources, add_sources
from ..techniques.registry import add_installed_techniques, add_techniques

TECHNIQUES = "pytest_diffspeed_techniques"
SOURCES = "pytest_diffspeed_sources"


def gather(config: pytest.Config) -> None:
    """Add what installed packages and registered plug-ins have, until the session ends.

    Raises:
        pytest.UsageError: one of them adds what makes no sense; names it.
    """
    added = Extensions()
    config.add_cleanup(use(added))
    if not os.environ.get("PYTEST_DISABLE_PLUGIN_AUTOLOAD"):
        try:
            add_installed_techniques(added)
            add_installed_sources(added)
        except UsageError as error:
            raise pytest.UsageError(str(error)) from error
    # Registering asks every plug-in that is there, and later every conftest that is found.
    config.pluginmanager.register(_Listener(config, added), "diffspeed-extensions")


class _Listener:
    def __init__(self, config: pytest.Config, added: Extensions) -> None:
        self._manager = config.pluginmanager
        self._added = added

    def pytest_plugin_registered(self, plugin: object) -> None:
        for caller in self._manager.get_hookcallers(plugin) or ():
            if caller.name not in (TECHNIQUES, SOURCES):
                continue
            who = f"plug-in {self._manager.get_name(plugin)!r}"
            for found in caller.get_hookimpls():
                if found.plugin is plugin:
                    what = _asked(found.function, f"{who}: {caller.name}")
                    add = add_techniques if caller.name == TECHNIQUES else add_sources
                    try:
                        add(self._added, who, what)
                    except UsageError as error:
                        raise pytest.UsageError(str(error)) from error


def _asked(hook: Callable[[], object], where: str) -> object:
    try:
        return hook()
    except Exception as error:
        raise pytest.UsageError(f"{where} raised {type(error).__name__}: {error}") from error
