"""Bare schedulers: counts explained line by line, outputs equal to the CPU's, and the audit."""

import json
from collections import Counter

import diffusers
import pytest
import torch

from pytest_diffspeed import count_syncs
from pytest_diffspeed.commands import cli
from pytest_diffspeed.commands.audit import audit_schedulers, scheduler_classes, table
from pytest_diffspeed.common.errors import SourceError, UsageError
from pytest_diffspeed.common.quiet import third_party
from pytest_diffspeed.simgpu import SimulatedGpu
from pytest_diffspeed.syncs.scheduler_drivers import create, drive

STEPS = 6
SEARCH = "(schedule_timesteps == timestep).nonzero()"
FOUND = "return indices[pos].item()"
TABLE = "alpha_prod_t = self.alphas_cumprod["
PREVIOUS = "alpha_prod_t_prev = self.alphas_cumprod["

# First step, steady steps, and for each source line how often it waits in all six steps.
# Worked out by reading the scheduler, with timesteps on the device and tables on the CPU.
BY_HAND = {
    # Searches its first timestep (a shape, then a value); sigmas are on the CPU, indexed by an int.
    "EulerDiscreteScheduler": (2, [0] * 5, {SEARCH: 1, FOUND: 1}),
    "HeunDiscreteScheduler": (2, [0] * 10, {SEARCH: 1, FOUND: 1}),
    "FlowMatchEulerDiscreteScheduler": (2, [0] * 5, {SEARCH: 1, FOUND: 1}),
    # The same search, in other words.
    "DPMSolverMultistepScheduler": (
        2,
        [0] * 5,
        {SEARCH: 1, "step_index = index_candidates[0].item()": 1},
    ),
    # `step` and `_get_variance` each read a table by the timestep (1), compare the previous one (1)
    # and read the table by it (1); at the last step it is negative, and nothing is read by it.
    "DDIMScheduler": (6, [6, 6, 6, 6, 4], {TABLE: 6 * 2, PREVIOUS: 5 * 4 + 2}),
    # As DDIM, without `_get_variance`.
    "CogVideoXDDIMScheduler": (3, [3, 3, 3, 3, 2], {TABLE: 6, PREVIOUS: 5 * 2 + 1}),
    # `previous_timestep` runs in `step` and, for t > 0, in `_get_variance`: it searches (1),
    # compares the place (1) and indexes by it (1).  Both then read as DDIM does (3), and `step`
    # asks for t > 0 (1).  At t = 0 the previous timestep is a CPU tensor, which nobody waits for:
    # search, comparison, one table and t > 0 remain.
    "DDPMScheduler": (
        13,
        [13, 13, 13, 13, 4],
        {
            "index = (self.timesteps == timestep).nonzero(": 5 * 2 + 1,
            "if index == self.timesteps.shape[0] - 1:": 5 * 2 + 1,
            "prev_t = self.timesteps[index + 1]": 5 * 2,
            TABLE: 5 * 2 + 1,
            PREVIOUS: 5 * 4,
            "if t > 0:": 6,
        },
    ),
    # The search, and as DDIM without `_get_variance`; the previous timestep is never negative.
    "LCMScheduler": (5, [3] * 5, {SEARCH: 1, FOUND: 1, TABLE: 6, PREVIOUS: 6 * 2}),
    # sigmas are on the device here: `s_tmin <= sigma <= s_tmax` reads twice in each half step.
    "FlowMatchHeunDiscreteScheduler": (
        4,
        [2] * 10,
        {SEARCH: 1, FOUND: 1, "gamma = min(s_churn": 11 * 2},
    ),
    # It searches by hand: the timestep, the place, and the distance; in `step` once a step, and the
    # first step finds its index in the same way once more.
    "FlowMapEulerDiscreteScheduler": (
        6,
        [3] * 5,
        {
            "t_value = float(timestep.flatten()[0].item())": 7,
            "idx = int(diffs.argmin().item())": 7,
            "if diffs[idx].item() > 1e-3:": 7,
        },
    ),
    # `step`: three tables by t, one compared and read by the previous timestep (2), two questions.
    # `_get_variance`, for t > 0: two tables by t, the previous one (2), one question.  At t = 0 the
    # previous timestep is negative and there is no variance.
    "UnCLIPScheduler": (
        12,
        [12, 12, 12, 12, 6],
        {
            TABLE: 6 + 5,
            PREVIOUS: 5 * 2 + 1 + 5 * 2,
            "if prev_timestep == t - 1:": 6 + 5,
            "beta = self.betas[t]": 6 + 5,
            "alpha = self.alphas[t]": 6,
            "if t > 0:": 6,
        },
    ),
    # The timestep.  multinomial lets the device check its probabilities.
    "DiscreteDDIMScheduler": (1, [1] * 5, {"step_index = int(timestep.item())": 6}),
    # Everything is on the device, and nothing is asked of it.
    "KarrasVeScheduler": (0, [0] * 5, {}),
}


def scheduler_class(name):
    with third_party():
        found = dict(scheduler_classes())[name]
    return found


@pytest.mark.parametrize("name", BY_HAND)
def test_counts_by_hand(name):
    first, steady, lines = BY_HAND[name]
    with third_party():
        report = count_syncs(create(scheduler_class(name)), steps=STEPS, device="simulated")
    assert (report.first_step, list(report.per_step)) == (first, steady)
    assert (report.outside, report.may_block) == (0, 0)
    found = Counter()
    for site in report.sites:
        matching = [line for line in lines if line in site.source]
        assert len(matching) == 1, f"no explanation for {site}"
        found[matching[0]] += site.count
    assert found == lines


def test_a_begin_index_needs_no_search():
    scheduler = diffusers.EulerDiscreteScheduler()
    report = count_syncs(scheduler, steps=STEPS, device="simulated", begin_index=0)
    assert (report.total, report.sites) == (0, ())
    assert "0 syncs in the first step, 0 in each of 5 steady steps" in str(report)


def test_a_cpu_generator_makes_a_stochastic_scheduler_copy_its_noise():
    with third_party():
        scheduler = diffusers.EulerAncestralDiscreteScheduler()
    on_device = count_syncs(scheduler, steps=4, device="simulated", begin_index=0)
    generator = torch.Generator().manual_seed(0)
    on_cpu = count_syncs(scheduler, steps=4, device="simulated", begin_index=0, generator=generator)
    assert on_device.total == 0
    assert (on_cpu.first_step, on_cpu.per_step) == (1, (1, 1, 1))
    assert on_cpu.sites[0].kind == "blocking_h2d"
    assert on_cpu.sites[0].function == "randn_tensor"


class ReadsTheStep(diffusers.EulerDiscreteScheduler):
    """As `scheduling_flow_match_heun_discrete.py` does it: a question to a device tensor."""

    def step(self, model_output, timestep, sample, **kwargs):
        if timestep > 500:  # planted
            model_output = model_output * 1.0
        return super().step(model_output, timestep, sample, **kwargs)


def test_a_subclass_is_found_at_its_own_line():
    report = count_syncs(ReadsTheStep(), steps=4, device="simulated", begin_index=0)
    (site,) = report.sites
    assert (site.file, site.function, site.count) == (__file__, "step", 4)
    assert site.source == "if timestep > 500:  # planted"
    assert (report.first_step, report.per_step) == (1, (1, 1, 1))


class ReadOnTheHost(diffusers.DDIMScheduler):
    """DDIM, fixed: its timesteps are where its tables are, so nothing crosses."""

    def set_timesteps(self, num_inference_steps, device=None):
        super().set_timesteps(num_inference_steps, device="cpu")


def test_a_real_scheduler_before_and_after_the_fix():
    before = count_syncs(diffusers.DDIMScheduler(), steps=4, device="simulated")
    after = count_syncs(ReadOnTheHost(), steps=4, device="simulated")
    assert (before.first_step, before.per_step) == (6, (6, 6, 4))
    assert after.total == 0


class SigmasOnTheDevice(diffusers.EulerDiscreteScheduler):
    """Euler without the line that its authors added: "to avoid too much CPU/GPU communication"."""

    def set_timesteps(self, num_inference_steps=None, device=None, **kwargs):
        super().set_timesteps(num_inference_steps, device=device, **kwargs)
        self.sigmas = self.sigmas.to(self.timesteps.device)


def test_sigmas_moved_back_to_the_device():
    """`s_tmin <= sigma <= s_tmax` asks the device twice in each step."""
    arguments = {"steps": 4, "device": "simulated", "begin_index": 0}
    before = count_syncs(SigmasOnTheDevice(), **arguments)
    after = count_syncs(diffusers.EulerDiscreteScheduler(), **arguments)
    (site,) = before.sites
    assert (before.first_step, before.per_step) == (2, (2, 2, 2))
    assert (site.kind, site.count) == ("value_read", 8)
    assert site.source.endswith("if s_tmin <= sigma <= s_tmax else 0.0")
    assert (after.total, after.sites) == (0, ())


def test_the_scheduler_is_left_as_it_was():
    scheduler = diffusers.DDIMScheduler()
    before = dict(vars(scheduler))
    count_syncs(scheduler, steps=2, device="simulated")
    assert vars(scheduler).keys() == before.keys()
    assert all(vars(scheduler)[name] is before[name] for name in before)


def outputs(scheduler, device, steps):
    """All tensors that the steps of a scheduler return, on the CPU."""
    found = []
    for name in ("step", "step_pred", "step_correct"):
        function = getattr(scheduler, name, None)
        if function is None:
            continue

        def kept(*args, _function=function, **kwargs):
            result = _function(*args, **kwargs)
            values = result.values() if isinstance(result, dict) else result
            found.extend(v.cpu() for v in values if isinstance(v, torch.Tensor))
            return result

        kept.__wrapped__ = function
        setattr(scheduler, name, kept)
    torch.manual_seed(0)
    drive(scheduler, device, steps)
    return found


def _runnable():
    with third_party():
        return [name for name, found in scheduler_classes() if not isinstance(found, str)]


@pytest.mark.parametrize("name", _runnable())
def test_outputs_are_those_of_the_cpu(name):
    """Every scheduler that diffusers has: the device draws the CPU's numbers."""
    with third_party(), torch.no_grad(), torch.random.fork_rng(devices=[]):
        try:
            expected = outputs(create(scheduler_class(name)), torch.device("cpu"), STEPS)
        except (ImportError, NameError) as error:
            pytest.skip(f"needs a package that is not installed: {error}")
        with SimulatedGpu() as gpu:
            found = outputs(create(scheduler_class(name)), gpu.device, STEPS)
    assert len(found) == len(expected) > 0
    for one, other in zip(found, expected, strict=True):
        torch.testing.assert_close(one, other, rtol=1e-4, atol=1e-4, equal_nan=True)


def test_the_audit_drops_no_scheduler():
    with third_party():
        known = dict(scheduler_classes())
    rows = audit_schedulers(device="simulated", steps=4)
    assert [row.name for row in rows] == list(known)
    assert len(rows) > 40
    for row in rows:
        assert (row.report is None) == (row.reason is not None)
    could_not = {row.name: row.reason for row in rows if row.report is None}
    # What is missing here are packages, and the reason says which.
    missing = ("No module named", "name 'integrate' is not defined")
    assert all(any(part in reason for part in missing) for reason in could_not.values()), could_not
    for kind in ("FlowMatchEulerDiscrete", "VQDiffusion", "CogVideoXDPM", "CogVideoXDDIM"):
        assert f"{kind}Scheduler" not in could_not


def test_a_broken_scheduler_is_a_row(monkeypatch):
    monkeypatch.setattr(diffusers.DDIMScheduler, "step", lambda self, *args, **kwargs: 1 / 0)
    (row,) = audit_schedulers(device="simulated", only=("DDIMScheduler",))
    assert row.reason == "ZeroDivisionError: division by zero"
    assert "could not be run: ZeroDivisionError" in "\n".join(table([row]))


def test_the_command(capsys):
    assert cli.main(["audit", "schedulers", "DDIMScheduler", "--device=simulated"]) == 0
    text = capsys.readouterr().out
    assert "DDIMScheduler      6  6, 6, 6, 6, 4" in text
    assert "scheduling_ddim.py:" in text
    assert "1 scheduler: 0 without a sync, 0 could not be run (counted, simulated GPU" in text


def test_the_command_as_json(capsys):
    arguments = ["audit", "schedulers", "EulerDiscreteScheduler", "--device=simulated", "--json"]
    assert cli.main(arguments) == 0
    row = json.loads(capsys.readouterr().out)
    assert row["report"]["first_step"] == 2
    assert row["report"]["sites"][0]["kind"] in ("data_dependent_shape", "value_read")


def test_the_command_says_what_it_does_not_know(capsys):
    assert cli.main(["audit", "schedulers", "DDIMSheduler"]) == 2
    assert "did you mean 'DDIMScheduler'?" in capsys.readouterr().err
    assert cli.main(["audit", "schedulers", "DDIMScheduler", "--device=tpu"]) == 2


def test_bad_arguments():
    scheduler = diffusers.DDIMScheduler()
    with pytest.raises(UsageError, match=r"did you mean 'scheduler\.step'"):
        count_syncs(scheduler, scope="schedulr.step")
    with pytest.raises(UsageError, match="steps must be a whole number"):
        count_syncs(scheduler, steps=0)
    with pytest.raises(UsageError, match="cannot count GPU syncs"):
        count_syncs(scheduler, device="cpu")
    with pytest.raises(UsageError, match="finds no CUDA device here; use device='simulated'"):
        count_syncs(scheduler, device="cuda")
    with pytest.raises(UsageError, match="a pipeline, a scheduler or a function"):
        count_syncs(3, device="simulated")
    with pytest.raises(UsageError, match=r"not the class DDIMScheduler; give an instance of it"):
        count_syncs(diffusers.DDIMScheduler, device="simulated")
    with pytest.raises(SourceError, match="has no set_begin_index"):
        count_syncs(scheduler, device="simulated", begin_index=0)


def test_stable_video_diffusions_scheduler_is_counted():
    """Continuous timesteps: `set_timesteps` makes a tensor out of a list of 0-dim ones."""
    with third_party():
        scheduler = diffusers.EulerDiscreteScheduler(
            prediction_type="v_prediction",
            timestep_type="continuous",
            timestep_spacing="leading",
            use_karras_sigmas=True,
            sigma_min=0.002,
            sigma_max=700.0,
        )
    report = count_syncs(scheduler, device="simulated", steps=STEPS)
    assert (report.first_step, report.per_step) == (2, (0,) * (STEPS - 1))
    assert {site.source for site in report.sites} >= {FOUND}


def test_a_step_that_empties_the_cache_waits_each_time():
    class Frees(diffusers.EulerDiscreteScheduler):
        def step(self, *args, **kwargs):
            torch.cuda.empty_cache()
            return super().step(*args, **kwargs)

    with third_party():
        report = count_syncs(Frees(), device="simulated", steps=STEPS, begin_index=0)
    assert (report.first_step, report.per_step) == (1, (1,) * (STEPS - 1))
    (site,) = report.sites
    assert (site.kind, site.count, site.source) == (
        "empty_cache",
        STEPS,
        "torch.cuda.empty_cache()",
    )
