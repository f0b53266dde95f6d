"""URLs of stores: what is valid, what is said, and that no password is."""

import sys

import pytest

from pytest_diffspeed.common.errors import UsageError
from pytest_diffspeed.history.url import StoreUrl, check_store, parse_store


@pytest.mark.parametrize(
    ("text", "shown"),
    [
        ("sqlite:///.diffspeed/history.sqlite", "sqlite:///.diffspeed/history.sqlite"),
        ("sqlite:////var/h.db", "sqlite:////var/h.db"),
        ("postgresql://host/db", "postgresql://host/db"),
        ("postgres://u:pw@host:5433/db", "postgresql://u:***@host:5433/db"),
        ("postgresql+psycopg://u@[::1]/db", "postgresql://u@[::1]/db"),
        (
            "postgresql://u:a%2Fb%40c@h/db?sslmode=require",
            "postgresql://u:***@h/db?sslmode=require",
        ),
        (
            "postgresql://u@/db?host=/run/pg&password=pw",
            "postgresql://u@/db?host=/run/pg&password=***",
        ),
        ("postgresql://u:***@h/db", "postgresql://u@h/db"),
    ],
)
def test_valid_urls_are_shown_without_their_password(text, shown):
    url = parse_store(text)
    assert (str(url), repr(url), f"{[url]}") == (shown, shown, f"[{shown}]")


def test_parts_are_decoded():
    url = parse_store(
        "postgresql://ann%40x:a%2Fb%40c%3A@h:1/my%20db?host=%2Frun&application_name=1%202"
    )
    assert url == StoreUrl(
        "postgresql",
        "my db",
        "h",
        1,
        "ann@x",
        "a/b@c:",
        (("host", "/run"), ("application_name", "1 2")),
    )
    assert url.redact("a/b@c: a%2Fb%40c%3A") == "*** ***"


def test_none_turns_it_off():
    assert parse_store(" none ") is None


@pytest.mark.parametrize(
    ("text", "said"),
    [
        ("", "does not know"),
        ("history.sqlite", "does not know"),
        ("sqlite://", "names no file"),
        ("sqlite:///", "names no file"),
        ("sqlite:///:memory:", "names no file"),
        ("sqlite:///a?mode=memory", "names no file"),
        ("mysql://u:hunter2@h/db", "does not know 'mysql://***@h/db'"),
        ("postgresql://u:hunter2@h", "must name one database"),
        ("postgresql://u:hunter2@h/a/b", "must name one database"),
        ("postgresql://u:hunter2/x@h/db", "cannot be read as a URL"),
        ("postgresql://u:hunter2@h:port/db", "cannot be read as a URL"),
        ("postgresql://[u:hunter2@h/db", "cannot be read as a URL"),
        ("postgresql://h?password=hunter2", "must name one database"),
        ("hunter2@h", "does not know"),
        ("postgresql://u:hunter2@h/d?sslmod=require", "has the word 'sslmod' after its ?"),
    ],
)
def test_what_cannot_be_meant_is_one_sentence_without_a_password(text, said):
    with pytest.raises(UsageError) as caught:
        parse_store(text)
    assert said in str(caught.value)
    assert "hunter2" not in str(caught.value)
    if "after its ?" in said:
        return
    assert "valid are sqlite:///PATH" in str(caught.value) or "HOST:PORT/DATABASE" in str(
        caught.value
    )


def test_a_missing_psycopg_is_said_at_once(monkeypatch):
    monkeypatch.setitem(sys.modules, "psycopg", None)
    with pytest.raises(UsageError, match=r"pip install 'pytest-diffspeed\[postgresql\]'"):
        parse_store("postgresql://u:hunter2@h/db")
    assert parse_store("sqlite:///a") is not None


def test_the_folder_of_a_file_must_be_there(tmp_path):
    for path in ("nowhere/h.sqlite", "."):
        with pytest.raises(UsageError, match="must be a file in a folder there is"):
            check_store(parse_store(f"sqlite:///{path}"), tmp_path)
    check_store(parse_store("sqlite:///h.sqlite"), tmp_path)
    check_store(parse_store("sqlite:///.diffspeed/history.sqlite"), tmp_path)
    check_store(None, tmp_path)
