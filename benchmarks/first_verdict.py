"""Minutes from nothing to a first verdict, with the README's commands, as somebody new has them.

    python benchmarks/first_verdict.py                    both pipelines
    python benchmarks/first_verdict.py --only flux

Builds a wheel of this tree, installs it into a new virtual environment, makes a folder with a small
pipeline as ``save_pretrained`` writes it, and there runs ``diffspeed init`` and what it wrote.
Other packages, torch among them, are those of the environment that runs this, shared by a ``.pth``
file: to download and install them is not in the figures.
"""

from __future__ import annotations

import argparse
import os
import subprocess
import sys
import sysconfig
import tempfile
import time
from pathlib import Path

from trials import measured_on

from pytest_diffspeed.pipelines import zoo

ROOT = Path(__file__).resolve().parents[1]


def stable_diffusion():
    """With the scheduler and steps of Stable Diffusion 1.5."""
    import diffusers

    pipeline = zoo.build("StableDiffusionPipeline")
    config = pipeline.scheduler.config
    pipeline.scheduler = diffusers.PNDMScheduler.from_config(config, skip_prk_steps=True)
    return pipeline


PIPELINES = {"sd15": stable_diffusion, "flux": lambda: zoo.build("FluxPipeline")}


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--only", nargs="+", choices=PIPELINES, default=list(PIPELINES))
    arguments = parser.parse_args()
    print("| pipeline | command | exit status | seconds | of the processor |")
    print("|---|---|---|---|---|")
    printed = []
    with tempfile.TemporaryDirectory() as folder:
        python = installed(Path(folder))
        for name in arguments.only:
            project = Path(folder, name)
            PIPELINES[name]().save_pretrained(project / "checkpoints/mine")
            for words in ("diffspeed init checkpoints/mine", "python -m pytest --diffspeed"):
                program, *others = words.split()
                command = [str(python.with_name(program)), *others]
                printed.append(f"{name}: {words}\n{timed(name, words, command, cwd=project)}")
            printed.append((project / "test_diffspeed.py").read_text("utf-8"))
    print(f"\n{measured_on()}; load {os.getloadavg()[0]:.0f}\n")
    print("\n".join(printed))


def installed(folder: Path) -> Path:
    """The interpreter of a new environment that has the wheel of this tree."""
    wheels = folder / "wheels"
    build = [sys.executable, "-m", "build", "--no-isolation", "--wheel", "--outdir", str(wheels)]
    timed("", "python -m build --wheel", build)
    timed("", "python -m venv", [sys.executable, "-m", "venv", str(folder / "venv")])
    python = folder / "venv" / "bin" / "python"
    (wheel,) = wheels.glob("*.whl")
    install = [str(python), "-m", "pip", "install", "--no-deps", str(wheel)]
    timed("", "pip install the wheel", install)
    own = Path(sysconfig.get_path("purelib", vars={"base": str(folder / "venv")}))
    (own / "shared.pth").write_text(sysconfig.get_path("purelib") + "\n", encoding="utf-8")
    return python


def timed(name: str, words: str, command: list[str], cwd: Path = ROOT) -> str:
    """Run it, print its row, and give back what it printed."""
    kept = ("PYTHONPATH", "PYTEST_ADDOPTS")
    began, before = time.monotonic(), os.times()
    done = subprocess.run(
        command,
        cwd=cwd,
        env={key: value for key, value in os.environ.items() if key not in kept},
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
    )
    seconds, after = time.monotonic() - began, os.times()
    cpu_s = sum(after[2:4]) - sum(before[2:4])
    print(f"| {name} | `{words}` | {done.returncode} | {seconds:.0f} | {cpu_s:.0f} |", flush=True)
    if done.returncode not in (0, 1):
        raise SystemExit(done.stdout)
    return done.stdout


if __name__ == "__main__":
    main()
