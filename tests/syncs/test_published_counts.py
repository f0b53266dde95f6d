"""Counts that others published, reproduced on a small pipeline: they do not depend on its size."""

from collections import Counter
from dataclasses import replace

from pytest_diffspeed.common.quiet import third_party
from pytest_diffspeed.pipelines.call import PipelineCall
from pytest_diffspeed.pipelines.sources import parse_source
from pytest_diffspeed.syncs.prepared_call import count_call


def test_cogvideox_stalls_79_times_in_20_steps():
    """Measured on an L40S: 79 in 20 steps, by line 39, 20 and 20.  Dynamic guidance, which reads
    the timestep in each step, is the third line.
    """
    source = parse_source("random:CogVideoXPipeline")
    with third_party():
        pipeline = source.build()
        defaults = source.defaults(pipeline)
        arguments = {**defaults.arguments, "use_dynamic_cfg": True}
        call = PipelineCall(pipeline, replace(defaults, arguments=arguments, guidance=6.0))
    report = count_call(pipeline, call, scope="denoising_loop", steps=20, device="simulated")
    assert (report.steps, report.total) == (20, 79)
    by_line = Counter({site.source: site.count for site in report.sites})
    assert sorted(by_line.values()) == [20, 20, 39]
    assert any("t.item()" in source for source in by_line)
