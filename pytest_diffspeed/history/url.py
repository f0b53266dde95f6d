"""Where a history is kept: a URL that is checked early and never shows its password.

Imports no database library: options are read in sessions that store nothing, too.
"""

from __future__ import annotations

import os
import re
from dataclasses import dataclass, field, replace
from pathlib import Path
from urllib.parse import parse_qsl, quote, unquote, urlsplit

from ..common.errors import UsageError
from ..common.workdir import NAME

DEFAULT = f"sqlite:///{NAME}/history.sqlite"
"""From pytest's rootdir."""
PASSWORD_VARIABLE = "DIFFSPEED_STORE_PASSWORD"
VALID = (
    "valid are sqlite:///PATH (a relative PATH starts from pytest's rootdir), "
    "postgresql://USER@HOST:PORT/DATABASE and none"
)
_POSTGRESQL = ("postgresql", "postgresql+psycopg", "postgres")
_SECRET = re.compile(r"pass|secret|token|key", re.IGNORECASE)
_HIDDEN = "***"


@dataclass(frozen=True)
class StoreUrl:
    """A checked URL.  ``str()`` and ``repr()`` hide what is secret in it.

    ``database`` is a path for ``sqlite`` and a name for ``postgresql``; ``query`` holds words for
    libpq, such as ``sslmode`` or the ``host`` of a unix socket.
    """

    backend: str
    database: str
    host: str | None = None
    port: int | None = None
    username: str | None = None
    password: str | None = field(default=None, repr=False)
    query: tuple[tuple[str, str], ...] = field(default=(), repr=False)

    def __str__(self) -> str:
        if self.backend == "sqlite":
            return f"sqlite:///{self.database}"
        user = "" if self.username is None else quote(self.username, safe="")
        user += f":{_HIDDEN}" if self.password is not None else ""
        host = self.host or ""
        host = f"[{host}]" if ":" in host else host
        port = "" if self.port is None else f":{self.port}"
        parameters = "&".join(
            f"{name}={_HIDDEN if _SECRET.search(name) else quote(value, safe='/')}"
            for name, value in self.query
        )
        return (
            f"{self.backend}://{user}{'@' if user else ''}{host}{port}/{self.database}"
            f"{'?' if parameters else ''}{parameters}"
        )

    __repr__ = __str__

    @property
    def is_default(self) -> bool:
        """Whether it is what a session uses that was told nothing."""
        return str(self) == DEFAULT

    @property
    def path(self) -> Path:
        """The file of a ``sqlite`` store."""
        return Path(self.database)

    def under(self, rootdir: Path) -> StoreUrl:
        """This URL with a relative path taken from ``rootdir``."""
        if self.backend != "sqlite":
            return self
        return replace(self, database=str(rootdir / self.database))

    def secrets(self) -> tuple[str, ...]:
        """Every text that no output may hold, the longest first."""
        if self.backend == "sqlite":
            return ()
        plain = [value for name, value in self.query if _SECRET.search(name)]
        plain.append(self.password or "")
        plain += [os.environ.get(name, "") for name in (PASSWORD_VARIABLE, "PGPASSWORD")]
        found = {text for text in plain if text}
        return tuple(sorted(found | {quote(text, safe="") for text in found}, key=len)[::-1])

    def redact(self, text: str) -> str:
        """``text`` without the secrets of this URL and of the environment."""
        for secret in self.secrets():
            text = text.replace(secret, _HIDDEN)
        return text


def parse_store(text: str) -> StoreUrl | None:
    """The store that ``text`` names; ``None`` for ``none``, which keeps no history.

    Raises:
        UsageError: no store can be meant; the sentence holds nothing of what may be a password.
    """
    text = text.strip()
    if text == "none":
        return None
    try:
        parts = urlsplit(text)
        port = parts.port
    except ValueError:
        raise UsageError(f"cannot be read as a URL: {_without_user(text)}; {VALID}") from None
    if parts.scheme == "sqlite":
        return _sqlite(text)
    if parts.scheme not in _POSTGRESQL:
        raise UsageError(f"does not know {_without_user(text)!r}; {VALID}")
    database = unquote(parts.path.removeprefix("/"))
    if not database or "/" in database or "@" in (parts.hostname or ""):
        raise UsageError(
            f"must name one database, and {_without_user(text)!r} does not: "
            "postgresql://USER@HOST:PORT/DATABASE, with / @ : % in a password written as %2F %40 "
            f"%3A %25 (or the password in {PASSWORD_VARIABLE})"
        )
    query = tuple(parse_qsl(parts.query, keep_blank_values=True))
    _require_psycopg(query)
    return StoreUrl(
        "postgresql",
        database,
        host=parts.hostname,
        port=port,
        username=None if parts.username is None else unquote(parts.username),
        # Our own output pasted back: the password is where it was, in the environment.
        password=None if parts.password in (None, _HIDDEN) else unquote(parts.password),
        query=query,
    )


def check_store(url: StoreUrl | None, rootdir: Path) -> None:
    """Whether the file of a ``sqlite`` store can be there at all.

    Raises:
        UsageError: it is a folder, or lies in one that does not exist.
    """
    if url is None or url.backend != "sqlite" or url.is_default:
        return
    path = url.under(rootdir).path
    if path.is_dir() or not path.parent.is_dir():
        raise UsageError(f"cannot keep a history in {path}: it must be a file in a folder there is")


def _sqlite(text: str) -> StoreUrl:
    path = unquote(text.removeprefix("sqlite:///"))
    if not text.startswith("sqlite:///") or not path or "?" in text or path.startswith(":"):
        raise UsageError(f"{text!r} names no file: {VALID}; four slashes begin an absolute path")
    return StoreUrl("sqlite", path)


def _without_user(text: str) -> str:
    """A URL that is wrong, without anything that was perhaps meant as a user or a password."""
    scheme, slashes, rest = text.partition("://") if "://" in text else ("", "", text)
    user, at, rest = rest.rpartition("@")
    shown = f"{scheme}{slashes}{_HIDDEN if user else ''}{at}{rest}"
    return re.sub(r"([?&][^=&]*=)[^&]*", rf"\1{_HIDDEN}", shown)


def _require_psycopg(query: tuple[tuple[str, str], ...]) -> None:
    """Whether PostgreSQL can be talked to from here, with these words for libpq."""
    try:
        from psycopg import ProgrammingError  # its libpq may be missing though the package is there
        from psycopg.conninfo import make_conninfo
    except ImportError as error:
        raise UsageError(
            f"PostgreSQL needs psycopg 3, which cannot be imported here ({error}): "
            "pip install 'pytest-diffspeed[postgresql]'"
        ) from None
    for name, _ in query:
        try:
            make_conninfo("", **{name: "1"})
        except (ProgrammingError, TypeError):
            raise UsageError(
                f"has the word {name!r} after its ?, which libpq does not know; it knows host, "
                "sslmode, connect_timeout and the like"
            ) from None
