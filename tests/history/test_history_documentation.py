"""``docs/history.md`` shows what is printed, and its code runs."""

import re
import shlex
from pathlib import Path

import pytest
from history_sessions import chained, example, moved

from pytest_diffspeed.commands.cli import main
from pytest_diffspeed.history.record import add_session
from pytest_diffspeed.history.store import Store
from pytest_diffspeed.history.url import DEFAULT, parse_store

DOCS = (Path(__file__).parents[2] / "docs" / "history.md").read_text(encoding="utf-8")


EXAMPLES = {"list": example, "show": example, "environments": moved, "index": chained}


@pytest.fixture
def stored(tmp_path, monkeypatch):
    """Store a history, all of it in one transaction."""

    def stored(sessions):
        monkeypatch.chdir(tmp_path)
        with Store(parse_store(DEFAULT), tmp_path).writing() as connection:
            for records in sessions:
                add_session(connection, records)

    return stored


@pytest.mark.parametrize("shown", EXAMPLES)
def test_the_documentation_shows_what_is_printed(stored, capsys, tmp_path, shown):
    block = rf"```console\n\$ diffspeed ([^\n]*)\n```\n\n<!-- {shown} -->\n```text\n(.*?)```"
    ((words, text),) = re.findall(block, DOCS, re.S)
    stored(EXAMPLES[shown]())
    assert main(shlex.split(words)) == 0
    assert capsys.readouterr().out.replace(str(tmp_path), "/project") == text


def test_the_code_of_the_documentation_runs(stored, capsys):
    stored(example())
    (code,) = re.findall(r"^```python\n(.*?)^```", DOCS, re.M | re.S)
    exec(compile(code, "docs/history.md", "exec"), {})
    lines = capsys.readouterr().out.splitlines()
    assert [line.split()[0] for line in lines] == ["ratio", "breaks", "breaks"]


def test_every_command_stands_in_the_documentation():
    for command in ("list", "show", "index", "export", "import", "prune"):
        assert f"diffspeed history {command}" in DOCS
