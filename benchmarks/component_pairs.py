"""Pairs of component calls beside whole calls: seconds to a verdict, and whether the ratios agree.

    python benchmarks/component_pairs.py --part demo
    python benchmarks/component_pairs.py --part sdxl
    python benchmarks/component_pairs.py --part trials --trials 40
    python benchmarks/component_pairs.py --part report

``demo`` and ``sdxl`` (SDXL's full width with fewer blocks) measure each stack in one run: rounds of
whole calls and rounds of components take turns, so both meet the same machine.  From these pairs
gates are replayed with thresholds that lie 5, 10 and 20 % below the ratio that all pairs of that
kind show (a PASS is due) and above it (a FAIL is due), beginning at each pair; what is reported is
the seconds of the calls that such a gate takes, warm-up and captured calls included.

``trials`` starts a fresh process for each trial, in which components of one and the same pipeline,
and of two that were built alike, are held against ``min_speedup(1.0)``: every verdict on the first
is a wrong one, and the second adds what differs between two builds.

Each result is a line of the file ``--out``, so a run can be stopped and gone on with.
"""

from __future__ import annotations

import argparse
import itertools
import json
import math
import random
import statistics
import subprocess
import sys
import tempfile
import time
from pathlib import Path
from types import SimpleNamespace

from trials import append, measured_on, moment, read

from pytest_diffspeed.accelerators.registry import clock_for, disturbances_of, resolve_device
from pytest_diffspeed.arms.builder import Builder
from pytest_diffspeed.arms.component_calls import component_arms
from pytest_diffspeed.arms.lockstep import step_arms
from pytest_diffspeed.arms.prepared_arm import PreparedArm
from pytest_diffspeed.arms.spec import ArmSpec
from pytest_diffspeed.common.quiet import third_party
from pytest_diffspeed.ladder.composed import composed_ratio, parts_of_call
from pytest_diffspeed.pipelines.sources import parse_source
from pytest_diffspeed.statistics import SpeedupGate, binomial_upper_bound
from pytest_diffspeed.techniques.stacks import parse_stack
from pytest_diffspeed.timing.budget import AUTO_BUDGET_S
from pytest_diffspeed.timing.comparison import Hypothesis
from pytest_diffspeed.timing.rounds import measure_rounds
from pytest_diffspeed.timing.speedup import SpeedupMeasurement
from pytest_diffspeed.timing.warm_up import warm_up

STACKS = ("bf16", "no_sdpa", "channels_last")
GAPS = (0.05, 0.10, 0.20)
WHOLE = "whole calls"
IN_WHOLE = "denoiser in whole calls"
STEP = "step"
MOST_PAIRS = 4000


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--part", choices=("demo", "sdxl", "trials", "report"), default="report")
    parser.add_argument("--out", type=Path, default=Path("build/component_pairs.jsonl"))
    parser.add_argument("--stacks", nargs="*", default=STACKS)
    parser.add_argument("--steps", type=int, default=20)
    parser.add_argument("--side", type=int, default=32, help="of the latents of sdxl")
    parser.add_argument("--whole-rounds", type=int, default=24)
    parser.add_argument("--rounds-a-call", type=int, default=5, help="of components, a whole round")
    parser.add_argument("--trials", type=int, default=40, help="trials in the file, in the end")
    parser.add_argument("--budget", type=float, default=30.0, help="seconds a gate of a trial")
    parser.add_argument("--one-trial", action="store_true", help="for the processes of trials")
    arguments = parser.parse_args()
    if arguments.one_trial:
        print(json.dumps(trial(arguments)))
        return
    if arguments.part in ("demo", "sdxl"):
        source = "demo" if arguments.part == "demo" else sdxl(arguments.side)
        for stack in arguments.stacks:
            append(arguments.out, measured(source, arguments.part, stack, arguments))
    while arguments.part == "trials" and len(of_parts(arguments.out, "trials")) < arguments.trials:
        append(arguments.out, in_a_fresh_process(arguments))
    for line in report(arguments.out):
        print(line)


def sdxl(side: int) -> str:
    """Its source, with latents of ``side`` × ``side``: a step at 128 × 128 takes many seconds on a
    CPU.
    """
    sys.path.insert(0, str(Path(__file__).parents[1] / "tools" / "gpu_check" / "bench"))
    import sdxl_cut

    sdxl_cut.place(Path(tempfile.mkdtemp(prefix="sdxl-cut-")), small=False, device="cpu")
    sdxl_cut.pipeline.call_defaults |= {"height": side, "width": side}
    return "sdxl_cut:pipeline"


def prepared(source_text: str, stack: str, arguments: argparse.Namespace) -> PreparedArm:
    source = parse_source(source_text)
    builder = Builder(resolve_device("cpu"), steps=arguments.steps)
    pipeline = source.build()
    call = builder.call(source, pipeline)
    return builder.prepare(ArmSpec(source_text, parse_stack(stack)), pipeline, call)


def measured(source: str, part: str, stack: str, arguments: argparse.Namespace) -> dict:
    """The pairs of one stack over fp32, of each kind, in rounds that take turns."""
    arms = [prepared(source, "fp32", arguments), prepared(source, stack, arguments)]
    began = time.perf_counter()
    parts = parts_of_call(arms[0])
    observed_s = time.perf_counter() - began
    timed, fixed_s = {IN_WHOLE: [arm.arm_of("denoiser") for arm in arms]}, {IN_WHOLE: 0.0}
    for role in parts:
        began = time.perf_counter()
        timed[role] = component_arms(arms, role).arms
        fixed_s[role] = time.perf_counter() - began + observed_s
    with step_arms(arms).open() as (steps,), third_party():
        timed[STEP], fixed_s[STEP] = steps, 0.0
        pairs, warm_s = in_turns(timed, [*parts, STEP], f"{part} {stack}", arguments)
    fixed_s[WHOLE], warm_s[WHOLE] = 0.0, warm_s[IN_WHOLE]
    return {
        "part": part,
        "stack": stack,
        "steps": arguments.steps,
        "parts": parts,
        "fixed_s": {kind: fixed_s[kind] + warm_s[kind] for kind in pairs},
        "pairs": pairs,
        **moment(),
    }


def in_turns(timed: dict, short: list[str], what: str, arguments: argparse.Namespace):
    """The pairs of each kind, and the seconds of their warm-up."""
    clock = clock_for(resolve_device("cpu"))
    warm_s = {}
    for kind, pair in timed.items():
        began = time.perf_counter()
        warm_up(pair, clock, most_s=AUTO_BUDGET_S)  # as a session does
        warm_s[kind] = time.perf_counter() - began
    for arm in timed[STEP]:
        arm.held.end()
    seed = random.SystemRandom().randrange(2**32)
    rounds = {
        kind: measure_rounds([pair], clock, seed=seed + number)
        for number, (kind, pair) in enumerate(timed.items())
    }
    pairs: dict[str, list] = {kind: [] for kind in (WHOLE, *timed)}
    for number in range(arguments.whole_rounds):
        next_round = next(rounds[IN_WHOLE])
        pairs[IN_WHOLE].append([next_round.seconds[0], next_round.seconds[1]])
        pairs[WHOLE].append([arm.last_call_s for arm in timed[IN_WHOLE]])
        for role in short:
            for one in itertools.islice(rounds[role], arguments.rounds_a_call):
                pairs[role].append([one.seconds[0], one.seconds[1]])
        for arm in timed[STEP]:
            arm.held.end()  # its pipeline is called as a whole next
        print(f"{what}: round {number + 1}", file=sys.stderr, flush=True)
    return pairs, warm_s


def trial(arguments: argparse.Namespace) -> dict:
    """Denoiser calls of one pipeline against themselves, and against those of a second build."""
    first, second = (prepared("demo", "fp32", arguments) for _ in range(2))
    again = PreparedArm(first.spec, first.pipeline, first.call, first.applied)
    arms = component_arms([first, again, second], "denoiser").arms
    results = SpeedupMeasurement(
        [arms],
        [Hypothesis(1.0, 0, 1), Hypothesis(1.0, 0, 2)],
        budget_s=arguments.budget,
        seed=random.SystemRandom().randrange(2**32),
        disturbances=disturbances_of(resolve_device("cpu")),
    ).run()
    names = ("one pipeline", "two builds")
    return {
        "part": "trials",
        "gates": {
            name: {"verdict": str(one.verdict), "ratio": one.ratio, "pairs": one.pairs}
            for name, one in zip(names, results, strict=True)
        },
        **moment(),
    }


def in_a_fresh_process(arguments: argparse.Namespace) -> dict:
    words = ["--one-trial", "--steps", str(arguments.steps), "--budget", str(arguments.budget)]
    done = subprocess.run(
        [sys.executable, __file__, *words], stdout=subprocess.PIPE, text=True, check=True
    )
    return json.loads(done.stdout.splitlines()[-1])


def of_parts(path: Path, *parts: str) -> list[dict]:
    return [one for one in read(path) if one["part"] in parts]


def report(path: Path):
    rows = of_parts(path, "demo", "sdxl")
    if rows:
        yield from seconds_table(rows)
        yield ""
        yield from agreement_table(rows)
    trials = of_parts(path, "trials")
    if trials:
        yield ""
        yield from trials_table(trials)
    yield ""
    yield measured_on()


def seconds_table(rows: list[dict]):
    yield "| pipeline | stack | pairs of | ±5 % | ±10 % | ±20 % | whole calls take |"
    yield "|---|---|---|---|---|---|---|"
    for row in rows:
        whole = [to_a_verdict(row, WHOLE, gap) for gap in GAPS]
        for kind in (WHOLE, IN_WHOLE, "denoiser", STEP):
            taken = [to_a_verdict(row, kind, gap) for gap in GAPS]
            times = (
                f"{w / t:.1f} ×"
                for w, t in zip(whole, taken, strict=True)
                if math.isfinite(w / t) and t < math.inf
            )
            cells = (f"{s:.3g} s" if math.isfinite(s) else "not decided" for s in taken)
            yield (
                f"| {row['part']} | {row['stack']} | {kind} | {' | '.join(cells)} "
                f"| {', '.join(times) or 'not known'} |"
            )


def to_a_verdict(row: dict, kind: str, gap: float) -> float:
    """Median seconds to the verdict that is due, over thresholds on both sides and first pairs.

    Where the pairs end before the verdict they begin again from the first one.
    """
    pairs = row["pairs"][kind]
    ratio = math.exp(statistics.median(math.log(b / c) for b, c in pairs))
    taken = []
    for threshold in (ratio * (1.0 - gap), ratio * (1.0 + gap)):
        for start in range(0, len(pairs), max(1, len(pairs) // 20)):
            taken.append(row["fixed_s"][kind] + replayed(pairs, start, threshold))
    return statistics.median(taken)


def replayed(pairs: list, start: int, threshold: float) -> float:
    gate, seconds = SpeedupGate(threshold), 0.0
    for number in range(MOST_PAIRS):
        pair = pairs[(start + number) % len(pairs)]
        seconds += sum(pair)
        if gate.update(*pair) is not None:
            return seconds
    return math.inf


def agreement_table(rows: list[dict]):
    yield "| pipeline | stack | ratio of | whole calls | components alone | intervals meet |"
    yield "|---|---|---|---|---|---|"
    for row in rows:
        estimates = {kind: estimate(pairs) for kind, pairs in row["pairs"].items()}
        parts = [
            (times, times, estimates[STEP if role == "denoiser" else role])
            for role, times in row["parts"].items()
        ]
        whole = composed_ratio(parts)
        denoiser = vars(estimates["denoiser"])
        for what, first, second in (
            ("the denoiser", vars(estimates[IN_WHOLE]), denoiser),
            ("a call (composed)", vars(estimates[WHOLE]), whole),
        ):
            meet = first["low"] <= second["high"] and second["low"] <= first["high"]
            yield (
                f"| {row['part']} | {row['stack']} | {what} | {interval(first)} "
                f"| {interval(second)} | {'yes' if meet else 'NO'} |"
            )


def estimate(pairs: list):
    """With the fields that a composed ratio is made of."""
    gate = SpeedupGate(1.0)
    for pair in pairs:
        gate.update(*pair)
    found = gate.estimate()
    return SimpleNamespace(
        ratio=found.ratio,
        low=found.low,
        high=found.high,
        coverage=found.coverage,
        noise=found.noise,
        candidate_s=statistics.median(candidate for _, candidate in pairs),
        pairs=len(pairs),
        seed=0,
    )


def interval(found: dict) -> str:
    return f"{found['ratio']:.3f} [{found['low']:.3f}, {found['high']:.3f}]"


def trials_table(trials: list[dict]):
    yield "| min_speedup(1.0) of denoiser calls | PASS | FAIL | undecided | wrong at most (95 %) |"
    yield "|---|---|---|---|---|"
    for name in trials[0]["gates"]:
        verdicts = [one["gates"][name]["verdict"] for one in trials]
        passed, failed = verdicts.count("PASS"), verdicts.count("FAIL")
        bounds = [f"{binomial_upper_bound(n, len(trials)):.1%}" for n in (passed, failed)]
        yield (
            f"| {name} | {passed} | {failed} | {verdicts.count('INCONCLUSIVE')} "
            f"| PASS {bounds[0]}, FAIL {bounds[1]} |"
        )
    yield ""
    yield f"{len(trials)} trials in fresh processes, {trials[0]['at']} to {trials[-1]['at']}"


if __name__ == "__main__":
    main()
