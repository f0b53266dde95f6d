"""Pipeline sources: every form of them, what they share, and one sentence for each failure."""

import itertools
import json
import re
import shutil
import socket
import sys
from pathlib import Path

import pytest

from pytest_diffspeed.arms.spec import ArmSpec
from pytest_diffspeed.common.errors import SourceError
from pytest_diffspeed.common.quiet import third_party
from pytest_diffspeed.gates.causes import cause_of_error
from pytest_diffspeed.pipelines import zoo
from pytest_diffspeed.pipelines.signature import FALLBACK_PROMPTS
from pytest_diffspeed.pipelines.sources import (
    DemoSource,
    FactorySource,
    FolderSource,
    HubSource,
    RandomSource,
    SmallSource,
    parse_source,
)
from pytest_diffspeed.techniques.stacks import parse_stack

TINY = "random:sdxl-tiny"

pytestmark = pytest.mark.usefixtures("libraries")


@pytest.fixture
def session(tmp_path, libraries):
    """A diffspeed session on the CPU with calls of one step."""
    from pytest_diffspeed.accelerators.registry import resolve_device
    from pytest_diffspeed.arms.session import Session
    from pytest_diffspeed.arms.session_options import Options
    from pytest_diffspeed.common.progress import Progress

    options = Options(
        device="cpu",
        pipeline=TINY,
        techniques=(),
        steps=1,
        prompts=(),
        budget_s=None,
        inconclusive=None,
    )
    return Session(options, resolve_device("cpu"), tmp_path, Progress())


@pytest.fixture(scope="session")
def saved_pipeline(tmp_path_factory, libraries):
    """A folder that ``save_pretrained`` wrote."""
    folder = tmp_path_factory.mktemp("saved") / "pipeline"
    with third_party():
        parse_source(TINY).build().save_pretrained(folder)
    return folder


@pytest.fixture
def broken_pipeline(saved_pipeline, tmp_path):
    """A copy of that folder, to break."""
    return Path(shutil.copytree(saved_pipeline, tmp_path / "broken"))


COUNTER = itertools.count()


@pytest.fixture
def factory(tmp_path, monkeypatch):
    """Write a module of the user's with a factory called ``make``; the source that names it."""
    written = []

    def write(code, attribute="make"):
        module = f"user_pipelines_{next(COUNTER)}"
        (tmp_path / f"{module}.py").write_text(code)
        monkeypatch.syspath_prepend(tmp_path)
        written.append(module)
        return f"{module}:{attribute}"

    yield write
    for module in written:
        sys.modules.pop(module, None)


def refusal(text):
    """The one sentence with which a source refuses to give a pipeline."""
    with pytest.raises(SourceError) as caught:
        parse_source(text).build()
    message = str(caught.value)
    assert message.startswith(f"pipeline source {text!r}: ")
    assert "\n" not in message
    return message.removeprefix(f"pipeline source {text!r}: ")


# --- what a text means


@pytest.mark.parametrize(
    ("text", "kind"),
    [
        ("demo", DemoSource),
        (" demo ", DemoSource),
        ("stabilityai/stable-diffusion-xl-base-1.0", HubSource),
        ("./here", FolderSource),
        ("../there", FolderSource),
        ("/somewhere/else", FolderSource),
        ("~/models/sdxl", FolderSource),
        ("package.module:factory", FactorySource),
        ("module:Class.method", FactorySource),
        ("random:sdxl-tiny", RandomSource),
        ("random:flux-dev", RandomSource),
        ("random:FluxPipeline", SmallSource),
    ],
)
def test_forms(text, kind):
    source = parse_source(text)
    assert isinstance(source, kind)
    assert source.name == text.strip()


def test_a_folder_that_exists_wins_over_a_hub_id(tmp_path, monkeypatch):
    (tmp_path / "models" / "sdxl").mkdir(parents=True)
    monkeypatch.chdir(tmp_path)
    assert isinstance(parse_source("models/sdxl"), FolderSource)
    assert isinstance(parse_source("models/flux"), HubSource)


@pytest.mark.parametrize(
    "text", ["", "  ", "sdxl", "a/b/c", "my model/x", "a.b:", ":make", "a:b:c"]
)
def test_no_form_at_all(text):
    with pytest.raises(SourceError, match="there is no such thing; valid: 'demo', a hub id such"):
        parse_source(text)


def test_an_unknown_random_name():
    with pytest.raises(SourceError) as caught:
        parse_source("random:sdxl-bsae")
    assert str(caught.value) == (
        "pipeline source 'random:sdxl-bsae': there is no random-weight pipeline 'sdxl-bsae'; did "
        "you mean 'sdxl-base'? Valid: flux-dev, flux-tiny, sdxl-base, sdxl-tiny, and "
        f"{len(zoo.names())} small pipelines by the name of their class, such as "
        "random:FluxPipeline (docs/pipelines.md lists them)."
    )


# --- folders


def test_a_folder_loads(saved_pipeline):
    import torch

    pipeline = parse_source(str(saved_pipeline)).build()
    assert type(pipeline).__name__ == "StableDiffusionXLPipeline"
    assert {p.dtype for p in pipeline.unet.parameters()} == {torch.float32}
    assert not pipeline.unet.training
    defaults = parse_source(str(saved_pipeline)).defaults(pipeline)
    assert defaults.prompts == FALLBACK_PROMPTS
    assert defaults.steps == 50  # the default of that pipeline's own signature


def test_no_such_folder():
    message = refusal("./missing")
    assert message.startswith("there is no such folder; give one that `pipeline.save_pretrained`")
    assert "or another source: 'demo', a hub id" in message


def test_a_folder_without_model_index(tmp_path):
    assert refusal(str(tmp_path)) == (
        "the folder has no model_index.json, so it is not one that `pipeline.save_pretrained` wrote"
    )


def break_model_index(folder):
    (folder / "model_index.json").write_text("{ nope")
    return "model_index.json' is not a valid JSON file"


def empty_model_index(folder):
    (folder / "model_index.json").write_text("{}")
    return "_class_name"


def unknown_pipeline_class(folder):
    path = folder / "model_index.json"
    index = json.loads(path.read_text())
    path.write_text(json.dumps({**index, "_class_name": "NoSuchPipeline"}))
    return "NoSuchPipeline"


def garbage_in_weights(folder):
    (folder / "unet" / "diffusion_pytorch_model.safetensors").write_bytes(b"garbage")
    return "diffusion_pytorch_model.safetensors"


def weights_cut_short(folder):
    path = folder / "unet" / "diffusion_pytorch_model.safetensors"
    path.write_bytes(path.read_bytes()[:-1000])
    return "diffusion_pytorch_model.safetensors"


def garbage_in_text_encoder(folder):
    (folder / "text_encoder" / "model.safetensors").write_bytes(b"garbage")
    return "Error while deserializing header"


def missing_component(folder):
    shutil.rmtree(folder / "vae")
    return "config.json"


@pytest.mark.parametrize(
    "damage",
    [
        break_model_index,
        empty_model_index,
        unknown_pipeline_class,
        garbage_in_weights,
        weights_cut_short,
        garbage_in_text_encoder,
        missing_component,
    ],
    ids=lambda damage: damage.__name__,
)
def test_a_damaged_folder(broken_pipeline, damage):
    clue = damage(broken_pipeline)
    message = refusal(str(broken_pipeline))
    assert clue in message
    assert message.endswith(
        "; copy the folder again if a file was cut short, or write it anew with "
        "`pipeline.save_pretrained`"
    )


# --- the hub

NO_HUB = (
    "the hub cannot be reached and the model is not in the local cache; check the network and "
    "HF_HUB_OFFLINE, or give a local folder"
)


@pytest.fixture
def no_network(monkeypatch):
    """Every attempt to reach a network fails, and is counted."""
    attempts = []

    def refuse(*args, **kwargs):
        attempts.append(args)
        raise OSError("there is no network in this test")

    monkeypatch.setattr(socket.socket, "connect", refuse)
    monkeypatch.setattr(socket, "getaddrinfo", refuse)
    return attempts


def test_a_hub_id_offline_touches_no_network(no_network, monkeypatch):
    import huggingface_hub

    monkeypatch.setattr(huggingface_hub.constants, "HF_HUB_OFFLINE", True)
    assert refusal("nobody-at-all/no-such-pipeline") == NO_HUB
    assert no_network == []


def test_a_hub_id_without_a_network(no_network, monkeypatch):
    import huggingface_hub

    monkeypatch.setattr(huggingface_hub.constants, "HF_HUB_OFFLINE", False)
    assert refusal("nobody-at-all/no-such-pipeline") == NO_HUB


def test_local_sources_touch_no_network(no_network, saved_pipeline):
    parse_source(str(saved_pipeline)).build()
    parse_source(TINY).build()
    assert no_network == []


# --- factories

GOOD = """
from pytest_diffspeed.pipelines import random_weights

def make():
    return random_weights.build("sdxl-tiny")
"""


def test_a_factory(factory):
    pipeline = parse_source(factory(GOOD)).build()
    assert type(pipeline).__name__ == "StableDiffusionXLPipeline"


def test_a_factory_may_be_a_method_or_any_callable(factory):
    code = GOOD + (
        "class Zoo:\n"
        "    make = staticmethod(make)\n"
        "    class Maker:\n"
        "        def __call__(self): return make()\n"
        "    maker = Maker()\n"
    )
    assert parse_source(factory(code, "Zoo.make")).build() is not None
    assert parse_source(factory(code, "Zoo.maker")).build() is not None


def test_a_factory_in_a_module_that_does_not_exist():
    message = refusal("no_such_module_at_all:make")
    assert message.startswith("there is no module 'no_such_module_at_all' on the import path of ")
    assert message.endswith(
        "; run `python -m pytest` in the folder that holds it (plain `pytest` does not look "
        "there), or install it"
    )


def test_a_factory_in_a_package_that_has_no_such_module():
    message = refusal("pytest_diffspeed.no_such_module:make")
    assert message.startswith("there is no module 'pytest_diffspeed.no_such_module' on the import")


def test_a_module_without_the_factory(factory):
    text = factory(GOOD, "mak")
    module = text.partition(":")[0]
    message = refusal(text)
    assert message == f"module {module!r} has no 'mak'; did you mean 'make'? Valid: make."


def test_an_attribute_of_a_module_without_factories(factory):
    text = factory("x = 3\n", "x.make")
    module = text.partition(":")[0]
    assert refusal(text) == f"module {module!r} has no 'x.make'; it defines nothing"


@pytest.mark.parametrize(
    ("value", "kind"), [("3", "an int"), ("'demo'", "a str"), ("object()", "an object")]
)
def test_a_factory_that_cannot_be_called(factory, value, kind):
    assert refusal(factory(f"make = {value}")) == (
        f"'make' is {kind}, which cannot be called; name a function without arguments that "
        "returns a pipeline"
    )


def test_a_factory_that_raises(factory, tmp_path):
    text = factory("def make():\n    x = 1\n    raise RuntimeError('no licence\\nsecond line')\n")
    path = tmp_path / f"{text.partition(':')[0]}.py"
    assert refusal(text) == f"the factory raised at {path}:3: RuntimeError: no licence"


def test_what_a_factory_s_error_ends_with_is_no_next_step(factory):
    text = factory("def make(): raise RuntimeError('no weights; ask Bob')")
    with pytest.raises(SourceError) as raised:
        parse_source(text).build()
    cause = cause_of_error(raised.value)
    assert cause.found.endswith("RuntimeError: no weights, ask Bob")
    assert cause.next_step == SourceError.NEXT_STEP


def test_a_factory_that_raises_inside_a_library_names_the_line_of_the_user(factory, tmp_path):
    text = factory("import json\n\ndef inner():\n    json.loads('{')\n\ndef make():\n    inner()\n")
    path = tmp_path / f"{text.partition(':')[0]}.py"
    message = refusal(text)
    assert message.startswith(f"the factory raised at {path}:4: JSONDecodeError: ")


def test_a_factory_that_takes_arguments(factory):
    message = refusal(factory("def make(size): ..."))
    assert message.startswith("the factory raised: TypeError: make() missing 1 required positional")


@pytest.mark.parametrize(
    ("code", "what"),
    [
        ("raise ValueError('bad setting')", "ValueError: bad setting"),
        ("import no_such_dependency", "ModuleNotFoundError: No module named 'no_such_dependency'"),
    ],
)
def test_a_module_that_cannot_be_imported(factory, tmp_path, code, what):
    text = factory(f"x = 1\n{code}\n")
    module = text.partition(":")[0]
    path = tmp_path / f"{module}.py"
    assert refusal(text) == f"importing {module!r} raised at {path}:2: {what}"


def test_a_module_with_a_syntax_error(factory):
    text = factory("def make(:\n")
    module = text.partition(":")[0]
    assert re.match(
        rf"importing '{module}' raised: SyntaxError: .*\({module}\.py, line 1\)$", refusal(text)
    )


@pytest.mark.parametrize(
    ("value", "kind"), [("None", "a NoneType"), ("3", "an int"), ("make", "a function")]
)
def test_a_factory_that_returns_something_else(factory, value, kind):
    assert refusal(factory(f"def make():\n    return {value}\n")) == (
        f"it gave {kind}, not a diffusers pipeline; return an instance of "
        "diffusers.DiffusionPipeline"
    )


def test_a_pipeline_without_weights(factory):
    code = (
        "from diffusers import DiffusionPipeline\n"
        "class Empty(DiffusionPipeline):\n"
        "    def __call__(self): ...\n"
        "make = Empty\n"
    )
    assert refusal(factory(code)) == (
        "Empty has no component with weights, so there is nothing to measure"
    )


MEMORY = (
    "it does not fit into memory; use a smaller pipeline or size, free the device, or run on a "
    "machine with more memory"
)


@pytest.mark.parametrize(
    "error",
    [
        "MemoryError()",
        "torch.OutOfMemoryError('CUDA out of memory. Tried to allocate 20.00 GiB.')",
        "RuntimeError('[enforce fail] DefaultCPUAllocator: can\\'t allocate memory: you tried')",
    ],
)
def test_a_factory_that_runs_out_of_memory(factory, error):
    message = refusal(factory(f"import torch\ndef make():\n    raise {error}\n"))
    assert message.startswith("the factory raised at ")
    assert f"3: {MEMORY} (" in message


# --- what a factory may say about its calls


def test_call_defaults_of_a_factory(factory, session):
    code = GOOD + (
        "make.call_defaults = {'prompts': 'a red boat', 'height': 64, 'width': 32, 'guidance': 2.5,"
        " 'seed': 7, 'steps': 4}\n"
    )
    baseline = session.arms.baseline(factory(code))
    defaults = baseline.call.defaults
    assert defaults.prompts == ("a red boat",)
    assert (defaults.height, defaults.width) == (64, 32)
    assert (defaults.guidance, defaults.seed) == (2.5, 7)
    assert defaults.steps == 1  # --diffspeed-steps wins
    with baseline.running():
        assert baseline.call(baseline.pipeline).shape == (1, 3, 64, 32)


def test_without_call_defaults_general_ones_hold(factory):
    source = parse_source(factory(GOOD))
    defaults = source.defaults(source.build())
    assert defaults.prompts == FALLBACK_PROMPTS
    assert (defaults.height, defaults.width, defaults.guidance) == (None, None, None)


@pytest.mark.parametrize("value", ["[4]", "4"])
def test_call_defaults_that_cannot_be_meant(factory, session, value):
    text = factory(GOOD + f"make.call_defaults = {value}\n")
    with pytest.raises(SourceError) as caught:
        session.arms.baseline(text)
    assert str(caught.value).startswith(
        f"pipeline source {text!r}: its `call_defaults` must be a mapping of cases, guidance, "
        "height, prompts, seed, steps, width and arguments of the pipeline's call, not "
    )


def test_call_defaults_with_a_word_that_the_call_does_not_take(factory, session):
    text = factory(GOOD + "make.call_defaults = {'step': 4}\n")
    with pytest.raises(SourceError) as caught:
        session.arms.baseline(text)
    assert str(caught.value).startswith(
        f"pipeline source {text!r} with fp32: a call of StableDiffusionXLPipeline takes no `step`, "
        "so it would not arrive; did you mean 'steps'? Valid: "
    )


# --- what arms share


def arm(session, stack, source=TINY):
    return session.arms.prepare(ArmSpec(source, parse_stack(stack)))


def test_the_baseline_is_built_once(session):
    baseline = session.arms.baseline(TINY)
    assert session.arms.baseline(TINY) is baseline
    assert arm(session, "fp32") is baseline


@pytest.mark.parametrize("kind", ["random", "folder"])
def test_a_copy_shares_what_its_stack_does_not_change(session, saved_pipeline, kind):
    source = TINY if kind == "random" else str(saved_pipeline)
    first = session.arms.baseline(source).pipeline
    second = arm(session, "channels_last", source).pipeline
    assert second is not first
    for name in ("text_encoder", "text_encoder_2", "tokenizer", "tokenizer_2"):
        assert getattr(second, name) is getattr(first, name), name
    for name in ("unet", "vae", "scheduler"):
        assert getattr(second, name) is not getattr(first, name), name


def test_a_stack_that_changes_everything_shares_no_weights(session):
    import torch

    first = session.arms.baseline(TINY).pipeline
    second = arm(session, "bf16").pipeline
    for name in ("unet", "vae", "scheduler", "text_encoder", "text_encoder_2"):
        assert getattr(second, name) is not getattr(first, name), name
    assert second.tokenizer is first.tokenizer
    assert {p.dtype for p in first.text_encoder.parameters()} == {torch.float32}
    assert {p.dtype for p in second.text_encoder.parameters()} == {torch.bfloat16}


def test_two_copies_share_no_component_that_changes(session):
    first, second = arm(session, "channels_last"), arm(session, "channels_last")
    assert first.pipeline.unet is not second.pipeline.unet
    assert first.pipeline.scheduler is not second.pipeline.scheduler


def test_the_baseline_draws_the_same_image_after_others_were_built(session):
    import torch

    baseline = session.arms.baseline(TINY)
    with baseline.running():
        before = baseline.call(baseline.pipeline)
        arm(session, "bf16+channels_last")
        after = baseline.call(baseline.pipeline)
    torch.testing.assert_close(after, before, rtol=0, atol=0)


def test_all_arms_start_from_the_same_latents(session):
    baseline, other = session.arms.baseline(TINY), arm(session, "bf16")
    assert other.call is baseline.call
    first = baseline.call.arguments(baseline.pipeline)["latents"]
    second = other.call.arguments(other.pipeline)["latents"]
    assert second.dtype != first.dtype
    assert second.equal(first.to(second.dtype))


def test_a_factory_with_other_weights_each_time(factory, session):
    code = (
        "import itertools\n"
        "from pytest_diffspeed.pipelines import random_weights\n"
        "seeds = itertools.count()\n"
        "def make():\n"
        "    return random_weights.build('sdxl-tiny', seed=next(seeds))\n"
    )
    text = factory(code)
    with pytest.raises(SourceError) as caught:
        arm(session, "channels_last", text)
    assert str(caught.value) == (
        f"pipeline source {text!r} gives other weights each time it is asked (text_encoder, "
        "text_encoder_2, unet, vae), so nothing can be compared with the baseline; seed it"
    )


def test_a_factory_with_other_components_each_time(factory, session):
    code = GOOD + (
        "from diffusers import StableDiffusionXLImg2ImgPipeline\n"
        "calls = []\n"
        "def twice():\n"
        "    calls.append(1)\n"
        "    pipeline = make()\n"
        "    if len(calls) > 1: pipeline.text_encoder_2 = None\n"
        "    return pipeline\n"
    )
    with pytest.raises(SourceError, match=r"\(other components\), so nothing can be compared"):
        arm(session, "channels_last", factory(code, "twice"))


def test_a_pipeline_whose_first_call_fails(factory, session):
    code = GOOD + (
        "def cannot_run():\n"
        "    pipeline = make()\n"
        "    def forward(*args, **kwargs): raise RuntimeError('CUDA out of memory. Tried')\n"
        "    pipeline.unet.forward = forward\n"
        "    return pipeline\n"
    )
    text = factory(code, "cannot_run")
    with pytest.raises(SourceError) as caught:
        session.arms.baseline(text)
    assert str(caught.value).startswith(
        f"pipeline source {text!r} with fp32: the first call failed: {MEMORY} ("
    )


def test_warnings_of_a_factory_reach_the_user(factory, session):
    """Third parties are kept quiet; code of the user's is not."""
    text = factory(
        GOOD + "import warnings\ndef loud():\n    warnings.warn('mine')\n    return make()", "loud"
    )
    with pytest.warns(UserWarning, match="mine"):
        session.arms.baseline(text)
    with pytest.warns(UserWarning, match="mine"):
        arm(session, "channels_last", text)


# --- as a user sees it


def test_a_failing_source_is_an_error_of_each_test_in_one_sentence(pytester, run_diffspeed):
    pytester.makepyfile(
        mine="def make():\n    raise RuntimeError('no licence')\n",
        test_mine="""
        import pytest

        @pytest.mark.diffspeed("channels_last")
        def test_optimized(optimized_pipeline): ...

        def test_baseline(baseline_pipeline): ...

        def test_other(): ...
        """,
    )
    pytester.syspathinsert()
    result = run_diffspeed("--diffspeed-pipeline=mine:make")
    result.assert_outcomes(passed=1, errors=2)
    assert result.ret == pytest.ExitCode.TESTS_FAILED
    sentence = (
        f"pipeline source 'mine:make': the factory raised at {pytester.path / 'mine.py'}:2: "
        "RuntimeError: no licence"
    )
    for line in ("ERROR at setup of test_optimized*", "ERROR at setup of test_baseline*"):
        result.stdout.fnmatch_lines([f"_*{line}", sentence])
    result.stdout.no_fnmatch_line("*During handling of the above exception*")
    result.stdout.no_fnmatch_line("*Traceback*")


def test_a_marker_may_name_another_source(pytester, run_diffspeed):
    pytester.makepyfile(
        mine=GOOD,
        test_mine="""
        import pytest

        @pytest.mark.diffspeed("channels_last", pipeline="mine:make")
        def test_optimized(optimized_pipeline, baseline_pipeline, diffspeed):
            assert diffspeed.baseline.spec.source == "mine:make"
            assert diffspeed.baseline.pipeline is baseline_pipeline
            assert optimized_pipeline is not baseline_pipeline

        def test_baseline(baseline_pipeline, diffspeed):
            assert diffspeed.baseline.spec.source == "random:sdxl-tiny"
        """,
    )
    pytester.syspathinsert()
    run_diffspeed().assert_outcomes(passed=2)
