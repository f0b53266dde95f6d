"""Install one release beside the running torch, and count in it."""

from __future__ import annotations

import json
import os
import subprocess
import sys
import sysconfig
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

ROOT = Path(__file__).resolve().parents[2]
FOLDER = ROOT / "build" / "releases"
SHOWN = ("diffusers", "numpy", "scipy", "torch", "torchsde", "transformers")
WITHOUT_THEIR_DEPENDENCIES = ("torchsde", "trampoline", "boltons")
"""What two schedulers import; torchsde alone would install another torch."""
TORCHAO = "torchao==0.15.0"
"""diffusers 0.35 and 0.36 do not import beside a newer one: they log before they have a logger."""
NEEDS_TORCHAO = ("0.35", "0.36")
PIPELINES = tuple(
    f"random:{name}Pipeline"
    for name in (
        "StableDiffusion",
        "StableDiffusionXL",
        "StableDiffusion3",
        "Flux",
        "PixArtSigma",
        "Sana",
        "Wan",
        "LTX",
        "QwenImage",
        "CogVideoX",
    )
)
"""Small ones with random weights, of families that all these releases have."""
COMMAND = "import sys; from pytest_diffspeed.commands.cli import main; sys.exit(main())"
VERSIONS = """
import json, platform, sys
from importlib.metadata import version
print(json.dumps({"python": platform.python_version(), **{n: version(n) for n in sys.argv[1:]}}))
"""


class CannotCount(Exception):
    """A release could not be installed, or nothing in it could be counted."""


def counted(version: str) -> tuple[list[dict[str, Any]], dict[str, str]]:
    """The rows of ``diffspeed audit … --json``, schedulers before pipelines, and the versions that
    they rest on.
    """
    python = _environment(version)
    said = _run([python, "-c", VERSIONS, *SHOWN])
    environment: dict[str, str] = json.loads(said)
    if environment["diffusers"] != version:
        raise CannotCount(f"diffusers {environment['diffusers']} was installed instead")
    rows: list[dict[str, Any]] = []
    for words in (["schedulers"], ["pipelines", *PIPELINES]):
        audit = ["audit", *words, "--json", "--device", "simulated"]
        printed = _run([python, "-c", COMMAND, *audit], {"PYTHONPATH": str(ROOT)})
        rows += map(json.loads, printed.splitlines())
    return rows, environment


def _environment(version: str) -> str:
    folder = FOLDER / version
    python = folder / "bin" / "python"
    uv = [sys.executable, "-m", "uv"]
    if not python.exists():
        _run([*uv, "venv", "--quiet", "--python", sys.executable, str(folder)])
    shared = sysconfig.get_path("purelib")
    own = _run(
        [str(python), "-c", "import sysconfig; print(sysconfig.get_path('purelib'))"]
    ).strip()
    # Behind what the release brings itself: torch and all that we need.
    (Path(own) / "zz_shared.pth").write_text(f"{shared}\n", encoding="utf-8")
    install = [*uv, "pip", "install", "--quiet", "--python", str(python)]
    _run([*install, f"diffusers=={version}", "transformers>=4.57.1"])
    loose = [*WITHOUT_THEIR_DEPENDENCIES]
    if version.startswith(NEEDS_TORCHAO):
        loose.append(TORCHAO)
    _run([*install, "--no-deps", *loose])
    return str(python)


def _run(words: Sequence[str], variables: Mapping[str, str] | None = None) -> str:
    environment = {**os.environ, "OMP_NUM_THREADS": "1", **(variables or {})}
    done = subprocess.run(
        words, capture_output=True, text=True, check=False, cwd=ROOT, env=environment
    )
    if done.returncode:
        last = (done.stderr.strip() or "no message").splitlines()[-1]
        raise CannotCount(f"{' '.join(words[1:4])} … ended with {done.returncode}: {last}")
    return done.stdout
