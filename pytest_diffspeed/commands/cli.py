"""What is no test run: audits, image limits, history, reports and exports."""

from __future__ import annotations

import argparse
import json
import os
import select
import sys
from collections.abc import Sequence
from typing import TYPE_CHECKING, TextIO

from ..accelerators.registry import counting_words
from ..common.errors import DiffspeedError
from .cost import add_parser as add_cost
from .export import add_parser as add_export
from .init import add_parser as add_init
from .plan_options import add_plan_options
from .report import add_report
from .verify import add_parser as add_verify

if TYPE_CHECKING:
    from .audit import AuditRow


def main(argv: Sequence[str] | None = None) -> int:
    """The exit status: 0; 2 where what was asked could not be done; 1 is a command's own.

    130 where it was interrupted, and 141, without a word, where who reads what is printed has seen
    enough (``| head``).
    """
    try:
        try:
            return _run(argv)
        finally:
            sys.stdout.flush()  # a reader that is gone is met here, not as Python ends
    except BrokenPipeError:
        # Another pipe's error, such as one to a process of ours, is not to be hushed up.
        if not any([_is_unread(stream) for stream in (sys.stdout, sys.stderr)]):
            raise
        return UNREAD


def _is_unread(stream: TextIO) -> bool:
    """Whether nobody reads it any more; then nothing is written to it from now on."""
    asked = select.poll()
    asked.register(stream.fileno(), 0)  # errors are told unasked
    if not asked.poll(0):
        return False
    os.dup2(os.open(os.devnull, os.O_WRONLY), stream.fileno())
    return True


def _run(argv: Sequence[str] | None) -> int:
    args = list(sys.argv[1:] if argv is None else argv)
    here = os.getcwd()
    if argv is None and not {"", here} & set(sys.path):
        sys.path.insert(0, here)  # for package.module:factory, as `python -m pytest` does
    if args[:1] == ["calibrate"]:  # has a parser of its own
        from .calibrate import main as calibrate

        return calibrate(args[1:])
    if args[:1] == ["history"]:  # so has this one
        from .history import main as history

        return history(args[1:])
    arguments = _parser().parse_args(args)
    try:
        return int(arguments.run(arguments))
    except DiffspeedError as error:
        print(f"diffspeed: {error}", file=sys.stderr)
        return 2
    except KeyboardInterrupt:
        print("diffspeed: interrupted", file=sys.stderr)
        return INTERRUPTED


INTERRUPTED = 130
UNREAD = 141
"""As shells have them: 128, and the number of SIGINT or SIGPIPE.  Not 0: a command that was cut off
has not said that all is well."""


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(prog="diffspeed", description=__doc__)
    commands = parser.add_subparsers(required=True, metavar="COMMAND")
    commands.add_parser("calibrate", help="measure image limits of stacks on your pipeline")
    commands.add_parser("history", help="look at what sessions found over commits")
    add_init(commands)
    add_report(commands)
    audit = commands.add_parser("audit", help="count the host syncs of schedulers and pipelines")
    subjects = audit.add_subparsers(required=True, metavar="SUBJECT")
    schedulers = subjects.add_parser(
        "schedulers", help="host syncs of every scheduler of the installed diffusers"
    )
    schedulers.add_argument("names", nargs="*", metavar="CLASS", help="only these classes")
    _add_audit_options(schedulers, "scheduler", steps=6)
    schedulers.set_defaults(run=_audit_schedulers)
    pipelines = subjects.add_parser(
        "pipelines", help="host syncs of one call of each pipeline: its steps, with their lines"
    )
    pipelines.add_argument(
        "sources",
        nargs="*",
        metavar="SOURCE",
        help="pipelines (default: every small one of diffusers, random:<PipelineClass>)",
    )
    _add_audit_options(pipelines, "pipeline", steps=4)
    pipelines.set_defaults(run=_audit_pipelines)
    compare = commands.add_parser(
        "compare", help="host syncs on a real GPU beside those on the simulated one"
    )
    compared = compare.add_subparsers(required=True, metavar="SUBJECT")
    syncs = compared.add_parser(
        "syncs", help="host syncs on this machine's GPU and on the simulated one: where they differ"
    )
    syncs.add_argument(
        "sources",
        nargs="*",
        metavar="SOURCE",
        help="pipelines (default: three small ones, and every scheduler of diffusers)",
    )
    syncs.add_argument("--steps", type=int, default=4, help="denoising steps (default: 4)")
    words = counting_words()
    syncs.add_argument(
        "--device", default=words[0], help=f"{' or '.join(words)} (default: {words[0]})"
    )
    syncs.set_defaults(run=_compare_syncs)
    add_cost(commands)
    add_export(commands)
    add_verify(commands)
    # It imports pytest, which the others do without.
    check = commands.add_parser(
        "check-markers",
        help="whether the markers of test files make sense, without running a test",
        description="Collects the files as pytest does, and ends with 0 if all of their diffspeed "
        "markers make sense, and with 1 if one does not or a file cannot be collected.",
    )
    check.add_argument("files", nargs="+", metavar="FILE", help="test files, or folders of them")
    check.set_defaults(run=_check_markers)
    plan = commands.add_parser(
        "plan",
        help="deal the tests out to shards, by the seconds that they took before",
        description="Collects tests as pytest does, runs none, and prints what pytest takes for "
        "each shard.",
    )
    add_plan_options(plan)
    plan.set_defaults(run=_plan)
    return parser


def _plan(arguments: argparse.Namespace) -> int:
    from .plan import plan

    return plan(arguments)


def _check_markers(arguments: argparse.Namespace) -> int:
    from .check_markers import check_markers

    return check_markers(arguments.files)


def _add_audit_options(parser: argparse.ArgumentParser, subject: str, steps: int) -> None:
    parser.add_argument(
        "--steps", type=int, default=steps, help=f"denoising steps (default: {steps})"
    )
    parser.add_argument(
        "--device",
        help=f"simulated, {' or '.join(counting_words())} (default: a GPU if there is one)",
    )
    parser.add_argument("--no-sites", action="store_true", help=f"one line a {subject}")
    parser.add_argument("--json", action="store_true", help=f"one JSON object a {subject}")


def _compare_syncs(arguments: argparse.Namespace) -> int:
    """0: the same everywhere; 1: they differ, or something could not be compared."""
    from .compare import Compared, compare_syncs, summary

    def say(row: Compared) -> None:
        print("\n".join(row.report()), flush=True)

    rows = compare_syncs(
        arguments.sources, device=arguments.device, steps=arguments.steps, on_row=say
    )
    print(summary(rows))
    return 0 if all(row.same for row in rows) else 1


def _audit_schedulers(arguments: argparse.Namespace) -> int:
    from .audit import audit_schedulers, unknown_names

    unknown_names(arguments.names)
    rows = audit_schedulers(
        device=arguments.device, steps=arguments.steps, only=tuple(arguments.names)
    )
    return _print_audit(rows, arguments)


def _audit_pipelines(arguments: argparse.Namespace) -> int:
    from .audit import audit_pipelines

    def progress(row: AuditRow) -> None:
        # To stderr, so that the table can be redirected: all of diffusers takes long.
        print(f"{row.name}: {row.seconds:.0f} s", file=sys.stderr, flush=True)

    rows = audit_pipelines(
        arguments.sources, device=arguments.device, steps=arguments.steps, on_row=progress
    )
    return _print_audit(rows, arguments)


def _print_audit(rows: Sequence[AuditRow], arguments: argparse.Namespace) -> int:
    """0; 2 where nothing could be run."""
    from .audit import table

    if arguments.json:
        for row in rows:
            print(json.dumps(row.as_dict(), sort_keys=True))
    else:
        print("\n".join(table(rows, sites=not arguments.no_sites)))
    return 0 if any(row.report is not None for row in rows) else 2
