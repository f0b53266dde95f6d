"""Options: on the command line and in the ini file, good values and bad ones."""

import math

import pytest

from pytest_diffspeed.arms.session_options import INCONCLUSIVE_POLICIES
from pytest_diffspeed.pipelines import zoo
from pytest_diffspeed.pipelines.random_weights import names
from pytest_diffspeed.plugin.stash import options_of
from pytest_diffspeed.techniques.registry import techniques


@pytest.fixture
def refused(pytester, libraries):
    """Run pytest with words that it must refuse; the one sentence that it says."""

    def run(*words):
        pytester.makepyfile(test_plain="def test_plain(): pass")
        result = pytester.runpytest_inprocess(*words)
        assert result.ret == pytest.ExitCode.USAGE_ERROR
        lines = [line for line in result.errlines if line]
        assert len(lines) == 1, lines
        assert lines[0].startswith("ERROR: ")
        return lines[0].removeprefix("ERROR: ")

    return run


@pytest.fixture
def options(pytester, libraries):
    """The checked options of a session with these words, which is not run."""

    def read(*words):
        # Not configured: without --diffspeed a session with these words is refused.
        return options_of(pytester.parseconfig("-p", "no:cacheprovider", *words))

    return read


# --- bad values, each in both places where it can stand

DEVICES = "is no device that this version measures on; valid: auto, cpu, cuda or cuda:N"
STEPS = "must be a whole number of at least 1, not "
BUDGET = "must be a positive number of seconds or 'auto', not "
TECHNIQUES = ", ".join(sorted(techniques()))
BAD_VALUES = [
    ("device", "mps", f"'mps' {DEVICES}"),
    ("device", "xpu", f"'xpu' {DEVICES}"),
    ("device", "cuda:x", f"'cuda:x' {DEVICES}"),
    ("device", "cuda:-1", f"'cuda:-1' {DEVICES}"),
    ("device", "CUDA", f"'CUDA' {DEVICES}"),
    ("steps", "0", f"{STEPS}'0'"),
    ("steps", "-4", f"{STEPS}'-4'"),
    ("steps", "abc", f"{STEPS}'abc'"),
    ("steps", "2.5", f"{STEPS}'2.5'"),
    ("budget", "0", f"{BUDGET}'0'"),
    ("budget", "-1", f"{BUDGET}'-1'"),
    ("budget", "abc", f"{BUDGET}'abc'"),
    ("budget", "nan", f"{BUDGET}'nan'"),
    ("budget", "inf", f"{BUDGET}'inf'"),
    ("budget", "60s", f"{BUDGET}'60s'"),
    (
        "techniques",
        "bf16,compil",
        f"no technique is called 'compil'; did you mean 'compile'? Valid: {TECHNIQUES}.",
    ),
    ("techniques", ",", "it names no stack; write for example 'bf16,bf16+compile'"),
    ("techniques", "bf16,bf16", "it names the stack 'bf16' twice"),
    (
        "techniques",
        "fp32+bf16",
        "'bf16' and 'fp32' are both of the family 'precision' and contradict each other; keep one",
    ),
    (
        "inconclusive",
        "wanr",
        "does not know 'wanr'; did you mean 'warn'? Valid: fail, skip, warn.",
    ),
    (
        "pipeline",
        "random:sdxl",
        "pipeline source 'random:sdxl': there is no random-weight pipeline 'sdxl'; did you mean "
        f"'sdxl-tiny' or 'sdxl-base'? Valid: {', '.join(names())}, and {len(zoo.names())} small "
        "pipelines by the name of their class, such as random:FluxPipeline (docs/pipelines.md "
        "lists them).",
    ),
    (
        "pipeline",
        "sdxl",
        "pipeline source 'sdxl': there is no such thing; valid: 'demo', a hub id such as "
        "'stabilityai/stable-diffusion-xl-base-1.0', a local folder, 'package.module:factory' or "
        "'random:<name>'",
    ),
]


@pytest.mark.parametrize(("name", "value", "sentence"), BAD_VALUES)
def test_a_bad_value_on_the_command_line(refused, name, value, sentence):
    assert refused(f"--diffspeed-{name}={value}") == f"--diffspeed-{name}: {sentence}"


@pytest.mark.parametrize(("name", "value", "sentence"), BAD_VALUES)
def test_a_bad_value_in_the_ini_file(pytester, refused, name, value, sentence):
    ini = pytester.makeini(f"[pytest]\ndiffspeed_{name} = {value}\n")
    assert refused() == f"diffspeed_{name} in {ini}: {sentence}"


@pytest.mark.parametrize("name", ["device", "steps", "budget", "techniques", "inconclusive"])
def test_an_empty_value_on_the_command_line(refused, name):
    assert refused(f"--diffspeed-{name}=").startswith(f"--diffspeed-{name}: ")


def test_an_empty_pipeline(refused):
    assert "there is no such thing; valid: 'demo'" in refused("--diffspeed-pipeline=")


def test_bad_values_are_refused_with_diffspeed_too(refused):
    assert refused("--diffspeed", "--diffspeed-steps=0") == f"--diffspeed-steps: {STEPS}'0'"


# --- device


def test_cuda_where_there_is_none(refused, monkeypatch):
    import torch

    monkeypatch.setattr(torch.cuda, "is_available", lambda: False)
    for device in ("cuda", "cuda:0"):
        sentence = refused("--diffspeed", f"--diffspeed-device={device}")
        assert sentence.startswith(
            f"--diffspeed-device: {device!r} was asked for, but torch {torch.__version__} "
        )
        assert sentence.endswith(
            "use --diffspeed-device=cpu, or run on a machine with a GPU",
        )


def test_a_gpu_that_is_not_there(refused, monkeypatch):
    import torch

    monkeypatch.setattr(torch.cuda, "is_available", lambda: True)
    monkeypatch.setattr(torch.cuda, "device_count", lambda: 2)
    assert refused("--diffspeed", "--diffspeed-device=cuda:2") == (
        "--diffspeed-device: 'cuda:2' was asked for, but there are 2 CUDA devices "
        "(cuda:0 to cuda:1)"
    )


def test_without_diffspeed_nobody_looks_for_the_device(pytester):
    pytester.makepyfile("def test_plain(): pass")
    pytester.makeini("[pytest]\ndiffspeed_device = cuda:77\n")
    assert pytester.runpytest_inprocess().ret == 0


@pytest.mark.parametrize("device", ["auto", "cpu", "cuda", "cuda:0", "cuda:11"])
def test_devices_that_are_accepted(options, device):
    assert options(f"--diffspeed-device={device}").device == device


# --- prompts


def test_prompts_may_be_given_several_times(options):
    words = ["--diffspeed-prompts=a fox", "--diffspeed-prompts", "an owl, at night"]
    assert options(*words).prompts == ("a fox", "an owl, at night")


@pytest.mark.parametrize("prompt", ["", "   "])
def test_an_empty_prompt(refused, prompt):
    sentence = refused("--diffspeed-prompts=a fox", f"--diffspeed-prompts={prompt}")
    assert sentence == "--diffspeed-prompts: a prompt must not be empty"


# --- json


def test_json_into_a_folder_that_does_not_exist(refused):
    assert refused("--diffspeed-json=missing/records.jsonl") == (
        "--diffspeed-json: cannot write 'missing/records.jsonl': it must be a file in a folder "
        "that exists"
    )


def test_json_that_is_a_folder(pytester, refused):
    pytester.mkdir("records")
    assert refused("--diffspeed-json=records").startswith(
        "--diffspeed-json: cannot write 'records'"
    )


# --- good values


def test_defaults(options):
    defaults = options()
    assert defaults.device == "auto"
    assert defaults.pipeline == "demo"
    assert defaults.techniques == ()
    assert defaults.steps is None
    assert defaults.prompts == ()
    assert defaults.budget_s is None
    assert defaults.inconclusive is None
    assert defaults.json_path is None


def test_budget(options):
    assert options("--diffspeed-budget=auto").budget_s is None
    assert options("--diffspeed-budget=0.5").budget_s == 0.5
    assert math.isclose(options("--diffspeed-budget", "1e2").budget_s, 100.0)


@pytest.mark.parametrize("policy", INCONCLUSIVE_POLICIES)
def test_inconclusive(options, policy):
    assert options(f"--diffspeed-inconclusive={policy}").inconclusive == policy


def test_techniques_are_read_into_their_canonical_order(options):
    chosen = options("--diffspeed-techniques", "compile+bf16, fp32").techniques
    assert [stack.name for stack in chosen] == ["bf16+compile", "fp32"]


INI_VALUES = """
diffspeed_device = "cpu"
diffspeed_pipeline = "random:sdxl-tiny"
diffspeed_techniques = "bf16,channels_last"
diffspeed_steps = "3"
diffspeed_budget = "7"
diffspeed_inconclusive = "warn"
"""
INI_FILES = {
    "pytest.ini": f"[pytest]{INI_VALUES}diffspeed_prompts =\n    a fox\n    an owl".replace(
        '"', ""
    ),
    "pyproject.toml": (
        f'[tool.pytest.ini_options]{INI_VALUES}diffspeed_prompts = ["a fox", "an owl"]'
    ),
    "pyproject.toml with numbers": (
        f'[tool.pytest.ini_options]{INI_VALUES}diffspeed_prompts = ["a fox", "an owl"]'
    )
    .replace('"3"', "3")
    .replace('"7"', "7"),
    "pyproject.toml, native": (f'[tool.pytest]{INI_VALUES}diffspeed_prompts = ["a fox", "an owl"]'),
}
NATIVE = pytest.mark.skipif(
    int(pytest.__version__.partition(".")[0]) < 9, reason="[tool.pytest] came with pytest 9"
)


@pytest.fixture(
    params=[pytest.param(name, marks=NATIVE if "native" in name else ()) for name in INI_FILES]
)
def ini_file(request, pytester):
    """An ini file with a value for each option, in each way in which it can be written."""
    path = pytester.path / request.param.partition(",")[0].partition(" ")[0]
    path.write_text(INI_FILES[request.param])
    return path


def test_all_options_may_stand_in_the_ini_file(ini_file, options):
    found = options()
    assert found.device == "cpu"
    assert found.pipeline == "random:sdxl-tiny"
    assert [stack.name for stack in found.techniques] == ["bf16", "channels_last"]
    assert found.steps == 3
    assert found.prompts == ("a fox", "an owl")
    assert found.budget_s == 7.0
    assert found.inconclusive == "warn"


def test_the_command_line_wins_over_the_ini_file(ini_file, options):
    found = options(
        "--diffspeed-device=cuda:3",
        "--diffspeed-pipeline=demo",
        "--diffspeed-techniques=compile",
        "--diffspeed-steps=9",
        "--diffspeed-prompts=a boat",
        "--diffspeed-budget=auto",
        "--diffspeed-inconclusive=skip",
    )
    assert found.device == "cuda:3"
    assert found.pipeline == "demo"
    assert [stack.name for stack in found.techniques] == ["compile"]
    assert found.steps == 9
    assert found.prompts == ("a boat",)
    assert found.budget_s is None
    assert found.inconclusive == "skip"


def test_an_empty_value_in_the_ini_file_means_the_default(pytester, options):
    pytester.makeini("[pytest]\ndiffspeed_steps =\ndiffspeed_techniques =\ndiffspeed_budget = \n")
    found = options()
    assert (found.steps, found.techniques, found.budget_s) == (None, (), None)


@NATIVE
def test_numbers_in_the_native_table_of_pyproject(pytester, libraries):
    """Pytest 9 asks for a string there and says so itself."""
    (pytester.path / "pyproject.toml").write_text("[tool.pytest]\ndiffspeed_steps = 3\n")
    pytester.makepyfile("def test_plain(): pass")
    result = pytester.runpytest_inprocess()
    assert result.ret == 0 or "diffspeed_steps" in result.stderr.str()
    assert "Traceback" not in result.stderr.str()


# --- what a session says and does


def test_header_says_what_is_measured_on(pytester, libraries):
    import diffusers
    import torch

    pytester.makepyfile("def test_plain(): pass")
    result = pytester.runpytest_inprocess(
        "--diffspeed", "--diffspeed-device=cpu", "--diffspeed-pipeline=random:sdxl-tiny"
    )
    (header,) = [line for line in result.outlines if line.startswith("diffspeed: ")]
    assert header.startswith("diffspeed: cpu (")
    assert "core" in header.partition(";")[0]
    assert f"torch {torch.__version__}, diffusers {diffusers.__version__}, torchao " in header
    assert header.endswith("; budget auto")


def test_header_with_a_budget(pytester, libraries):
    pytester.makepyfile("def test_plain(): pass")
    result = pytester.runpytest_inprocess(
        "--diffspeed", "--diffspeed-device=cpu", "--diffspeed-budget=2.5"
    )
    result.stdout.fnmatch_lines(["diffspeed: cpu *; budget 2.5 s"])


def test_the_pipelines_that_the_collected_tests_use_are_named(pytester, libraries):
    pytester.makepyfile(
        """
        import pytest

        @pytest.mark.diffspeed("bf16")
        @pytest.mark.max_memory(0.9)
        def test_usual(optimized_pipeline): ...

        @pytest.mark.diffspeed("bf16", pipeline="random:flux-tiny")
        @pytest.mark.max_memory(0.9)
        def test_other(optimized_pipeline): ...
        """
    )
    result = pytester.runpytest_inprocess("--diffspeed", "--diffspeed-device=cpu", "--collect-only")
    assert [line for line in result.outlines if line.startswith("diffspeed: pipeline")] == [
        "diffspeed: pipelines demo, random:flux-tiny"
    ]


def test_no_header_without_diffspeed(pytester):
    pytester.makepyfile("def test_plain(): pass")
    pytester.makeini("[pytest]\ndiffspeed_budget = 2.5\n")
    result = pytester.runpytest_inprocess()
    assert not [line for line in result.outlines if line.startswith("diffspeed: ")]


def test_techniques_replace_those_of_markers(pytester, libraries):
    pytester.makepyfile(
        test_mine="""
        import pytest

        @pytest.mark.diffspeed("compile")
        @pytest.mark.min_speedup(2, stack="compile")
        def test_marked(optimized_pipeline): ...

        def test_not_marked(optimized_pipeline): ...

        def test_baseline(baseline_pipeline): ...
        """
    )
    result = pytester.runpytest_inprocess(
        "--diffspeed",
        "--diffspeed-device=cpu",
        "--collect-only",
        "-q",
        "--diffspeed-techniques=compile+bf16,channels_last",
    )
    assert result.ret == 0
    assert sorted(line for line in result.outlines if "::" in line) == [
        "test_mine.py::test_baseline",
        "test_mine.py::test_marked[bf16+compile]",
        "test_mine.py::test_marked[channels_last]",
        "test_mine.py::test_not_marked[bf16+compile]",
        "test_mine.py::test_not_marked[channels_last]",
    ]


def test_steps_prompts_and_pipeline_reach_the_call(pytester, run_diffspeed):
    pytester.makepyfile(
        """
        import pytest

        @pytest.mark.diffspeed("channels_last", "fp32")
        def test_call(optimized_pipeline, diffspeed):
            steps = []
            step = optimized_pipeline.scheduler.step
            optimized_pipeline.scheduler.step = lambda *a, **k: steps.append(1) or step(*a, **k)
            image = diffspeed.run(optimized_pipeline)
            optimized_pipeline.scheduler.step = step
            assert len(steps) == 3
            assert diffspeed.baseline.call.prompt == "a boat"
            assert diffspeed.device == "cpu"
            assert image.shape == (1, 3, 32, 32)
        """
    )
    result = run_diffspeed("--diffspeed-steps=3", "--diffspeed-prompts=a boat")
    result.assert_outcomes(passed=2)


def test_help_lists_the_options(pytester):
    result = pytester.runpytest_inprocess("--help")
    for name in ("device", "pipeline", "techniques", "steps", "prompts", "budget", "json"):
        result.stdout.fnmatch_lines([f"*--diffspeed-{name}=*"])
    for name in ("device", "pipeline", "techniques", "steps", "prompts", "budget"):
        result.stdout.fnmatch_lines([f"*diffspeed_{name} (*"])


@pytest.mark.parametrize(
    ("words", "sentence"),
    [
        (["--diffspeed-html=" + "a" * 300], "File name too long"),
        (["--diffspeed-html=a\0b"], "that is no name of a file"),
        (["--diffspeed-json=/dev/null"], "a device, a pipe or a socket"),
        (["--diffspeed-json=test_it.py"], "ends with .py"),
        (["--diffspeed-json=out", "--diffspeed-html=./out"], "name one file"),
        (["--diffspeed-markdown=README.md"], "none that pytest-diffspeed wrote"),
        (["--diffspeed-steps=1" + "0" * 5000], "a number of steps that ends one day, not '100"),
    ],
)
def test_outputs_and_numbers_are_checked_before_anything_runs(pytester, words, sentence):
    pytester.makepyfile(test_it="def test_it(): ...")
    pytester.path.joinpath("README.md").write_text("# Ours")
    result = pytester.runpytest_inprocess("--diffspeed", *words)
    assert result.ret == pytest.ExitCode.USAGE_ERROR
    (line,) = (line for line in result.errlines if line.startswith("ERROR: "))
    assert sentence in line
    assert len(line) < 300
    assert pytester.path.joinpath("README.md").read_text() == "# Ours"
