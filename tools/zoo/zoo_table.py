"""Writes what was found into `docs/pipelines.md`: a row for each pipeline, and the totals."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable, Mapping
from pathlib import Path
from types import MappingProxyType
from typing import Any

BEGIN, END = "<!-- zoo -->", "<!-- /zoo -->"
VERDICTS = ("right", "refused", "crash", "wrong")
COUNTED = ("syncs", "loop", "breaks", "recompiles")
COLUMNS = {
    "syncs": "syncs in scheduler.step",
    "loop": "syncs in the loop",
    "breaks": "no_graph_breaks",
    "recompiles": "no_recompiles",
    "fp32": "fp32",
    "bf16": "bf16",
    "channels_last": "channels_last",
    "fused_qkv": "fused_qkv",
    "no_sdpa": "no_sdpa",
    "cpu_sigmas": "cpu_sigmas",
    "images": "image_similarity",
}


def failures(found: Iterable[Mapping[str, Any]]) -> list[str]:
    return [
        f"{one['pipeline']}: {check}: {outcome['verdict']}: {outcome['found']}"
        for one in found
        for check, outcome in one["outcomes"].items()
        if outcome["verdict"] in ("crash", "wrong")
    ]


Found = Mapping[str, Mapping[str, Any]]


def write_table(found: Found, path: Path, planted: Found = MappingProxyType({})) -> None:
    """Put the table between its marks, the rest of the document stays.

    ``planted`` is what was found of planted faults, ``"graph break in unet"`` and so on.
    """
    text = path.read_text(encoding="utf-8")
    before, _, rest = text.partition(BEGIN)
    _, _, after = rest.partition(END)
    rows = "\n".join(table([found[name] for name in sorted(found)], planted))
    path.write_text(f"{before}{BEGIN}\n{rows}\n{END}{after}", encoding="utf-8")


def table(found: list[Mapping[str, Any]], planted: Found = MappingProxyType({})) -> Iterable[str]:
    if not found:
        yield "Not run yet."
        return
    commits = sorted({one["commit"] for one in (*found, *planted.values())})
    last = found[-1]
    yield (
        f"{len(found)} pipelines at {', '.join(commits)} with torch {last['torch']}, diffusers "
        f"{last['diffusers']}, transformers {last['transformers']}, Python {last['python']}:"
    )
    yield ""
    yield "| check | " + " | ".join(VERDICTS) + " | pipelines |"
    yield "|---|" + "---|" * (len(VERDICTS) + 1)
    checks = list(dict.fromkeys(key for one in found for key in one["outcomes"]))
    total: Counter[str] = Counter()
    for check in checks:
        verdicts = [o["outcomes"][check]["verdict"] for o in found if check in o["outcomes"]]
        total.update(verdicts)
        yield f"| {COLUMNS.get(check, check)} | {_counts(verdicts)} | {len(verdicts)} |"
    for fault, outcomes in _faults(planted).items():
        verdicts = [outcome["verdict"] for _, outcome in outcomes]
        total.update(verdicts)
        names = {name for name, _ in outcomes}
        yield f"| planted: {fault} in each component | {_counts(verdicts)} | {len(names)} |"
    yield f"| **all** | {_counts(list(total.elements()))} | {len(found)} |"
    yield ""
    yield "Syncs are those of `scheduler.step`, and of the denoising loop, in the first step and,"
    yield "at most, in a later one; breaks and recompilations (over the same call again, compiled"
    yield "by dynamo alone) are those of each component. *Faults named* are those planted of which"
    yield "the gate named the component. An empty cell was not run."
    yield ""
    run = [check for check in COLUMNS if check in checks]
    head = ["pipeline", "kind", "denoisers", "encoders, decoders", *(COLUMNS[c] for c in run)]
    head += ["faults named"] if planted else []
    yield "| " + " | ".join(head) + " |"
    yield "|---" * len(head) + "|"
    for one in found:
        yield _row(one, run, planted)
    reasons = list(_reasons([*found, *planted.values()]))
    if reasons:
        yield ""
        yield "Why, where it is not right:"
        yield ""
        yield from reasons


def _faults(planted: Found) -> dict[str, list[tuple[str, Mapping[str, Any]]]]:
    """For each kind of fault, the pipelines and the outcomes of all their components."""
    found: dict[str, list[tuple[str, Mapping[str, Any]]]] = {}
    for name, one in planted.items():
        for key, outcome in one["outcomes"].items():
            fault, planted_in, _ = key.partition(" in ")
            if planted_in:
                found.setdefault(fault, []).append((name, outcome))
    return found


def _counts(verdicts: list[str]) -> str:
    return " | ".join(str(verdicts.count(verdict)) for verdict in VERDICTS)


def _row(one: Mapping[str, Any], run: Iterable[str], planted: Found) -> str:
    roles = one.get("roles", {})
    denoisers, others = (
        ", ".join(f"{n} ×{calls}" for n, (role, calls) in roles.items() if role in kind)
        for kind in (("denoiser",), ("encoder", "decoder", "checker"))
    )
    cells = [f"`{one['pipeline']}`", one.get("kind", ""), denoisers, others]
    for check in run:
        outcome = one["outcomes"].get(check, {"verdict": "", "found": ""})
        counted = check in COUNTED and outcome["verdict"] == "right"
        cells.append(str(outcome["found"] if counted else outcome["verdict"]))
    if planted:
        outcomes = _faults({k: v for k, v in planted.items() if k == one["pipeline"]}).values()
        verdicts = [outcome["verdict"] for of_a_kind in outcomes for _, outcome in of_a_kind]
        cells.append(f"{verdicts.count('right')} of {len(verdicts)}" if verdicts else "")
    return "| " + " | ".join(cells) + " |"


def _reasons(found: Iterable[Mapping[str, Any]]) -> Iterable[str]:
    """Each sentence once, with the pipelines that it was said of."""
    said: dict[tuple[str, str, str], list[str]] = {}
    for one in found:
        kind = one["pipeline"].partition("-")[0]
        for check, outcome in one["outcomes"].items():
            if outcome["verdict"] == "right":
                continue
            words = outcome["found"].replace(f"random:{one['pipeline']}", "random:…")
            words = words.replace(kind, "…").replace("\n", " ").replace("|", "\\|")
            said.setdefault((check, outcome["verdict"], words), []).append(one["pipeline"])
    for (check, verdict, words), names in sorted(said.items()):
        listed = ", ".join(names[:4]) + (f" and {len(names) - 4} more" if len(names) > 4 else "")
        yield f"- {COLUMNS.get(check, check)} {verdict}: {words} ({listed})"
