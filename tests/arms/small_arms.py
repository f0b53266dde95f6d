"""Arms of small pipelines, ready to be timed, without a first call of all their steps."""

from pytest_diffspeed.accelerators.registry import resolve_device
from pytest_diffspeed.arms.builder import Builder
from pytest_diffspeed.arms.prepared_arm import PreparedArm
from pytest_diffspeed.arms.spec import ArmSpec
from pytest_diffspeed.common.quiet import third_party
from pytest_diffspeed.pipelines.sources import parse_source
from pytest_diffspeed.techniques.stacks import parse_stack


class OneSecond:
    """A clock on which every call takes a second; it is really called."""

    def time(self, call):
        return 1.0, call()


def prepared(source, *, steps):
    with third_party():
        pipeline = parse_source(source).build()
        builder = Builder(resolve_device("cpu"), steps=steps)
        call = builder.call(parse_source(source), pipeline)
        spec = ArmSpec(source, parse_stack("fp32"))
        short = builder.prepare(spec, pipeline, call.varied(steps=1))
    return PreparedArm(spec, pipeline, call, short.applied)
