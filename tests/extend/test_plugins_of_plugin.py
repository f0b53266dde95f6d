"""What others add: techniques and sources, by hook and by entry point."""

import contextvars
import re
from pathlib import Path

import pytest

from pytest_diffspeed import apply_stack, load_pipeline
from pytest_diffspeed.common.errors import SourceError, UsageError
from pytest_diffspeed.common.extensions import extensions
from pytest_diffspeed.common.extensions import installed as once_installed
from tests.journals import journal_path

ROOT = Path(__file__).parents[2]
EXAMPLE = ROOT / "examples" / "block_cache"
DOCS = ROOT / "docs" / "plugins.md"

TECHNIQUE = """
    from pytest_diffspeed.techniques.technique import Family, Proof, Technique

    class Slow(Technique):
        name = "slow"
        family = Family.CACHE
        summary = "nothing"
        def apply(self, pipeline): pipeline.unet.slowed = True
        def prove(self, pipeline, seen): return Proof(self.name, "it is slow")
"""
HOOK = TECHNIQUE + "\n    def pytest_diffspeed_techniques(): return [Slow()]\n"
TEST = """
    import pytest

    @pytest.mark.diffspeed("slow")
    def test_it(optimized_pipeline):
        assert optimized_pipeline.unet.slowed
"""


def usage_error(result):
    """The usage error of a session, as one line."""
    assert result.ret == pytest.ExitCode.USAGE_ERROR
    return " ".join(" ".join(result.errlines + result.outlines).split())


def test_a_conftest_adds_a_technique_for_its_session_only(pytester, run_diffspeed):
    pytester.makeconftest(HOOK)
    pytester.makepyfile(TEST)
    run_diffspeed().assert_outcomes(passed=1)
    assert "slow" not in extensions().techniques
    (pytester.path / "conftest.py").unlink()
    result = run_diffspeed()
    result.assert_outcomes(errors=1)
    result.stdout.fnmatch_lines(["*no technique is called 'slow'*"])


def test_options_know_it_too(pytester, run_diffspeed):
    pytester.makeconftest(HOOK)
    pytester.makepyfile(TEST.replace('"slow"', '"channels_last"'))
    result = run_diffspeed("--diffspeed-techniques=slow+channels_last")
    result.assert_outcomes(passed=1)


def test_a_conftest_in_a_folder_that_is_found_later(pytester, run_diffspeed):
    folder = pytester.mkdir("below")
    pytester.makepyfile(test_first="def test_plain(): pass")
    pytester.makeconftest(HOOK).rename(folder / "conftest.py")
    pytester.makepyfile(TEST).rename(folder / "test_below.py")
    run_diffspeed(".").assert_outcomes(passed=2)


@pytest.mark.parametrize(
    ("hook", "told"),
    [
        ("return 'slow'", "techniques must be a list of Technique instances, not 'slow'"),
        ("return [Slow]", "Slow is a class; give an instance, Slow()"),
        ("return [7]", "7 is not a technique; subclass"),
        ("return [Slow(), Slow()]", "has a technique 'slow' already; rename or disable one"),
        ("Slow.name = 'bf16'; return [Slow()]", "'bf16' is pytest-diffspeed's own"),
        ("Slow.name = 'a+b'; return [Slow()]", "`name` must be lower-case letters"),
        ("Slow.family = 3; return [Slow()]", "`family` must be one of Family.ADAPTERS"),
        ("Slow.changes = ['unet']; return [Slow()]", "`changes` must be a frozenset"),
        (
            "Slow.parameters = {'by': 3}; return [Slow()]",
            "`parameters` must map names to a Par",
        ),
        ("del Slow.summary; return [Slow()]", "`summary` must be a line of text"),
        ("1 / 0", "pytest_diffspeed_techniques raised ZeroDivisionError"),
    ],
)
def test_a_technique_that_cannot_be_meant_is_one_sentence(pytester, run_diffspeed, hook, told):
    pytester.makeconftest(TECHNIQUE + f"\n    def pytest_diffspeed_techniques(): {hook}\n")
    error = usage_error(run_diffspeed())
    assert told in error
    assert "conftest.py'" in error
    assert "Traceback" not in error
    assert not extensions().techniques


def test_two_plugins_with_one_name_are_both_named(pytester, run_diffspeed):
    pytester.makeconftest(HOOK)
    pytester.makepyfile(other_plugin=HOOK)
    pytester.syspathinsert()
    error = usage_error(run_diffspeed("-p", "other_plugin"))
    assert "other_plugin" in error
    assert "conftest.py' has a technique" in error or "conftest.py': plug-in 'other" in error


SOURCE = """
    from dataclasses import dataclass
    from pytest_diffspeed.common.errors import UsageError
    from pytest_diffspeed.pipelines.sources import RandomSource

    def make(text):
        if text != "tiny":
            raise UsageError(f"the store has no {text!r}; it has: tiny")
        return RandomSource("store:tiny", "sdxl-tiny")

    def pytest_diffspeed_sources(): return {"store": make}
"""


def test_a_conftest_adds_a_source(pytester, run_diffspeed):
    pytester.makeconftest(SOURCE)
    pytester.makepyfile(
        """
        import pytest

        @pytest.mark.diffspeed("channels_last", pipeline="store:tiny")
        def test_it(optimized_pipeline): assert "XL" in type(optimized_pipeline).__name__
        """
    )
    run_diffspeed().assert_outcomes(passed=1)
    error = usage_error(run_diffspeed("--diffspeed-pipeline=store:huge"))
    assert "pipeline source 'store:huge': the store has no 'huge'; it has: tiny" in error


@pytest.mark.parametrize(
    ("returned", "told"),
    [
        ("[make]", "sources must be a mapping of prefix to callable"),
        ('{"C": make}', "a source's prefix must be at least two lower-case letters"),
        ('{"random": make}', "the source 'random' is pytest-diffspeed's own"),
        ('{"store": 7}', "source 'store' must be a callable"),
    ],
)
def test_a_source_that_cannot_be_meant_is_one_sentence(pytester, run_diffspeed, returned, told):
    pytester.makeconftest(SOURCE.replace('{"store": make}', returned))
    error = usage_error(run_diffspeed())
    assert told in error
    assert "conftest.py'" in error


@pytest.mark.parametrize(
    ("body", "told"),
    [("return 7", "gave an int, not a PipelineSource"), ("1 / 0", "raised ZeroDivisionError")],
)
def test_a_source_that_gives_no_source(pytester, run_diffspeed, body, told):
    pytester.makeconftest(
        f"""
        def make(text): {body}
        def pytest_diffspeed_sources(): return {{"store": make}}
        """
    )
    assert told in usage_error(run_diffspeed("--diffspeed-pipeline=store:x"))


def installed(pytester, points, name="diffspeed-slow"):
    """A package as an installer leaves it: a module and its metadata on the import path."""
    pytester.makepyfile(slow_package=TECHNIQUE + "\n    SLOW = Slow()\n")
    metadata = pytester.mkdir(f"{name.replace('-', '_')}-1.0.dist-info")
    (metadata / "METADATA").write_text(f"Metadata-Version: 2.1\nName: {name}\nVersion: 1.0\n")
    (metadata / "entry_points.txt").write_text(points)
    pytester.syspathinsert()


def test_an_installed_package_adds_a_technique(pytester, run_diffspeed, monkeypatch):
    monkeypatch.delenv("PYTEST_DISABLE_PLUGIN_AUTOLOAD", raising=False)
    installed(pytester, "[pytest_diffspeed.techniques]\nslow = slow_package:SLOW\n")
    pytester.makepyfile(TEST)
    run_diffspeed().assert_outcomes(passed=1)


def test_an_installed_package_that_is_broken_is_named(pytester, run_diffspeed, monkeypatch):
    monkeypatch.delenv("PYTEST_DISABLE_PLUGIN_AUTOLOAD", raising=False)
    installed(pytester, "[pytest_diffspeed.sources]\nstore = slow_package:NOTHING\n")
    error = usage_error(run_diffspeed())
    assert "package 'diffspeed-slow' (entry point 'store' of pytest_diffspeed.sources)" in error


@pytest.fixture
def outside():
    """Call a function as a script does: in no session, with no entry point looked up before."""

    def forget():
        once_installed.cache_clear()

    forget()
    yield lambda function, *args: contextvars.Context().run(function, *args)
    forget()


def test_without_pytest_what_is_installed_is_there_too(pytester, outside):
    points = "[pytest_diffspeed.techniques]\nslow = slow_package:SLOW\n"
    installed(pytester, points + "[pytest_diffspeed.sources]\nstore = store_package:make\n")
    pytester.makepyfile(store_package=SOURCE)
    pipeline = outside(load_pipeline, "store:tiny")

    def call(pipeline, steps=2):
        return pipeline("a fox", num_inference_steps=steps, height=16, width=16)

    (proof,) = outside(lambda: apply_stack(pipeline, "channels_last+slow", call=call)).proofs[1:]
    assert (proof.technique, proof.found, pipeline.unet.slowed) == ("slow", "it is slow", True)
    with pytest.raises(SourceError, match="the store has no 'large'; it has: tiny"):
        outside(load_pipeline, "store:large")


def test_without_pytest_a_broken_package_is_named_too(pytester, outside):
    installed(pytester, "[pytest_diffspeed.sources]\nstore = slow_package:NOTHING\n")
    for _ in range(2):  # not only the first time
        with pytest.raises(UsageError, match=r"package 'diffspeed-slow' .* cannot be loaded"):
            outside(load_pipeline, "demo:small")


# --- the example, and the page about all this


def copy_example(pytester):
    for name in ("conftest.py", "test_block_cache.py"):
        (pytester.path / name).write_text((EXAMPLE / name).read_text())


@pytest.mark.usefixtures("verbose")
def test_the_example_skips_blocks_and_proves_it(pytester, constant_clock, run_diffspeed):
    copy_example(pytester)
    result = run_diffspeed("--diffspeed-steps=4", "--diffspeed-inconclusive=warn")
    # On this clock all arms are equally fast, so the gate fails; the body and the proof passed.
    result.assert_outcomes(failed=1)
    result.stdout.fnmatch_lines(["FAIL * min_speedup over fp32 *"])
    found = re.search(r'"reached": ?(\d+), ?"skipped": ?(\d+)', journal_path(pytester).read_text())
    # A whole call of four steps reaches each of the five other blocks four times, and runs it once.
    assert found.groups() == ("20", "15")


@pytest.mark.usefixtures("verbose")
def test_a_cache_that_never_fires_fails_its_test(pytester, run_diffspeed):
    copy_example(pytester)
    test = pytester.path / "test_block_cache.py"
    test.write_text(test.read_text().replace("threshold=0.9", "threshold=0.0"))
    result = run_diffspeed("--diffspeed-steps=2")
    result.assert_outcomes(errors=1)
    result.stdout.fnmatch_lines(["*all 10 ran: the cache never fired*"])


@pytest.mark.parametrize(
    ("written", "told"),
    [
        ("treshold=0.1", "takes no 'treshold'; did you mean 'threshold'? Valid: threshold."),
        ("threshold=low", "threshold of 'block_cache' must be a number, not 'low'"),
    ],
)
def test_a_wrong_argument_is_told_before_anything_is_built(pytester, run_diffspeed, written, told):
    copy_example(pytester)
    test = pytester.path / "test_block_cache.py"
    test.write_text(test.read_text().replace("threshold=0.9", written))
    result = run_diffspeed()
    result.assert_outcomes(errors=1)
    assert told in " ".join(" ".join(result.outlines).split())
    assert not (pytester.path / ".diffspeed" / "records").exists()


@pytest.mark.usefixtures("verbose")
def test_the_example_refuses_a_pipeline_without_such_blocks(pytester, run_diffspeed):
    copy_example(pytester)
    test = pytester.path / "test_block_cache.py"
    test.write_text(test.read_text().replace("flux-tiny", "sdxl-tiny"))
    result = run_diffspeed()
    result.assert_outcomes(errors=1)
    result.stdout.fnmatch_lines(["*block_cache is incompatible with StableDiffusionXLPipeline*"])


def test_the_page_runs_as_written(pytester, run_diffspeed):
    blocks = re.findall(r"^```python\n# (\S+)\n(.*?)^```", DOCS.read_text(), re.M | re.S)
    assert [name for name, _ in blocks] == ["conftest.py", "test_small.py"]
    for name, code in blocks:
        (pytester.path / name).write_text(code)
    result = run_diffspeed()
    result.assert_outcomes(passed=1)
