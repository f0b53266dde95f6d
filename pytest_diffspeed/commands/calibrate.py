"""``diffspeed calibrate``: measure stacks on your pipeline, and store limits.

The limits go into ``diffspeed-image-limits.json`` by the name of this device, for the marker
``image_similarity("calibrated")``.
"""

from __future__ import annotations

import argparse
import sys
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

from ..common.errors import DiffspeedError, MeasurementError, UsageError
from ..gates.image_limits_file import store

if TYPE_CHECKING:
    from ..arms.session import Session


def main(argv: Sequence[str] | None = None) -> int:
    """The command; the exit status is 1 where a stack got no limits and 2 for wrong words."""
    parser = argparse.ArgumentParser(prog="diffspeed calibrate", description=__doc__)
    parser.add_argument("--pipeline", default="demo", metavar="SOURCE", help="as in pytest")
    parser.add_argument(
        "--stack", action="append", required=True, help="such as bf16+compile; may be repeated"
    )
    parser.add_argument("--device", default="auto", help="auto (default), cpu, cuda or cuda:N")
    parser.add_argument("--steps", type=int, default=None, help="replaces the source's")
    parser.add_argument(
        "--prompt", action="append", default=[], help="replaces the source's; may be repeated"
    )
    parser.add_argument("--rootdir", type=Path, default=Path(), help="where the file is (here)")
    parser.add_argument(
        "--margin", type=float, default=1.5, help="errors this many times as large pass (1.5)"
    )
    args = parser.parse_args(argv)
    if not args.margin >= 1.0:
        parser.error("--margin must be at least 1")
    try:
        session = _session(args)
        missing = [stack for stack in args.stack if not _calibrate(session, args, stack)]
    except UsageError as error:
        parser.error(str(error))
    except DiffspeedError as error:
        print(f"error: {error}", file=sys.stderr)
        return 1
    return 1 if missing else 0


def _session(args: Any) -> Session:
    from ..accelerators.registry import resolve_device
    from ..arms.session import Session
    from ..arms.session_options import Options
    from ..common.progress import Progress
    from ..common.quiet import third_party
    from ..techniques.stacks import parse_stack

    for stack in args.stack:
        if parse_stack(stack).is_baseline:
            raise UsageError(f"--stack={stack} is the baseline itself")
    if not args.rootdir.is_dir():
        raise UsageError(f"--rootdir: there is no folder {args.rootdir}")
    with third_party():
        device = resolve_device(args.device)
    options = Options(
        device=args.device,
        pipeline=args.pipeline,
        techniques=(),
        steps=args.steps,
        prompts=tuple(args.prompt),
        budget_s=None,
        inconclusive=None,
    )
    say = Progress(lambda text: print(text, file=sys.stderr, flush=True))
    return Session(options, device, args.rootdir.resolve(), say)


def _calibrate(session: Session, args: Any, text: str) -> bool:
    """Measure one stack and store its limits; says so and stores nothing where it cannot."""
    from ..arms.spec import ArmSpec
    from ..gates.catalog.similarity import RANDOM, compare_all, draw_both
    from ..gates.several_media import found_of, loosest
    from ..similarity.calibration import CannotCalibrateError, propose_limits
    from ..techniques.stacks import parse_stack

    if args.pipeline.strip().startswith("random:"):
        raise UsageError(RANDOM)
    stack = parse_stack(text)
    candidate = session.arms.prepare(ArmSpec(args.pipeline, stack))
    try:
        reference, drawn, errors = draw_both(session, candidate)
        compared = compare_all(session, reference, drawn, errors, preset=None)
        report = compared[0].report
        print(f"{stack} on {session.device.name}: {found_of(compared)}")
        try:
            limits = loosest(
                propose_limits(one.report, one.reference.floor.metrics, args.margin)
                for one in compared
            )
        except CannotCalibrateError as error:
            print(f"{stack}: nothing stored: {error}", file=sys.stderr)
            return False
    finally:
        session.arms.release()
    if not limits:
        raise MeasurementError(f"{stack}: nothing could be measured: {report.reason}")
    defaults = candidate.call.defaults
    entry = {
        "limits": limits,
        "measured": {name: list(pair) for name, pair in report.metrics.items()},
        "margin": args.margin,
        "images": len(reference.cases),
        "steps": defaults.steps,
        "floor": {"again": reference.floor.again, "kernels": reference.floor.kernels},
    }
    path = store(session.rootdir, session.device.name, args.pipeline, stack.name, entry)
    message = ", ".join(f"{name}={bound:g}" for name, bound in limits.items())
    print(f"{stack}: {message}\nstored in {path}")
    return True


if __name__ == "__main__":
    sys.exit(main())
