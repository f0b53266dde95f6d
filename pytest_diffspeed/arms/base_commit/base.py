"""The base of a session: another commit, the same commit in another environment, or both."""

from __future__ import annotations

import os
import sys
from dataclasses import replace
from pathlib import Path
from typing import Any

from ...common.errors import UsageError
from .checkout import BaseCommit, Checkout, find_commit
from .environment import versions_of
from .place import Place, base_place, this_process


class Base:
    """What this tree is compared with; nothing is checked out before a gate asks.

    ``rev`` is a revision of the repository around ``rootdir``; ``None`` means this very tree.
    ``python`` is the interpreter of the base's environment; ``None`` means this one.

    Raises:
        UsageError: there is no such commit, or no such environment.
    """

    def __init__(self, rootdir: Path, rev: str | None, python: str | None) -> None:
        if rev is None and python is None:
            raise UsageError("a base is another commit, another environment, or both")
        self._rootdir = rootdir
        self._python = None if python is None else os.path.abspath(os.path.expanduser(python))
        self.commit: BaseCommit | None = None if rev is None else _found(rootdir, rev)
        self.environment = None if self._python is None else _asked(self._python)
        self._own: str | None = None
        self._checkout: Checkout | None = None

    @property
    def name(self) -> str:
        """``main (1a2b3c4d5e6f)``, ``torch 2.13.0``, or both."""
        parts = [] if self.commit is None else [f"{self.commit.rev} ({self.commit.short})"]
        if self.environment is not None:
            shown = ("python", "torch", "diffusers")
            parts.append(", ".join(f"{name} {self.environment[name]}" for name in shown))
        return " with ".join(parts)

    def about(self) -> dict[str, Any]:
        """For the session's record, and for the key of a verdict."""
        commit = self.commit
        return {
            "rev": None if commit is None else commit.rev,
            "commit": None if commit is None else commit.name,
            "committed_at": None if commit is None else commit.at,
            "subject": None if commit is None else commit.subject,
            "python": self._python,
            "environment": self.environment,
        }

    def identity(self) -> dict[str, Any]:
        """What a verdict against this base depends on.

        Where environments are compared, all of both: any package may be what differs.
        """
        if self._own is None and self.environment is not None:
            self._own = _asked(sys.executable)["installed"]
        return {
            "commit": self.about()["commit"],
            "environment": self.environment,
            "installed_here": self._own,
        }

    def is_tree(self, commit: str | None, dirty: bool | None) -> bool:
        """Whether the base is the very tree of a session, in the same environment."""
        own = self.commit is not None and self.commit.name == commit and dirty is False
        return own and self._python is None

    def place(self) -> Place:
        """Where the base's workers run; checks the commit out when first asked.

        Raises:
            UsageError: it cannot be checked out.
        """
        tree = None
        if self.commit is not None:
            if self._checkout is None:
                checkout = Checkout(self.commit)
                checkout.open()
                self._checkout = checkout
            tree = self._checkout.tree
        place = base_place(
            top=self.top,
            tree=tree,
            python=self._python,
            entries=sys.path,
            cwd=Path.cwd(),
        )
        if tree is not None:  # started in a folder that the base does not have yet
            place.folder.mkdir(parents=True, exist_ok=True)
        return place

    def own_place(self) -> Place:
        """Where workers of this tree run: as this process, and places are named from the top of
        the repository, as in the base.
        """
        return replace(this_process(), root=self.top)

    @property
    def top(self) -> Path:
        """The top of the tree that this process works on."""
        return self._rootdir if self.commit is None else self.commit.top

    def close(self) -> None:
        """Remove what was checked out."""
        if self._checkout is not None:
            self._checkout.close()
            self._checkout = None


def _found(rootdir: Path, rev: str) -> BaseCommit:
    try:
        return find_commit(rootdir, rev)
    except UsageError as error:
        raise UsageError(f"--diffspeed-base: {error}") from None


def _asked(python: str) -> dict[str, Any]:
    try:
        return versions_of(python)
    except UsageError as error:
        raise UsageError(f"--diffspeed-base-python: {error}") from None
