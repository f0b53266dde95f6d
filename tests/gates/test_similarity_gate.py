"""``image_similarity`` as its user meets it: the trained demo pipeline, real stacks, few steps."""

import json
import shutil

import pytest
from PIL import Image

from pytest_diffspeed.commands import calibrate
from pytest_diffspeed.gates.catalog.similarity import ImageSimilarity, preset_for
from pytest_diffspeed.gates.image_limits_file import NAME
from pytest_diffspeed.similarity import PRESETS
from pytest_diffspeed.techniques.stacks import parse_stack
from tests.journals import records_in

BF16 = """
    import pytest

    @pytest.mark.diffspeed("bf16")
    @pytest.mark.image_similarity({arguments})
    def test_images(optimized_pipeline):
        {body}
"""


def suite(pytester, arguments='"lossless"', body="pass"):
    pytester.makepyfile(test_it=BF16.format(arguments=arguments, body=body))


@pytest.fixture(scope="session")
def drawn_before(tmp_path_factory):
    """Baseline images that earlier tests drew: the cache is what it is for."""
    return tmp_path_factory.mktemp("baseline-images")


@pytest.fixture
def run_demo(pytester, run_diffspeed, drawn_before):
    cache = pytester.path / ".diffspeed" / "baseline-images"

    def run(*words):
        shutil.copytree(drawn_before, cache, dirs_exist_ok=True)
        result = run_diffspeed("--diffspeed-pipeline=demo", "--diffspeed-steps=3", *words)
        if cache.is_dir():
            shutil.copytree(cache, drawn_before, dirs_exist_ok=True)
        return result

    return run


def record_of(pytester):
    (gate,) = records_in(pytester.path / "gates.jsonl", "gate")
    return gate


def test_a_pass_shows_every_metric_the_floor_and_pictures_and_is_cached(
    pytester, run_demo, drawn_before
):
    suite(pytester)
    shutil.rmtree(drawn_before)
    drawn_before.mkdir()
    result = run_demo("--diffspeed-json=gates.jsonl")
    result.assert_outcomes(passed=1)
    result.stdout.fnmatch_lines(["PASS * test_it.py::test_images?bf16?  image_similarity  8 *"])
    figures = record_of(pytester)["figures"]
    assert list(figures["metrics"]) == [
        *("psnr", "ssim", "ssim_full", "ms_ssim", "mae", "max_abs", "other_image_ratio", "rank1"),
        *("latent_l2", "denoiser_l2"),
    ]
    assert figures["metrics"]["rank1"] == [1.0, 1.0]
    assert figures["denominator_rmse"] > 0
    assert figures["floor_kernels"].startswith("PSNR ")
    assert not figures["baseline_from_cache"]
    assert [case["prompt"] for case in figures["cases"]][:2] == ["strawberry", "tropical fish"]
    assert 0 < figures["metrics"]["denoiser_l2"][0] < 0.1
    assert 0 < figures["metrics"]["latent_l2"][0] < 0.1
    pictures = [pytester.path / path for path in figures["pictures"]]
    assert len(pictures) == 8
    worst = figures["cases"][figures["order"][0]]
    assert worst["prompt"].replace(" ", "-") in pictures[0].name
    scores = [figures["images"]["ssim"][index] for index in figures["order"]]
    assert scores == sorted(scores)
    with Image.open(pictures[0]) as picture:
        assert picture.size == (3 * 192, 192)

    # The next session takes the baseline's images from the cache, and finds the same.
    again = run_demo("--diffspeed-json=gates.jsonl")
    again.stdout.no_fnmatch_line("*drawing 8 images*")
    cached = record_of(pytester)["figures"]
    assert cached["baseline_from_cache"]
    assert cached["metrics"] == figures["metrics"]
    assert cached["floor_kernels"] == figures["floor_kernels"]

    # Other steps are another baseline.
    run_demo("--diffspeed-json=gates.jsonl", "--diffspeed-steps=2")
    assert not record_of(pytester)["figures"]["baseline_from_cache"]


@pytest.mark.usefixtures("verbose")
def test_a_broken_candidate_fails_and_names_image_prompt_and_seed(pytester, run_demo):
    suite(
        pytester,
        '"cache"',
        "optimized_pipeline.vae.decoder.conv_out.weight.data[0] = float('nan')",
    )
    result = run_demo("--diffspeed-json=gates.jsonl")
    result.assert_outcomes(failed=1)
    result.stdout.fnmatch_lines(["*image 1 (prompt 'strawberry', seed 0) has NaN values*"])
    assert len(list((pytester.path / ".diffspeed" / "images").glob("*/*.png"))) == 8
    record = record_of(pytester)
    assert record["verdict"] == "FAIL"
    assert {found["kind"] for found in record["figures"]["findings"]} == {"not finite"}
    assert len(record["figures"]["findings"]) == 8


@pytest.mark.usefixtures("verbose")
def test_a_dropped_layer_fails_the_loosest_preset(pytester, run_demo):
    suite(
        pytester,
        '"cache"',
        "optimized_pipeline.unet.up_blocks[0].attentions[0].proj_out.weight.data.zero_()",
    )
    result = run_demo()
    result.assert_outcomes(failed=1)
    result.stdout.fnmatch_lines(["*psnr_mean is *, need ≥ * (worst: image *"])


@pytest.mark.usefixtures("verbose")
def test_another_schedule_has_a_preset_of_its_own_and_says_so(pytester, run_demo):
    """The baseline is drawn in three steps, as in the other tests here."""
    pytester.makepyfile(test_it=BF16.format(arguments="", body="pass").replace("bf16", "steps(2)"))
    result = run_demo("--diffspeed-json=gates.jsonl")
    result.assert_outcomes(failed=1)
    record = record_of(pytester)
    assert record["figures"]["preset"] == "fewer_steps"
    assert record["figures"]["limits"] == PRESETS["fewer_steps"]
    assert "dB ('fewer_steps'); worst: image" in record["cause"]["found"]
    note = "drawn by another schedule (2 steps instead of 3), so pictures may differ"
    assert record["figures"]["notes"][0] == note
    result.stdout.fnmatch_lines([f"*; {note.replace('(', '?').replace(')', '?')}*"])
    (proof,) = records_in(pytester.path / "gates.jsonl", "proof")[-1]["proofs"]
    assert proof["found"] == "2 steps ran in a call, 3 in the baseline's"


@pytest.mark.usefixtures("verbose")
def test_a_cache_of_features_has_its_preset_and_is_not_given_the_baselines_inputs(
    pytester, run_demo
):
    """The second of three steps uses the attention of the first again."""
    stack = (
        "pyramid_attention(spatial_attention_block_skip_range=2,"
        "spatial_attention_timestep_skip_range='100:990')"
    )
    pytester.makepyfile(test_it=BF16.format(arguments="", body="pass").replace("bf16", stack))
    run_demo("--diffspeed-json=gates.jsonl")
    record = record_of(pytester)
    assert record["figures"]["preset"] == "cache"
    assert record["figures"]["limits"] == PRESETS["cache"]
    (proof,) = records_in(pytester.path / "gates.jsonl", "proof")[-1]["proofs"]
    assert proof["figures"]["skipped"]["unet"]["skipped"] > 0
    note = "unet was not compared call by call: it keeps a state between calls"
    assert any(one.startswith(note) for one in record["figures"]["notes"])


def test_the_preset_that_a_stack_gets_unless_another_is_named():
    def preset(stack, *words, **same):
        return preset_for(ImageSimilarity.from_arguments(*words), parse_stack(stack), **same)

    assert preset("bf16+compile") == "lossless"
    assert preset("bf16+steps(10)+compile") == "fewer_steps"
    assert preset("scheduler(DDIMScheduler)") == "fewer_steps"
    assert preset("bf16+vae_tiling") == preset("steps(10)+vae_tiling") == "tiles"
    assert preset("vae_slicing") == "lossless"
    assert preset("bf16+fp8_dynamic+compile") == preset("layerwise_casting") == "w8a8"
    assert preset("bf16+int8_weight_only") == preset("fp8_weight_only") == "lossless"
    assert preset("steps(10)", same_schedule=True) == "lossless"  # against the base of a branch
    assert preset("steps(10)", "exact") == "exact"
    assert preset("bf16+first_block_cache") == "cache"
    assert preset("steps(10)+first_block_cache") == "fewer_steps"
    assert preset("first_block_cache", same_schedule=True) == "lossless"


@pytest.mark.usefixtures("verbose")
def test_limits_are_overridden_one_by_one(pytester, run_demo):
    suite(pytester, '"cache", psnr_worst=101, ssim_mean=0.0')
    result = run_demo("--diffspeed-json=gates.jsonl")
    result.assert_outcomes(failed=1)
    result.stdout.fnmatch_lines(
        ["*psnr_worst is *, need ≥ 101 (worst: image ? (prompt '*', seed 0))"]
    )
    # No candidate can reach what identical images count as at most.
    result.stdout.fnmatch_lines(["*psnr_worst 101 is under the floor*"])
    assert "ssim_mean" not in result.stdout.str()
    limits = record_of(pytester)["figures"]["limits"]
    assert (limits["psnr_worst"], limits["ssim_mean"]) == (101.0, 0.0)


def test_random_weights_are_a_usage_error_at_collection(pytester, run_diffspeed):
    suite(pytester)
    result = run_diffspeed()
    result.assert_outcomes(errors=1)
    result.stdout.fnmatch_lines(
        ["*image_similarity: * would compare noise with noise; use a trained*"]
    )
    pytester.makepyfile(
        test_it="""
        import pytest

        @pytest.mark.diffspeed("bf16", pipeline="random:sdxl-tiny")
        @pytest.mark.image_similarity()
        def test_images(optimized_pipeline): ...
        """
    )
    run_diffspeed("--diffspeed-pipeline=demo").stdout.fnmatch_lines(["*noise with noise*"])


def test_the_baseline_is_not_compared_with_itself(pytester, run_demo):
    suite(pytester)
    result = run_demo("--diffspeed-techniques=fp32")
    result.stdout.fnmatch_lines(["NOT_APPLICABLE *", "*would compare fp32 with itself*"])
    assert result.ret == 1  # nothing was checked


def test_an_absent_extra_is_said_in_the_terminal(pytester, run_demo, monkeypatch):
    import sys

    monkeypatch.setitem(sys.modules, "lpips", None)
    suite(pytester, '"cache", lpips_mean=0.1')
    result = run_demo()
    result.assert_outcomes(passed=1)
    result.stdout.fnmatch_lines(["*NOT CHECKED: lpips_mean*pip install*lpips*"])


def test_any_test_id_makes_safe_file_names(pytester, run_demo):
    pytester.makepyfile(
        test_it="""
        import pytest

        @pytest.mark.parametrize("word", ["../../escaped", "a/b\\\\c:*?<>|", "ü" * 300])
        @pytest.mark.diffspeed("bf16")
        @pytest.mark.image_similarity("cache")
        def test_images(optimized_pipeline, word): ...
        """
    )
    run_demo(
        "--diffspeed-steps=1", "--diffspeed-prompts=../../../x y", "--diffspeed-prompts=owl?*\"'"
    )
    pictures = list(pytester.path.rglob("*.png"))
    assert len(pictures) == 3 * 8
    folder = pytester.path / ".diffspeed" / "images"
    assert all(path.is_relative_to(folder) and len(path.name) < 120 for path in pictures)
    assert all(set("/\\:*?<>|\"' ").isdisjoint(path.name) for path in pictures)


@pytest.mark.usefixtures("verbose")
def test_calibrated_limits_come_from_the_repository(pytester, run_demo, capsys, monkeypatch):
    suite(pytester, '"calibrated"')
    command = "diffspeed calibrate --pipeline=demo --stack=bf16 --steps=3"
    missing = run_demo()
    missing.assert_outcomes(failed=1)
    missing.stdout.fnmatch_lines([f"*has no limits for bf16 of demo on *run `{command}` on that*"])

    words = ["--device=cpu", "--steps=3", f"--rootdir={pytester.path}"]
    assert calibrate.main(["--stack=bf16", *words]) == 0
    assert "stored in" in capsys.readouterr().out
    path = pytester.path / NAME
    (devices,) = json.loads(path.read_text())["devices"].values()
    entry = devices["demo"]["bf16"]
    assert entry["measured"]["psnr"][0] > entry["limits"]["psnr_mean"] > 30
    run_demo().assert_outcomes(passed=1)

    # Other steps draw other images.
    other = run_demo("--diffspeed-steps=2")
    other.assert_outcomes(failed=1)
    other.stdout.fnmatch_lines(["*calibrated with 3 steps, and images are drawn with 2 now*"])

    # The limits are really those: with stricter ones the same images fail.
    path.write_text(path.read_text().replace('"psnr_mean": ', '"psnr_mean": 1'))
    run_demo().assert_outcomes(failed=1)
    path.write_text(path.read_text().replace('"psnr_mean"', '"pnsr_mean"'))
    result = run_demo()
    result.stdout.fnmatch_lines([f"*{NAME}: no limit is called 'pnsr_mean'*"])


@pytest.mark.parametrize(
    ("words", "message"),
    [
        (["--stack=bf17"], "no technique is called 'bf17'"),
        (["--stack=fp32"], "is the baseline itself"),
        (["--stack=bf16", "--margin=0.5"], "--margin must be at least 1"),
        (["--stack=bf16", "--rootdir=nowhere"], "there is no folder nowhere"),
        (["--stack=bf16", "--pipeline=random:sdxl-tiny"], "noise with noise"),
        ([], "--stack"),
    ],
)
def test_calibrate_refuses_what_cannot_be_meant(pytester, libraries, capsys, words, message):
    with pytest.raises(SystemExit) as caught:
        calibrate.main(["--device=cpu", *words])
    assert caught.value.code == 2
    assert message in capsys.readouterr().err


def test_denoisers_are_compared_call_by_call_whatever_they_are_called(pytester, run_diffspeed):
    suite(pytester, "denoiser_l2_mean=0.5")
    source = "tests.pipelines.several_parts:odd_names"
    result = run_diffspeed(f"--diffspeed-pipeline={source}", "--diffspeed-json=gates.jsonl")
    result.assert_outcomes(passed=1)
    assert 0 < record_of(pytester)["figures"]["metrics"]["denoiser_l2"][0] < 0.1
