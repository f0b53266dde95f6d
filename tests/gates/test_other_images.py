"""``image_similarity`` on pipelines in which the prompt does not decide the image."""

import pytest

UNCONDITIONAL = """
    import torch
    from diffusers import DDIMPipeline, DDIMScheduler, UNet2DModel

    class Pipeline(DDIMPipeline):
        def __call__(self, num_inference_steps, generator, output_type="pt", return_dict=True):
            given = super().__call__(
                num_inference_steps=num_inference_steps, generator=generator, output_type="np"
            )
            return (torch.from_numpy(given.images).permute(0, 3, 1, 2),)

    def ddim(size=16):
        torch.manual_seed(0)
        unet = UNet2DModel(
            sample_size=size, block_out_channels=(8, 16), norm_num_groups=2, layers_per_block=1,
            down_block_types=("DownBlock2D", "AttnDownBlock2D"), attention_head_dim=4,
            up_block_types=("AttnUpBlock2D", "UpBlock2D"),
        )
        return Pipeline(unet=unet, scheduler=DDIMScheduler())

    def tiny():
        return ddim(8)

    def one_seed():
        return ddim()

    ddim.call_defaults = tiny.call_defaults = {"prompts": ["a", "b"], "steps": 3}
    one_seed.call_defaults = {"prompts": list("abcdefgh"), "steps": 3}
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
        return result.stdout

    return run


def test_seeds_are_the_others_where_there_is_no_prompt(run):
    said = run("ddim")
    said.fnmatch_lines(
        ["PASS *8 images: PSNR 100.0 (100.0) dB*rank-1 100%*other images differ by*"]
    )
    said.no_fnmatch_line("*NOT CHECKED*")


def test_where_all_cases_draw_the_same_image_nothing_is_held_to_it(run):
    run("one_seed").fnmatch_lines(
        [
            "PASS *PSNR 100.0 (100.0) dB*NOT CHECKED: other_image_ratio_mean, *rank1_worst, since "
            "rank-1 and the other-image ratio are not used: * by 0.0000 RMSE at most*"
        ]
    )


def test_images_of_8_pixels_a_side_are_compared_without_ssim(run):
    run("tiny").fnmatch_lines(
        ["PASS *NOT CHECKED: ssim_mean, ssim_worst, since *window has 11 pixels a side*are 8 × 8*"]
    )
