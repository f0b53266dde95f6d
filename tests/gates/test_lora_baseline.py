"""What a stack with an adapter is compared with: the same model, in fp32."""

import pytest

from pytest_diffspeed.pipelines.sources import parse_source
from pytest_diffspeed.records.reader import read_journal
from tests.lora_files import save_lora
from tests.printed import in_one_line

SOURCE = "tests.compilation.small_pipeline:attending"
SUITE = """
import pytest

@pytest.mark.diffspeed("{lora}", "lora({path},fused=True)", "lora({path})+channels_last")
@pytest.mark.image_similarity("exact", stack="lora({path},fused=True)")
@pytest.mark.min_speedup(0.5, over="fp32", stack="lora({path})+channels_last")
@pytest.mark.max_slowdown(50, over="channels_last", stack="lora({path})+channels_last")
@pytest.mark.max_memory(2, over="previous", stack="lora({path},fused=True)")
def test_style(optimized_pipeline, baseline_pipeline, diffspeed):
    assert "lora" in baseline_pipeline.get_active_adapters()
    assert str(diffspeed.baseline.spec.stack) == "{lora}"
    assert not optimized_pipeline.vae is None

@pytest.mark.diffspeed("channels_last")
@pytest.mark.image_similarity("exact")
def test_bare(optimized_pipeline, baseline_pipeline):
    assert not baseline_pipeline.get_active_adapters()

@pytest.mark.diffspeed("{lora}")
@pytest.mark.min_speedup(1.0)
def test_nothing_to_compare(optimized_pipeline): ...
"""


@pytest.fixture(scope="module")
def path(libraries, tmp_path_factory):
    folder = tmp_path_factory.mktemp("an adapter")
    pipeline = parse_source(SOURCE).build()
    save_lora(pipeline, folder / "ink", targets=("to_q", "to_v", "to_out.0"), size=20.0)
    return f"'{folder / 'ink'}'"


@pytest.fixture
def gates(path, pytester, run_diffspeed, constant_clock):
    text = SUITE.replace("{lora}", f"lora({path})").replace("{path}", path)
    pytester.makepyfile(test_it=text)
    outcome = run_diffspeed(
        f"--diffspeed-pipeline={SOURCE}",
        "--diffspeed-json=records.jsonl",
        "--diffspeed-budget=60",
        "-pno:benchmark",
    )
    outcome.assert_outcomes(passed=5)
    in_one_line(outcome).fnmatch_lines([f"*it would compare lora({path}) with itself*"])
    return [one.result for one in read_journal(pytester.path / "records.jsonl").gates]


def test_ratios_and_images_are_of_the_same_model(gates, path):
    merged, beside = f"lora({path},fused=True)", f"lora({path})+channels_last"
    found = {(one.gate, one.stack): one for one in gates if one.figures}
    images = found["image_similarity", merged]
    # The adapter moves images by more than any rounding: against the bare model it would fail.
    assert images.verdict == "PASS"
    assert f"the baseline is lora({path}), in fp32" in images.figures["notes"]
    bare = found["image_similarity", "channels_last"].figures["notes"]
    assert not any("lora" in note for note in bare)
    assert found["min_speedup", beside].figures["over"] == f"lora({path})"
    assert found["max_slowdown", beside].figures["over"] == "channels_last"
    assert found["max_memory", merged].figures["over"] == f"lora({path})"
