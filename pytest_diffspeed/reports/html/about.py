"""What a session rests on: commit, environment, options, and the command that runs it again."""

from __future__ import annotations

import posixpath
import shlex
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from ...common.text import listed
from ..loose import mapping, sequence, word, words

_MOST_ROWS = 40
"""Of each table here: a file of a stranger may hold any number."""

LADDER = ("--pyargs", "pytest_diffspeed.ladder")
"""The suite without a test file, as pytest is told of it."""
_ROWS = ("device", "torch", "diffusers", "transformers", "torchao", "python", "threads")


@dataclass(frozen=True)
class About:
    """Rows of label and value, and lines for the head of the page."""

    commit: str
    subject: str
    dirty: bool
    at: str
    device: str
    pipeline: str
    base: tuple[tuple[str, str], ...]
    environment: tuple[tuple[str, str], ...]
    options: tuple[tuple[str, str], ...]
    command: str
    folder: str
    """Where it was run, from pytest's root folder on; empty for that folder itself."""


def about(
    line: Mapping[str, Any], pipelines: Sequence[str] = (), *, is_ladder: bool = False
) -> About:
    """From the ``session`` line, which may be lost, and the pipelines that gates looked at."""
    device = mapping(line.get("device"))
    environment = mapping(line.get("environment"))
    ordered = [name for name in _ROWS if name in environment]
    ordered += [name for name in environment if name not in ordered]
    rows = [(name, _value(environment[name])) for name in ordered]
    rows += [
        (label, _value(line[name]))
        for name, label in (
            ("commit", "commit"),
            ("committed_at", "committed at"),
            ("at", "session began at"),
            *([] if "pytest-diffspeed" in environment else [("version", "pytest-diffspeed")]),
            ("machine", "environment digest"),
            ("session", "session"),
        )
        if line.get(name) is not None
    ]
    return About(
        commit=(word(line.get("commit")) or "")[:12],
        subject=word(line.get("subject")) or "",
        dirty=line.get("dirty") is True,
        at=(word(line.get("at")) or "").replace("T", " "),
        device=word(device.get("name")) or word(environment.get("device")) or "",
        pipeline=listed(pipelines),
        base=tuple(
            (key, text)
            for key, value in mapping(line.get("base")).items()
            if (text := _value(value))
        )[:_MOST_ROWS],
        environment=tuple((label, text) for label, text in rows if text)[:_MOST_ROWS],
        options=tuple(
            (name, text)
            for name, value in mapping(line.get("options")).items()
            if (text := _value(value))
        )[:_MOST_ROWS],
        command=rerun_command(line, is_ladder=is_ladder),
        folder=""
        if (folder := word(mapping(line.get("command")).get("folder"))) in (None, ".")
        else str(folder),
    )


def rerun_command(line: Mapping[str, Any], *tests: str, is_ladder: bool = False) -> str:
    """The words that run this session again, or those tests of it, quoted for a shell.

    They are those that pytest was started with, where the record has them; else made of the options
    that were in force, the ladder's own name among them.
    """
    command = mapping(line.get("command"))
    if words(command.get("program")) and isinstance(command.get("words"), list):
        return _as_started(command, tests)
    return _as_configured(line, *tests, *(LADDER if is_ladder and not tests else ()))


def _as_started(command: Mapping[str, Any], tests: Sequence[str]) -> str:
    folder = word(command.get("folder")) or "."
    given = words(command.get("words"))
    if tests:
        named = set(words(command.get("tests")))
        given = [one for one in given if one not in named]
        given += [_from(folder, test) for test in tests]
    settings = [
        f"{name}={shlex.quote(str(value))}"
        for name, value in mapping(command.get("environment")).items()
    ]
    return " ".join([*settings, shlex.join([*words(command.get("program")), *given])])


def _from(folder: str, test: str) -> str:
    """A test as it is called in ``folder``; its name begins at the root folder."""
    file, colons, rest = test.partition("::")
    return f"{posixpath.relpath(file, folder)}{colons}{rest}" if file else test


def _as_configured(line: Mapping[str, Any], *tests: str) -> str:
    command = ["pytest", "--diffspeed"]
    device = mapping(line.get("device"))
    kind, index = word(device.get("kind")), device.get("index")
    if kind is not None:
        numbered = kind != "cpu" and isinstance(index, int)
        command.append(
            f"--diffspeed-device={kind}:{index}" if numbered else f"--diffspeed-device={kind}"
        )
    pipeline = word(line.get("pipeline"))
    if pipeline is not None:
        command.append(f"--diffspeed-pipeline={pipeline}")
    options = mapping(line.get("options"))
    for name, option in (
        ("steps", "steps"),
        ("budget_s", "budget"),
        ("instances", "instances"),
        ("inconclusive", "inconclusive"),
        ("ladder", "ladder"),
    ):
        if options.get(name) is not None:
            command.append(f"--diffspeed-{option}={_value(options[name])}")
    techniques = [str(stack) for stack in sequence(options.get("techniques"))]
    if techniques:
        command.append(f"--diffspeed-techniques={','.join(techniques)}")
    command += [f"--diffspeed-prompts={prompt}" for prompt in sequence(options.get("prompts"))]
    base = mapping(line.get("base"))
    for name, option in (("rev", "base"), ("python", "base-python")):
        if word(base.get(name)) is not None:
            command.append(f"--diffspeed-{option}={base[name]}")
    return shlex.join([*command, *tests])


def _value(value: Any) -> str:
    if value is None or value == [] or value == {}:
        return ""
    if isinstance(value, bool):
        return "yes" if value else "no"
    if isinstance(value, Mapping):
        return ", ".join(f"{key} {_value(inner)}" for key, inner in value.items())
    if isinstance(value, (list, tuple)):
        return ", ".join(map(str, value))
    return f"{value:g}" if isinstance(value, float) else str(value)
