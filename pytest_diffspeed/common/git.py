"""Calls git, and says what it said where it fails."""

from __future__ import annotations

import os
import subprocess
from pathlib import Path

from .text import first_line

GIT_SECONDS = 60.0
# A git hook that runs pytest sets these, for an index that is not the working tree's.
_GIT_OWN = ("GIT_DIR", "GIT_INDEX_FILE", "GIT_OBJECT_DIRECTORY", "GIT_PREFIX", "GIT_WORK_TREE")


class GitError(Exception):
    """Git is not there, or refused; the message is the first line of what it said."""


def git(folder: Path | str, *args: str, given: bytes = b"", timeout_s: float = GIT_SECONDS) -> str:
    """What ``git WORDS`` prints in ``folder``; ``given`` goes to its standard input.

    Raises:
        GitError: git is absent, failed, or took longer than ``timeout_s``.
    """
    environment = {name: value for name, value in os.environ.items() if name not in _GIT_OWN}
    environment["GIT_OPTIONAL_LOCKS"] = "0"  # the user may be committing meanwhile
    environment["GIT_TERMINAL_PROMPT"] = "0"  # nobody is there to answer
    try:
        done = subprocess.run(
            ["git", *args],
            cwd=folder,
            input=given,
            env=environment,
            capture_output=True,
            timeout=timeout_s,
            check=True,
        )
    except subprocess.CalledProcessError as error:
        sentence = first_line(os.fsdecode(error.stderr), otherwise=f"git {args[0]} failed")
        raise GitError(sentence + _remedy(sentence)) from error
    except subprocess.TimeoutExpired as error:
        raise GitError(f"git {args[0]} took longer than {timeout_s:.0f} s") from error
    except OSError as error:
        raise GitError(f"git cannot be run: {error.strerror}") from error
    return os.fsdecode(done.stdout)


def _remedy(sentence: str) -> str:
    """What to do where git refuses a repository of somebody else's, as in most containers."""
    _, refused, where = sentence.partition("dubious ownership in repository at ")
    return f"; allow it: git config --global --add safe.directory {where}" if refused else ""
