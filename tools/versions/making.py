"""Make an environment with uv: it resolves, downloads and installs; here stands what to ask it."""

from __future__ import annotations

import json
import os
import shutil
import subprocess
import sys
from pathlib import Path

from environments import Environment

ROOT = Path(__file__).resolve().parents[2]
FOLDER = ROOT / "build/versions"


class CannotRun(Exception):
    """Why an environment cannot be had on this machine."""


def make(environment: Environment, interpreter: str) -> Path:
    """Install everything anew; gives the environment's Python.

    Raises:
        CannotRun: with what uv said.
    """
    folder = FOLDER / environment.name
    folder.mkdir(parents=True, exist_ok=True)
    pins, runtime = folder / "pins.txt", folder / "runtime.txt"
    pins.write_text("".join(f"{pin}\n" for pin in environment.pins))
    # Two steps, since the lowest versions are asked of the product's dependencies only: with old
    # test tools other things would be tested.
    _uv(
        *("pip", "compile", "--quiet", "--no-header", "--no-annotate", "--python", interpreter),
        *("--resolution", environment.resolution, "--constraints", str(pins)),
        *("pyproject.toml", "--output-file", str(runtime)),
    )
    venv = folder / "venv"
    _uv("venv", "--quiet", "--clear", "--python", interpreter, str(venv))
    python = venv / "bin/python"
    _uv(
        *("pip", "install", "--quiet", "--python", str(python)),
        *("--constraints", str(runtime), "--constraints", str(pins), "--editable", ".[dev]"),
    )
    return python


def find_interpreter(version: str) -> str:
    """A Python of this version: on the PATH, or one that pyenv installed.

    Raises:
        CannotRun: if there is none.
    """
    on_path = (Path(folder) / f"python{version}" for folder in os.get_exec_path())
    pyenv = Path(os.environ.get("PYENV_ROOT", Path.home() / ".pyenv")) / "versions"
    # pyenv's shims on the PATH answer for interpreters that they then do not start.
    for candidate in (*on_path, *sorted(pyenv.glob(f"{version}.*/bin/python"))):
        if candidate.is_file() and _version_of(candidate) == version:
            return str(candidate)
    raise CannotRun(f"no Python {version} on this machine (looked on the PATH and in pyenv)")


def versions_in(python: Path) -> dict[str, str]:
    """Every installed distribution, and Python itself."""
    code = (
        "import json, platform; from importlib.metadata import distributions;"
        "name = lambda d: d.metadata['Name'].lower().replace('_', '-');"
        "found = {name(d): d.version for d in distributions()};"
        "print(json.dumps({'python': platform.python_version(), **found}))"
    )
    answer = subprocess.run(
        [str(python), "-c", code], check=True, capture_output=True, text=True, cwd=FOLDER
    )
    found: dict[str, str] = json.loads(answer.stdout)
    return found


def _version_of(python: Path) -> str | None:
    code = "import sys; print('%d.%d' % sys.version_info[:2])"
    answer = subprocess.run([str(python), "-c", code], check=False, capture_output=True, text=True)
    return answer.stdout.strip() if answer.returncode == 0 else None


def _uv(*words: str) -> None:
    uv = shutil.which("uv", path=os.pathsep.join((str(Path(sys.executable).parent), os.defpath)))
    uv = uv or shutil.which("uv")
    if uv is None:
        raise CannotRun("uv is not installed; it is in the extra [dev]")
    # Nothing but the package index is to be needed.
    environ = {**os.environ, "UV_PYTHON_DOWNLOADS": "never"}
    environ.pop("VIRTUAL_ENV", None)
    answer = subprocess.run(
        [uv, *words], check=False, capture_output=True, text=True, cwd=ROOT, env=environ
    )
    if answer.returncode:
        raise CannotRun(f"uv {' '.join(words[:2])} failed:\n{answer.stderr.strip()}")
