"""``no_recompiles(loras=…)``: adapters swapped on a compiled pipeline, as a user sees it."""

import pytest

from pytest_diffspeed.common.errors import UsageError
from pytest_diffspeed.gates.catalog.recompiles import NoRecompiles, calls_of
from pytest_diffspeed.pipelines.sources import parse_source
from pytest_diffspeed.records.reader import read_journal
from pytest_diffspeed.techniques.catalog import compile as compile_catalog
from tests.lora_files import save_lora, swaps_any_rank
from tests.printed import in_one_line

SOURCE = "tests.compilation.small_pipeline:build"
SUITE = """
import pytest

@pytest.mark.diffspeed({stacks})
@pytest.mark.no_recompiles(loras={loras!r}, components=["unet"])
def test_styles(optimized_pipeline): ...
"""


@pytest.fixture(scope="module")
def folder(libraries, tmp_path_factory):
    """Adapters of that pipeline: of rank 4 and 8, and of another scaling."""
    import peft.utils.hotswap  # noqa: F401 - an inner session forgets what it imported itself

    made = tmp_path_factory.mktemp("adapters")
    pipeline = parse_source(SOURCE).build()
    for name, more in {
        "rank4": {},
        "rank8": {"rank": 8},
        "weaker": {"alpha": 2},
    }.items():
        save_lora(pipeline, made / name, **{"targets": ("time_emb_proj", "conv2"), **more})
    return made


@pytest.fixture
def run(folder, pytester, run_diffspeed, fresh_dynamo, monkeypatch):
    monkeypatch.setattr(compile_catalog.Compile, "backend", "eager")

    def run_(loras, *stacks):
        text = ", ".join(repr(stack.replace("rank4", f"{folder}/rank4")) for stack in stacks)
        loras = [f"{folder}/{name}" for name in loras]
        pytester.makepyfile(test_it=SUITE.format(stacks=text, loras=loras))
        source = f"--diffspeed-pipeline={SOURCE}"
        outcome = run_diffspeed(source, "--diffspeed-json=records.jsonl")
        return outcome, [
            gate.result for gate in read_journal(pytester.path / "records.jsonl").gates
        ]

    return run_


@pytest.mark.slow
def test_a_swap_compiles_again_unless_it_was_prepared(run, folder):
    if not swaps_any_rank():
        pytest.skip("peft swaps in a higher rank that nobody prepared since 0.19")
    others = ["rank8", "weaker"]
    outcome, (without, prepared) = run(
        others, "lora(rank4)+compile", "lora(rank4,target_rank=8)+compile"
    )
    outcome.assert_outcomes(failed=1, passed=1)
    assert (without.verdict, prepared.verdict) == ("FAIL", "PASS")
    assert prepared.figures["recompiles"] == 0
    assert len(prepared.figures["report"]["calls"]) == 3
    again = without.figures["report"]["recompiles"]
    assert {one["when"] for one in again} == {f"lora {name}" for name in others}
    assert {one["component"] for one in again} == {"unet"}
    assert (
        "conv2.lora_A.lora.weight' size mismatch at index 0. expected 4, actual 8"
        in again[0]["why"]
    )
    assert "scaling['lora'] == 1.0" in again[1]["why"]
    assert "target_rank=N" in without.cause.next_step
    in_one_line(outcome).fnmatch_lines(
        ["*RECOMPILATION*next: prepare hot-swapping: lora(…,target_rank=N)*"]
    )


def test_words_of_the_marker():
    marker = NoRecompiles.from_arguments(loras=["a/b.safetensors"])
    assert calls_of(marker)["loras"] == ("a/b.safetensors",)
    assert "loras" not in calls_of(NoRecompiles.from_arguments())
    with pytest.raises(UsageError, match="must be a list of strings"):
        NoRecompiles.from_arguments(loras="a/b.safetensors")
