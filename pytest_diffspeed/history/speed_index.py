"""Speed indexes of a history: gates of speed against a base, chained over commits.

A ratio over fp32 says nothing where both arms become slower, and its series ends where the machine
changes.  A ratio of one commit to another says both, and is of two commits wherever it is measured.
"""

from __future__ import annotations

import json
import math
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from sqlalchemy import Connection, and_, or_, select

from ..records.speed_index import BaseComparison, Curve, IndexPoint, SpeedIndex
from ..statistics.chain import LogRatio, Reached, chained, combined
from ..statistics.unstopped import unstopped_median
from .figures import finite_number
from .record import call_of, seconds
from .series import iso
from .store import Store
from .tables import POINT, RECORD, SERIES, SESSION
from .url import StoreUrl, parse_store

_OVER_BASE = " over base per "
"""In the claim of each gate of speed against a base."""


def indexes_of(store_url: StoreUrl | str, rootdir: Path) -> list[SpeedIndex]:
    """The speed indexes of a store; empty where nothing was stored yet.

    Args:
        store_url: as ``--diffspeed-store``.
        rootdir: from where a relative path in it starts.

    Raises:
        UsageError: no store can be meant.
        StoreError: the store cannot be read.
    """
    url = parse_store(store_url) if isinstance(store_url, str) else store_url
    store = None if url is None else Store(url, rootdir)
    if store is None or not store.is_there:
        return []
    with store.reading() as connection:
        return read_indexes(connection)


def read_indexes(
    connection: Connection, test: str | None = None, anchor: str | None = None
) -> list[SpeedIndex]:
    """The indexes of a test, or of all; several of one where no comparison joins its commits.

    Counted are gates of clean trees whose base is another commit in the same environment.

    Args:
        connection: to a history.
        test: of this test only.
        anchor: the beginning of the name of the commit where the index is 1; where it is not in a
            chain, and without it, that is the chain's first commit.
    """
    curves: dict[Curve, _Curve] = {}
    for measured in _measured(connection, test):
        curves.setdefault(measured.curve, _Curve()).add(measured)
    return [
        index
        for identity, curve in sorted(curves.items())
        for index in curve.indexes(identity, anchor)
    ]


@dataclass(frozen=True)
class _Commit:
    """``is_dated``: whether its time is its own, and not that of a session with it."""

    name: str
    at_s: float
    subject: str | None
    is_dated: bool


@dataclass(frozen=True)
class _Measured:
    """A gate against a base."""

    curve: Curve
    session: int
    machine: str
    base: _Commit
    head: _Commit
    ratio: LogRatio
    pairs: float
    holds_earlier: bool
    error: float
    notes: tuple[str, ...]


@dataclass
class _Curve:
    """All that was measured for one curve, in the order of sessions."""

    commits: dict[str, _Commit] = field(default_factory=dict)
    links: dict[tuple[str, str], list[_Measured]] = field(default_factory=dict)

    def add(self, new: _Measured) -> None:
        """Add a gate to its link, in place of those that are not independent of it.

        Gates of one session with one unit share their pairs: the one with the most counts.  Pairs
        of earlier sessions stand in one that went on with them.
        """
        for commit in (new.base, new.head):
            known = self.commits.get(commit.name)
            if known is None or (commit.is_dated and not known.is_dated):
                self.commits[commit.name] = commit
        link = self.links.setdefault((new.base.name, new.head.name), [])
        if any(old.session == new.session and old.pairs > new.pairs for old in link):
            return
        link[:] = [
            old
            for old in link
            if old.session != new.session and not (new.holds_earlier and old.machine == new.machine)
        ]
        link.append(new)

    def indexes(self, identity: Curve, anchor: str | None) -> Iterator[SpeedIndex]:
        ratios = {
            link: combined([one.ratio for one in several]) for link, several in self.links.items()
        }
        order = self._order()
        start = None
        if anchor is not None:
            start = next((name for name in self.commits if name.startswith(anchor)), None)
        for chain in chained(ratios, order.__getitem__, start):
            inside = {reached.node for reached in chain}
            links = sorted(
                ((link, ratio) for link, ratio in ratios.items() if link[0] in inside),
                key=lambda entry: (order[entry[0][1]], entry[0]),
            )
            behind = [one for link, _ in links for one in self.links[link]]
            yield SpeedIndex(
                *identity,
                points=[self._point(reached) for reached in chain],
                comparisons=[self._comparison(link, ratio) for link, ratio in links],
                environments=len({one.machine for one in behind}),
                by_chance=math.fsum(
                    max(one.error for one in self.links[link]) for link, _ in links
                ),
            )

    def _order(self) -> dict[str, int]:
        """The places of commits by their times; of one second, a base before its heads."""
        after = dict.fromkeys(self.commits, 0)
        links = [
            (base, head)
            for base, head in self.links
            if self.commits[base].at_s == self.commits[head].at_s
        ]
        for _ in links:  # so often at most, even if they go in a circle
            before = dict(after)
            for base, head in links:
                after[head] = max(after[head], after[base] + 1)
            if after == before:
                break
        names = sorted(after, key=lambda name: (self.commits[name].at_s, after[name], name))
        return {name: place for place, name in enumerate(names)}

    def _point(self, reached: Reached) -> IndexPoint:
        commit, total = self.commits[reached.node], reached.total
        return IndexPoint(
            commit=commit.name,
            at=iso(commit.at_s),
            subject=commit.subject,
            value=total.ratio,
            low=total.low,
            high=total.high,
        )

    def _comparison(self, link: tuple[str, str], ratio: LogRatio) -> BaseComparison:
        several = self.links[link]
        return BaseComparison(
            *link,
            subject=self.commits[link[1]].subject,
            ratio=ratio.ratio,
            low=ratio.low,
            high=ratio.high,
            sessions=len(several),
            notes=tuple(dict.fromkeys(note for one in several for note in one.notes)),
        )


def _measured(connection: Connection, test: str | None) -> Iterator[_Measured]:
    """Gates of speed against a base, each after the ``session`` line of its session."""
    of_base = (
        select(POINT.c.session_id)
        .join(SERIES, SERIES.c.id == POINT.c.series_id)
        .where(SERIES.c.claim.contains(_OVER_BASE, autoescape=True))
    )
    if test is not None:
        of_base = of_base.where(SERIES.c.test == test)
    is_of_gate = and_(
        RECORD.c.kind.in_(("gate", "gate-start", "pair")),
        RECORD.c.content.contains(_OVER_BASE, autoescape=True),
    )
    lines = (
        select(
            RECORD.c.kind,
            RECORD.c.content,
            *(SESSION.c[name] for name in ("id", "commit_name", "subject", "machine")),
            *(SESSION.c[name] for name in ("at_s", "committed_s")),
        )
        .join(SESSION, SESSION.c.id == RECORD.c.session_id)
        .where(SESSION.c.id.in_(of_base), ~SESSION.c.dirty, SESSION.c.commit_name.is_not(None))
        .where(or_(RECORD.c.kind == "session", is_of_gate))
        .order_by(SESSION.c.at_s, SESSION.c.id, RECORD.c.position)
    )
    about: Mapping[str, Any] = {}
    pairs: dict[tuple[str, str, str], list[Mapping[str, Any]]] = {}
    for row in connection.execute(lines.execution_options(yield_per=1000)):
        record = json.loads(row.content)
        if row.kind == "session":
            about, pairs = record, {}
            continue
        if test is not None and record["test"] != test:
            continue
        identity = record["test"], record["stack"], record["claim"]
        if row.kind == "pair":
            pairs.setdefault(identity, []).append(record)
            continue
        own = pairs.pop(identity, [])  # a gate that runs again starts again
        if row.kind == "gate":
            at_s = row.at_s if row.committed_s is None else row.committed_s
            head = _Commit(row.commit_name, at_s, row.subject, row.committed_s is not None)
            found = _link(record, own, about, row.id, row.machine, head)
            if found is not None:
                yield found


def _link(
    gate: Mapping[str, Any],
    pairs: Sequence[Mapping[str, Any]],
    about: Mapping[str, Any],
    session: int,
    machine: str,
    head: _Commit,
) -> _Measured | None:
    """``None`` of what says nothing about two commits."""
    figures = gate["figures"]
    base = figures.get("against_base")
    if not isinstance(base, Mapping) or "remembered_from" in figures:
        return None
    name = base.get("commit")
    is_of_commits = isinstance(name, str) and name and name != head.name
    if not is_of_commits or base.get("python") or base.get("environment"):
        return None
    ratio = finite_number(figures.get("ratio"))
    if ratio is None or ratio <= 0:
        return None
    committed_s = seconds(base.get("committed_at"))
    subject = base.get("subject")
    source = gate.get("source") or about.get("pipeline", "unknown pipeline")
    coverage = finite_number(figures.get("coverage"))
    differing = figures.get("differing")
    return _Measured(
        curve=(
            gate["test"],
            gate["stack"],
            str(figures.get("unit", "call")),
            f"{source}{call_of(about)}",
            str(about["device"].get("kind", "unknown device")),
        ),
        session=session,
        machine=machine,
        base=_Commit(
            str(name),
            head.at_s if committed_s is None else committed_s,
            subject if isinstance(subject, str) else None,
            committed_s is not None,
        ),
        head=head,
        ratio=LogRatio.of(
            _without_luck(figures, pairs) or ratio,
            finite_number(figures.get("low")),
            finite_number(figures.get("high")),
        ),
        pairs=finite_number(figures.get("pairs")) or 0,
        holds_earlier=bool(finite_number(figures.get("earlier_pairs"))),
        error=(1 - (0.9 if coverage is None else coverage)) / 2,
        notes=_texts(differing),
    )


def _without_luck(figures: Mapping[str, Any], pairs: Sequence[Mapping[str, Any]]) -> float | None:
    """The ratio of a gate as if it had not stopped at lucky pairs: what a chain must be made of.

    ``None`` where that cannot be told: the record has not all of its pairs, or other bets.
    """
    need, alpha, coverage = (
        finite_number(figures.get(name)) for name in ("need", "alpha", "coverage")
    )
    counted = [pair for pair in pairs if pair["dropped"] is None]
    if figures.get("method") != "sign" or len(counted) != figures.get("pairs"):
        return None
    if need is None or alpha is None or coverage is None or need <= 0:
        return None
    beta = 1 - alpha - coverage
    if not (0 < alpha < 0.5 and 0 < beta < 0.5):
        return None
    xs = [math.log(pair["baseline_s"] / pair["candidate_s"] / need) for pair in counted]
    median = unstopped_median(xs, alpha, beta)
    return None if median is None else need * math.exp(median)


def _texts(several: object) -> tuple[str, ...]:
    if not isinstance(several, Sequence) or isinstance(several, str):
        return ()
    return tuple(one for one in several if isinstance(one, str))
