"""The folder that a site is written to: empty, or one that an earlier build wrote.

A list of what was written lies in it.  Only files on that list are replaced or deleted, so what
somebody laid beside them (``CNAME``, ``.git``) stays.
"""

from __future__ import annotations

import json
import os
import re
import tempfile
from collections.abc import Mapping, Sequence
from hashlib import sha256
from pathlib import Path
from typing import Any

from ...common.errors import UsageError
from ...common.files import replace_file
from ...common.text import shortened

LIST = "diffspeed-site.json"
MARK = "pytest-diffspeed"
_FOLDERS = ("assets", "pictures", "tests")
_OURS = re.compile(
    r"index\.html|tests/[a-z0-9-]+\.html|pictures/[0-9a-f]+\.(?:png|webp)|assets/[A-Za-z0-9.]+"
)
"""Names that a list of ours can hold: nothing else is ever deleted."""
_WORD_CHARACTERS = 60


def page_of(test: str) -> str:
    """The page of a test: a name that every file system and web server takes.

    Lower-case letters and a digest of the whole name: two tests never share one, wherever large and
    small letters are the same.
    """
    words = re.sub("[^a-z0-9]+", "-", test.rpartition("::")[2].lower()).strip("-")
    digest = sha256(test.encode("utf-8", "surrogatepass")).hexdigest()[:12]
    return f"tests/{'-'.join(filter(None, (words[:_WORD_CHARACTERS].strip('-'), digest)))}.html"


class SiteFolder:
    """Writes a site to ``path``; a file that would be the same is left alone.

    Raises:
        UsageError: something lies there that no build wrote, or nothing can be written.
    """

    def __init__(self, path: Path) -> None:
        self.path = path
        self._cannot = f"cannot write a site to {shortened(str(path), 80)!r}"
        self._before = self._checked()
        self._written: dict[str, int] = {}

    @property
    def pictures(self) -> Mapping[str, Any]:
        """What the build before noted of its pictures."""
        found = self._before.get("pictures")
        return found if isinstance(found, Mapping) else {}

    @property
    def size(self) -> int:
        """Bytes of all files of this build, the list aside."""
        return sum(self._written.values())

    @property
    def files(self) -> int:
        return len(self._written)

    def has(self, name: str) -> bool:
        """Whether a file of an earlier build, or of this one, is there."""
        return bool(_OURS.fullmatch(name)) and (self.path / name).is_file()

    def begin(self) -> None:
        """Claim the folder: a build that is stopped leaves one that the next may write to."""
        try:
            self.path.mkdir(parents=True, exist_ok=True)
            for folder in _FOLDERS:
                (self.path / folder).mkdir(exist_ok=True)
            if not self._before:
                self._write(LIST, _as_list([], {}).encode())
        except OSError as error:
            raise UsageError(f"{self._cannot}: {error.strerror}") from None

    def write(self, name: str, content: str | bytes) -> None:
        """One file, at once; ``name`` is one of a site's, from its folder."""
        assert _OURS.fullmatch(name), f"{name} is no name of a site"
        data = content.encode("utf-8") if isinstance(content, str) else content
        path = self.path / name
        known = name in self._before.get("files", ()) or name in self._written
        try:
            if not known and os.path.lexists(path) and not self._is_same(path, data):
                raise UsageError(
                    f"{self._cannot}: the file {name} in it is none that a build of ours wrote; "
                    "delete it, or name another folder"
                )
            if not self._is_same(path, data):
                self._write(name, data)
        except OSError as error:
            raise UsageError(f"{self._cannot}: {name}: {error.strerror}") from None
        self._written[name] = len(data)

    def keep(self, name: str) -> None:
        """A file of an earlier build that belongs to this one too."""
        self._written[name] = (self.path / name).stat().st_size

    def end(self, pictures: Mapping[str, Any]) -> int:
        """Delete what earlier builds wrote and this one did not; how many files that were."""
        gone = [
            name
            for name in self._before.get("files", ())
            if isinstance(name, str) and _OURS.fullmatch(name) and name not in self._written
        ]
        try:
            for name in gone:
                (self.path / name).unlink(missing_ok=True)
            text = _as_list(sorted(self._written), pictures)
            if not self._is_same(self.path / LIST, text.encode()):
                replace_file(self.path / LIST, text)
        except OSError as error:
            raise UsageError(f"{self._cannot}: {error.strerror}") from None
        return len(gone)

    def _checked(self) -> Mapping[str, Any]:
        """The list of an earlier build, empty where the folder is."""
        if "\0" in str(self.path):
            raise UsageError(f"{self._cannot}: that is no name of a folder")
        try:
            if self.path.is_symlink():
                raise UsageError(
                    f"{self._cannot}: it is a symbolic link to {os.readlink(self.path)}; name the "
                    "folder itself"
                )
            if not self.path.exists():
                return {}
            if not self.path.is_dir():
                raise UsageError(f"{self._cannot}: it is a file; name a folder")
            there = {entry.name for entry in self.path.iterdir()}
            links = [name for name in (*_FOLDERS, LIST) if (self.path / name).is_symlink()]
        except OSError as error:
            raise UsageError(f"{self._cannot}: {error.strerror}") from None
        if links:
            raise UsageError(f"{self._cannot}: {links[0]} in it is a symbolic link; delete it")
        if not there:
            return {}
        if LIST not in there:
            raise UsageError(
                f"{self._cannot}: it holds {shortened(sorted(there)[0], 40)!r}, and no build of "
                "ours wrote it; name an empty folder, or one that does not exist"
            )
        try:
            found = json.loads((self.path / LIST).read_text("utf-8"))
        except (OSError, ValueError):
            found = None
        files = found.get("files") if isinstance(found, dict) else None
        if (
            not isinstance(found, dict)
            or found.get("made_by") != MARK
            or not isinstance(files, list)
        ):
            raise UsageError(
                f"{self._cannot}: its {LIST} is none that a build of ours wrote; name an empty "
                "folder"
            )
        return found

    def _write(self, name: str, data: bytes) -> None:
        path = self.path / name
        descriptor, part = tempfile.mkstemp(dir=path.parent, prefix=".part-")
        try:
            with os.fdopen(descriptor, "wb") as file:
                file.write(data)
            Path(part).chmod(0o644)  # a web server is another user
            Path(part).replace(path)
        except BaseException:
            Path(part).unlink(missing_ok=True)
            raise

    @staticmethod
    def _is_same(path: Path, data: bytes) -> bool:
        try:
            return (
                not path.is_symlink()
                and path.stat().st_size == len(data)
                and (path.read_bytes() == data)
            )
        except FileNotFoundError:
            return False


def _as_list(files: Sequence[str], pictures: Mapping[str, Any]) -> str:
    content = {"made_by": MARK, "files": files, "pictures": pictures}
    return json.dumps(content, indent=1, sort_keys=True) + "\n"
