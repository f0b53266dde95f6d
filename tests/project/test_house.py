"""How the package is built: its folders, who may import whom, and what can be lifted out."""

import ast
import collections
import re
import shutil
import subprocess
import sys
import textwrap
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parents[2]
PACKAGE = ROOT / "pytest_diffspeed"
FOLDERS = sorted(path.parent.name for path in PACKAGE.glob("*/__init__.py"))

sys.path.insert(0, str(ROOT / "tools"))
import import_graph  # noqa: E402  it stands in tools/


def test_nothing_lies_loose():
    loose = {path.name for path in PACKAGE.iterdir() if path.is_file()}
    assert loose == {"__init__.py", "py.typed"}


def test_nothing_imports_in_a_circle():
    graph = import_graph.read_graph(PACKAGE.name, ROOT)
    assert sorted(graph.rooms) == FOLDERS
    assert import_graph.circles(graph.rooms) == []
    assert import_graph.circles(graph.files) == []


def test_circles_and_levels_are_found():
    arrows = {
        "top": frozenset({"left", "low"}),
        "left": frozenset({"right"}),
        "right": frozenset({"left", "low"}),
        "low": frozenset(),
    }
    assert import_graph.circles(arrows) == [frozenset({"left", "right"})]
    assert import_graph.levels(arrows) == [["low"], ["left", "right"], ["top"]]


def test_the_map_in_contributing_shows_every_folder_from_top_to_bottom():
    text = (ROOT / "CONTRIBUTING.md").read_text(encoding="utf-8")
    rows = re.findall(r"^\| ((?:`\w+/`(?:, )?)+) \|", text, flags=re.MULTILINE)
    shown = [re.findall(r"`(\w+)/`", row) for row in rows]
    assert sorted(name for row in shown for name in row) == FOLDERS
    floor = {name: number for number, row in enumerate(shown) for name in row}
    for name, imported in import_graph.read_graph(PACKAGE.name, ROOT).rooms.items():
        upwards = {other for other in imported if floor[other] < floor[name]}
        assert not upwards, f"{name} imports from {upwards}, which the map shows above it"


def test_paths_in_contributing_are_there():
    text = (ROOT / "CONTRIBUTING.md").read_text(encoding="utf-8")
    for name in re.findall(r"`((?:\w+/)*\w+\.py)`", text):
        assert (PACKAGE / name).is_file() or (ROOT / name).is_file(), name


# --- contracts


def lint_imports(folder):
    """Run import-linter on the package in ``folder`` with the contracts in its pyproject.toml."""
    # The current directory comes first on import-linter's path, before the editable install.
    script = "from importlinter.cli import lint_imports_command as run; run()"
    return subprocess.run(
        [sys.executable, "-c", script, "--no-cache"],
        cwd=folder,
        stdin=subprocess.DEVNULL,
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
        check=False,
    )


def test_imports_point_in_one_direction():
    done = lint_imports(ROOT)
    assert done.returncode == 0, done.stdout


@pytest.mark.parametrize(
    ("file", "line", "contract"),
    [
        ("statistics/wrong.py", "import torch", "statistics needs no torch"),
        ("statistics/wrong.py", "from ..common.errors import UsageError", "folders import down"),
        ("simgpu/wrong.py", "from ..statistics import SpeedupGate", "folders import down"),
        ("similarity/wrong.py", "import diffusers", "simgpu and similarity need torch"),
        ("gates/wrong.py", "import pytest_diffspeed.plugin.hooks", "folders import down"),
        ("syncs/wrong.py", "from ..techniques import stacks", "folders import down"),
        (
            "adapters/wrong.py",
            "import typing\nif typing.TYPE_CHECKING:\n    from ..arms.spec import ArmSpec",
            "folders import down",
        ),
        ("newcomer/__init__.py", "", "folders import down"),
        ("timing/rounds.py", "from . import speedup", "no circles"),
        ("reports/wrong.py", "import pytest_diffspeed.history.store", "reports read records"),
        ("records/wrong.py", "import torch", "history, records and reports need no torch"),
        ("plugin/hooks.py", "def late():\n    import torch", "every session loads names no torch"),
        ("arms/worker/wrong.py", "import pytest", "nothing below the plugin knows pytest"),
    ],
)
def test_a_wrong_import_breaks_its_contract(tmp_path, file, line, contract):
    shutil.copy(ROOT / "pyproject.toml", tmp_path)
    copy = tmp_path / PACKAGE.name
    shutil.copytree(PACKAGE, copy, ignore=shutil.ignore_patterns("demo_weights", "__pycache__"))
    wrong = copy / file
    wrong.parent.mkdir(exist_ok=True)
    with wrong.open("a", encoding="utf-8") as text:
        text.write(f"\n\n{line}\n")

    done = lint_imports(tmp_path)

    assert done.returncode == 1, done.stdout
    said = [text for text in done.stdout.splitlines() if "BROKEN" in text or "not listed" in text]
    assert any(contract in text for text in said), done.stdout


# --- libraries

USES = {
    "statistics": """
        gate = borrowed.SpeedupGate(min_ratio=1.5)
        for _ in range(6):
            decision = gate.update(baseline_seconds=2.0, candidate_seconds=1.0)
        assert decision.value == "PASS"
        assert "torch" not in sys.modules
    """,
    "similarity": """
        import torch

        drawn = torch.rand(8, 3, 32, 32, generator=torch.Generator().manual_seed(0))
        assert borrowed.compare_images(drawn, drawn, preset="exact").verdict == "PASS"
    """,
    "simgpu": """
        import torch

        with borrowed.SimulatedGpu() as gpu, gpu.record() as log:
            (torch.ones(2, device=gpu.device) * 2).sum().item()
        assert [event.op for event in log.events] == ["aten._local_scalar_dense"]
    """,
    # Only a CUDA build can count; another says so.
    "gpucost": """
        import torch

        fake = borrowed.FakeGpu(borrowed.named_gpu("a100"))
        try:
            fake.install()
        except borrowed.GpuCostError as error:
            assert "CUDA build" in str(error) or "never counted with torch" in str(error)
        else:
            module = fake.on_device(torch.nn.Linear(4, 8))
            cost, _ = borrowed.count_eager(module, [fake.like(torch.ones(2, 4))], fake=fake)
            assert [kernel.name for kernel in cost.kernels] == ["addmm"]
    """,
}


@pytest.mark.parametrize("library", USES)
def test_a_library_works_under_another_name(tmp_path, library):
    copy = tmp_path / f"borrowed_{library}"
    shutil.copytree(PACKAGE / library, copy, ignore=shutil.ignore_patterns("__pycache__"))
    lines = ["import sys", "sys.modules['pytest_diffspeed'] = None  # importing it is an error"]
    lines += [f"import borrowed_{library} as borrowed"]
    script = "\n".join([*lines, textwrap.dedent(USES[library])])
    done = subprocess.run(
        [sys.executable, "-c", script], cwd=tmp_path, capture_output=True, text=True, check=False
    )
    assert done.returncode == 0, done.stderr


def test_no_two_public_classes_have_one_name():
    """Two classes of one name are read as one; what differs is said in the name.

    Left: pairs whose folders know nothing of each other, and whose word is the field's in both.
    """
    known = {"Change", "Axis", "Gpu", "Metric", "Timed"}
    places = collections.defaultdict(list)
    for path in sorted(PACKAGE.rglob("*.py")):
        for node in ast.parse(path.read_text("utf-8")).body:
            if isinstance(node, ast.ClassDef) and not node.name.startswith("_"):
                places[node.name].append(str(path.relative_to(PACKAGE)))
    twins = {name: found for name, found in places.items() if len(found) > 1}
    assert {name: twins[name] for name in twins.keys() - known} == {}
