"""Several files of records as one session: shards of a suite, and devices of several kinds.

Nothing that ran is left out, and nothing that did not run looks as if it had: what is missing is
told in sentences, and makes the whole red (:mod:`.outcome`).  Where one test ran twice on a device,
both runs stand and the whole is as red as the worse one: the second is no better witness than the
first, and a report that chose would let a job be run again until it is green.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

from ..common.errors import RecordError
from ..common.text import listed, plural
from ..common.workdir import NAME
from .devices import columns, columns_of, device_name, tests_of, tests_of_several
from .lines import Lines, read_lines
from .reader import RecordedSession, by_session, put_together, recorded_session
from .shard import Shard, shard_of

_EVIDENCE = frozenset({"gate", "gate-error", "pair", "dropped-pair", "ladder"})
_MOST_NAMES = 3
KILLED = "its session was killed before this had a verdict"


@dataclass(frozen=True)
class Merged:
    """``records`` are those of all sessions, one after the other; ``session`` is what they tell."""

    records: tuple[Mapping[str, Any], ...]
    session: RecordedSession


@dataclass(frozen=True)
class _Told:
    """The records of one session, and the file that they stand in."""

    path: Path
    records: Sequence[Mapping[str, Any]]

    @property
    def name(self) -> str | None:
        return str(self.records[0]["session"]) if self.records[0]["kind"] == "session" else None

    @property
    def weight(self) -> tuple[int, int]:
        """Which of two copies holds more: evidence first, then all else."""
        return sum(one["kind"] in _EVIDENCE for one in self.records), len(self.records)


def merge(
    paths: Sequence[Path], *, sessions: int | None = None, mixed_commits: bool = False
) -> Merged:
    """What the files tell as one.

    Args:
        paths: files of ``--diffspeed-json``, journals, or merged ones.
        sessions: how many sessions there must be; ``None`` where only the shards themselves know.
        mixed_commits: take sessions of several commits all the same.

    Raises:
        RecordError: a file cannot be read or is of another schema, none holds a record, or the
            sessions are of several commits.
    """
    files = [read_lines(path) for path in paths]
    told, remarks = _each_once([one for lines in files for one in _sessions_of(lines)])
    missing = [f"{lines.path} holds no records{_but(lines)}" for lines in files if not _has(lines)]
    if not told:
        raise RecordError(f"{listed(missing)}, and nothing was written")
    parts = [_part(one, several=len(paths) > 1) for one in told]
    if not mixed_commits:
        _refuse_mixed_commits(parts)
    else:
        remarks += _mixed(parts)
    whole = put_together(
        _with_unreached(parts),
        files[0].path,
        sum(lines.left_out for lines in files),
        "; ".join(lines.note for lines in files if lines.note is not None) or None,
    )
    missing += [*_killed(parts), *_missing_shards(parts), *_too_few(parts, sessions)]
    whole = replace(whole, missing=tuple(missing), remarks=(*remarks, *_ran_twice(whole)))
    return Merged(tuple(record for one in told for record in one.records), whole)


def _has(lines: Lines) -> bool:
    return bool(lines.records)


def _but(lines: Lines) -> str:
    return "" if lines.note is None else f" ({lines.note})"


def _sessions_of(lines: Lines) -> list[_Told]:
    return [_Told(lines.path, records) for records in by_session(lines.records) if records]


def _each_once(told: Sequence[_Told]) -> tuple[list[_Told], list[str]]:
    """Of copies of one session the fullest: a journal beside what the session wrote when it ended,
    or a file that was named twice.
    """
    fullest: dict[object, _Told] = {}
    remarks = []
    for one in told:
        key: object = one.name or id(one)
        known = fullest.get(key)
        if known is None:
            fullest[key] = one
            continue
        kept, left = (one, known) if one.weight > known.weight else (known, one)
        fullest[key] = kept
        remarks.append(
            f"{left.path} holds the session of {kept.path} once more; it was taken once, from the "
            "file that holds more of it"
        )
    return list(fullest.values()), remarks


def _part(told: _Told, *, several: bool) -> RecordedSession:
    """One session, with its pictures beside its file where its folder of ours came with it."""
    part = recorded_session(told.records, told.path)
    folder = told.path.absolute().parent
    return replace(part, pictures_from=folder) if several and (folder / NAME).is_dir() else part


def _refuse_mixed_commits(parts: Sequence[RecordedSession]) -> None:
    for sentence in _mixed(parts):
        raise RecordError(
            f"{sentence}; one report on several would mix them. Leave the older files out, or say "
            "--mixed-commits"
        )


def _mixed(parts: Sequence[RecordedSession]) -> list[str]:
    """Says which commits, or which working trees of one commit, the sessions are of."""
    clean = {_tree(part) for part in parts if part.about.get("dirty") is False}
    found: dict[tuple[object, object], RecordedSession] = {}
    for part in parts:
        tree = _tree(part)
        if part.about.get("dirty") is False or (tree is not None and tree in clean):
            tree = "as committed"
        if tree is not None or part.about.get("commit") is not None:
            found.setdefault((part.about.get("commit"), tree), part)
    commits = {commit for commit, _ in found}
    # A session without gates took no digest of its tree: of one commit, it says nothing more.
    told = [(key, part) for key, part in found.items() if len(commits) > 1 or key[1] is not None]
    if len(told) < 2:
        return []
    what = "commits" if len(commits) > 1 else "working trees"
    named = [
        f"{part.path}: {str(commit or 'no commit')[:12]}"
        f"{' with uncommitted changes' if part.about.get('dirty') else ''}"
        for (commit, _), part in told
    ]
    return [f"the records are of {len(told)} {what} ({_some(named)})"]


def _tree(part: RecordedSession) -> object:
    """The digest of the working tree; ``None`` where nobody took it."""
    tree = part.about.get("tree")
    return tree.get("digest") if isinstance(tree, Mapping) else None


def _with_unreached(parts: Sequence[RecordedSession]) -> list[RecordedSession]:
    """With the gates that a killed session was about to check as gates that did not run."""
    known: dict[int, set[tuple[str, str]]] = {}
    for column in columns_of(parts):
        found = set().union(*map(_gates_of, column.sessions))
        known |= {id(part): found for part in column.sessions}
    return [
        part if has_ended(part) else replace(part, not_run=_with_lost(part, known[id(part)]))
        for part in parts
    ]


def _gates_of(part: RecordedSession) -> set[tuple[str, str]]:
    """Test and claim of every gate that a session says anything of."""
    lost = {(str(line["test"]), str(line["claim"])) for line in part.not_run}
    return lost | {(gate.result.test, gate.result.claim) for gate in part.gates}


def _with_lost(part: RecordedSession, known: set[tuple[str, str]]) -> tuple[Mapping[str, Any], ...]:
    lost = [
        {"kind": "not-run", "test": test, "claim": claim, "reason": KILLED}
        for line in part.asked
        for test, claims in line["tests"].items()
        for claim in claims
        if (test, claim) not in known
    ]
    return (*part.not_run, *lost)


def has_ended(part: RecordedSession) -> bool:
    """Whether a session ended by itself.

    Versions before 0.2 wrote no ``end``, and lines of tests only when they ended.
    """
    return part.end is not None or (bool(part.tests) and not part.asked)


def _killed(parts: Sequence[RecordedSession]) -> Iterator[str]:
    for part in parts:
        if not has_ended(part):
            reached = tests_of(replace(part, not_run=())) if part.asked else set()
            waiting = {test for line in part.asked for test in line["tests"]} - reached
            lost = f"; it had not reached {plural(len(waiting), 'test')}" if waiting else ""
            yield (
                f"{part.path}: this session has no end: it was killed, or still runs{lost}. What "
                "it had found is here"
            )


def _missing_shards(parts: Sequence[RecordedSession]) -> Iterator[str]:
    """What the shards that are here know of those that are not."""
    found = [(shard, part) for part in parts if (shard := shard_of(part.about)) is not None]
    plans = dict.fromkeys((shard.of, shard.plan) for shard, _ in found)
    if len({plan for _, plan in plans}) > 1 or len({of for of, _ in plans}) > 1:
        named = [f"{part.path}: {shard.word}" for shard, part in found]
        if not _is_plan_a_device(found):
            yield (
                f"the shards are of {len(plans)} plans ({_some(named)}), and of two plans a test "
                "may be in none: make one plan, and run all of its shards"
            )
    for of, plan in plans:
        of_plan = [(s, part) for s, part in found if (s.of, s.plan) == (of, plan)]
        for where, numbers in _by_device(of_plan):
            lost = sorted(set(range(1, of + 1)) - numbers)
            if lost:
                words = ", ".join(f"{number}/{of}" for number in lost)
                what = f"shard {words} is" if len(lost) == 1 else f"shards {words} are"
                yield f"{what} not here{where}: what it was to run did not run, or its file is lost"


def _is_plan_a_device(found: Sequence[tuple[Shard, RecordedSession]]) -> bool:
    """Whether each device has a plan of its own, as where seconds of each were recorded."""
    of_device: dict[str, set[object]] = {}
    for shard, part in found:
        of_device.setdefault(_kind(part), set()).add((shard.of, shard.plan))
    return len(of_device) > 1 and all(len(plans) == 1 for plans in of_device.values())


def _by_device(
    found: Sequence[tuple[Shard, RecordedSession]],
) -> Iterator[tuple[str, set[int]]]:
    """The numbers that are here: of all devices as one suite, unless one number ran on several
    kinds, as in a matrix of devices, which all need every shard.
    """
    kinds: dict[str, set[int]] = {}
    for shard, part in found:
        kinds.setdefault(_kind(part), set()).add(shard.number)
    many = Counter(number for numbers in kinds.values() for number in numbers)
    if max(many.values()) == 1:
        yield "", set(many)
    else:
        yield from ((f" of {kind}", numbers) for kind, numbers in kinds.items())


def _kind(part: RecordedSession) -> str:
    """What a matrix would name: a GPU's model, or any CPU, since hosted runners have several."""
    device = part.about.get("device")
    kind = device.get("kind") if isinstance(device, Mapping) else None
    return "a CPU" if kind == "cpu" else device_name(part.about)


def _too_few(parts: Sequence[RecordedSession], sessions: int | None) -> Iterator[str]:
    if sessions is not None and len(parts) < sessions:
        yield f"{plural(len(parts), 'session')} of {sessions} are here (--shards {sessions})"


def _ran_twice(whole: RecordedSession) -> Iterator[str]:
    for column in columns(whole):
        tests = tests_of_several(column)
        if tests:
            yield (
                f"{plural(len(tests), 'test')} ran in more than one session on {column.title} "
                f"({_some(tests)}): each run counts, and one that is red makes the whole red"
            )


def _some(names: Sequence[str]) -> str:
    shown = list(names[:_MOST_NAMES])
    more = len(names) - len(shown)
    return "; ".join([*shown, *([f"{more} more"] if more else [])])
