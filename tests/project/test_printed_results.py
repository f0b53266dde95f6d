"""``print(result)`` is a few readable lines in the terminal block's words; ``repr`` is one line."""

import itertools
import re

import pytest

import pytest_diffspeed as api
from pytest_diffspeed.common.quiet import third_party
from pytest_diffspeed.reports.terminal import ratio_and_pairs
from pytest_diffspeed.similarity.wording import figure_text
from tests.clocks import ScriptedClock
from tests.commands.test_cost_command import PLAIN


def call(pipeline, steps=1):
    with third_party():
        return pipeline("a fox", num_inference_steps=steps, output_type="pt")


def of_speedup():
    clock = ScriptedClock(baseline=itertools.repeat(2.0), candidate=itertools.repeat(1.0))
    nothing = {"clock": clock, "now": lambda: 0.0}
    return api.measure_speedup(lambda: "baseline", lambda: "candidate", min_ratio=1.5, **nothing)


def of_images():
    import torch

    images = torch.rand(3, 3, 16, 16, generator=torch.Generator().manual_seed(0))
    return api.compare_images(images, images, preset="exact")


def of_breaks():
    import torch

    def broken(x):
        y = x.sin()
        torch._dynamo.graph_break()
        return y.cos()

    return api.find_graph_breaks(broken, torch.ones(2))


def of_syncs():
    import torch

    return api.count_syncs(lambda device: torch.ones(2, device=device).sum().item(), steps=2)


def of_stack():
    return api.apply_stack(api.load_pipeline("random:sdxl-tiny"), "channels_last", call=call)


MAKE = {
    "SpeedupResult": of_speedup,
    "SimilarityReport": of_images,
    "GraphBreakReport": of_breaks,
    "SyncReport": of_syncs,
    "Applied": of_stack,
    "GpuCost": lambda: PLAIN,
}


@pytest.fixture(scope="module", params=MAKE)
def result(request, libraries):
    return MAKE[request.param]()


def test_a_result_is_a_few_lines_and_its_repr_is_one(result):
    lines = str(result).splitlines()
    assert 1 < len(lines) <= 30
    assert "=" not in lines[0].partition(":")[0]  # no dump of fields
    assert re.fullmatch(rf"<{type(result).__name__} .{{5,200}}>", repr(result))


def test_they_use_the_words_of_the_terminal_block(libraries):
    speedup, images = of_speedup(), of_images()
    figures = {"ratio": speedup.ratio, "low": speedup.low, "high": speedup.high, "need": 1.5}
    assert ratio_and_pairs({**figures, "pairs": speedup.pairs}) in str(speedup)
    assert ratio_and_pairs({**figures, "pairs": 1}).endswith("; 1 pair")
    for metric, pair in images.metrics.items():
        assert figure_text(metric, "image", *pair) in str(images)


def test_a_gpu_cost_prints_what_the_command_does(libraries):
    from pytest_diffspeed.arms.gpu_cost.text import table_lines

    assert str(PLAIN).splitlines() == table_lines(PLAIN, most=3)
