"""``diffspeed audit pipelines``: host syncs of one call of each, as text and as JSON."""

import json

from pytest_diffspeed.commands import cli

SOURCES = ("random:LTX2Pipeline", "random:DDPMPipeline", "no_such_module:build")


def audit(*words):
    return cli.main(["audit", "pipelines", "--device=simulated", "--steps=3", *words])


def test_text(capsys):
    """Of LTX-2, which copies its scheduler in the call, both are stepped and named."""
    assert audit(*SOURCES) == 0
    text = capsys.readouterr().out
    rows = {line.split()[0]: line for line in text.splitlines() if not line.startswith(" ")}
    assert rows["random:LTX2Pipeline"].split()[1:4] == ["0", "0,", "0"]
    kind = "FlowMatchEulerDiscreteScheduler"
    assert f"    stepped: scheduler ({kind}, 3 steps), <{kind}> ({kind}, 3 steps)" in text
    # The scheduler does not wait: its variance is drawn on the device. The denoiser does.
    # (In diffusers 0.39 its call copies the image, too, after the steps.)
    assert rows["random:DDPMPipeline"].split()[1:4] == ["1", "1,", "1"]
    assert "unet_2d.py:" in text
    assert "timesteps = timesteps[None].to(sample.device)" in text
    assert "could not be run: AbsentSourceError: " in rows["no_such_module:build"]
    assert "3 pipelines: 0 without a sync, 1 could not be run (counted, simulated GPU" in text


def test_json(capsys):
    assert audit("random:DDPMPipeline", "--json") == 0
    row = json.loads(capsys.readouterr().out)
    assert (row["pipeline"], row["reason"]) == ("random:DDPMPipeline", None)
    report = row["report"]
    assert (report["scope"], report["first_step"], report["per_step"]) == ("call", 1, [1, 1])
    assert report["schedulers"] == [{"name": "scheduler", "kind": "DDPMScheduler", "steps": 3}]
    assert report["sites"][0]["kind"] == "blocking_h2d"


def test_nothing_that_runs_is_an_error(capsys):
    assert audit("no_such_module:build", "--no-sites") == 2


def test_a_misspelt_source_is_refused_before_anything_is_built(capsys):
    assert audit("random:LTXPipelin", "random:DDPMPipeline") == 2
    assert "did you mean 'LTXPipeline'" in capsys.readouterr().err
