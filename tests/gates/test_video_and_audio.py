"""``image_similarity`` on pipelines of diffusers that give videos and sounds, with few weights."""

import numpy as np
import pytest
from PIL import Image

from pytest_diffspeed.similarity import compare_videos
from tests.journals import records_in

SOURCES = """
    from pytest_diffspeed.pipelines.zoo import recipes
    from pytest_diffspeed.pipelines.zoo.builder import build

    def video():
        return build("WanPipeline-two-experts")

    video.call_defaults = {
        "prompts": ["a fox", "a bell"], "height": 32, "width": 32, "num_frames": 9,
        "max_sequence_length": 16, "guidance": 4.0,
    }

    def audio():
        return build("DanceDiffusionPipeline")

    audio.call_defaults = {"audio_length_in_s": 1.0}

    def both():
        return build("LTX2Pipeline")

    both.call_defaults = {
        "prompts": ["a fox", "a bell"], "guidance": 1.0,
        **{k: v for k, v in recipes()["LTX2Pipeline"].call.items() if k != "guidance_scale"},
    }
"""


@pytest.fixture
def run(pytester, run_diffspeed):
    def run(medium, stack, arguments, body="pass"):
        pytester.makepyfile(
            sources=SOURCES,
            test_it=f"""
            import pytest

            @pytest.mark.diffspeed("{stack}")
            @pytest.mark.image_similarity({arguments})
            def test_outputs(optimized_pipeline):
                {body}
            """,
        )
        pytester.syspathinsert()
        result = run_diffspeed(
            f"--diffspeed-pipeline=sources:{medium}",
            "--diffspeed-steps=2",
            "--diffspeed-json=gates.jsonl",
            "--diffspeed-html=report.html",
        )
        gates = records_in(pytester.path / "gates.jsonl", "gate")
        return result, gates[0]["figures"] if gates else None

    return run


def test_a_video_is_compared_frame_by_frame(run, pytester):
    result, figures = run("video", "sdpa_math", '"exact"')
    result.assert_outcomes(passed=1)
    result.stdout.fnmatch_lines(["PASS *8 videos of 9 frames: *; worst: video *, frame *"])
    assert figures["output"] == "video"
    assert figures["denominator_rmse"] > 0
    assert any("uncalibrated for video" in note for note in figures["notes"])
    assert set(figures["worst_frames"]) <= set(range(9))
    assert {"psnr", "ssim", "flicker", "denoiser_l2"} <= set(figures["metrics"])
    assert not [note for note in figures["notes"] if "call by call" in note]  # of both experts
    with Image.open(pytester.path / figures["pictures"][0]) as picture:
        assert picture.width > 8 * picture.height / 4
    html = (pytester.path / "report.html").read_text(encoding="utf-8")
    assert "flicker" in html and "worst frame" in html and "uncalibrated for video" in html


@pytest.mark.usefixtures("verbose")
def test_a_worse_video_fails_and_its_frame_is_named(run):
    result, figures = run(
        "video", "sdpa_math", '"cache"', "optimized_pipeline.vae.decoder.conv_out.bias.data += 0.3"
    )
    result.assert_outcomes(failed=1)
    result.stdout.fnmatch_lines(["*psnr_mean is *, need ≥ 33 (worst: video *, frame *"])
    assert 0 <= figures["misses"][0]["frame"] < 9


def test_a_sound_is_compared_by_noise_and_spectra(run, pytester):
    result, figures = run("audio", "bf16", '"cache", snr_mean=3, snr_worst=3')
    result.stdout.fnmatch_lines(["*8 sounds: SNR * dB, *"])
    assert {"snr", "spectral_distance", "log_spectral_distance"} <= set(figures["metrics"])
    assert any("uncalibrated for audio" in note for note in figures["notes"])
    assert (figures["output"], figures["sample_rate_hz"]) == ("audio", 512)
    assert (pytester.path / figures["pictures"][0]).is_file()
    html = (pytester.path / "report.html").read_text(encoding="utf-8")
    assert "SNR, dB" in html and "audio, 512 Hz" in html and "other-sound ratio" in html
    assert "uncalibrated for audio" in html
    assert 'class="strip wide"' in html


@pytest.mark.usefixtures("verbose")
def test_a_limit_that_the_medium_does_not_have_is_refused_in_one_sentence(run):
    result, figures = run("audio", "bf16", "psnr_worst=20")
    result.assert_outcomes(failed=1)
    result.stdout.fnmatch_lines(
        ["*could not be checked: psnr_worst *audio has no psnr; limit one of snr, *"]
    )
    assert figures is None


def test_a_worse_sound_of_the_same_video_fails(run):
    """LTX-2 gives both, and the worst decides."""
    worse = "list(optimized_pipeline.audio_vae.decoder.parameters())[-1].data += 5"
    result, figures = run("both", "sdpa_math", '"cache"', worse)
    result.assert_outcomes(failed=1)
    result.stdout.fnmatch_lines(
        [
            "SOUNDS  *",
            "*mean SNR *, needs 27 dB ('cache'); worst: sound *",
            "*next: look at the spec*",
        ]
    )
    result.stdout.no_fnmatch_line("VIDEOS*")
    assert (figures["output"], figures["not_compared"], figures["misses"]) == ("video", [], [])
    (sound,) = figures["beside"]
    assert (sound["output"], sound["verdict"]) == ("audio", "FAIL")
    assert {miss["limit"] for miss in sound["misses"]} >= {"snr_mean", "snr_worst"}
    assert "8 videos of 5 frames: PSNR" in figures["found"]
    assert "; and 8 sounds: SNR" in figures["found"]


def test_limits_go_to_the_media_that_have_them():
    from pytest_diffspeed.gates.several_media import limits_for, loosest

    media = ("video", "audio")
    limits = {"psnr_mean": 30.0, "snr_mean": 20.0, "rank1_mean": 1.0, "no_such": 1.0}
    assert set(limits_for("video", media, limits)) == {"psnr_mean", "rank1_mean", "no_such"}
    assert set(limits_for("audio", media, limits)) == {"snr_mean", "rank1_mean"}
    assert loosest(
        [{"rank1_mean": 1.0, "other_image_ratio_worst": 0.1}, {"rank1_mean": 0.9, "snr_mean": 20}]
    ) == {"rank1_mean": 0.9, "other_image_ratio_worst": 0.1, "snr_mean": 20}


def test_what_else_a_call_gave_and_could_not_be_read_is_said_to_be_not_compared():
    import torch

    from pytest_diffspeed.gates.baseline_images import BaselineImages, SelfDistance
    from pytest_diffspeed.gates.compare_outputs import Outputs
    from pytest_diffspeed.gates.similarity_text import found_text

    videos = np.random.default_rng(0).random((2, 3, 3, 16, 16), np.float32)
    drawn = Outputs(torch.from_numpy(videos), None, left_out=("audio",))
    reference = BaselineImages((), drawn, SelfDistance({}, 0.0, "same", "same"), from_cache=False)
    text = found_text(compare_videos(videos, videos, layout="NTCHW"), reference)
    assert text.endswith("NOT COMPARED: the call's audio")
    assert "worst: video 1, frame 1; other videos differ by 0.4" in text
