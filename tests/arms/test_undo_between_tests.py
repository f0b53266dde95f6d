"""A stack that can be undone leaves its pipeline to the next; no other pipeline is used twice."""

import pytest

TWO = """
import pytest

built = []

@pytest.mark.diffspeed({stacks})
def test_it(optimized_pipeline, baseline_pipeline):
    denoiser = optimized_pipeline.unet
    assert denoiser is not baseline_pipeline.unet
    built.append(denoiser)
    if len(built) == 2:
        print("SAME" if built[0] is built[1] else "FRESH")
    {body}
"""


def ran(pytester, run_diffspeed, stacks, body="pass"):
    named = ", ".join(repr(stack) for stack in stacks)
    pytester.makepyfile(TWO.format(stacks=named, body=body))
    return run_diffspeed("-s")


@pytest.mark.parametrize(
    ("stacks", "said"),
    [
        (("channels_last", "fused_qkv"), "SAME"),
        (("channels_last", "channels_last+fused_qkv"), "SAME"),
        (("bf16", "channels_last"), "FRESH"),  # rounded weights cannot be put back
        (("channels_last", "bf16"), "FRESH"),  # the text encoders are the baseline's own
    ],
)
@pytest.mark.usefixtures("verbose")
def test_a_pipeline_is_used_again_only_where_all_of_it_can_be_as_before(
    pytester, run_diffspeed, stacks, said
):
    result = ran(pytester, run_diffspeed, stacks)
    result.assert_outcomes(passed=2)
    result.stdout.fnmatch_lines([f"*{said}*"])


def test_a_pipeline_that_a_body_changed_is_not_used_again(pytester, run_diffspeed):
    result = ran(
        pytester,
        run_diffspeed,
        ("channels_last", "fused_qkv"),
        "optimized_pipeline.unet.conv_in.weight.data = optimized_pipeline.unet.conv_in.weight + 1",
    )
    result.assert_outcomes(passed=2)
    result.stdout.fnmatch_lines(
        ["diffspeed: the next stack gets a fresh copy: *channels_last is no longer*", "*FRESH*"]
    )


def test_a_technique_that_does_not_undo_is_noticed(pytester, run_diffspeed, monkeypatch):
    from pytest_diffspeed.techniques.catalog.layout import ChannelsLast

    monkeypatch.setattr(ChannelsLast, "undo", lambda self, pipeline: None)
    result = ran(pytester, run_diffspeed, ("channels_last", "fused_qkv"))
    result.assert_outcomes(passed=2)
    result.stdout.fnmatch_lines(
        ["diffspeed: the next stack gets a fresh copy: channels_last was undone, but *", "*FRESH*"]
    )
