"""Stage times on a clock that a script moves, and units of a pair taken from them."""

import inspect
import itertools
from contextlib import contextmanager, nullcontext

import pytest

from pytest_diffspeed import measure_speedup
from pytest_diffspeed.accelerators.catalog.cpu import WallClock
from pytest_diffspeed.common.errors import MeasurementError
from pytest_diffspeed.records.verdict import VerdictKind
from pytest_diffspeed.timing.arm import Arm
from pytest_diffspeed.timing.stages import Part, Stage, StageTimer, StageTimes, time_stages

ENCODER = Part("text_encoder", Stage.TEXT_ENCODER)
DENOISER = Part("unet", Stage.DENOISER)
STEP = Part("scheduler.step", Stage.SCHEDULER_STEP)
DECODE = Part("vae.decode", Stage.VAE_DECODE)


class Hand:
    """Time passes only where a script says so."""

    def __init__(self):
        self.now = 0.0
        self.clock = WallClock(lambda: self.now)

    def work(self, seconds):
        self.now += seconds


class Pipeline:
    """A call: text for 2 s, steps of 5, 3, 4 and 3 s with 0.5 s between them, a decode of 7 s."""

    def __init__(self, hand, steps=(5.0, 3.0, 4.0, 3.0), text=2.0, decode=7.0):
        self.hand, self.steps = hand, steps
        self.encode = lambda: hand.work(text)
        self.denoise = lambda seconds: hand.work(seconds)
        self.step = lambda: hand.work(0.25)
        self.decode = lambda: hand.work(decode)

    def __call__(self):
        self.hand.work(1.0)
        if self.encode:
            self.encode()
        self.hand.work(0.1)
        for seconds in self.steps:
            self.denoise(seconds - 0.75)
            self.step()
            self.hand.work(0.5)
        if self.decode:
            self.decode()
        self.hand.work(0.2)
        return "image"

    @contextmanager
    def boundaries(self, around):
        parts = {
            "encode": ENCODER,
            "denoise": DENOISER,
            "step": STEP,
            "decode": DECODE,
        }
        plain = {name: getattr(self, name) for name in parts}
        for name, part in parts.items():
            if plain[name]:
                setattr(self, name, around(part, plain[name]))
        yield
        vars(self).update(plain)


@pytest.fixture
def hand():
    return Hand()


def stages_of(pipeline):
    return time_stages(pipeline, pipeline.boundaries, pipeline.hand.clock)[0]


def test_every_second_of_a_call_belongs_to_one_stage(hand):
    stages, output = time_stages(
        pipeline := Pipeline(hand), pipeline.boundaries, pipeline.hand.clock
    )
    assert output == "image"
    assert stages.call_s == pytest.approx(1.0 + 2.0 + 0.1 + 15.0 + 7.0 + 0.2)
    assert stages.text_encoder_s == pytest.approx(2.0)
    # From the denoiser's beginning to the end of scheduler.step; what follows it in the loop
    # belongs to the next step, and after the last one to the rest.
    assert stages.first_step_s == pytest.approx(4.5)
    assert stages.steady_steps_s == pytest.approx((3.0, 4.0, 3.0))
    assert stages.steady_step_s == pytest.approx(3.0)
    assert stages.denoiser_s == pytest.approx(15.0 - 4 * 0.75)
    assert stages.vae_decode_s == pytest.approx(7.0)
    assert stages.rest_s == pytest.approx(1.0 + 0.1 + 0.5 + 0.2)
    parts = (stages.text_encoder_s, stages.first_step_s, *stages.steady_steps_s)
    assert sum(parts) + stages.vae_decode_s + stages.rest_s == pytest.approx(stages.call_s)


def test_a_record_holds_the_median_and_the_number_of_the_steady_steps(hand):
    record = stages_of(Pipeline(hand)).as_dict()
    assert record["steady_step_s"] == pytest.approx(3.0)
    assert record["steady_steps"] == 3
    assert set(record) == {
        "call_s",
        "text_encoder_s",
        "denoiser_s",
        "first_step_s",
        "steady_step_s",
        "steady_steps",
        "vae_decode_s",
        "rest_s",
        "components",
    }
    assert record["components"] == {
        "text_encoder": pytest.approx(2.0),
        "unet": pytest.approx(12.0),
        "vae.decode": pytest.approx(7.0),
    }


def test_a_decode_inside_a_step_is_not_subtracted_twice(hand):
    pipeline = Pipeline(hand)
    step = pipeline.step

    def step_with_preview():
        pipeline.decode()
        step()

    pipeline.step = step_with_preview
    stages = stages_of(pipeline)
    assert stages.vae_decode_s == pytest.approx(5 * 7.0)
    assert stages.rest_s == pytest.approx(1.0 + 0.1 + 0.5 + 0.2)


def test_a_part_that_calls_itself_is_one_call(hand):
    pipeline = Pipeline(hand)
    decode = pipeline.decode
    tiles = iter([True, False])

    def tiled():
        if next(tiles):
            pipeline.decode()
        decode()

    pipeline.decode = tiled
    assert stages_of(pipeline).vae_decode_s == pytest.approx(14.0)


def test_the_clock_is_read_after_the_call_only(hand):
    class Later(WallClock):
        read = 0

        def seconds(self, stamps):
            assert pipeline.finished
            self.read += 1
            return super().seconds(stamps)

    class Finishing(Pipeline):
        finished = False

        def __call__(self):
            super().__call__()
            self.finished = True

    pipeline = Finishing(hand)
    clock = Later(lambda: hand.now)
    time_stages(pipeline, pipeline.boundaries, clock)
    assert clock.read == 1


def test_a_watched_function_keeps_its_signature_and_no_attribute(hand):
    seen = []

    def step(sample, generator=None):
        """Pipelines look for `generator` here."""

    step._torchdynamo_orig_callable = object()

    @contextmanager
    def boundaries(around):
        seen.append(around(STEP, step))
        yield

    time_stages(lambda: hand.work(1.0), boundaries, hand.clock)
    assert list(inspect.signature(seen[0]).parameters) == ["sample", "generator"]
    assert not hasattr(seen[0], "_torchdynamo_orig_callable")


@pytest.mark.parametrize(
    ("unit", "ratio"),
    [("step", 3.0 / 1.5), ("denoiser", 12.0 / 6.0), ("text_encoder", 1.0), ("vae.decode", 7.0)],
)
def test_a_pair_is_one_call_of_each_arm_and_counts_its_unit(hand, unit, ratio):
    slow = Pipeline(hand)
    fast = Pipeline(hand, steps=(9.0, 1.5, 1.5, 1.5), decode=1.0)
    fast.denoise = lambda seconds: hand.work(seconds - 0.75 + 0.75 if seconds > 5 else seconds)
    if unit == "denoiser":
        fast = Pipeline(hand, steps=(2.25, 2.25, 2.25, 2.25))
    told = []
    result = measure_speedup(
        Arm("slow", slow, timer=StageTimer(unit, slow.boundaries)),
        Arm("fast", fast, timer=StageTimer(unit, fast.boundaries)),
        min_ratio=0.9 * ratio,
        clock=hand.clock,
        budget_s=1e6,
        now=lambda: hand.now,
        on_pair=told.append,
    )
    assert result.verdict is VerdictKind.PASS
    assert result.ratio == pytest.approx(ratio)
    assert result.pairs == len(told) == 5  # four steps a call, and still one pair a call


def test_a_budget_pays_for_whole_calls_whatever_is_timed_in_them(hand):
    pipelines = Pipeline(hand), Pipeline(hand)
    arms = [Arm("a", p, timer=StageTimer("step", p.boundaries)) for p in pipelines]
    result = measure_speedup(
        *arms, min_ratio=1.5, clock=hand.clock, budget_s=100.0, now=lambda: hand.now
    )
    # Five pairs of steps would be 30 s; five pairs of calls are 253 s.
    assert result.pairs == 0
    assert "holds 1 pair of 50.6 s" in result.reason


def test_the_step_of_a_call_with_one_step_is_refused(hand):
    pipeline = Pipeline(hand, steps=(5.0,))
    arm = Arm("one", pipeline, timer=StageTimer("step", pipeline.boundaries))
    with pytest.raises(MeasurementError, match=r"one denoising step .* --diffspeed-steps=2"):
        arm.timed_call(hand.clock)


@pytest.mark.parametrize(("unit", "part"), [("vae.decode", "decode"), ("text_encoder", "encode")])
def test_a_part_that_does_not_run_is_an_error_and_never_zero_seconds(hand, unit, part):
    pipeline = Pipeline(hand)
    setattr(pipeline, part, None)
    assert stages_of(pipeline).rest_s > 0.0
    arm = Arm("partial", pipeline, timer=StageTimer(unit, pipeline.boundaries))
    with pytest.raises(MeasurementError, match=rf"unit='{unit}' cannot be timed: {unit} did not"):
        arm.timed_call(hand.clock)


def test_a_clock_of_whole_calls_cannot_time_a_stage(hand):
    class Whole:
        def time(self, call):
            return 1.0, call()

    pipeline = Pipeline(hand)
    arm = Arm("a", pipeline, timer=StageTimer("step", pipeline.boundaries))
    with pytest.raises(MeasurementError, match="unit='step': Whole times whole calls only"):
        arm.timed_call(Whole())


def test_a_call_without_any_stage_is_all_rest():
    hand = Hand()

    @contextmanager
    def nothing(around):
        yield

    stages, _ = time_stages(lambda: hand.work(3.0), nothing, hand.clock)
    assert stages == StageTimes(3.0, None, None, None, (), None, 3.0)


def test_stages_of_cuda_are_events_read_after_the_call(monkeypatch):
    """The same calls in the same order that a GPU would get; no GPU here."""
    import torch

    from pytest_diffspeed.accelerators.catalog.cuda import CudaClock
    from pytest_diffspeed.accelerators.device import Device

    log, ticks = [], itertools.count()

    class Event:
        def __init__(self, enable_timing):
            assert enable_timing

        def record(self, stream):
            self.at = next(ticks)
            log.append(("record", stream))

        def synchronize(self):
            log.append("synchronize event")

        def elapsed_time(self, other):
            return 1000.0 * (other.at - self.at)  # milliseconds

    monkeypatch.setattr(torch.cuda, "Event", Event)
    monkeypatch.setattr(torch.cuda, "current_stream", lambda device: f"stream of {device}")
    monkeypatch.setattr(torch.cuda, "synchronize", lambda device: log.append("synchronize"))
    clock = CudaClock(Device("cuda", 1, "a GPU", "cuda-1"))
    encode = []

    @contextmanager
    def boundaries(around):
        encode.append(around(ENCODER, lambda: log.append("encode")))
        yield

    stages, _ = time_stages(lambda: encode[0](), boundaries, clock)
    record = ("record", "stream of cuda:1")
    assert log[:6] == ["synchronize", record, record, "encode", record, record]
    assert log[6:] == ["synchronize event"] * 4
    assert (stages.call_s, stages.text_encoder_s, stages.rest_s) == (3.0, 1.0, 2.0)
    assert clock.time(lambda: None)[0] == 1.0


def test_two_denoisers_are_timed_each_and_together(hand):
    """Video and audio: two denoisers one inside the other, and two schedulers in each step."""

    class Scheduler:
        def step(self):
            hand.work(0.5)

    def boundaries(around):
        parts["control"] = around(Part("control", Stage.DENOISER), lambda: hand.work(1.0))
        inner = around(Part("tower", Stage.DENOISER), lambda: hand.work(2.0))

        def whole():
            hand.work(3.0)
            inner()

        parts["unet"] = around(DENOISER, whole)
        for name in ("video", "audio"):
            parts[name] = around(STEP, Scheduler().step)
        return nullcontext()

    def call():
        for _ in range(3):
            for name in ("control", "unet", "video", "audio"):
                parts[name]()

    parts = {}
    stages, _ = time_stages(call, boundaries, hand.clock)
    assert stages.components_s == {"control": 3.0, "tower": 6.0, "unet": 15.0}
    assert stages.denoiser_s == 18.0  # the tower runs inside of the unet
    assert (stages.first_step_s, stages.steady_steps_s) == (7.0, (7.0, 7.0))
    assert stages.of("control") == 3.0
    assert stages.of("denoiser") == 18.0
    with pytest.raises(MeasurementError, match="unit='transformer_2' cannot be timed"):
        stages.of("transformer_2")
