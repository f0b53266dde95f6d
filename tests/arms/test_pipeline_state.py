"""A pipeline that a test's body changed is told, and calling it is no change."""

import functools
from dataclasses import replace

import pytest
import torch
from diffusers import EulerDiscreteScheduler, StableDiffusionXLPipeline
from diffusers.models.attention_processor import AttnProcessor, AttnProcessor2_0

from pytest_diffspeed import apply_stack
from pytest_diffspeed.arms.prepared_arm import PreparedArm
from pytest_diffspeed.arms.spec import ArmSpec
from pytest_diffspeed.common.errors import DiffspeedError, IncompatibleError, MeasurementError
from pytest_diffspeed.common.quiet import third_party
from pytest_diffspeed.pipelines.call import PipelineCall
from pytest_diffspeed.pipelines.pipeline_state import pipeline_state
from pytest_diffspeed.pipelines.sources import parse_source
from pytest_diffspeed.techniques.apply import Applied, running, undo_stack
from pytest_diffspeed.techniques.catalog import quantization
from pytest_diffspeed.techniques.catalog.compile import Compile
from pytest_diffspeed.techniques.registry import techniques
from pytest_diffspeed.techniques.stacks import parse_stack
from pytest_diffspeed.techniques.technique import Family

SDXL, FLUX = "random:sdxl-tiny", "random:flux-tiny"
FEW_BLOCKS = {  # where the code is compiled, which takes long
    SDXL: "tests.compilation.small_pipeline:attending",
    FLUX: "tests.compilation.small_pipeline:flux",
}
CUDA_ONLY = {"tf32", "sdpa_efficient", "sdpa_cudnn", "model_offload", "group_offload"}
NAMES = [
    t.example or name
    for name, t in techniques().items()
    # A call of one step has nothing to reuse; tests/techniques/test_caches.py looks at these.
    if name not in CUDA_ONLY and t.family is not Family.CACHE
]
MISFITS = {("no_sdpa", FLUX), ("scheduler", FLUX), ("lora", SDXL), ("lora", FLUX)}


def built(source):
    with third_party():
        pipeline = parse_source(source).build()
    side = 16 if source in FEW_BLOCKS.values() else 64
    defaults = replace(parse_source(source).defaults(pipeline), steps=1, height=side, width=side)
    return pipeline, PipelineCall(pipeline, defaults, "a red apple")


@pytest.fixture
def light_compile(monkeypatch):
    torch.compiler.reset()
    monkeypatch.setattr(Compile, "backend", "eager")
    # The tiny models have only small layers; the derived filter would take none of them.
    monkeypatch.setattr(quantization.Int8Dynamic, "leaves", lambda self, linear: None)
    yield
    torch.compiler.reset()


def require_calls_change_nothing(pipeline, call, stack):
    applied = apply_stack(pipeline, stack, call=call)
    before = pipeline_state(pipeline)
    for _ in range(2):
        with third_party(), running(applied.stack):
            call(pipeline)
        after = pipeline_state(pipeline)
        assert {name for name in after if after[name] != before.get(name)} == set()
        assert after.keys() == before.keys()


@pytest.mark.parametrize("source", [SDXL, FLUX])
@pytest.mark.parametrize("name", [*NAMES, "bf16+channels_last+fused_qkv+int8_dynamic+compile"])
@pytest.mark.filterwarnings("ignore::pytest_diffspeed.techniques.technique.KnownSlowWarning")
def test_calling_is_no_change(libraries, light_compile, source, name):
    pipeline, call = built(FEW_BLOCKS[source] if "compile" in name else source)
    try:
        require_calls_change_nothing(pipeline, call, name)
    except IncompatibleError:
        # These are called in their own tests, with pipelines that they fit.
        elsewhere = name in ("cpu_sigmas", "fp8_dynamic", "vae_slicing")
        assert elsewhere or (name.partition("(")[0], source) in MISFITS


@pytest.fixture(scope="module")
def shared(libraries):
    return built(SDXL)[0]


@pytest.fixture
def arm(shared):
    stack = parse_stack("fp32")
    applied = Applied(stack, (), 1.0, ())
    return PreparedArm(ArmSpec(SDXL, stack), shared, None, applied)


def replaced_activation(pipe):
    pipe.vae.decoder.conv_act = torch.nn.SiLU()


def scaled_weight(pipe):
    with torch.no_grad():
        pipe.unet.conv_in.weight.mul_(2)


def replaced_buffer(pipe):
    encoder = next(m for m in pipe.text_encoder.modules() if dict(m.named_buffers(recurse=False)))
    name, buffer = next(iter(encoder.named_buffers(recurse=False)))
    setattr(encoder, name, buffer.clone())


def replaced_set_timesteps(pipe):
    real = pipe.scheduler.set_timesteps
    pipe.scheduler.set_timesteps = lambda *args, **kwargs: real(*args, **kwargs)


def other_backend_of_one_processor(pipe):
    attention = pipe.unet.mid_block.attentions[0].transformer_blocks[0].attn1
    attention.processor._attention_backend = "_native_math"


CHANGES = {
    "vae's settings": [
        lambda pipe: pipe.vae.enable_tiling(),
        lambda pipe: pipe.vae.enable_slicing(),
    ],
    "unet's settings": [
        lambda pipe: pipe.unet.train(),
        lambda pipe: pipe.enable_freeu(s1=0.6, s2=0.4, b1=1.1, b2=1.2),
        lambda pipe: setattr(pipe.unet.conv_in, "padding", (0, 0)),
        other_backend_of_one_processor,
    ],
    "unet's hooks": [
        lambda pipe: pipe.unet.register_forward_hook(lambda *args: None),
        lambda pipe: pipe.unet.mid_block.register_forward_pre_hook(lambda *args: None),
    ],
    "unet's weights": [scaled_weight, lambda pipe: pipe.unet.conv_in.bfloat16()],
    "unet's methods": [lambda pipe: setattr(pipe.unet, "forward", pipe.unet.forward)],
    "text_encoder's buffers": [replaced_buffer],
    "vae's modules": [replaced_activation],
    "scheduler's methods": [replaced_set_timesteps],
    "scheduler's configuration": [
        lambda pipe: pipe.scheduler.register_to_config(timestep_spacing="trailing"),
        lambda pipe: setattr(pipe.scheduler, "use_karras_sigmas", True),
    ],
    "scheduler": [
        lambda pipe: setattr(
            pipe, "scheduler", EulerDiscreteScheduler.from_config(pipe.scheduler.config)
        )
    ],
}


@pytest.mark.parametrize(
    ("what", "change"), [(what, change) for what, some in CHANGES.items() for change in some]
)
def test_a_change_is_told_by_name(arm, what, change):
    arm.require_unchanged()
    change(arm.pipeline)
    with pytest.raises(MeasurementError, match=rf"no longer what was proven: .* changed .*{what}"):
        arm.require_unchanged()


class SetsProcessors(StableDiffusionXLPipeline):
    """Sets attention processors and makes its scheduler's noise sampler anew in each call, as
    DPMSolverSDEScheduler does, which needs torchsde."""

    @functools.wraps(StableDiffusionXLPipeline.__call__)
    def __call__(self, *args, **kwargs):
        self.unet.set_attn_processor(AttnProcessor2_0())
        self.scheduler.noise_sampler = Sampler()
        return super().__call__(*args, **kwargs)


class Sampler:
    def __call__(self, *times):
        return 0.0


@pytest.fixture
def habitual(libraries):
    pipeline = SetsProcessors(**built(SDXL)[0].components)
    pipeline.set_progress_bar_config(disable=True)
    defaults = replace(parse_source(SDXL).defaults(pipeline), steps=1)
    return pipeline, PipelineCall(pipeline, defaults, "a red apple")


def test_what_each_call_changes_by_itself_is_no_accusation(habitual):
    pipeline, call = habitual
    applied = apply_stack(pipeline, "fp32", call=call)
    arm = PreparedArm(ArmSpec(SDXL, applied.stack), pipeline, call, applied)
    for _ in range(2):
        with arm.running():
            call(pipeline)
        arm.require_unchanged()
    one = pipeline.unet.mid_block.attentions[0].transformer_blocks[0].attn1
    one.set_processor(AttnProcessor())  # another kind is the body's doing
    with pytest.raises(MeasurementError, match=r"changed unet's methods;"):
        arm.require_unchanged()


def test_habits_are_not_held_against_an_undo(habitual):
    pipeline, call = habitual
    apply_stack(pipeline, "channels_last", call=call)
    undo_stack(pipeline, "channels_last")


def test_the_weights_inside_a_quantized_layer_are_watched(libraries):
    from torchao.quantization import Int8DynamicActivationInt8WeightConfig, quantize_

    pipeline, _ = built(SDXL)
    with third_party():  # torchao 0.17 warns of a layout that it takes itself
        quantize_(
            pipeline.unet,
            Int8DynamicActivationInt8WeightConfig(set_inductor_config=False),
            filter_fn=lambda module, name: name.endswith("attn1.to_q"),
        )
    before = pipeline_state(pipeline)
    assert pipeline_state(pipeline) == before
    weight = pipeline.unet.mid_block.attentions[0].transformer_blocks[0].attn1.to_q.weight
    inner = getattr(weight, weight.__tensor_flatten__()[0][0])
    while hasattr(inner, "__tensor_flatten__"):
        inner = getattr(inner, inner.__tensor_flatten__()[0][0])
    with torch.no_grad():
        inner.zero_()
    after = pipeline_state(pipeline)
    assert {name for name in after if after[name] != before[name]} == {"unet's weights"}


def test_a_torch_that_keeps_hooks_elsewhere_is_told(shared, monkeypatch):
    monkeypatch.delitem(vars(shared.vae), "_forward_hooks")
    with pytest.raises(DiffspeedError, match=r"hooks of AutoencoderKL cannot be seen.*2\.11"):
        pipeline_state(shared)


@pytest.mark.usefixtures("verbose")
def test_a_gate_fails_whose_body_changed_the_pipeline(pytester, constant_clock, run_diffspeed):
    pytester.makepyfile(
        """
        import pytest, torch

        pytestmark = [pytest.mark.diffspeed("channels_last"), pytest.mark.max_slowdown(25)]

        def test_it(optimized_pipeline): optimized_pipeline.vae.enable_tiling()
        """
    )
    result = run_diffspeed()
    result.assert_outcomes(failed=1)
    result.stdout.fnmatch_lines(["*no longer what was proven*changed vae's settings;*"])
