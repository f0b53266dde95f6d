"""The project as others get it: sdist, and wheel in a clean venv."""

from __future__ import annotations

import importlib.util
import json
import os
import subprocess
import sys
import tarfile
import zipfile
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import pytest

from tests.project.tutorial_reader import Reader, blocks

ROOT = Path(__file__).resolve().parents[2]
PACKAGE = ROOT / "pytest_diffspeed"


def run(
    command: Sequence[str | Path], *, cwd: Path, env: dict[str, str] | None = None
) -> subprocess.CompletedProcess[str]:
    """Run a command and return what it said, standard error included."""
    return subprocess.run(
        [str(word) for word in command],
        cwd=cwd,
        env=env,
        stdin=subprocess.DEVNULL,
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
        check=False,
    )


# --- sdist and wheel


@dataclass(frozen=True)
class Distributions:
    """What ``python -m build`` made."""

    sdist: Path
    wheel: Path

    def wheel_names(self) -> set[str]:
        with zipfile.ZipFile(self.wheel) as archive:
            return set(archive.namelist())

    def sdist_names(self) -> set[str]:
        """Names without the leading ``name-version/``."""
        with tarfile.open(self.sdist) as archive:
            return {name.partition("/")[2] for name in archive.getnames()}

    def wheel_text(self, ending: str) -> str:
        with zipfile.ZipFile(self.wheel) as archive:
            (name,) = (name for name in archive.namelist() if name.endswith(ending))
            return archive.read(name).decode()


@pytest.fixture(scope="module")
def distributions(tmp_path_factory: pytest.TempPathFactory) -> Distributions:
    """The sdist, and the wheel built *from that sdist*, so that nothing it needs is missing there.

    Without build isolation: the backend is installed with the test dependencies, and no network is
    needed.
    """
    folder = tmp_path_factory.mktemp("dist")
    done = run([sys.executable, "-m", "build", "--no-isolation", "--outdir", folder], cwd=ROOT)
    assert done.returncode == 0, done.stdout
    (sdist,) = folder.glob("*.tar.gz")
    (wheel,) = folder.glob("*.whl")
    return Distributions(sdist, wheel)


def files_below(folder: Path) -> set[str]:
    return {
        path.relative_to(ROOT).as_posix()
        for path in folder.rglob("*")
        if path.is_file() and "__pycache__" not in path.parts
    }


@pytest.mark.slow
def test_wheel_holds_the_package_and_nothing_else(distributions: Distributions) -> None:
    names = distributions.wheel_names()

    metadata = {name for name in names if ".dist-info/" in name}
    assert names - metadata == files_below(PACKAGE)
    assert "pytest_diffspeed/py.typed" in names
    assert {name.rpartition("/")[2] for name in metadata} >= {"LICENSE", "NOTICE"}
    assert {name.partition("/")[0] for name in names - metadata} == {"pytest_diffspeed"}


@pytest.mark.slow
def test_wheel_brings_the_parts_of_the_html_report(distributions: Distributions) -> None:
    folder = "pytest_diffspeed/reports/html"
    parts = ("static/report.css", "static/vendor/d3.min.js", "templates/report.html")
    assert {f"{folder}/{part}" for part in parts} <= distributions.wheel_names()


def test_wheel_brings_the_demo_weights(distributions: Distributions) -> None:
    names = distributions.wheel_names()

    for part in ("unet", "vae", "text_encoder", "text_encoder_2"):
        folder = f"pytest_diffspeed/pipelines/demo_weights/{part}/"
        weights = [n for n in names if n.startswith(folder) and n.endswith(".safetensors")]
        assert weights, f"no weights below {folder}"
    assert "pytest_diffspeed/pipelines/demo_weights/model_index.json" in names
    assert any(name.startswith("pytest_diffspeed/pipelines/configs/") for name in names)
    assert distributions.wheel.stat().st_size < 10e6


@pytest.mark.slow
def test_wheel_registers_the_plugin(distributions: Distributions) -> None:
    text = distributions.wheel_text("dist-info/entry_points.txt")
    assert "[pytest11]\ndiffspeed = pytest_diffspeed.plugin.hooks" in text
    metadata = distributions.wheel_text("dist-info/METADATA")
    assert "License-Expression: Apache-2.0" in metadata
    assert "Requires-Python: >=3.10" in metadata


@pytest.mark.slow
def test_sdist_holds_no_caches_and_no_builds(distributions: Distributions) -> None:
    names = distributions.sdist_names()

    assert {"pyproject.toml", "README.md", "LICENSE", "NOTICE", "Makefile"} <= names
    assert {"CITATION.cff", "SECURITY.md"} <= names
    assert "tests/project/test_packaging.py" in names
    top = {name.partition("/")[0] for name in names if name}
    # .gitignore is there because hatchling reads it when the wheel is built from the sdist.
    hidden = {".gitignore", ".pre-commit-hooks.yaml"}
    assert {name for name in top if name.startswith(".")} == hidden
    assert not top & {"build", "dist", "venv"}
    unwanted = ("__pycache__", ".pyc", ".diffspeed", ".pytest_cache", ".mypy_cache", ".ruff_cache")
    assert not [name for name in names if any(word in name for word in unwanted)]


# --- the wheel, installed


@dataclass(frozen=True)
class CleanVenv:
    """A virtual environment with our wheel, which sees the heavy dependencies of this one.

    ``env`` is the environment of processes that run in it.
    """

    folder: Path
    python: Path
    env: dict[str, str]


def dependency_folders() -> list[Path]:
    """The folders on this process's path that hold our dependencies (site-packages, normally)."""
    folders: list[Path] = []
    for name in ("pytest", "torch", "diffusers", "transformers", "numpy", "filelock", "PIL"):
        spec = importlib.util.find_spec(name)
        assert spec is not None and spec.origin is not None, f"{name} is not installed"
        folder = Path(spec.origin).parents[1]
        if folder not in folders:
            folders.append(folder)
    assert ROOT not in folders
    return folders


@pytest.fixture(scope="module")
def clean_venv(distributions: Distributions, tmp_path_factory: pytest.TempPathFactory) -> CleanVenv:
    folder = tmp_path_factory.mktemp("venv")
    # pip of this environment installs into the new one, which saves the time of a second pip.
    done = run([sys.executable, "-m", "venv", "--without-pip", folder], cwd=folder)
    assert done.returncode == 0, done.stdout
    windows = os.name == "nt"
    python = folder / ("Scripts/python.exe" if windows else "bin/python")
    env = {
        name: value
        for name, value in os.environ.items()
        # Nothing of this session may lead the new processes back to this checkout.
        if not name.startswith(("PYTHON", "PYTEST_", "VIRTUAL_ENV", "COV_"))
    }
    env["HF_HUB_OFFLINE"] = "1"
    install = [sys.executable, "-m", "pip", "--disable-pip-version-check", "--python", python]
    install += ["install", "--quiet", "--no-deps", "--no-index", distributions.wheel]
    done = run(install, cwd=folder)
    assert done.returncode == 0, done.stdout

    # A path in a .pth file is only appended: .pth files *in* that folder, such as the one of the
    # editable install of this checkout, are not read.
    done = run([python, "-c", "import sysconfig; print(sysconfig.get_path('purelib'))"], cwd=folder)
    paths = "\n".join(str(path) for path in dependency_folders())
    (Path(done.stdout.strip()) / "heavy_dependencies.pth").write_text(f"{paths}\n")
    return CleanVenv(folder, python, env)


@pytest.mark.slow
def test_clean_venv_imports_the_wheel_and_not_this_checkout(
    clean_venv: CleanVenv, tmp_path: Path
) -> None:
    script = "import pytest_diffspeed; print(pytest_diffspeed.__file__)"
    done = run([clean_venv.python, "-c", script], cwd=tmp_path, env=clean_venv.env)
    assert done.returncode == 0, done.stdout
    assert Path(done.stdout.strip()).is_relative_to(clean_venv.folder)


@pytest.mark.slow
def test_the_tutorial_in_an_empty_folder_with_the_installed_wheel(
    clean_venv: CleanVenv, tmp_path: Path
) -> None:
    """What docs/tutorial.md shows, block by block."""
    reader = Reader(tmp_path, clean_venv.python, clean_venv.env)
    for kind, text in blocks():
        reader.do(kind, text)


@pytest.mark.slow
def test_installed_wheel_skips_without_the_option(clean_venv: CleanVenv, tmp_path: Path) -> None:
    (tmp_path / "test_mine.py").write_text(
        "import pytest\n"
        '@pytest.mark.diffspeed("fp32")\n'
        "def test_mine(optimized_pipeline): assert False\n"
    )

    done = run([clean_venv.python, "-m", "pytest", "-rs"], cwd=tmp_path, env=clean_venv.env)

    assert done.returncode == 0, done.stdout
    assert "1 skipped" in done.stdout
    assert "needs --diffspeed" in done.stdout


@pytest.mark.slow
def test_installed_wheel_brings_the_migrations_of_the_history(
    clean_venv: CleanVenv, tmp_path: Path
) -> None:
    session = {"session": "a1", "at": "2026-01-01T00:00:00+00:00", "environment": {}, "device": {}}
    line = json.dumps({"schema": "diffspeed/1", "kind": "session", **session})
    (tmp_path / "r.jsonl").write_text(f"{line}\n")
    script = (
        "import sys; from pytest_diffspeed.commands.cli import main; sys.exit(main(sys.argv[1:]))"
    )
    command: list[str | Path] = [clean_venv.python, "-c", script, "history"]

    done = run([*command, "import", "r.jsonl"], cwd=tmp_path, env=clean_venv.env)

    assert done.returncode == 0, done.stdout
    assert "1 sessions stored" in done.stdout
    done = run([*command, "export", "-"], cwd=tmp_path, env=clean_venv.env)
    assert done.stdout == f"{line}\n"
