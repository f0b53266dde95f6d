"""Sessions as a run writes them: the lines of ``--diffspeed-json``, with figures of our choice."""

from datetime import datetime, timedelta, timezone
from hashlib import sha1

START = datetime(2026, 1, 1, tzinfo=timezone.utc)
ENVIRONMENT = {"device": "AMD EPYC, 2 cores", "threads": 2, "python": "3.11.7", "torch": "2.13.0"}


def commit_name(number):
    return sha1(f"commit {number}".encode()).hexdigest()


def session_line(number, *, name=None, dirty=False, machine="ab12" * 8, commit=True, **other):
    """The first line of the session of the ``number``-th commit, an hour after the one before."""
    at = START + timedelta(hours=number)
    return {
        "kind": "session",
        "session": name or f"{number:032x}",
        "at": (at + timedelta(minutes=5)).isoformat(timespec="seconds"),
        "version": "0.1.0",
        "commit": commit_name(number) if commit else None,
        "committed_at": at.isoformat(timespec="seconds") if commit else None,
        "subject": f"Change {number}" if commit else None,
        "dirty": dirty if commit else None,
        "environment": ENVIRONMENT,
        "machine": machine,
        "device": {"kind": "cpu", "index": None, "name": "AMD EPYC, 2 cores"},
        "pipeline": "demo",
        "options": {"steps": 4, "prompts": [], "techniques": [], "budget_s": None, "fresh": False},
        "base": None,
        **other,
    }


def gate_lines(
    test="test_sdxl.py::test_fast[compile]", stack="compile", *, ratio=None, breaks=None, pairs=6
):
    """The lines of a gate on a ratio, with its pairs, and of one that counts graph breaks."""
    lines = []
    if ratio is not None:
        who = {"test": test, "stack": stack, "claim": "min_speedup over fp32 per call"}
        lines.append({"kind": "gate-start", **who, "seed": 1, "over": "fp32", "need": 1.1})
        for index in range(pairs):
            seconds = {"baseline_s": 0.5 + index / 1000, "candidate_s": 0.5 / ratio}
            order = {"candidate_first": index % 2 == 0, "dropped": None, "index": index}
            lines.append({"kind": "pair", **who, **order, **seconds})
        figures = {"over": "fp32", "unit": "call", "ratio": ratio, "pairs": pairs, "noise": 0.02}
        figures |= {"low": ratio * 0.97, "high": ratio * 1.03}
        verdict = {"verdict": "PASS", "reason": "6 of 6 pairs above", "evidence": "measured"}
        gate = {"gate": "min_speedup", **who, **verdict, "blocking": False, "figures": figures}
        lines.append({"kind": "gate", **gate})
    if breaks is not None:
        who = {"test": test, "stack": stack, "claim": "no_graph_breaks"}
        verdict = {"verdict": "FAIL" if breaks else "PASS", "reason": "", "evidence": "counted"}
        figures = {"found": f"{breaks} graph breaks", "breaks": breaks, "allowed": 0}
        gate = {"gate": "no_graph_breaks", **who, **verdict, "blocking": bool(breaks)}
        lines.append({"kind": "gate", **gate, "figures": figures})
    lines.append({"kind": "test", "test": test, "outcome": "passed", "stack": stack})
    return lines


def session(number, *, ratio=1.5, breaks=0, **about):
    """All records of one session with one test."""
    return [session_line(number, **about), *gate_lines(ratio=ratio, breaks=breaks)]


def example():
    """The history that ``docs/history.md`` shows: 90 commits, one of which made it slower."""
    from random import Random

    shuffle = Random(5)
    for number in range(90):
        ratio = (1.72 if number < 61 else 1.51) * shuffle.gauss(1, 0.015)
        yield session(number, ratio=ratio, breaks=2 if number == 40 else 0)


UPGRADED = {**ENVIRONMENT, "threads": 4, "torch": "2.14.1", "torchao": "0.18.0"}


def moved():
    """The history that ``docs/history.md`` shows for a change of the environment: after eight
    commits a newer torch on more threads, and a torchao.
    """
    from random import Random

    shuffle = Random(7)
    for number in range(16):
        ratio = (1.72 if number < 8 else 1.61) * shuffle.gauss(1, 0.015)
        where = {} if number < 8 else {"environment": UPGRADED, "machine": "cd34" * 8}
        yield session(number, ratio=ratio, breaks=None, **where)


def base_line(
    head,
    base,
    ratio,
    *,
    half=0.03,
    test="test_sdxl.py::test_fast[compile]",
    claim="max_slowdown over base per call",
    about=(),
    **figures,
):
    """The line of a gate of speed of commit ``head`` against commit ``base``."""
    start = session_line(base)
    against = {"rev": "main", "commit": start["commit"], "committed_at": start["committed_at"]}
    against |= {"subject": start["subject"], "python": None, "environment": None, **dict(about)}
    figures = {"over": "base", "unit": "call", "ratio": ratio, "pairs": 12, **figures}
    figures = {"low": ratio * (1 - half), "high": ratio * (1 + half), **figures}
    who = {"gate": claim.partition(" ")[0], "claim": claim, "test": test, "stack": "compile"}
    verdict = {"verdict": "PASS", "reason": "", "evidence": "measured", "blocking": False}
    return {"kind": "gate", **who, **verdict, "figures": {"against_base": against, **figures}}


def compared(head, base, ratio, *, about=(), **line):
    """The session of commit ``head``, compared with commit ``base``."""
    return [session_line(head, **dict(about)), base_line(head, base, ratio, **line)]


def chained():
    """The history that ``docs/history.md`` shows for a speed index: 20 commits, each compared with
    the one before, of which the eighth made all stacks slower; a newer torch from the tenth on.
    Nobody compared the 16th.
    """
    from random import Random

    shuffle = Random(3)
    for number in range(1, 21):
        where = {} if number < 10 else {"environment": UPGRADED, "machine": "cd34" * 8}
        ratio = (0.91 if number == 8 else 1.0) * shuffle.gauss(1, 0.006)
        if number != 16:
            yield compared(number, number - 1, ratio, half=0.015, coverage=0.9, about=where)
