"""The tables of ``docs/releases.md``, from the history that the sessions make."""

from __future__ import annotations

import tempfile
from collections.abc import Iterator, Sequence
from pathlib import Path

from sessions import Session

from pytest_diffspeed.common.text import number, shortened
from pytest_diffspeed.history.histories import read_histories
from pytest_diffspeed.history.record import add_session
from pytest_diffspeed.history.store import Store
from pytest_diffspeed.history.url import parse_store
from pytest_diffspeed.records.history_of_test import HistoryOfTest
from pytest_diffspeed.reports.site.moved_lines import MovedLine, explained

PAGE = Path(__file__).resolve().parents[2] / "docs" / "releases.md"
BEGIN, END = "<!-- made by `make releases` -->", "<!-- end -->"


def write_page(sessions: Sequence[Session]) -> None:
    """Write the tables between the two marks of the page."""
    before, _, rest = PAGE.read_text(encoding="utf-8").partition(BEGIN)
    _, _, after = rest.partition(END)
    PAGE.write_text(f"{before}{BEGIN}\n\n{tables(sessions)}\n{END}{after}", encoding="utf-8")


def tables(sessions: Sequence[Session]) -> str:
    """What each release counted, then each change with its lines."""
    return "\n".join([*_releases(sessions), "", *_changes(sessions)]) + "\n"


def _releases(sessions: Sequence[Session]) -> Iterator[str]:
    heads = ["release", "wheel of", "transformers", "schedulers", "without a sync in later steps"]
    yield f"| {' | '.join([*heads, 'pipelines', 'not counted'])} |"
    yield "|---|---|---|---|---|---|---|"
    for about, *gates in sessions:
        counted = [gate for gate in gates if gate["evidence"] == "counted"]
        schedulers = [gate for gate in counted if gate["claim"].endswith("scheduler.step")]
        free = sum(not any(gate["figures"]["per_step"]) for gate in schedulers)
        others = ", ".join(
            f"{gate['test']} ({shortened(gate['reason'].rstrip('.'), 90)})"
            for gate in gates
            if gate["evidence"] is None and not gate["test"].endswith("_flax")
        )
        flax = sum(gate["test"].endswith("_flax") for gate in gates)
        cells = [
            about["commit"],
            about["at"][:10],
            about["environment"]["transformers"],
            str(len(schedulers)),
            str(free),
            str(len(counted) - len(schedulers)),
            "; ".join(filter(None, (others, f"{flax} for Flax" if flax else ""))),
        ]
        yield f"| {' | '.join(cell.replace('|', '/') for cell in cells)} |"


def _changes(sessions: Sequence[Session]) -> Iterator[str]:
    yield "| release | of | syncs | lines that moved |"
    yield "|---|---|---|---|"
    order = [about["commit"] for about, *_ in sessions]
    rows = [row for history in _histories(sessions) for row in _rows(history)]
    for row in sorted(rows, key=lambda row: (order.index(row[0]), "Pipeline" in row[1], row)):
        yield f"| {' | '.join(cell.replace('|', chr(92) + '|') for cell in row)} |"


def _rows(history: HistoryOfTest) -> Iterator[tuple[str, str, str, str]]:
    """One for each release that changed a count of this test; its counts share their lines."""
    figures: dict[str, list[str]] = {}
    lines: dict[str, dict[str, None]] = {}
    for series in history.series:
        moved = {one.change.index: one.lines for one in explained(history, series)}
        for change in series.changes:
            release = str(series.points[change.index].commit)
            levels = f"{number(change.before)} → {number(change.after)}"
            figures.setdefault(release, []).append(f"{series.figure}: {levels}")
            found = map(_line, moved.get(change.index, ()))
            lines.setdefault(release, {}).update(dict.fromkeys(found))
    for release, several in figures.items():
        yield release, history.test, "<br>".join(several), "<br>".join(lines[release])


def _line(moved: MovedLine) -> str:
    source = shortened(moved.site.source.replace("`", "'"), 70)
    place = f"`{moved.site.where.removeprefix('diffusers/')}`"
    return f"{moved.how}: {place}{f' `{source}`' if source else ''}"


def _histories(sessions: Sequence[Session]) -> list[HistoryOfTest]:
    with tempfile.TemporaryDirectory() as folder:
        url = parse_store("sqlite:///history.sqlite")
        assert url is not None, "unreachable because only none has no store"
        store = Store(url, Path(folder))
        with store.writing() as connection:
            for session in sessions:
                add_session(connection, session)
        with store.reading() as connection:
            return list(read_histories(connection))
