"""``image_similarity`` on pipelines in which the prompt does not decide the image."""

import pytest

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
        return result.stdout

    return run


def test_seeds_are_the_others_where_there_is_no_prompt(run):
    said = run("ddim")
    said.fnmatch_lines(
        ["PASS *8 images: PSNR 100.0 (100.0) dB*rank-1 100%*other images differ by*"]
    )
    said.no_fnmatch_line("*NOT CHECKED*")


def test_where_all_cases_draw_the_same_image_nothing_is_held_to_it(run):
    run("same_images").fnmatch_lines(
        [
            "PASS *PSNR 100.0 (100.0) dB*NOT CHECKED: other_image_ratio_mean, *rank1_worst, since "
            "rank-1 and the other-image ratio are not used: * by 0.0000 RMSE at most*"
        ]
    )


def test_images_of_8_pixels_a_side_are_compared_without_ssim(run):
    run("tiny").fnmatch_lines(
        ["PASS *NOT CHECKED: ssim_mean, ssim_worst, since *window has 11 pixels a side*are 8 × 8*"]
    )
