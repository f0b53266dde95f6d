"""The names of ``pytest_diffspeed``: complete, documented, typed, and plain about what is wrong."""

import ast
import inspect
import re
from pathlib import Path

import pytest

import pytest_diffspeed as api
from pytest_diffspeed.common.quiet import third_party

SOURCE = Path(api.__file__)
FUNCTIONS = [name for name in api.__all__ if name[0].islower()]
CLASSES = [name for name in api.__all__ if name[0].isupper()]


def test_names_are_the_same_for_readers_type_checkers_and_the_import():
    tree = ast.parse(SOURCE.read_text(encoding="utf-8"))
    imported = {
        (alias.asname, alias.name, node.module)
        for node in ast.walk(tree)
        if isinstance(node, ast.ImportFrom) and node.level
        for alias in node.names
    }
    assert imported == {(name, name, module) for name, module in api._PUBLIC.items()}
    assert set(api.__all__) == {*api._PUBLIC, "__version__"}


def test_every_error_of_a_function_is_beside_it(libraries):
    """What a docstring says that is raised can be caught without another import."""
    for name in FUNCTIONS:
        raised = getattr(api, name).__doc__.partition("Raises:")[2]
        words = re.findall(r"\b\w+(?:Error|Warning)\b", raised)
        assert [word for word in words if not hasattr(api, word) and word != "TypeError"] == []


# --- docstrings


@pytest.mark.parametrize("name", FUNCTIONS)
def test_a_function_says_what_it_takes_and_raises(libraries, name):
    function = getattr(api, name)
    arguments = function.__doc__.partition("Args:")[2].partition("Raises:")[0]
    own = [p for p in inspect.signature(function).parameters.values() if p.name != "self"]
    missing = [p.name for p in own if not re.search(rf"\b{p.name}\b", arguments)]
    assert missing == []
    assert "Raises:" in function.__doc__


@pytest.mark.parametrize("name", CLASSES)
def test_a_class_says_what_it_is(libraries, name):
    text = getattr(api, name).__doc__ or ""
    assert text[:1].isupper() and not text.startswith(f"{name}(")  # what @dataclass writes


# --- what makes no sense is one sentence: what, where, and what to write


def one():
    return 1


@pytest.fixture(scope="module")
def tiny(libraries):
    return api.load_pipeline("random:sdxl-tiny")


def call(pipeline, steps=2):
    raise AssertionError("unreachable because nothing is called with arguments that make no sense")


def of_speedup(**arguments):
    given = {"baseline": one, "candidate": one, "min_ratio": 2.0, "budget_s": 1.0, **arguments}
    return lambda tiny: api.measure_speedup(**given)


def of_stack(pipeline=None, **arguments):
    def run(tiny):
        return api.apply_stack(pipeline or tiny, **{"stack": "bf16", "call": call, **arguments})

    return run


def of_syncs(target=None, **arguments):
    return lambda tiny: api.count_syncs(tiny if target is None else target, **arguments)


def of_images(baseline=None, function="compare_images", **arguments):
    def run(tiny):
        import torch

        images = torch.rand(2, 3, 16, 16)
        given = images if baseline is None else baseline
        return getattr(api, function)(given, images, **arguments)

    return run


class Pipeline:
    """A class where an instance is meant."""


WRONG_TYPE = {
    "text for a number": (of_speedup(min_ratio="2"), "min_ratio must be a number .* not '2'"),
    "text for seconds": (of_speedup(budget_s="60"), "budget_s must be a number .* not '60'"),
    "text for a seed": (of_speedup(seed="x"), "seed must be a whole number"),
    "a result for a function": (of_speedup(baseline=3), "baseline=lambda: pipeline"),
    "text for a function": (of_speedup(candidate="f()"), r"candidate must be .*'f\(\)'"),
    "a function of one": (of_speedup(baseline=lambda x: x), "'x'.*write for example baseline="),
    "a misspelt threshold": (of_speedup(min_ration=2), "did you mean 'min_ratio'"),
    "a class for a module": (
        lambda tiny: api.find_graph_breaks(Pipeline),
        "not the class Pipeline; write for example find_graph_breaks",
    ),
    "a class for a scheduler": (of_syncs(Pipeline), "not the class Pipeline; give an instance"),
    "a source for a pipeline": (of_syncs("demo"), r"not 'demo'; load_pipeline\(\) makes"),
    "one text for a list": (of_syncs(allow="ddim.py:4"), "allow must be a list of texts"),
    "a misspelt word of a call": (of_syncs(stepss=4), "did you mean 'steps'"),
    "a misspelt word of a function": (of_syncs(one, stepss=4), "'stepss'.*write for example"),
    "half a step": (of_syncs(steps=2.5), "steps must be a whole number of at least 1, not 2.5"),
    "a class for a pipeline": (of_stack(Pipeline), "not the class Pipeline; give an instance"),
    "a list for a stack": (of_stack(stack=["bf16"]), r"'bf16\+compile', not \['bf16'\]"),
    "text for a call": (of_stack(call="a fox"), "call must be a function of the pipeline, not 'a"),
    "a misspelt call": (of_stack(cal=call), "did you mean 'call'"),
    "nothing to undo on": (lambda tiny: api.undo_stack(3, "bf16"), "a diffusers pipeline, not 3"),
    "a pipeline for a source": (lambda tiny: api.load_pipeline(tiny), "not a StableDiffusionXLP"),
    "a pipeline to count": (lambda tiny: api.count_gpu_cost(tiny), "source, not a StableDiff"),
    "a text for prompts": (
        lambda tiny: api.count_gpu_cost("demo", prompts="a fox"),
        r"prompts must be a list of texts such as \['a fox'\], not 'a fox'",
    ),
    "a file for images": (of_images("a.png"), "the baseline's images are str; give a tensor"),
    "a class for images": (of_images(Pipeline), "are the class Pipeline; give a tensor"),
    "a file for videos": (of_images("a.mp4", "compare_videos"), "are str; give a tensor"),
    "a file for sounds": (of_images("a.wav", "compare_audio"), "are str; give a tensor"),
    "text for prompts": (of_images(prompts="ab"), "prompts must be a list, one for each image"),
    "text for a limit": (of_images(psnr_worst="3"), "psnr_worst must be a number .* not '3'"),
    "a list for a preset": (of_images(preset=["exact"]), "preset must be one of exact, loss"),
    "a figure for figures": (of_images(given={"latent_l2": 3.0}), "latent_l2 must be a list"),
}
WRONG_VALUE = {
    "an error rate of 5": (of_speedup(alpha=5), r"alpha must .*less than 0\.5 .*such as 0\.05"),
    "no ratio": (of_speedup(min_ratio=0), "min_ratio must .*greater than 0"),
    "no method": (of_speedup(method="sgn"), "did you mean 'sign'"),
    "no stack": (of_stack(stack="bf61"), "did you mean 'bf16'"),
    "no preset": (of_images(preset="losless"), "did you mean 'lossless'"),
    "no limit": (of_images(pset="exact"), "did you mean 'preset'"),
    "no layout": (of_images(layout="NHCW"), "layout must be one of NHWC, NCHW"),
    "no image": (of_images([[1.0]]), "the baseline's images"),
    "no device": (lambda tiny: api.load_pipeline("demo", device="gpu"), "valid: auto, cpu"),
}


@pytest.mark.parametrize("words", WRONG_TYPE)
def test_another_type_is_a_type_error_in_one_sentence(tiny, words):
    run, sentence = WRONG_TYPE[words]
    with pytest.raises(TypeError, match=sentence) as caught:
        run(tiny)
    assert isinstance(caught.value, ValueError)  # as all arguments that make no sense
    assert type(caught.value).__module__.startswith("pytest_diffspeed.")
    assert "\n" not in str(caught.value)


@pytest.mark.parametrize("words", WRONG_VALUE)
def test_another_value_is_a_value_error_in_one_sentence(tiny, words):
    run, sentence = WRONG_VALUE[words]
    with pytest.raises(ValueError, match=sentence) as caught:
        run(tiny)
    assert type(caught.value).__module__.startswith("pytest_diffspeed.")
    assert "\n" not in str(caught.value)


def test_words_that_may_be_meant_are_those_of_the_function(libraries):
    from pytest_diffspeed.similarity.presets import ARGUMENTS
    from pytest_diffspeed.syncs.scopes import OWN_ARGUMENTS

    for function, words in ((api.compare_images, ARGUMENTS), (api.count_syncs, OWN_ARGUMENTS)):
        parameters = inspect.signature(function).parameters.values()
        assert {p.name for p in parameters if p.kind is p.KEYWORD_ONLY} == set(words)


def test_words_of_a_literal_are_those_that_there_are(libraries):
    from typing import get_args

    from pytest_diffspeed.arms.gpu_cost.order import GpuName
    from pytest_diffspeed.gpucost import GPUS
    from pytest_diffspeed.similarity.presets import PRESETS, Preset
    from pytest_diffspeed.statistics import METHODS
    from pytest_diffspeed.statistics.methods import Method

    assert get_args(Preset) == tuple(PRESETS)
    assert get_args(Method) == tuple(METHODS)
    assert get_args(GpuName) == tuple(GPUS)


# --- load, apply, undo


def test_a_pipeline_is_loaded_optimized_and_put_back(tiny):
    import torch

    def draw(pipeline, steps=2):
        generator = torch.Generator().manual_seed(0)
        given = {"num_inference_steps": steps, "generator": generator, "output_type": "pt"}
        with third_party():
            return pipeline("a fox", height=64, width=64, **given).images

    before = draw(tiny)
    applied = api.apply_stack(tiny, "channels_last", call=draw, device="cpu")
    assert isinstance(applied, api.Applied)
    assert applied.stack == api.Stack(("channels_last",))
    api.undo_stack(tiny, applied.stack)
    assert torch.equal(draw(tiny), before)


def test_a_folder_may_be_a_path(tiny, tmp_path):
    tiny.save_pretrained(tmp_path / "mine")
    loaded = api.load_pipeline(tmp_path / "mine", device="auto")
    assert type(loaded) is type(tiny)
    assert not loaded.unet.training
    with pytest.raises(api.SourceError, match="there is no such folder"):
        api.load_pipeline(tmp_path / "none")
