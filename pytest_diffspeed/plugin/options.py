"""Command-line and ini options, read once into :class:`Options`.  Imports no torch."""

from __future__ import annotations

import functools
import math
import os
import re
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import TypeVar

import pytest

from ..accelerators.registry import check_device_word
from ..adapters.pytest_internals import ini_value
from ..arms.session_options import INCONCLUSIVE_POLICIES, LADDERS, MOST_INSTANCES, QUICK, Options
from ..common.errors import DiffspeedError, UsageError, nearest
from ..common.files import check_output
from ..common.text import shortened
from ..history.url import DEFAULT as DEFAULT_STORE
from ..history.url import StoreUrl, check_store, parse_store
from ..pipelines.names import check_source_text
from ..records.shard import Shard, parse_shard
from ..reports.formats import help_of_formats
from ..reports.report_format import format_of
from ..techniques.stacks import parse_stacks

T = TypeVar("T")


def read_options(config: pytest.Config) -> Options:
    """Check every option; the command line wins over the ini file.

    Raises:
        pytest.UsageError: names the option, the bad word and what is valid.
    """
    return Options(
        device=_checked(config, "device", "auto", check_device_word),
        pipeline=_checked(config, "pipeline", "demo", check_source_text),
        techniques=_optional(config, "techniques", parse_stacks) or (),
        steps=_optional(config, "steps", _steps),
        prompts=_prompts(config),
        budget_s=_checked(config, "budget", "auto", _budget),
        inconclusive=_optional(
            config, "inconclusive", functools.partial(_one_of, INCONCLUSIVE_POLICIES)
        ),
        fresh=bool(config.getoption("--diffspeed-fresh")),
        instances=_optional(config, "instances", _instances),
        save_counts=bool(config.getoption("--diffspeed-save-counts")),
        reports=_reports(config),
        store=_checked(config, "store", DEFAULT_STORE, functools.partial(_store, config)),
        base=_word(config, "base"),
        base_python=_word(config, "base-python"),
        base_env=_base_env(config),
        shard=_shard(config),
        compile_cache=_optional(config, "compile-cache", _folder),
        ladder=_checked(config, "ladder", QUICK, functools.partial(_one_of, LADDERS)),
    )


def project_folder(config: pytest.Config) -> Path:
    """Where this package keeps its folder: pytest's rootdir, or where pytest was started.

    ``--pyargs`` with no ini file makes pytest's rootdir the folder that the installed package and
    the user's own have in common, which may be the root of the file system.
    """
    started = config.invocation_params.dir
    by_package = config.inipath is None and config.option.pyargs
    return started if by_package or not started.is_relative_to(config.rootpath) else config.rootpath


def is_worker(config: pytest.Config) -> bool:
    """Whether this is a worker of pytest-xdist: its controller writes what was asked for."""
    return hasattr(config, "workerinput")


def _checked(config: pytest.Config, name: str, default: str, check: Callable[[str], T]) -> T:
    """The checked value of an option, or of its default where nobody gave it."""
    text, where = _given(config, name)
    try:
        return check(default if text is None else text)
    except DiffspeedError as error:
        raise pytest.UsageError(f"{where}: {error}") from None


def _optional(config: pytest.Config, name: str, check: Callable[[str], T]) -> T | None:
    return None if _given(config, name)[0] is None else _checked(config, name, "", check)


def _given(config: pytest.Config, name: str) -> tuple[str | None, str]:
    """The text that the user gave, if any, and where it stands."""
    option = f"--diffspeed-{name}"
    text = config.getoption(option)
    if text is not None:
        return str(text).strip(), option
    in_ini = f"diffspeed_{name.replace('-', '_')}"
    text = _ini(config, in_ini)
    if text is None or str(text).strip() == "":
        return None, option
    return str(text).strip(), f"{in_ini} in {config.inipath}"


def _ini(config: pytest.Config, name: str) -> object:
    """What the ini file says.

    Raises:
        pytest.UsageError: it is of another type than text or a number, as TOML has them.
    """
    try:
        value: object = ini_value(config, name)
    except (TypeError, pytest.UsageError) as error:
        raise pytest.UsageError(f"{error}; write it as text, in quotes") from None
    return value


def _steps(text: str) -> int:
    if not (text.isascii() and text.isdecimal()) or int(text[:10]) < 1:
        raise UsageError(f"must be a whole number of at least 1, not {shortened(text, 60)!r}")
    if len(text) > 9:
        raise UsageError(
            f"must be a number of steps that ends one day, not {shortened(text, 60)!r}"
        )
    return int(text)


def _instances(text: str) -> int:
    count = _steps(text)
    if count > MOST_INSTANCES:
        raise UsageError(
            f"must be at most {MOST_INSTANCES}, not {count}: they all hold their pipelines at once"
        )
    return count


def _budget(text: str) -> float | None:
    if text == "auto":
        return None
    try:
        seconds = float(text)
    except ValueError:
        seconds = math.nan
    if not (math.isfinite(seconds) and seconds > 0):
        raise UsageError(f"must be a positive number of seconds or 'auto', not {text!r}")
    return seconds


def _folder(text: str) -> Path:
    path = Path(text)
    if not text or (path.exists() and not path.is_dir()):
        raise UsageError(f"must be a folder (it is made if it is not there), not {text!r}")
    path = path.absolute()
    if any(sign.isspace() for sign in str(path)):
        raise UsageError(
            f"must be a folder without blanks in its path, not {str(path)!r}: with them, the C++ "
            "that inductor writes there does not compile"
        )
    return path


def _one_of(words: Sequence[str], text: str) -> str:
    if text not in words:
        raise UsageError(f"does not know {text!r}; {nearest(text, words)}")
    return text


def _store(config: pytest.Config, text: str) -> StoreUrl | None:
    url = parse_store(text)
    if not is_worker(config):
        check_store(url, project_folder(config))
    return url


def _prompts(config: pytest.Config) -> tuple[str, ...]:
    given = config.getoption("--diffspeed-prompts")
    where = "--diffspeed-prompts"
    if given is None:
        given = config.getini("diffspeed_prompts")
        where = f"diffspeed_prompts in {config.inipath}"
    if any(not prompt.strip() for prompt in given):
        raise pytest.UsageError(f"{where}: a prompt must not be empty")
    return tuple(given)


def _base_env(config: pytest.Config) -> tuple[str, ...]:
    text = config.getoption("--diffspeed-base-env")
    if text is None:
        return ()
    names = tuple(name.strip() for name in str(text).split(","))
    if not all(re.fullmatch(r"[A-Za-z_*?][A-Za-z0-9_*?]*", name) for name in names):
        raise pytest.UsageError(
            f"--diffspeed-base-env: {shortened(str(text), 60)!r} is not a list of names of "
            "environment variables such as MODEL_DIR,DATA_*"
        )
    return names


def _word(config: pytest.Config, name: str) -> str | None:
    text = config.getoption(f"--diffspeed-{name}")
    if text is not None and not text.strip():
        raise pytest.UsageError(f"--diffspeed-{name}: must not be empty")
    return None if text is None else str(text).strip()


def _shard(config: pytest.Config) -> Shard | None:
    text = _word(config, "shard")
    try:
        return None if text is None else parse_shard(text)
    except UsageError as error:
        raise pytest.UsageError(f"--diffspeed-shard: {error}") from None


def _reports(config: pytest.Config) -> dict[str, Path]:
    """Where each format that was asked for goes; the records first, which nothing can spoil."""
    asked = {name: _path(config, name) for name in ("json", *help_of_formats())}
    return {name: path for name, path in asked.items() if path is not None}


def _path(config: pytest.Config, name: str) -> Path | None:
    text = config.getoption(f"--diffspeed-{name}")
    if text is None:
        return None
    if is_worker(config):  # its controller writes, where such a folder need not be
        return Path(str(text)).absolute()
    summary = os.environ.get("GITHUB_STEP_SUMMARY")
    appended = name == "markdown" and summary is not None and text == summary
    try:
        path = check_output(str(text), "" if appended else format_of(name).mark)
    except UsageError as error:
        raise pytest.UsageError(f"--diffspeed-{name}: {error}") from None
    for other in help_of_formats():
        given = config.getoption(f"--diffspeed-{other}")
        if other != name and given and Path(given).absolute() == path.absolute():
            raise pytest.UsageError(
                f"--diffspeed-{name} and --diffspeed-{other} name one file, {text!r}; give each "
                "its own"
            )
    return path
