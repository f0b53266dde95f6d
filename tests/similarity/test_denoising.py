"""Latents and denoisers compared before any picture is drawn."""

import math

import pytest
import torch

from pytest_diffspeed.similarity import relative_l2, teacher_forced


def test_relative_l2_of_each_item():
    x = torch.tensor([[3.0, 4.0], [1.0, 0.0], [0.0, 0.0], [0.0, 0.0]])
    y = torch.tensor([[3.0, 4.5], [1.0, 0.0], [0.0, 0.0], [0.0, 1.0]])
    assert relative_l2(x, y).tolist() == pytest.approx([0.1, 0.0, 0.0, math.inf])
    assert math.isnan(relative_l2(x[:1], x[:1] * math.nan)[0])
    with pytest.raises(ValueError, match="shapes differ"):
        relative_l2(x, x[:2])


class Denoiser(torch.nn.Module):
    def __init__(self, weight):
        super().__init__()
        self.weight = torch.nn.Parameter(torch.full((4,), weight))
        self.seen = []

    def forward(self, sample, timestep, condition=None, return_dict=True):
        self.seen.append((sample.dtype, timestep.dtype, condition["text"][0].dtype))
        output = sample * self.weight
        return (output,) if not return_dict else {"sample": output}


def test_each_call_goes_to_the_candidate_in_its_own_dtype():
    baseline, candidate = Denoiser(2.0), Denoiser(2.2).to(torch.bfloat16)
    entered = []

    class Running:
        def __enter__(self):
            entered.append(True)

        def __exit__(self, *_):
            pass

    sample, time = torch.ones(1, 4), torch.tensor(3.0)
    with teacher_forced(baseline, candidate, running=Running) as errors:
        for _ in range(2):
            baseline(sample, time, condition={"text": [sample]}, return_dict=False)
    wanted = float(candidate.weight.detach()[0]) / 2.0 - 1.0
    assert errors == pytest.approx([wanted, wanted])
    # Time steps, which have no dimensions, keep their precision.
    assert candidate.seen[0] == (torch.bfloat16, torch.float32, torch.bfloat16)
    assert entered == [True, True]
    baseline(sample, time, condition={"text": [sample]}, return_dict=False)
    assert len(errors) == 2  # the hook is gone


def test_a_denoiser_that_both_arms_share_has_no_error():
    shared = Denoiser(2.0)
    with teacher_forced(shared, shared) as errors:
        shared(torch.ones(1, 4), torch.tensor(3.0), condition={"text": [torch.ones(1)]})
    assert errors == [0.0]
    assert len(shared.seen) == 1


class WithTable(torch.nn.Module):
    """Keeps its first parameter in float32, as diffusers' models with `_keep_in_fp32_modules`."""

    def __init__(self):
        super().__init__()
        self.table = torch.nn.Parameter(torch.ones(3))
        self.weight = torch.nn.Parameter(torch.ones(4, dtype=torch.bfloat16))
        self.seen = []

    forward = Denoiser.forward


class Narrow(WithTable):
    """Most of its weights are kept in 8 bits, and cast for each call of their layer."""

    def __init__(self):
        super().__init__()
        self.kept = torch.nn.Parameter(torch.ones(64).to(torch.float8_e4m3fn), requires_grad=False)


def test_weights_kept_in_8_bits_do_not_decide_the_dtype():
    baseline, candidate = Denoiser(2.0), Narrow()
    with teacher_forced(baseline, candidate):
        baseline(torch.ones(1, 4), torch.tensor(3.0), {"text": [torch.ones(1)]}, False)
    assert candidate.seen[0][0] == torch.bfloat16


def test_a_few_parameters_in_float32_do_not_decide_the_dtype():
    baseline, candidate = Denoiser(2.0), WithTable()
    with teacher_forced(baseline, candidate):
        baseline(torch.ones(1, 4), torch.tensor(3.0), {"text": [torch.ones(1)]}, False)
    assert candidate.seen[0][0] == torch.bfloat16


def test_lists_of_residuals_are_compared_as_a_whole():
    """A ControlNet returns one for each block and one more."""

    class ControlNet(torch.nn.Module):
        def __init__(self, factor):
            super().__init__()
            self.factor = torch.nn.Parameter(torch.tensor(factor))

        def forward(self, sample):
            return [sample * self.factor, sample[:1] * self.factor], sample * self.factor, "words"

    baseline, candidate = ControlNet(1.0), ControlNet(1.5)
    with teacher_forced(baseline, candidate) as errors:
        baseline(torch.ones(4, 4))
    assert errors == pytest.approx([0.5])
