"""``docs/history.md`` shows what is printed, and its code runs."""

import re
from pathlib import Path

import pytest
from history_sessions import example

from pytest_diffspeed.commands.cli import main
from pytest_diffspeed.history.record import add_session
from pytest_diffspeed.history.store import Store
from pytest_diffspeed.history.url import DEFAULT, parse_store

DOCS = (Path(__file__).parents[2] / "docs" / "history.md").read_text(encoding="utf-8")


@pytest.fixture
def history(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    for records in example():
        with Store(parse_store(DEFAULT), tmp_path).writing() as connection:
            add_session(connection, records)


@pytest.mark.parametrize("words", [("list",), ("show", "test_fast")])
def test_the_documentation_shows_what_is_printed(history, capsys, tmp_path, words):
    (shown,) = re.findall(rf"<!-- {words[0]} -->\n```text\n(.*?)```", DOCS, re.S)
    assert main(["history", *words]) == 0
    assert capsys.readouterr().out.replace(str(tmp_path), "/project") == shown


def test_the_code_of_the_documentation_runs(history, capsys):
    (code,) = re.findall(r"^```python\n(.*?)^```", DOCS, re.M | re.S)
    exec(compile(code, "docs/history.md", "exec"), {})
    lines = capsys.readouterr().out.splitlines()
    assert [line.split()[0] for line in lines] == ["ratio", "breaks", "breaks"]


def test_every_command_stands_in_the_documentation():
    for command in ("list", "show", "export", "import", "prune"):
        assert f"diffspeed history {command}" in DOCS
