"""How often schedulers and pipelines of the installed diffusers make the CPU wait."""

from __future__ import annotations

import importlib
import inspect
import pkgutil
import time
from collections.abc import Callable, Iterator, Sequence
from dataclasses import asdict, dataclass
from functools import partial
from typing import TYPE_CHECKING, Any

from ..common.errors import UsageError, nearest
from ..common.quiet import third_party
from ..common.text import first_line
from ..syncs.count import count_syncs
from ..syncs.report import SyncReport

if TYPE_CHECKING:
    from ..pipelines.sources import PipelineSource
from ..syncs.scheduler_drivers import create


@dataclass(frozen=True)
class AuditRow:
    """One scheduler class or pipeline source: its report, or why there is none."""

    subject: str
    name: str
    report: SyncReport | None
    reason: str | None
    seconds: float

    def as_dict(self) -> dict[str, Any]:
        """For JSON: the name is called what it is of, ``scheduler`` or ``pipeline``."""
        fields = asdict(self)
        return {fields.pop("subject"): fields.pop("name"), **fields}


def scheduler_classes() -> Iterator[tuple[str, type[Any] | str]]:
    """Each scheduler class of diffusers by name, or the reason why its file does not import."""
    import diffusers.schedulers

    found: dict[str, type[Any] | str] = {}
    package = diffusers.schedulers
    for info in pkgutil.walk_packages(package.__path__, f"{package.__name__}."):
        if not info.name.rpartition(".")[2].startswith("scheduling_"):
            continue
        try:
            module = importlib.import_module(info.name)
        except ImportError as error:
            found[info.name.rpartition(".")[2]] = f"cannot be imported: {error}"
            continue
        for name, member in vars(module).items():
            if _is_scheduler(name, member, module.__name__):
                found[name] = member
    yield from sorted(found.items(), key=lambda item: item[0].lower())


def _is_scheduler(name: str, member: object, module: str) -> bool:
    return (
        inspect.isclass(member)
        and member.__module__ == module
        and hasattr(member, "set_timesteps")
        and not name.startswith("_")
    )


def unknown_names(names: Sequence[str]) -> None:
    """Refuse a misspelt class: it would be audited by nobody.

    Raises:
        UsageError: with the nearest names.
    """
    with third_party():
        known = [name for name, _ in scheduler_classes()]
    for name in names:
        if name not in known:
            raise UsageError(f"diffusers has no scheduler {name!r}; {nearest(name, known)}")


def audit_schedulers(
    *,
    device: str | None = None,
    steps: int = 6,
    only: Sequence[str] = (),
    on_row: Callable[[AuditRow], None] = lambda row: None,
) -> list[AuditRow]:
    """Count the syncs of ``steps`` steps of every scheduler (or of those named)."""

    def counted(scheduler: type[Any] | str) -> SyncReport:
        if isinstance(scheduler, str):
            raise NotThere(scheduler)
        return count_syncs(create(scheduler), device=device, steps=steps)

    with third_party():
        chosen = [(name, kind) for name, kind in scheduler_classes() if not only or name in only]
        return [_row("scheduler", name, partial(counted, kind), on_row) for name, kind in chosen]


def audit_pipelines(
    sources: Sequence[str] = (),
    *,
    device: str | None = None,
    steps: int = 4,
    on_row: Callable[[AuditRow], None] = lambda row: None,
) -> list[AuditRow]:
    """Count the syncs of one call of each pipeline source, or of every small one of diffusers.

    Counted is the whole call: the steps of its loops, and apart from them what is outside.

    Raises:
        UsageError, SourceError: a text that is no source.
    """
    from ..pipelines.sources import parse_source
    from ..pipelines.zoo import names

    parsed = [(text, parse_source(text)) for text in sources or [f"random:{n}" for n in names()]]

    def counted(source: PipelineSource) -> SyncReport:
        from ..pipelines.call import PipelineCall
        from ..syncs.prepared_call import count_call

        with third_party():
            pipeline = source.build()
            call = PipelineCall(pipeline, source.defaults(pipeline))
        return count_call(pipeline, call, scope="call", steps=steps, device=device)

    return [_row("pipeline", text, partial(counted, source), on_row) for text, source in parsed]


class NotThere(Exception):
    """What was to be audited cannot even be imported; the message says why."""


def _row(
    subject: str, name: str, count: Callable[[], SyncReport], on_row: Callable[[AuditRow], None]
) -> AuditRow:
    started = time.perf_counter()
    report, reason = None, None
    try:
        report = count()
    except NotThere as error:
        reason = str(error)
    except Exception as error:  # one of them must not hide the others
        reason = f"{type(error).__name__}: {first_line(error)}"
    row = AuditRow(subject, name, report, reason, time.perf_counter() - started)
    on_row(row)
    return row


def table(rows: Sequence[AuditRow], *, sites: bool = True) -> list[str]:
    """Text for a terminal: one line for each row, then its sites."""
    subject = rows[0].subject if rows else "scheduler"
    width = max((len(row.name) for row in rows), default=0)
    lines = [f"{subject:<{width}}  first  steady steps"]
    for row in rows:
        lines += row_lines(row, width, sites=sites)
    missing = sum(row.report is None for row in rows)
    clean = sum(row.report is not None and row.report.total == 0 for row in rows)
    evidence = next((row.report.evidence for row in rows if row.report is not None), "nothing ran")
    noun = subject if len(rows) == 1 else f"{subject}s"
    lines.append(
        f"{len(rows)} {noun}: {clean} without a sync, {missing} could not be run "
        f"(counted, {evidence})"
    )
    return lines


def row_lines(row: AuditRow, width: int, *, sites: bool = True) -> list[str]:
    """One row: counts of the first step, of each steady one, and of what is outside the steps."""
    if row.report is None:
        return [f"{row.name:<{width}}  could not be run: {row.reason}"]
    report = row.report
    steady = _steady(report.per_step)
    more = f"  (+{report.outside} outside the steps)" if report.outside else ""
    more += f"  (+{report.may_block} that may block)" if report.may_block else ""
    lines = [f"{row.name:<{width}}  {report.first_step:>5}  {steady}{more}"]
    if sites:
        lines += [f"    {site}" for site in report.sites if site.first_step or site.steady_steps]
        if len(report.schedulers) > 1:
            lines.append(f"    stepped: {', '.join(map(str, report.schedulers))}")
        if report.remark:
            lines.append(f"    {report.remark}")
    return lines


def _steady(per_step: Sequence[int]) -> str:
    return ", ".join(str(count) for count in per_step) or "none"
