"""The pipeline that this project ships; a pull request that edits it is gated by tests/."""

from diffusers import EulerDiscreteScheduler

from pytest_diffspeed.pipelines.sources import DemoSource


class Scheduler(EulerDiscreteScheduler):
    """A place for the project's own step."""

    def step(self, model_output, timestep, sample, **rest):
        return super().step(model_output, timestep, sample, **rest)


def emoji():
    pipeline = DemoSource().build()
    pipeline.scheduler = Scheduler.from_config(pipeline.scheduler.config)
    return pipeline


emoji.call_defaults = {
    "prompts": ["strawberry", "owl", "sunflower", "hamburger"],
    "steps": 4,
    "height": 64,
    "width": 64,
    "guidance": 3.0,
}
