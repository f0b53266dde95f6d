"""To be written."""

from checks import Part


def run(part: Part) -> None:
    part.plan(["to be written"])
    with part.check("device", "torch sees it") as check:
        import torch

        check.expect(part.device == "cpu" or torch.cuda.is_available(), torch.__version__)
