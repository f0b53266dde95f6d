"""What pytest ends with, and what it says, where a gate was asked for and something is amiss.

A table: each row is a session.  No row may end with 0 and say nothing.
"""

# ruff: noqa: E501  a table is read by its rows
from dataclasses import dataclass

import pytest

OK, FAILED, INTERRUPTED, USAGE, NONE = 0, 1, 2, 4, 5
PLAIN = "def test_plain(): ...\n"
GATE = "@pytest.mark.no_gpu_syncs()\n"
STACK = '@pytest.mark.diffspeed("channels_last")\n'
IT = "def test_it(optimized_pipeline): ...\n"
GREEN = STACK + GATE + "def test_green(optimized_pipeline): ...\n"
NEVER = "def never(x): return x\n" + STACK + "@pytest.mark.no_gpu_syncs(scope=never)\n" + IT


@dataclass(frozen=True)
class Row:
    """A session: its test file after ``import pytest``, its words, and how it must end."""

    case: str
    code: str
    exit: int
    said: str
    words: tuple[str, ...] = ()
    conftest: str = ""


def marked(gate: str, stack: str = STACK, takes: str = "optimized_pipeline") -> str:
    return f"{stack}@pytest.mark.{gate}\ndef test_it({takes}): ...\n"


ROWS = [
    # --- markers and fixtures that could never fire
    Row("a gate and no fixture", marked("no_gpu_syncs()", takes=""), INTERRUPTED, "takes no diffspeed fixture"),
    Row("a gate and no stack", marked("no_gpu_syncs()", stack=""), INTERRUPTED, "names no stack; add for example"),
    Row("a misspelt stack", marked("no_gpu_syncs()", stack='@pytest.mark.diffspeed("chanels_last")\n'), INTERRUPTED, "did you mean 'channels_last'?"),
    Row("no stack given", marked("no_gpu_syncs()", stack="@pytest.mark.diffspeed()\n"), INTERRUPTED, "names no stack; write at least one"),
    Row("a stack twice", marked("no_gpu_syncs()", stack='@pytest.mark.diffspeed("bf16", "bf16")\n'), INTERRUPTED, "names the stack 'bf16' twice"),
    Row("a contradiction", marked("no_gpu_syncs()", stack='@pytest.mark.diffspeed("bf16+fp16")\n'), INTERRUPTED, "contradict each other"),
    Row("a misspelt gate", marked("no_gpu_sync()"), INTERRUPTED, "did you mean 'no_gpu_syncs'?"),
    Row("a gate far from its name", marked("gpu_syncs()"), INTERRUPTED, "did you mean 'no_gpu_syncs'?"),
    Row("a misspelt gate alone", "@pytest.mark.minspeedup(2)\n" + IT, INTERRUPTED, "did you mean 'min_speedup'?"),
    Row("a gate for a stack not run", marked('no_gpu_syncs(stack="bf16")'), INTERRUPTED, "the gate could never fire"),
    Row("an unknown keyword", marked("no_gpu_syncs(per_stp=1)"), INTERRUPTED, "per_step"),
    Row("a gate without its argument", marked("min_speedup()"), INTERRUPTED, "missing a required argument: 'ratio'"),
    Row("a ratio as text", marked('min_speedup("2")'), INTERRUPTED, "`ratio` must be a number"),
    Row("a ratio of nothing", marked("min_speedup(0)"), INTERRUPTED, "`ratio`"),
    Row("a ratio that is not finite", marked('min_speedup(float("nan"))'), INTERRUPTED, "`ratio`"),
    Row("an alpha of one half", marked("min_speedup(2, alpha=0.5)"), INTERRUPTED, "`alpha`"),
    Row("an unknown unit", marked('min_speedup(2, unit="stepp")'), INTERRUPTED, "step"),
    Row("an unknown method", marked('min_speedup(2, method="mean")'), INTERRUPTED, "does not know 'mean'"),
    Row("a preset that is none", marked('image_similarity("losless")'), INTERRUPTED, "did you mean 'lossless'?"),
    Row("a limit that is none", marked("image_similarity(psnrr=30)"), INTERRUPTED, "psnr"),
    Row("images of random weights", marked("image_similarity()"), INTERRUPTED, "would compare noise with noise"),
    Row("a scope that is none", marked('no_gpu_syncs(scope="scheduler")'), INTERRUPTED, "scheduler.step"),
    Row("an empty list", marked("no_graph_breaks(components=[])"), INTERRUPTED, "must hold at least one"),
    Row("a word for a list", marked('no_graph_breaks(components="unet")'), INTERRUPTED, "must be a list"),
    Row("bytes for a list", marked('no_recompiles(batch_sizes=b"2")'), INTERRUPTED, "must be a list of whole numbers"),
    Row("a device misspelt", marked('no_gpu_syncs(device="cudaa")'), INTERRUPTED, "did you mean 'cuda'?"),
    Row("a source misspelt", marked("no_gpu_syncs()", stack='@pytest.mark.diffspeed("bf16", pipeline="random:sdxl-tinny")\n'), INTERRUPTED, "sdxl-tiny"),
    Row("another optimized_pipeline", GREEN, INTERRUPTED, "is overridden at conftest.py:2", conftest="import pytest\n@pytest.fixture\ndef optimized_pipeline(optimized_pipeline): return 1\n"),
    Row("a fixture asked for too late", "def test_it(request): request.getfixturevalue('optimized_pipeline')\n", FAILED, "must be arguments of the test"),
    Row("a marker added while it runs", STACK + GATE + "def test_it(optimized_pipeline, request): request.node.add_marker(pytest.mark.max_memory(2.0))\n", FAILED, "a diffspeed marker was added while the test ran"),
    Row("a gate on a helper", GATE + "def helper(): ...\n" + STACK + IT, INTERRUPTED, "test_it.py:2: helper: it is marked no_gpu_syncs and is no test"),
    Row("a gate on a helper alone", GATE + "def helper(): ...\n" + PLAIN, INTERRUPTED, "helper: it is marked no_gpu_syncs and is no test"),
    Row("a gate on a method that is no test", "class TestIt:\n    @pytest.mark.no_gpu_syncs()\n    def check(self): ...\n" + PLAIN, INTERRUPTED, "check: it is marked no_gpu_syncs and is no test"),
    Row("a module's marks misnamed", "pytestmarks = [pytest.mark.no_gpu_syncs()]\n" + STACK + IT, INTERRUPTED, "from `pytestmark` only"),
    Row("a gate without its first word", marked("speedup(2)"), INTERRUPTED, "did you mean 'min_speedup'?"),
    Row("a marker removed by a conftest", GREEN, USAGE, "was removed after it was collected", conftest="def pytest_collection_modifyitems(items):\n    for item in items: item.own_markers[:] = [m for m in item.own_markers if m.name == 'diffspeed']\n"),
    Row("marks of a parameter", '@pytest.mark.parametrize("x", [pytest.param(1, marks=pytest.mark.diffspeed("bf16"))])\n' + GATE + "def test_it(optimized_pipeline, x): ...\n", INTERRUPTED, "as that of a pytest.param(…, marks=…) does"),
    Row("a unittest", "import unittest\nclass TestIt(unittest.TestCase):\n    @pytest.mark.usefixtures('optimized_pipeline')\n    @pytest.mark.diffspeed('bf16')\n    @pytest.mark.no_gpu_syncs()\n    def test_it(self): ...\n", INTERRUPTED, "a method of a unittest.TestCase"),
    Row("an absurd ratio", marked("min_speedup(1e-320)"), INTERRUPTED, "`ratio` must lie between 0.001 and 1000"),
    Row("an absurd share of memory", marked("max_memory(1e300)"), INTERRUPTED, "`ratio` must lie between 0.001 and 1000"),
    Row("an absurd slowdown", marked("max_slowdown(1e300)"), INTERRUPTED, "`percent` must be finite and at least 0 and less than"),
    Row("an argument that cannot be shown", "class Odd:\n    def __repr__(self): raise RuntimeError\n" + marked("min_speedup(Odd())"), INTERRUPTED, "of type Odd, cannot be shown: its repr raises RuntimeError"),
    Row("bytes for a size", marked('no_recompiles(sizes=[b"ab"])'), INTERRUPTED, "must hold (height, width) pairs"),
    # --- options
    Row("--diffspeed forgotten, with records", GREEN, USAGE, "--diffspeed-json was given without --diffspeed", words=("!", "--diffspeed-json=r.jsonl")),
    Row("--diffspeed forgotten, with a budget", GREEN, USAGE, "--diffspeed-budget was given without --diffspeed", words=("!", "--diffspeed-budget=3")),
    Row("--diffspeed forgotten, strict", GREEN, USAGE, "--diffspeed-strict was given without --diffspeed", words=("!", "--diffspeed-strict")),
    Row("no steps", GREEN, USAGE, "--diffspeed-steps: must be a whole number", words=("--diffspeed-steps=0",)),
    Row("steps without an end", GREEN, USAGE, "a number of steps that ends one day", words=("--diffspeed-steps=1" + "0" * 5000,)),
    Row("no budget", GREEN, USAGE, "--diffspeed-budget: must be a positive number", words=("--diffspeed-budget=0",)),
    Row("an unknown stack", GREEN, USAGE, "--diffspeed-techniques", words=("--diffspeed-techniques=bf17",)),
    Row("an unknown device", GREEN, USAGE, "is no device that this version measures on", words=("--diffspeed-device=gpu",)),
    Row("an unknown source", GREEN, USAGE, "there is no such thing", words=("--diffspeed-pipeline=what is this",)),
    Row("an unknown policy", GREEN, USAGE, "does not know 'ignore'", words=("--diffspeed-inconclusive=ignore",)),
    Row("records into a device", GREEN, USAGE, "a device, a pipe or a socket", words=("--diffspeed-json=/dev/null",)),
    Row("records over the test", GREEN, USAGE, "ends with .py", words=("--diffspeed-json=test_it.py",)),
    Row("two outputs on one path", GREEN, USAGE, "name one file", words=("--diffspeed-json=o", "--diffspeed-html=o")),
    Row("a report in no folder", GREEN, USAGE, "a file in a folder that exists", words=("--diffspeed-html=no/r.html",)),
    Row("a store in no folder", GREEN, USAGE, "--diffspeed-store", words=("--diffspeed-store=sqlite:///no/h.sqlite",)),
    Row("a base that is none", GREEN, USAGE, "--diffspeed-base", words=("--diffspeed-base=nowhere",)),
    Row("an interpreter that is none", GREEN, USAGE, "--diffspeed-base-python", words=("--diffspeed-base-python=nowhere/python",)),
    Row("variables that are none", GREEN, USAGE, "is not a list of names", words=("--diffspeed-base-env=A B",)),
    Row("an unknown option", GREEN, USAGE, "unrecognized arguments: --diffspeed-budgt", words=("--diffspeed-budgt=3",)),
    # --- gates that reach no verdict
    Row("all on another device", marked('no_gpu_syncs(device="cuda")'), FAILED, "none reached a verdict, so this session fails"),
    Row("one on another device, strict", GREEN + marked('no_gpu_syncs(device="NVIDA H100*")'), FAILED, "reached no verdict, so this session fails", words=("--diffspeed-strict",)),
    Row("skipped", STACK + GATE + "@pytest.mark.skip(reason='later')\n" + IT, FAILED, "none reached a verdict"),
    Row("one skipped, strict", GREEN + STACK + GATE + "@pytest.mark.skip(reason='later')\n" + IT, FAILED, "skipped: Skipped: later", words=("--diffspeed-strict",)),
    Row("deselected by name, strict", GREEN + PLAIN, FAILED, "deselected", words=("--diffspeed-strict", "-k", "plain")),
    Row("deselected by marker, strict", GREEN + PLAIN, FAILED, "deselected", words=("--diffspeed-strict", "-m", "not no_gpu_syncs")),
    Row("nothing collected", GREEN, NONE, "2 deselected", words=("-k", "nothing"), conftest=""),
    Row("no diffspeed test", PLAIN, OK, "no diffspeed test was collected; a first one is"),
    Row("a skip in the body", STACK + GATE + "def test_it(optimized_pipeline): pytest.skip('x')\n", FAILED, "none reached a verdict"),
    Row("a body that raises", STACK + GATE + "def test_it(optimized_pipeline): raise RuntimeError('boo')\n", FAILED, "not run "),
    Row("a body that exits", STACK + GATE + "def test_it(optimized_pipeline): raise SystemExit(0)\n", FAILED, "not run "),
    Row("an unfinished xfail, strict", GREEN + STACK + GATE + "@pytest.mark.xfail(run=False)\n" + IT, FAILED, "xfailed before its body", words=("--diffspeed-strict",)),
    Row("a missing technique", marked("no_gpu_syncs()", stack='@pytest.mark.diffspeed("sdpa_cudnn")\n'), FAILED, "none reached a verdict"),
    Row("a technique that cannot be", marked("no_gpu_syncs()", stack='@pytest.mark.diffspeed("cpu_sigmas")\n'), FAILED, "is incompatible with"),
    Row("a scope that never ran", NEVER, FAILED, "never"),
    Row("a recompilation of what is eager", marked("no_recompiles()"), FAILED, "NOT CHECKED"),
    Row("a compile time of what is eager", marked("max_compile_time(60)"), FAILED, "NOT CHECKED"),
    Row("itself over itself", marked('min_speedup(1.1, over="channels_last")'), FAILED, "with itself"),
    Row("over a base that is not there", marked('min_speedup(1.1, over="base")'), FAILED, "none reached a verdict"),
    Row("a body that changes the pipeline", STACK + GATE + "def test_it(optimized_pipeline): optimized_pipeline.unet.half()\n", FAILED, "NOT CHECKED"),
]  # fmt: skip
assert len(ROWS) >= 60


@pytest.mark.filterwarnings("ignore::pytest.PytestUnknownMarkWarning")
@pytest.mark.parametrize("row", ROWS, ids=lambda row: row.case)
def test_nothing_amiss_is_green_and_silent(pytester, run_diffspeed, row):
    if row.conftest:
        pytester.makeconftest(row.conftest)
    more = PLAIN if row.case == "nothing collected" else ""
    pytester.makepyfile(test_it="import pytest\n" + row.code + more)
    if row.words[:1] == ("!",):  # without --diffspeed
        result = pytester.runpytest_inprocess(*row.words[1:])
    else:
        result = run_diffspeed("--diffspeed-steps=2", *row.words)
    text = "\n".join([*result.outlines, *result.errlines])
    assert row.said in " ".join(text.split())
    assert result.ret == row.exit, text
