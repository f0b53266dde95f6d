"""Declares the options.  Their values are read and checked in :mod:`.options`, when one is given.

Loaded in every pytest session of an environment that has this package: it imports next to nothing.
"""

from __future__ import annotations

import os
from collections.abc import Iterator

import pytest

from ..reports.formats import help_of_formats

IN_CI = "DIFFSPEED_CI"
"""Set in CI, so that a job that forgot ``--diffspeed`` cannot be green."""


def add_options(parser: pytest.Parser) -> None:
    """Each value option can also stand in the ini file, under its name with underscores."""
    group = parser.getgroup("diffspeed", "performance assertions on diffusion-model inference")
    group.addoption("--diffspeed", action="store_true", default=False, help="run diffspeed tests")
    for name, metavar, help_text in _VALUES:
        group.addoption(f"--diffspeed-{name}", metavar=metavar, default=None, help=help_text)
        parser.addini(f"diffspeed_{name.replace('-', '_')}", help_text, default=None)
    help_text = "a prompt that replaces the source's; may be given several times"
    group.addoption(
        "--diffspeed-prompts", metavar="PROMPT", action="append", default=None, help=help_text
    )
    parser.addini("diffspeed_prompts", "prompts, one a line", type="linelist", default=[])
    for name, help_text in help_of_formats().items():
        group.addoption(f"--diffspeed-{name}", metavar="PATH", default=None, help=help_text)
    for name, (metavar, help_text) in _COMMAND_LINE_ONLY.items():
        group.addoption(f"--diffspeed-{name}", metavar=metavar, default=None, help=help_text)
    # Not in the ini file: there it would be "until it is green".
    group.addoption(
        "--diffspeed-fresh",
        action="store_true",
        default=False,
        help="measure again where this very tree has FAILed already; k attempts have up to k times "
        "the error rate of one",
    )
    help_text = (
        "fail where a gate that was collected reached no verdict, whatever the reason: skipped, "
        "xfailed, deselected, not applicable, not run; for CI"
    )
    group.addoption("--diffspeed-strict", action="store_true", default=False, help=help_text)
    parser.addini("diffspeed_strict", help_text, type="bool", default=False)
    group.addoption(
        "--diffspeed-save-counts",
        action="store_true",
        default=False,
        help="write graphs, graph breaks, recompilations and operations to diffspeed-counts.txt, "
        "against which later runs are held",
    )


_COMMAND_LINE_ONLY = {
    "shard": (
        "I/N",
        "this is part I of N of a suite that runs on several machines: the records say so, and a "
        "report on them knows which part is missing (diffspeed plan writes it)",
    ),
    "base": ("REV", "compare this tree with another commit: a branch, a tag or a hash"),
    "base-python": (
        "PATH",
        "the Python interpreter of the base's environment; without --diffspeed-base the same tree "
        "is compared in two environments",
    ),
    "base-env": (
        "NAMES",
        "environment variables, by comma, that base and head see beside the usual ones (patterns "
        "such as MODEL_* too); others do not reach another commit's code",
    ),
}
_VALUES = (
    ("device", "DEVICE", "auto (default), cpu, cuda or cuda:N"),
    (
        "pipeline",
        "SOURCE",
        "demo (default), a hub id, a local folder, package.module:factory or random:name",
    ),
    ("techniques", "STACKS", "comma-separated stacks that replace those of the markers"),
    ("steps", "N", "denoising steps that replace the source's"),
    ("budget", "SECONDS", "seconds one speedup gate may spend on pairs, or auto (default)"),
    (
        "instances",
        "N",
        "process instances of each timed arm (1; 4 where a base is compared with): from 2 on, "
        "worker processes that build it anew and take turns",
    ),
    (
        "store",
        "URL",
        "history: sqlite:///PATH (default: in .diffspeed), postgresql://…, or none",
    ),
    (
        "compile-cache",
        "FOLDER",
        "keep what inductor compiles in FOLDER, by what makes it valid, and take it from there; "
        "for CI jobs",
    ),
    (
        "inconclusive",
        "POLICY",
        "what an INCONCLUSIVE gate does to its test: fail (default of min_speedup), warn (default "
        "of max_slowdown) or skip",
    ),
    (
        "ladder",
        "HOW",
        "of the ladder: quick (default) times components and composes a call of them, without rows "
        "that compile; full times whole calls, compiled rows too",
    ),
)


def enabled(config: pytest.Config) -> bool:
    """Whether ``--diffspeed`` was given."""
    return bool(config.getoption("--diffspeed", default=False))


def given_in_vain(config: pytest.Config) -> str | None:
    """What was given for a session with ``--diffspeed``, in one without it; ``None``: nothing."""
    if enabled(config):
        return None
    for option in _on_the_command_line(config):
        return option
    if os.environ.get(IN_CI, "") not in ("", "0"):
        return f"{IN_CI}={os.environ[IN_CI]}"
    return None


def any_given(config: pytest.Config) -> bool:
    """Whether the command line or the ini file sets any option of ours."""
    return (
        enabled(config)
        or any(_on_the_command_line(config))
        or any(_in_ini(config, name) for name in _in_the_ini_file())
    )


def _in_ini(config: pytest.Config, name: str) -> bool:
    """Whether the ini file says something of an option; what is read and checked later."""
    try:
        return bool(config.getini(f"diffspeed_{name.replace('-', '_')}"))
    except (TypeError, pytest.UsageError):  # of TOML's types, one that the option does not have
        return True


def runs_tests(config: pytest.Config) -> bool:
    """Whether this session calls tests at all: the options that only show what would run do not."""
    option = config.option
    return not (option.collectonly or option.setuponly or option.setupplan)


def _on_the_command_line(config: pytest.Config) -> Iterator[str]:
    """The options that were given there, but for ``--diffspeed`` itself."""
    for name in (*_in_the_ini_file(), *help_of_formats(), *_COMMAND_LINE_ONLY):
        if config.getoption(f"--diffspeed-{name}") is not None:
            yield f"--diffspeed-{name}"
    for name in ("fresh", "strict", "save-counts"):
        if config.getoption(f"--diffspeed-{name}"):
            yield f"--diffspeed-{name}"


def _in_the_ini_file() -> tuple[str, ...]:
    """The names of the options whose values can stand there too."""
    return (*(name for name, _, _ in _VALUES), "prompts")
