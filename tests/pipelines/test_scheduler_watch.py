"""Schedulers are watched by class: copies, second ones and subclasses are seen, each step once."""

import copy
import functools
import inspect

import pytest
import torch
from diffusers import (
    DDIMScheduler,
    EulerDiscreteScheduler,
    FlowMatchEulerDiscreteScheduler,
    SchedulerMixin,
)

from pytest_diffspeed.common.quiet import third_party
from pytest_diffspeed.pipelines.scheduler_watch import (
    schedulers_of,
    state_restored,
    telling,
    watch_schedulers,
)

SAMPLE = torch.zeros(1, 1, 2, 2)


class Told:
    def __init__(self):
        self.calls = []
        self.depth = 0

    def begins(self, scheduler, method):
        self.depth += 1
        self.calls.append((scheduler, method))

    def ends(self, scheduler, method):
        self.depth -= 1

    def around(self):
        return telling(self.begins, self.ends)

    def steps_of(self, scheduler):
        return [method for known, method in self.calls if known is scheduler].count("step")


@pytest.fixture
def told():
    return Told()


def run(scheduler, steps=3):
    """All steps; the indices that it was at afterwards."""
    with third_party():
        scheduler.set_timesteps(steps)
    indices, sample = [], SAMPLE
    for timestep in scheduler.timesteps:
        sample = scheduler.step(torch.ones_like(sample), timestep, sample, return_dict=False)[0]
        indices.append(scheduler.step_index)
    return indices


def test_a_copy_made_meanwhile_is_seen_and_steps_itself(told):
    """As LTX-2 does it for its audio."""
    video = FlowMatchEulerDiscreteScheduler()
    with watch_schedulers(told.around(), [video]):
        video.set_timesteps(3)
        audio = copy.deepcopy(video)
        places = []
        for timestep in video.timesteps:
            video.step(SAMPLE, timestep, SAMPLE)
            audio.step(SAMPLE, timestep, SAMPLE)
            places.append((video.step_index, audio.step_index))
    assert places == [(1, 1), (2, 2), (3, 3)]
    assert (told.steps_of(video), told.steps_of(audio)) == (3, 3)
    assert told.depth == 0


def test_one_that_nobody_named_is_seen(told):
    with watch_schedulers(told.around()):
        made = EulerDiscreteScheduler()
        run(made)
    assert told.steps_of(made) == 3


class Own(EulerDiscreteScheduler):
    def step(self, model_output, timestep, sample, **kwargs):
        return super().step(model_output * 1.0, timestep, sample, **kwargs)


def test_a_step_of_a_step_is_a_part_of_it(told):
    scheduler = Own()
    with watch_schedulers(told.around()):
        run(scheduler)
    assert [method for _, method in told.calls] == ["step"] * 3


def test_a_class_that_is_made_meanwhile_is_seen(told):
    with watch_schedulers(told.around()):

        class Later(DDIMScheduler):
            step_index = None

            def step(self, model_output, timestep, sample, **kwargs):
                return (sample,)

        scheduler = Later()
        run(scheduler)
    assert told.steps_of(scheduler) == 3
    assert "__wrapped__" not in vars(vars(Later)["step"])
    assert "__init_subclass__" not in vars(SchedulerMixin)


class Plain:
    """No `SchedulerMixin`, as schedulers of users may be."""

    def set_timesteps(self, steps):
        self.timesteps = range(steps)
        self.step_index = None

    def step(self, model_output, timestep, sample, return_dict=True):
        return (sample,)


class PlainChild(Plain):
    pass


def test_a_scheduler_of_no_known_family_is_seen_if_it_is_named(told):
    scheduler = PlainChild()
    with watch_schedulers(told.around(), [scheduler]):
        run(scheduler)
        run(copy.deepcopy(scheduler))
    assert told.steps_of(scheduler) == 3
    assert len(told.calls) == 6


def test_signatures_stay(told):
    """Pipelines ask whether `eta` and `generator` are among the parameters."""
    scheduler = DDIMScheduler()
    replaced = EulerDiscreteScheduler()
    replaced.step = functools.wraps(replaced.step)(lambda *a, **k: None)
    bound = EulerDiscreteScheduler()
    bound.step = bound.step
    kept = [inspect.signature(s.step) for s in (scheduler, replaced, bound)]
    with watch_schedulers(told.around(), [scheduler, replaced, bound]):
        assert [inspect.signature(s.step) for s in (scheduler, replaced, bound)] == kept
    assert "eta" in kept[0].parameters


def test_a_method_on_the_instance_is_seen_once(told):
    scheduler = EulerDiscreteScheduler()
    own = scheduler.step = functools.partial(type(scheduler).step, scheduler)
    with watch_schedulers(told.around(), [scheduler]):
        run(scheduler)
    assert told.steps_of(scheduler) == 3
    assert vars(scheduler)["step"] is own


def test_a_bound_method_on_the_instance_follows_a_copy(told):
    scheduler = EulerDiscreteScheduler()
    scheduler.step = scheduler.step
    with watch_schedulers(told.around(), [scheduler]):
        other = copy.deepcopy(scheduler)
        assert run(other) == [1, 2, 3]
        assert scheduler.step_index is None
    assert told.steps_of(other) == 3
    run(other)  # what the copy keeps of the watch tells nobody any more
    assert len(told.calls) == 3


def test_other_methods_may_be_watched(told):
    scheduler = EulerDiscreteScheduler()
    methods = ("set_timesteps", "index_for_timestep")
    with watch_schedulers(told.around(), [scheduler], methods):
        run(scheduler)
    assert [method for _, method in told.calls] == list(methods)


def test_classes_are_put_back_after_an_error_too(told):
    before = {name: dict(vars(kind)) for name, kind in kinds().items()}
    with pytest.raises(ZeroDivisionError), watch_schedulers(told.around()):
        assert vars(DDIMScheduler)["step"] is not before["DDIMScheduler"]["step"]
        raise ZeroDivisionError
    assert {name: dict(vars(kind)) for name, kind in kinds().items()} == before


def test_two_watches_see_the_same(told):
    other = Told()
    with watch_schedulers(told.around()), watch_schedulers(other.around()):
        run(EulerDiscreteScheduler())
    assert [m for _, m in told.calls] == [m for _, m in other.calls] == ["step"] * 3


def kinds():
    return {kind.__name__: kind for kind in (DDIMScheduler, EulerDiscreteScheduler, SchedulerMixin)}


def test_a_compiled_step_is_not_compiled_again(told):
    torch.compiler.reset()
    scheduler = EulerDiscreteScheduler()
    with third_party():
        scheduler.set_timesteps(3)
    scheduler.set_begin_index(0)
    scheduler.step = torch.compile(scheduler.step, backend="eager")
    try:
        scheduler.step(SAMPLE, scheduler.timesteps[0], SAMPLE)
        scheduler.step(SAMPLE, scheduler.timesteps[1], SAMPLE)
        scheduler._step_index = 1  # where it was compiled for
        with (
            torch.compiler.set_stance("fail_on_recompile"),
            watch_schedulers(told.around(), [scheduler]),
        ):
            scheduler.step(SAMPLE, scheduler.timesteps[1], SAMPLE)
    finally:
        torch.compiler.reset()
    assert told.steps_of(scheduler) == 1


def test_state_is_put_back_and_bound_functions_still_reach_the_scheduler():
    scheduler = EulerDiscreteScheduler()
    original = scheduler.set_timesteps
    scheduler.set_timesteps = lambda *a, **k: original(*a, **k)
    before = dict(vars(scheduler))
    with state_restored([scheduler]):
        assert run(scheduler) == [1, 2, 3]
    assert vars(scheduler).keys() == before.keys()
    assert all(vars(scheduler)[name] is value for name, value in before.items())


def test_schedulers_of_a_pipeline_and_of_pipelines_inside_it(combined):
    names = schedulers_of(combined)
    assert list(names) == ["scheduler", "prior_pipe.scheduler", "more.0", "more.1"]
    assert names["prior_pipe.scheduler"] is combined.prior_pipe.scheduler


@pytest.fixture
def combined():
    """Two pipelines in one, as Stable Cascade and Kandinsky have them."""
    from diffusers import DiffusionPipeline

    class Small(DiffusionPipeline):
        def __init__(self, scheduler):
            super().__init__()
            self.register_modules(scheduler=scheduler)

    outer = Small(DDIMScheduler())
    outer.prior_pipe = Small(EulerDiscreteScheduler())
    outer.decoder_pipe = Small(outer.scheduler)
    outer.more = [EulerDiscreteScheduler(), Plain()]
    return outer
