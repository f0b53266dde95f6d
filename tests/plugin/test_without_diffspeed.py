"""What a pytest run pays that does not ask for ``--diffspeed``: nothing heavy is imported."""

import json
import subprocess
import sys

import pytest

import pytest_diffspeed
from pytest_diffspeed.gates.registry import gates
from pytest_diffspeed.plugin.public_names import signatures
from pytest_diffspeed.plugin.stacks_marker import Diffspeed

HEAVY = {"accelerate", "diffusers", "numpy", "safetensors", "torch", "torchao", "transformers"}
HEAVY |= {"alembic", "psycopg", "sqlalchemy"}

REPORT_MODULES = """
    import json, sys

    def pytest_unconfigure(config):
        with open(config.rootpath / "modules.json", "w") as file:
            json.dump(sorted(sys.modules), file)
"""
MARKED_TESTS = """
    import pytest

    @pytest.mark.diffspeed("bf16", "channels_last+compile", pipeline="random:sdxl-tiny")
    @pytest.mark.min_speedup(1.5, over="previous", device="cuda")
    @pytest.mark.max_slowdown(5)
    def test_marked(optimized_pipeline, technique, baseline_pipeline, diffspeed):
        raise AssertionError("unreachable because this test is skipped")

    def test_baseline(baseline_pipeline):
        raise AssertionError("unreachable because this test is skipped")

    def test_plain():
        pass
"""
BAD_MARKERS = """
    import pytest

    @pytest.mark.diffspeed("bf61")
    @pytest.mark.min_speedup("fast", unit="steps")
    def test_bad(optimized_pipeline): ...
"""


@pytest.fixture
def modules_of(pytester):
    """Run pytest in a process of its own; its result, and the modules it had imported."""
    pytester.makeconftest(REPORT_MODULES)

    def run(*words):
        result = pytester.runpytest_subprocess(*words)
        return result, set(json.loads((pytester.path / "modules.json").read_text()))

    return run


@pytest.fixture
def alone(monkeypatch):
    """Ours is the only plugin that is installed."""
    monkeypatch.setenv("PYTEST_DISABLE_PLUGIN_AUTOLOAD", "1")
    return ("-p", "pytest_diffspeed.plugin.hooks")


def test_plain_tests_import_nothing_heavy(pytester, modules_of, alone):
    pytester.makepyfile("def test_plain(): pass")
    result, modules = modules_of(*alone)
    result.assert_outcomes(passed=1)
    assert "pytest_diffspeed.plugin.hooks" in modules
    assert not modules & HEAVY
    assert not {name for name in modules if name.startswith("pytest_diffspeed.timing")}


def test_marked_tests_import_nothing_heavy(pytester, modules_of, alone):
    pytester.makepyfile(MARKED_TESTS)
    result, modules = modules_of(*alone, "-rs")
    result.assert_outcomes(passed=1, skipped=3)
    result.stdout.fnmatch_lines(["SKIPPED*needs --diffspeed"])
    assert not modules & HEAVY


def test_markers_that_cannot_be_meant_import_nothing_heavy(pytester, modules_of, alone):
    pytester.makepyfile(BAD_MARKERS)
    result, modules = modules_of(*alone)
    assert result.ret == pytest.ExitCode.INTERRUPTED
    result.stdout.fnmatch_lines(["*did you mean 'bf16'?*"])
    assert not modules & HEAVY


@pytest.mark.parametrize(
    "words",
    [
        ("--diffspeed-device=cuda", "--diffspeed-techniques=bf16,compile"),
        ("--diffspeed-pipeline=random:sdxl-tiny", "--diffspeed-budget=3"),
        ("--diffspeed-pipeline=package.module:factory",),
        ("--collect-only",),
        ("--markers",),
        ("--help",),
    ],
    ids=" ".join,
)
def test_options_import_nothing_heavy(pytester, modules_of, alone, words):
    pytester.makepyfile(MARKED_TESTS)
    result, modules = modules_of(*alone, *words)
    in_vain = words[0].startswith("--diffspeed-")
    assert result.ret == (pytest.ExitCode.USAGE_ERROR if in_vain else pytest.ExitCode.OK)
    assert not modules & HEAVY


def test_pytest_finds_the_plugin_by_its_entry_point(pytester, modules_of):
    pytester.makepyfile(MARKED_TESTS)
    result, modules = modules_of("-W", "error")
    result.assert_outcomes(passed=1, skipped=3)
    result.stdout.fnmatch_lines(["plugins:*diffspeed-*"])
    assert not modules & {"torch", "diffusers", "transformers"}


def test_with_the_option_torch_is_there(pytester, modules_of, alone):
    """The counterpart: the tests above would see it."""
    pytester.makepyfile("def test_plain(): pass")
    _, modules = modules_of(*alone, "--diffspeed", "--diffspeed-device=cpu")
    assert "torch" in modules
    assert not modules & {"diffusers", "transformers"}


def test_markers_lists_ours(pytester):
    result = pytester.runpytest_inprocess("--markers")
    text = result.stdout.str()
    for cls in (Diffspeed, *gates()):
        assert f"@pytest.mark.{cls.signature}" in text
    assert set(signatures()) == {Diffspeed.marker, *(cls.marker for cls in gates())}


# --- the package


def python(code):
    """Run Python code in a process of its own; what it printed."""
    done = subprocess.run(
        [sys.executable, "-W", "error", "-c", code], capture_output=True, text=True, check=False
    )
    assert done.returncode == 0, done.stderr
    return done.stdout.strip()


def test_importing_the_package_imports_nothing_heavy():
    code = "import sys, pytest_diffspeed; print(*sys.modules)"
    modules = set(python(code).split())
    assert "pytest_diffspeed" in modules
    assert not modules & HEAVY
    assert "pytest" not in modules


def test_measuring_two_functions_needs_no_torch():
    code = """
import sys
from pytest_diffspeed import measure_speedup

class Clock:
    def time(self, call):
        call()
        return 1.0, None

print(measure_speedup(lambda: 1, lambda: 2, min_ratio=0.5, clock=Clock()).verdict)
print({"torch", "diffusers", "pytest"} & set(sys.modules) or "none")
"""
    assert python(code).split() == ["PASS", "none"]


@pytest.mark.parametrize("name", sorted(set(pytest_diffspeed.__all__) - {"__version__"}))
def test_public_names_resolve(libraries, name):
    value = getattr(pytest_diffspeed, name)
    assert value.__name__ == name
    assert value.__module__.startswith("pytest_diffspeed.")
    assert name in dir(pytest_diffspeed)


def test_the_version_is_that_of_the_distribution():
    from importlib.metadata import version

    assert pytest_diffspeed.__version__ == version("pytest-diffspeed")


def test_other_names_do_not_resolve():
    with pytest.raises(AttributeError, match=r"pytest_diffspeed.*no attribute 'measure_speed'"):
        _ = pytest_diffspeed.measure_speed
