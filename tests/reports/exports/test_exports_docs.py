"""The commands in docs/exports.md run, and print what stands there."""

import re
import shlex
import subprocess
import sys
from pathlib import Path

import pytest

from pytest_diffspeed.commands.cli import main
from pytest_diffspeed.records.reader import read_journal
from pytest_diffspeed.reports.exports.junit import properties

TEXT = (Path(__file__).parents[3] / "docs" / "exports.md").read_text(encoding="utf-8")


def blocks(language):
    return re.findall(rf"^```{language}\n(.*?)^```", TEXT, re.M | re.S)


@pytest.fixture
def folder(tmp_path, monkeypatch):
    (records,) = blocks("json")
    (tmp_path / "records.jsonl").write_text(records, encoding="utf-8")
    monkeypatch.chdir(tmp_path)
    return tmp_path


def test_each_command_prints_what_is_shown(folder, capsys):
    commands = [
        shown.partition("\n")
        for block in blocks("console")
        for shown in re.split(r"^\$ ", block, flags=re.M)[1:]
    ]
    assert len(commands) == 5
    for command, _, expected in commands:
        words = shlex.split(command)
        if words[0] == "diffspeed":
            assert main(words[1:]) == 0
            shown = capsys.readouterr()
            assert shown.err + shown.out == expected
        else:
            assert words.pop(0) == "pytest-benchmark"
            told = subprocess.run(
                [sys.executable, "-m", "pytest_benchmark", *words], capture_output=True, text=True
            )
            table = told.stdout.partition("Legend:")[0]
            assert table.split() == expected.split(), table


def test_the_properties_are_those_of_the_records(folder):
    (shown,) = blocks("xml")
    (result,) = (
        gate.result
        for gate in read_journal(folder / "records.jsonl").gates
        if gate.result.gate == "min_speedup"
    )
    told = [f'<property name="{name}" value="{value}"/>' for name, value in properties([result])]
    assert [line for line in told if not line.endswith('_s"')][: len(shown.splitlines())] == (
        shown.splitlines()
    )
