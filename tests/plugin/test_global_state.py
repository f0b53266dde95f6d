"""The guard of process-wide state: what it sees, what it puts back, and what it says."""

import random
import sys

import numpy as np
import pytest
import torch

from pytest_diffspeed.common.quiet import third_party
from pytest_diffspeed.techniques.global_state import GlobalState, preserved


@pytest.fixture(autouse=True)
def as_before(libraries):
    """These tests break the state on purpose; this suite goes on with what it had."""
    import torch._dynamo.config
    import torch._inductor.config  # noqa: F401  watched only where it is loaded

    with preserved():
        yield


# What is changed, and the start of the name under which the change is told.
LEAKS = {
    "torch.set_float32_matmul_precision('high')": "torch.set_float32_matmul_precision",
    "torch.backends.cuda.matmul.allow_tf32 = True": "torch.backends.cuda.matmul.allow_tf32",
    "torch.backends.cudnn.allow_tf32 = False": "torch.backends.cudnn.allow_tf32",
    "torch.backends.fp32_precision = 'ieee'": "torch.backends.fp32_precision",
    "torch.backends.cudnn.conv.fp32_precision = 'none'": "torch.backends.cudnn.conv.fp32",
    "torch.backends.mkldnn.matmul.fp32_precision = 'bf16'": "torch.backends.mkldnn.matmul.fp32",
    "torch.backends.cudnn.benchmark = True": "torch.backends.cudnn.benchmark",
    "torch.backends.cudnn.deterministic = True": "torch.backends.cudnn.deterministic",
    "torch.backends.cuda.enable_flash_sdp(False)": "torch.backends.cuda.enable_flash_sdp",
    "torch.backends.cuda.enable_math_sdp(False)": "torch.backends.cuda.enable_math_sdp",
    "torch.use_deterministic_algorithms(True)": "torch.use_deterministic_algorithms",
    "torch.set_default_dtype(torch.float64)": "torch.set_default_dtype",
    "torch.set_default_device('meta')": "torch.set_default_device",
    "torch.set_grad_enabled(False)": "torch.set_grad_enabled",
    "torch.set_num_threads(torch.get_num_threads() + 1)": "torch.set_num_threads",
    "torch.compiler.set_stance('force_eager')": "torch.compiler.set_stance",
    "torch._dynamo.config.recompile_limit = 3": "torch._dynamo.config.recompile_limit",
    "torch._inductor.config.max_autotune = True": "torch._inductor.config.max_autotune",
    "torch._inductor.config.triton.unique_kernel_names = False": (
        "torch._inductor.config.triton.unique_kernel_names"
    ),
    "attention_dispatch._AttentionBackendRegistry.set_active_backend("
    "attention_dispatch.AttentionBackendName('_native_math'))": "diffusers' attention backend",
}


@pytest.mark.parametrize("code", LEAKS)
def test_a_change_is_seen_and_put_back(code):
    from diffusers.models import attention_dispatch

    before = GlobalState.now()
    assert before.changes() == []
    exec(code, {"torch": torch, "attention_dispatch": attention_dispatch})
    changes = before.changes()
    assert any(change.name.startswith(LEAKS[code]) for change in changes), changes
    assert before.restore() == []
    assert before.changes() == []


def test_the_matmul_flag_that_was_never_set_is_again_as_never_set():
    """Writing the legacy flag back leaves 'ieee' in the new one, which had been 'none'."""
    matmul = torch.backends.cuda.matmul
    matmul.fp32_precision = "none"
    with preserved():
        torch.set_float32_matmul_precision("high")
        assert matmul.fp32_precision == "tf32"
    assert matmul.fp32_precision == "none"
    assert torch.get_float32_matmul_precision() == "highest"


def test_lists_of_settings_that_are_changed_in_place_are_seen():
    config = torch._inductor.config
    before = GlobalState.now()
    config.post_grad_fusion_options["mine"] = {}
    names = [change.name for change in before.changes()]
    assert names == ["torch._inductor.config.post_grad_fusion_options"]
    before.restore()
    assert "mine" not in config.post_grad_fusion_options


def test_an_exception_restores_too():
    def leak():
        torch.set_default_dtype(torch.float64)
        raise ValueError("in the arm")

    with pytest.raises(ValueError, match="in the arm"), preserved():
        leak()
    assert torch.get_default_dtype() is torch.float32


def test_random_generators_are_restored_and_drawing_is_no_change():
    before = GlobalState.now()

    def draw():
        return random.random(), np.random.rand(), torch.rand(()).item()

    with preserved():
        first = draw()
    assert before.changes() == []
    assert draw() == first


def test_what_torch_cannot_put_back_is_named():
    before = GlobalState.now()
    with torch.inference_mode():
        assert before.restore() == ["torch.inference_mode"]


def test_torchao_leaves_inductor_changed_for_good_and_the_guard_undoes_it():
    from torchao.quantization import Int8DynamicActivationInt8WeightConfig, quantize_

    before = GlobalState.now()
    model = torch.nn.Sequential(torch.nn.Linear(32, 32)).to(torch.bfloat16)
    with preserved():
        with third_party():  # torchao 0.17 warns of a layout that it takes itself
            quantize_(model, Int8DynamicActivationInt8WeightConfig())  # set_inductor_config=True
        names = {change.name for change in before.changes()}
        assert "torch._inductor.config.force_fuse_int_mm_with_mul" in names
    assert before.changes() == []


BACKEND = "diffusers' attention backend"


def without_diffusers(monkeypatch):
    """The state as it is taken before anybody imports diffusers."""
    with monkeypatch.context() as patch:
        patch.delitem(sys.modules, "diffusers.models.attention_dispatch")
        state = GlobalState.now()
    assert BACKEND not in state.settings
    return state


def test_a_setting_that_did_not_exist_yet_is_watched_once_it_does(monkeypatch):
    from diffusers.models import attention_dispatch as dispatch

    before = without_diffusers(monkeypatch)
    known = dict(before.settings)
    before.adopt(GlobalState.now())
    assert before.settings == {**known, BACKEND: "native"}
    assert before.changes() == []
    dispatch._AttentionBackendRegistry.set_active_backend(
        dispatch.AttentionBackendName("_native_math")
    )
    assert [change.name for change in before.changes()] == [BACKEND]
    assert before.restore() == []
    assert before.changes() == []


def test_what_a_fixture_sets_of_a_library_that_was_loaded_late_is_accepted(monkeypatch):
    before = without_diffusers(monkeypatch)
    before.accept(BACKEND, "native")
    assert before.settings[BACKEND] == "native"
    assert before.restore() == []
    before.accept("torch._dynamo.config.recompile_limit", 5)
    assert before.compiler["torch._dynamo.config.recompile_limit"] == 5


# --- sessions


@pytest.mark.slow
def test_the_first_test_of_a_process_cannot_leak_a_setting_of_what_its_fixtures_import(
    pytester, private_temp
):
    """In a process of its own: in this one diffusers is loaded already."""
    pytester.makepyfile(
        test_it="""
        import pytest, sys

        assert "diffusers" not in sys.modules
        pytestmark = pytest.mark.diffspeed("channels_last")

        def backend():
            from diffusers.models import attention_dispatch
            return attention_dispatch._AttentionBackendRegistry

        def test_leaks(optimized_pipeline):
            from diffusers.models.attention_dispatch import AttentionBackendName
            backend().set_active_backend(AttentionBackendName("_native_math"))

        def test_clean(optimized_pipeline):
            assert backend()._active_backend.value == "native"
        """
    )
    result = pytester.runpytest_subprocess(
        "--diffspeed",
        "--diffspeed-device=cpu",
        "--diffspeed-pipeline=random:sdxl-tiny",
        "--diffspeed-steps=1",
    )
    result.assert_outcomes(passed=2, errors=1)
    result.stdout.fnmatch_lines(
        [
            "*test_it.py::test_leaks*left process-wide state changed*diffusers' attention backend "
            "was 'native' and is '_native_math'*"
        ]
    )


def test_a_body_that_leaks_is_told_by_name_and_the_next_test_is_clean(pytester, run_diffspeed):
    pytester.makepyfile(
        test_it="""
        import torch

        def test_leaks(): torch.set_default_dtype(torch.float64)
        def test_clean(): assert torch.get_default_dtype() is torch.float32
        """
    )
    result = run_diffspeed()
    result.assert_outcomes(passed=2, errors=1)
    result.stdout.fnmatch_lines(
        [
            "*ERROR at teardown of test_leaks*",
            "*test_it.py::test_leaks left process-wide state changed*torch.set_default_dtype was "
            "torch.float32 and is torch.float64*",
        ]
    )


def test_without_the_option_nothing_is_guarded(pytester):
    pytester.makepyfile("import torch\ndef test_leaks(): torch.set_num_threads(3)")
    pytester.runpytest_inprocess().assert_outcomes(passed=1)


def test_fixtures_that_put_back_are_no_leak(pytester, run_diffspeed):
    pytester.makepyfile(
        """
        import pytest, torch

        @pytest.fixture(scope="module")
        def threads():
            before = torch.get_num_threads()
            torch.set_num_threads(before + 1)
            yield
            torch.set_num_threads(before)

        def test_first(threads): ...
        def test_patched(threads, monkeypatch, optimized_pipeline):
            monkeypatch.setattr(torch.backends.cudnn, "benchmark", True)
        test_patched = pytest.mark.diffspeed("channels_last")(test_patched)
        """
    )
    run_diffspeed().assert_outcomes(passed=2)


def test_a_wide_fixture_that_does_not_put_back_is_an_error_of_its_last_test(
    pytester, run_diffspeed
):
    pytester.makepyfile(
        """
        import pytest, torch

        @pytest.fixture(scope="module")
        def threads(): torch.set_num_threads(torch.get_num_threads() + 1)

        def test_first(threads): ...
        def test_last(threads): ...
        """
    )
    before = torch.get_num_threads()
    result = run_diffspeed()
    result.assert_outcomes(passed=2, errors=1)
    result.stdout.fnmatch_lines(["*::test_last left *torch.set_num_threads was*"])
    assert torch.get_num_threads() == before


def test_a_factory_that_leaks_is_told(pytester, run_diffspeed):
    pytester.makepyfile(
        leaky="""
        import torch
        from pytest_diffspeed.pipelines.random_weights import build

        def pipeline():
            torch.backends.cudnn.benchmark = True
            return build("sdxl-tiny")
        """,
        test_it="""
        import pytest

        @pytest.mark.diffspeed("channels_last", pipeline="leaky:pipeline")
        def test_it(optimized_pipeline): ...
        """,
    )
    pytester.syspathinsert()
    result = run_diffspeed()
    result.assert_outcomes(passed=1, errors=1)
    result.stdout.fnmatch_lines(["*torch.backends.cudnn.benchmark was False and is True*"])


def test_an_exception_in_a_teardown_wins_and_the_leak_is_said_beside_it(pytester, run_diffspeed):
    pytester.makepyfile(
        """
        import pytest, torch

        @pytest.fixture
        def broken():
            yield
            raise ValueError("broken teardown")

        def test_it(broken): torch.set_default_dtype(torch.float64)
        """
    )
    result = run_diffspeed()
    result.assert_outcomes(passed=1, errors=1)
    result.stdout.fnmatch_lines(["*ValueError: broken teardown", "*torch.set_default_dtype was*"])


GATED = """
    import pytest, torch
    {}

    @pytest.mark.diffspeed("channels_last")
    @pytest.mark.max_slowdown(50)
    def test_it(optimized_pipeline{}):
        {}

    @pytest.fixture
    def threads(monkeypatch):
        before = torch.get_num_threads()
        torch.set_num_threads(before + 2)
        yield
        torch.set_num_threads(before)
"""


@pytest.mark.parametrize(
    ("argument", "body", "more"), [("", "torch.set_num_threads(7)", None), (", threads", "...", 2)]
)
def test_gates_run_with_what_fixtures_set_and_not_the_body(
    pytester, constant_clock, run_diffspeed, monkeypatch, argument, body, more
):
    import pytest_diffspeed.plugin.gate_phase

    seen = []
    real = pytest_diffspeed.plugin.gate_phase.run_gates

    def spy(*args):
        seen.append(torch.get_num_threads())
        return real(*args)

    monkeypatch.setattr("pytest_diffspeed.plugin.gate_phase.run_gates", spy)
    before = torch.get_num_threads()
    pytester.makepyfile(GATED.format("", argument, body))
    result = run_diffspeed()
    assert seen == [before + (more or 0)]
    result.assert_outcomes(passed=1, errors=1 if more is None else 0)


BOTH_ORDERS = """
    import pytest, torch
    from torch.utils._python_dispatch import TorchDispatchMode

    class Ops(TorchDispatchMode):
        def __init__(self):
            super().__init__()
            self.seen = []

        def __torch_dispatch__(self, op, types, args=(), kwargs=None):
            out = op(*args, **(kwargs or {}))
            dtype = getattr(out, "dtype", None)
            self.seen.append(f"{op} {dtype}")
            return out

    def record(diffspeed, pipeline, name):
        with Ops() as ops:
            image = diffspeed.run(pipeline)
        with open(f"{name}.ops", "w") as file:
            file.write("\\n".join([*ops.seen, repr(image.double().sum().item()),
                                  repr(torch.rand(3).tolist())]))

    @pytest.mark.diffspeed("bf16")
    def test_bf16(optimized_pipeline, diffspeed):
        record(diffspeed, optimized_pipeline, "bf16")
        LEAK

    @pytest.mark.diffspeed("channels_last")
    def test_layout(optimized_pipeline, diffspeed):
        record(diffspeed, optimized_pipeline, "layout")
        LEAK
"""
LEAK = "torch.set_default_dtype(torch.float64); torch.backends.cuda.enable_flash_sdp(False)"


@pytest.mark.parametrize("leak", ["pass", LEAK], ids=["clean", "leaking"])
def test_two_tests_in_either_order_give_the_same_ops(pytester, run_diffspeed, leak):
    pytester.makepyfile(test_it=BOTH_ORDERS.replace("LEAK", leak))
    found = []
    start = torch.get_rng_state()
    for names in (("test_bf16", "test_layout"), ("test_layout", "test_bf16")):
        torch.set_rng_state(start)
        result = run_diffspeed(*(f"test_it.py::{name}" for name in names))
        result.assert_outcomes(passed=2, errors=0 if leak == "pass" else 2)
        found.append([(pytester.path / f"{name}.ops").read_text() for name in ("bf16", "layout")])
    assert found[0] == found[1]
    assert "aten.convolution.default torch.bfloat16" in found[0][0]


QUANTIZED = """
    from pytest_diffspeed.pipelines.components import denoiser
    from pytest_diffspeed.techniques.technique import Family, Proof, Technique

    class Int8(Technique):
        name = "int8_here"
        family = Family.QUANTIZATION
        summary = "torchao's default, which changes inductor's settings for good"

        def apply(self, pipeline):
            import torch
            from torchao.quantization import Int8DynamicActivationInt8WeightConfig, quantize_

            quantize_(denoiser(pipeline), Int8DynamicActivationInt8WeightConfig(),
                      filter_fn=lambda m, name: isinstance(m, torch.nn.Linear)
                      and "attn1.to_q" in name)
            assert torch._inductor.config.force_fuse_int_mm_with_mul
            assert torch._inductor.config.coordinate_descent_tuning

        def prove(self, pipeline, seen):
            return Proof(self.name, "quantized")

    from pytest_diffspeed.techniques.catalog.compile import Compile

    class Quickly(Compile):
        name = "compile_quickly"
        backend = "eager"

    def pytest_diffspeed_techniques(): return [Int8(), Quickly()]
"""


def test_bf16_int8_and_compile_leave_the_process_as_they_found_it(pytester, run_diffspeed):
    """That a real inductor compilation does is seen in tests/plugin/test_compile.py."""
    pytester.makeconftest(QUANTIZED)
    pytester.makepyfile(
        """
        import pytest

        @pytest.mark.diffspeed("bf16+int8_here+compile_quickly")
        def test_it(optimized_pipeline, diffspeed):
            assert diffspeed.run(optimized_pipeline).isfinite().all()
        """
    )
    before = GlobalState.now()
    run_diffspeed().assert_outcomes(passed=1)
    assert before.changes() == []
