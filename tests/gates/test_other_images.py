"""``image_similarity`` on pipelines in which the prompt does not decide the image."""

import pytest

from tests.journals import journaled

UNCONDITIONAL = """
    import torch
    from diffusers import DDIMPipeline, DDIMScheduler, UNet2DModel

    def ddim(size=16):
        torch.manual_seed(0)
        unet = UNet2DModel(
            sample_size=size, block_out_channels=(8, 16), norm_num_groups=2, layers_per_block=1,
            down_block_types=("DownBlock2D", "AttnDownBlock2D"), attention_head_dim=4,
            up_block_types=("AttnUpBlock2D", "UpBlock2D"),
        )
        return DDIMPipeline(unet=unet, scheduler=DDIMScheduler())

    def tiny():
        return ddim(8)

    class SameSeed(DDIMPipeline):
        def __call__(self, prompt, num_inference_steps, generator, output_type, return_dict):
            return super().__call__(
                num_inference_steps=num_inference_steps, output_type=output_type,
                generator=torch.Generator().manual_seed(0), return_dict=return_dict,
            )

    def same_images():
        return SameSeed(**ddim().components)

    same_images.call_defaults = {"prompts": ["a", "b"]}
"""


@pytest.fixture
def run(pytester, run_diffspeed):
    def run(factory):
        pytester.makepyfile(
            unconditional=UNCONDITIONAL,
            test_it="""
            import pytest

            @pytest.mark.diffspeed("channels_last")
            @pytest.mark.image_similarity("exact")
            def test_images(optimized_pipeline): ...
            """,
        )
        pytester.syspathinsert()
        result = run_diffspeed(
            f"--diffspeed-pipeline=unconditional:{factory}", "--diffspeed-steps=3"
        )
        result.assert_outcomes(passed=1)
        (gate,) = journaled(pytester, "gate")
        assert gate["verdict"] == "PASS"
        return result.stdout, gate["figures"]

    return run


def test_seeds_are_the_others_where_there_is_no_prompt(run):
    said, figures = run("ddim")
    assert len(figures["cases"]) == 8
    assert figures["metrics"]["psnr"] == [100.0, 100.0]
    assert figures["metrics"]["rank1"] == [1.0, 1.0]
    assert figures["denominator_rmse"] > 0
    assert figures["skipped"] == {}
    said.no_fnmatch_line("*NOT CHECKED*")


def test_where_all_cases_draw_the_same_image_nothing_is_held_to_it(run):
    said, figures = run("same_images")
    assert figures["metrics"]["psnr"] == [100.0, 100.0]
    names = ("other_image_ratio", "rank1")
    of_others = [f"{name}_{part}" for name in names for part in ("mean", "worst")]
    assert sorted(figures["skipped"]) == of_others
    assert all("by 0.0000 RMSE at most" in why for why in figures["skipped"].values())
    said.fnmatch_lines([f"PASS *NOT CHECKED: {of_others[0]}, *"])


def test_images_of_8_pixels_a_side_are_compared_without_ssim(run):
    said, figures = run("tiny")
    assert set(figures["skipped"]) == {"ssim_mean", "ssim_worst"}
    assert all("are 8 × 8" in why for why in figures["skipped"].values())
    said.fnmatch_lines(["PASS *NOT CHECKED: ssim_mean, ssim_worst, *"])
