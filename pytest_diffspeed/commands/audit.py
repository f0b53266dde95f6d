"""Every scheduler of the installed diffusers, and how often each makes the CPU wait."""

from __future__ import annotations

import importlib
import inspect
import pkgutil
import time
from collections.abc import Callable, Iterator, Sequence
from dataclasses import asdict, dataclass
from typing import Any

from ..common.errors import UsageError, nearest
from ..common.quiet import third_party
from ..syncs.count import count_syncs
from ..syncs.report import SyncReport
from ..syncs.scheduler_drivers import create


@dataclass(frozen=True)
class AuditRow:
    """One scheduler class: its report, or why there is none."""

    scheduler: str
    report: SyncReport | None
    reason: str | None
    seconds: float

    def as_dict(self) -> dict[str, Any]:
        return asdict(self)


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
    rows = []
    with third_party():
        for name, scheduler in scheduler_classes():
            if only and name not in only:
                continue
            started = time.perf_counter()
            report, reason = None, None
            if isinstance(scheduler, str):
                reason = scheduler
            else:
                try:
                    report = count_syncs(create(scheduler), device=device, steps=steps)
                except Exception as error:  # one scheduler must not hide the others
                    reason = f"{type(error).__name__}: {_first_line(error)}"
            row = AuditRow(name, report, reason, time.perf_counter() - started)
            rows.append(row)
            on_row(row)
    return rows


def _first_line(error: Exception) -> str:
    return (str(error).strip() or "no message").splitlines()[0]


def table(rows: Sequence[AuditRow], *, sites: bool = True) -> list[str]:
    """Text for a terminal: one line a scheduler, then its sites."""
    width = max((len(row.scheduler) for row in rows), default=0)
    lines = [f"{'scheduler':<{width}}  first  steady steps"]
    for row in rows:
        if row.report is None:
            lines.append(f"{row.scheduler:<{width}}  could not be run: {row.reason}")
            continue
        report = row.report
        steady = ", ".join(str(count) for count in report.per_step) or "none"
        more = f"  (+{report.may_block} that may block)" if report.may_block else ""
        lines.append(f"{row.scheduler:<{width}}  {report.first_step:>5}  {steady}{more}")
        if sites:
            lines += [f"    {site}" for site in report.sites]
    missing = sum(row.report is None for row in rows)
    clean = sum(row.report is not None and row.report.total == 0 for row in rows)
    evidence = next((row.report.evidence for row in rows if row.report is not None), "nothing ran")
    lines.append(
        f"{len(rows)} schedulers: {clean} without a sync, {missing} could not be run "
        f"(counted, {evidence})"
    )
    return lines
