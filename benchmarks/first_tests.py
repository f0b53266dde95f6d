"""What `diffspeed init` writes for small pipelines of diffusers, and whether faults make it red.

    python benchmarks/first_tests.py                      all that were not run yet
    python benchmarks/first_tests.py --only 'Flux*'       some of them
    python benchmarks/first_tests.py --table --write      docs/first_tests.md

Each is a project of its own: a module that makes a small pipeline of diffusers with random weights.
There the command runs, then what it wrote, then each gate that it wrote with a fault in the code
that this gate is for.  Rows are appended to ``--out`` as they end, so a run can be stopped and gone
on with; a row that stopped half way is run again.
"""

from __future__ import annotations

import argparse
import fnmatch
import os
import re
import shutil
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path
from textwrap import indent

from trials import append, measured_on, moment, read

from pytest_diffspeed.records.reader import RecordedGate, read_journal

ROOT = Path(__file__).resolve().parents[1]
PAGE = ROOT / "docs/first_tests.md"
TEST = "test_diffspeed.py"
PNDM = """
    import diffusers

    config = pipeline.scheduler.config
    pipeline.scheduler = diffusers.PNDMScheduler.from_config(config, skip_prk_steps=True)
"""
"""As Stable Diffusion 1.5 has it."""
PIPELINES = {
    "StableDiffusionPipeline": PNDM,
    "StableDiffusionXLPipeline": "",
    "StableDiffusion3Pipeline": "",
    "FluxPipeline": "",
    "LTXPipeline": "",
    "WanPipeline-two-experts": "",
    "StableAudioPipeline": "",
    "KandinskyV22CombinedPipeline": "",
    "StableDiffusionXLControlNetPipeline": "",
    "StableDiffusionInpaintPipeline": "",
}
SHOP = '''
"""A project's own module, with its pipeline."""

import functools

import torch
from pytest_diffspeed.pipelines import zoo
from pytest_diffspeed.pipelines.scheduler_watch import schedulers_of

NAME = "{name}"
WORDS = {{"guidance_scale": "guidance"}}
KEPT = []


def make():
    pipeline = zoo.build(NAME)
{own}
    denoiser = getattr(pipeline, "unet", None) or pipeline.transformer
{fault}
    return pipeline


def changed(module, method, around):
    """``around(module, function, *args, **kwargs)`` stands in the place of a method."""
    original = getattr(type(module), method)

    @functools.wraps(original)
    def own(self, *args, **kwargs):
        return around(self, original, *args, **kwargs)

    module.__class__ = type(type(module).__name__, (type(module),), {{method: own}})


def first(output):
    return output[0] if isinstance(output, (tuple, dict)) else output


recipe = zoo.recipes()[NAME]
make.call_defaults = {{
    "steps": recipe.steps,
    **{{WORDS.get(name, name): value for name, value in recipe.call.items()}},
}}
'''
FORWARD = """
def faulty(self, forward, *args, **kwargs):
    output = forward(self, *args, **kwargs)
    {fault}
    return output

changed(denoiser, "forward", faulty)
"""
HALF = "if first(output).dtype is torch.bfloat16:\n        "


@dataclass(frozen=True)
class Fault:
    """``code`` stands in the factory, behind the pipeline and its ``denoiser``."""

    gate: str
    summary: str
    code: str


FAULTS = {
    "sync": Fault(
        "no_gpu_syncs",
        "`scheduler.step` reads a value of the device",
        """
def faulty(self, step, model_output, *args, **kwargs):
    model_output.flatten()[0].item()
    return step(self, model_output, *args, **kwargs)

for scheduler in schedulers_of(pipeline).values():
    changed(scheduler, "step", faulty)
""",
    ),
    "break": Fault(
        "no_graph_breaks",
        "the denoiser's forward looks whether its output is finite",
        FORWARD.format(
            fault="if not first(output).isfinite().all():\n        raise ValueError('not finite')"
        ),
    ),
    "image": Fault(
        "image_similarity",
        "the denoiser's output is half as large again in bfloat16",
        FORWARD.format(fault=HALF + "first(output).mul_(1.5)"),
    ),
    "memory": Fault(
        "max_memory",
        "the denoiser keeps its weights in float32 too, in bfloat16",
        FORWARD.format(fault=HALF + "KEPT[:] = [weight.float() for weight in self.parameters()]"),
    ),
    "cost": Fault(
        "gpu_cost",
        "the denoiser's forward has two kernels more",
        FORWARD.format(fault="first(output).mul_(2.0).mul_(0.5)"),
    ),
}


def shop(name: str, fault: str = "") -> str:
    """The project's module, with the code of a fault or none."""
    return SHOP.format(name=name, own=PIPELINES[name], fault=indent(fault, "    ")).lstrip()


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--only", nargs="+", default=["*"], help="pipelines or patterns")
    parser.add_argument("--out", type=Path, default=Path("build/first_tests.jsonl"))
    parser.add_argument("--table", action="store_true", help="run nothing")
    parser.add_argument("--write", action="store_true", help=f"renew {PAGE.relative_to(ROOT)}")
    arguments = parser.parse_args()
    names = [n for n in PIPELINES if any(fnmatch.fnmatch(n, one) for one in arguments.only)]
    for name in [] if arguments.table else names:
        run(name, arguments.out)
    rows = read(arguments.out)
    text = "\n".join(page(rows)) + "\n"
    print(text)
    if arguments.write:
        PAGE.write_text(text, encoding="utf-8")
    wrong = [f"{row['pipeline']}: {row['part']}: {problem}" for row in rows for problem in bad(row)]
    wrong += [f"{name}: {part}: not run" for name in names for part in not_run(name, rows)]
    print("\n".join(wrong) or "every first run was green, and every fault red", file=sys.stderr)
    return 1 if wrong else 0


def not_run(name: str, rows: list[dict]) -> list[str]:
    """What a pipeline has no row of; faults only for the gates that were written."""
    known = {row["part"]: row for row in rows if row["pipeline"] == name}
    gates = known["init"]["gates"] if "init" in known else {}
    wanted = ["init", "first run", *(p for p, fault in FAULTS.items() if fault.gate in gates)]
    return [part for part in wanted if part not in known]


def run(name: str, out: Path) -> None:
    """What is missing of a pipeline's rows."""
    # Outside of this repository, whose options for pytest would be theirs too.
    project = Project(name, Path(tempfile.gettempdir(), "diffspeed-first-tests", name))
    known = {row["part"]: row for row in read(out) if row["pipeline"] == name}
    parts: dict[str, Callable[[], dict]] = {"init": project.init, "first run": project.first_run}
    for part, work in parts.items():
        if part not in known:
            known[part] = project.row(part, work())
            append(out, known[part])
        if any(bad(known[part])):
            return
    for part, fault in FAULTS.items():
        if fault.gate in known["init"]["gates"] and part not in known:
            append(out, project.row(part, project.planted(fault)))


class Project:
    """A folder with a module that makes a pipeline, and what the command writes beside it."""

    def __init__(self, name: str, folder: Path) -> None:
        self.name = name
        self.folder = folder

    def row(self, part: str, found: dict) -> dict:
        return {"pipeline": self.name, "part": part, "commit": commit(), **found, **moment()}

    def init(self) -> dict:
        shutil.rmtree(self.folder, ignore_errors=True)
        self.folder.mkdir(parents=True)
        (self.folder / "shop.py").write_text(shop(self.name), encoding="utf-8")
        ended = self._command("init", "pytest_diffspeed.commands.cli:main", "init", "shop:make")
        path = self.folder / TEST
        text = path.read_text("utf-8") if path.exists() else ""
        shutil.copy(path, self.folder / "written.py") if text else None
        return {**ended, "gates": gates_of(text), "left_out": left_out(text)}

    def first_run(self) -> dict:
        ended = self._session("first run", lambda w, words: self._real(w, "-m", "pytest", *words))
        return {**ended, "found": self._found("first run")}

    def planted(self, fault: Fault) -> dict:
        """The gate of ``fault`` alone, on the project with the fault."""
        text = (self.folder / "written.py").read_text("utf-8")
        (self.folder / "shop.py").write_text(shop(self.name, fault.code), encoding="utf-8")
        (self.folder / TEST).write_text(only(text, fault.gate), encoding="utf-8")
        try:
            ended = self._session(fault.gate, self._fork)
        finally:
            (self.folder / "shop.py").write_text(shop(self.name), encoding="utf-8")
            (self.folder / TEST).write_text(text, encoding="utf-8")
        return {**ended, "found": self._found(fault.gate)}

    def _session(self, what: str, start: Callable[[str, list[str]], dict]) -> dict:
        records = self._records(what)
        records.unlink(missing_ok=True)
        words = ["-q", "--diffspeed", "--diffspeed-device=cpu", f"--diffspeed-json={records}"]
        return start(what, [*words, "--diffspeed-store=none", "-p", "no:cacheprovider", TEST])

    def _records(self, what: str) -> Path:
        return self.folder / f"{what.replace(' ', '_')}.jsonl"

    def _found(self, what: str) -> list[dict]:
        records = self._records(what)
        return [told(gate) for gate in read_journal(records).gates] if records.exists() else []

    def _real(self, what: str, *words: str) -> dict:
        """As a user starts it: a process of its own."""
        return self._ended(what, lambda: os.execv(sys.executable, [sys.executable, *words]))

    def _fork(self, what: str, words: list[str]) -> dict:
        """In a fork, since importing torch takes longer than most gates of small pipelines."""
        import diffusers  # noqa: F401
        import pytest
        import torch  # noqa: F401

        return self._ended(what, lambda: int(pytest.main(words)))

    def _command(self, what: str, place: str, *words: str) -> dict:
        module, _, function = place.partition(":")
        code = f"import sys; from {module} import {function}; sys.exit({function}(sys.argv[1:]))"
        return self._real(what, "-c", code, *words, "--device=cpu")

    def _ended(self, what: str, work: Callable[[], int]) -> dict:
        """``work()`` in a fork in the project's folder: its exit status, seconds and output."""
        log = self.folder / f"{what.replace(' ', '_')}.log"
        began = time.monotonic()
        process = os.fork()
        if process == 0:
            code = 70
            try:
                os.chdir(self.folder)
                sys.path.insert(0, str(self.folder))
                os.environ["PYTHONPATH"] = os.pathsep.join([str(self.folder), str(ROOT)])
                into = os.open(log, os.O_WRONLY | os.O_CREAT | os.O_TRUNC)
                os.dup2(into, 1)
                os.dup2(into, 2)
                code = work()
            finally:
                sys.stdout.flush()
                os._exit(code)
        _, status, usage = os.wait4(process, 0)
        return {
            "exit": os.waitstatus_to_exitcode(status),
            "seconds": time.monotonic() - began,
            "cpu_s": usage.ru_utime + usage.ru_stime,
            "output": log.read_text("utf-8", errors="replace").splitlines()[-60:],
        }


def commit() -> str:
    words = ["git", "-C", str(ROOT), "describe", "--always", "--dirty"]
    return subprocess.run(words, stdout=subprocess.PIPE, text=True, check=True).stdout.strip()


def told(gate: RecordedGate) -> dict:
    cause = gate.result.cause
    return {
        "gate": gate.result.gate,
        "verdict": str(gate.result.verdict),
        "error": gate.error,
        "cause": None if cause is None else f"{cause.place or ''} {cause.found}".strip(),
    }


MARKER = re.compile(r"^@pytest\.mark\.(\w+)(\(.*\))$", re.M)


def gates_of(text: str) -> dict[str, dict]:
    """The gates of a test file: arguments, and the comments above them."""
    found: dict[str, dict] = {}
    above: list[str] = []
    for line in text.splitlines():
        match = MARKER.match(line)
        if match and match[1] != "diffspeed":
            found[match[1]] = {"arguments": match[2], "allowed": above}
        above = [*above, line[2:]] if line.startswith("# ") else []
    return found


def left_out(text: str) -> list[str]:
    return [line[5:] for line in text.splitlines() if line.startswith("# no ")]


def only(text: str, gate: str) -> str:
    """A test file with one of its gates."""
    return MARKER.sub(lambda m: m[0] if m[1] in ("diffspeed", gate) else "# another gate", text)


def bad(row: dict) -> Iterator[str]:
    """What is not as it should be."""
    if row["part"] == "init":
        if row["exit"] != 0 or not row["gates"]:
            yield f"exit {row['exit']}: {row['output'][-1:]}"
        return
    verdicts = {found["gate"]: found["verdict"] for found in row["found"]}
    if row["part"] == "first run":
        if row["exit"] != 0 or not row["found"]:
            yield f"exit {row['exit']}: {verdicts}"
        for gate, verdict in verdicts.items():
            if verdict != "PASS":
                yield f"{gate}: {verdict}"
    elif row["exit"] != 1 or verdicts.get(FAULTS[row["part"]].gate) != "FAIL":
        yield f"exit {row['exit']}: {verdicts}"


def page(rows: list[dict]) -> Iterator[str]:
    ours = {name: {r["part"]: r for r in rows if r["pipeline"] == name} for name in PIPELINES}
    done = {name: parts for name, parts in ours.items() if "init" in parts}
    planted = [row for parts in done.values() for part, row in parts.items() if part in FAULTS]
    ends = sorted(row["at"] for row in rows)
    yield "# What `diffspeed init` writes"
    yield ""
    yield (
        f"By `make benchmark-first-tests`, {ends[0][:16]} to {ends[-1][:16]} UTC, with one thread, "
        f"at {', '.join(sorted({row['commit'] for row in rows}))}. Each pipeline is diffusers' "
        "class with random weights, small, with three steps, in a project of its own that makes it "
        "in a module. There `diffspeed init` ran, then what it wrote as it is, then each gate that "
        "it wrote alone, with the fault in the module that this gate is for."
    )
    yield ""
    runs = [parts["first run"] for parts in done.values() if "first run" in parts]
    left = [name for name in PIPELINES if name not in done]
    yield f"- {len(done)} of {len(PIPELINES)} pipelines were tried"
    yield f"- {sum(not any(bad(row)) for row in runs)} of {len(runs)} first runs were green"
    yield f"- {sum(not any(bad(row)) for row in planted)} of {len(planted)} faults made it red"
    yield from ([f"- not tried yet: {', '.join(left)}"] if left else [])
    yield ""
    yield "| pipeline | gates written | init | first run | red by its fault |"
    yield "|---|---|---|---|---|"
    for name, parts in done.items():
        gates = parts["init"]["gates"].items()
        written = "<br>".join(f"`{gate}{one['arguments']}`" for gate, one in gates)
        init, first = seconds(parts["init"]), seconds(parts.get("first run"))
        yield f"| {name} | {written} | {init} | {first} | {reds(parts)} |"
    yield ""
    loads = sorted(row["load"] for row in rows)
    yield (
        "Seconds on the wall, and of the processor in parentheses. **The machine was crowded**: "
        f"other work kept its two cores busy (load {loads[0]:.0f} to {loads[-1]:.0f}), so only "
        "those of the processor say what it costs."
    )
    yield ""
    yield "Faults, one at a time:"
    yield ""
    for part, fault in FAULTS.items():
        yield f"- {part}, for `{fault.gate}`: {fault.summary}"
    yield ""
    yield "What was red before and is allowed, with its line, and what no gate was written for:"
    yield ""
    for name, parts in done.items():
        for gate, one in parts["init"]["gates"].items():
            yield from (f"- {name}, `{gate}`: {code(line)}" for line in one["allowed"])
        yield from (f"- {name}: no {line}" for line in parts["init"]["left_out"])
    yield ""
    yield "What the terminal said of each fault:"
    yield ""
    yield "| pipeline | fault | verdict | found |"
    yield "|---|---|---|---|"
    for row in planted:
        for found in row["found"]:
            cause = str(found["cause"] or found["error"] or "").replace("|", "\\|")
            yield f"| {row['pipeline']} | {row['part']} | {found['verdict']} | {cause} |"
    yield ""
    yield measured_on()


def code(line: str) -> str:
    place, gap, source = line.partition("  ")
    return f"{place} `{source}`" if gap else line


def seconds(row: dict | None) -> str:
    if row is None:
        return "not run"
    wrong = "; ".join(bad(row))
    return f"{row['seconds']:.0f} s ({row['cpu_s']:.0f} s){f': {wrong}' if wrong else ''}"


def reds(parts: dict[str, dict]) -> str:
    """Of the gates that were written, which turned red."""
    wanted = [p for p, fault in FAULTS.items() if fault.gate in parts["init"]["gates"]]
    states = {True: "**still green**", False: "red"}
    said = {p: states[any(bad(parts[p]))] if p in parts else "not run" for p in wanted}
    good = [p for p in wanted if said[p] == "red"]
    others = [f"{p}: {said[p]}" for p in wanted if said[p] != "red"]
    return "; ".join([*([", ".join(good)] if good else []), *others])


if __name__ == "__main__":
    sys.exit(main())
