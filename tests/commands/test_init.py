"""``diffspeed init``: what it writes is green today, and red when something grows."""

import re
import subprocess
import sys
from pathlib import Path

import pytest

from pytest_diffspeed.commands import init
from pytest_diffspeed.commands.cli import main
from pytest_diffspeed.commands.first_look import IMAGES, MOST_IMAGES_S, Look, pipelines_in
from pytest_diffspeed.commands.first_tests import FirstStack, draft, final, stack_of
from pytest_diffspeed.records.reader import recorded_session

ROOT = Path(__file__).parents[2]
LOOK = Look(
    source="shop:make",
    pipeline="StableDiffusionPipeline",
    scheduler="PNDMScheduler",
    device="cpu",
    on_gpu=False,
    steps=20,
    step_s=0.1,
    random_weights=False,
    counts_gpu_cost=False,
)
READING = """
import diffusers
from pytest_diffspeed.pipelines import random_weights


class Reading(diffusers.EulerDiscreteScheduler):
    def step(self, model_output, *args, **kwargs):
        model_output.max().item()
        return super().step(model_output, *args, **kwargs)


def make():
    pipeline = random_weights.build("sdxl-tiny")
    pipeline.scheduler = Reading.from_config(pipeline.scheduler.config)
    return pipeline


make.call_defaults = {"steps": 2}
"""


def session_of(tmp_path, *gates):
    lines = [
        {
            "kind": "gate",
            "schema": "diffspeed/1",
            "claim": gate["gate"],
            "test": "test_x.py::test_bf16[bf16]",
            "stack": "bf16",
            "reason": "",
            "evidence": "counted",
            "blocking": gate["verdict"] == "FAIL",
            "figures": {},
            **gate,
        }
        for gate in gates
    ]
    return recorded_session(lines, tmp_path / "records.jsonl", 0, None)


def written(tmp_path, *gates, look=LOOK):
    found = stack_of("bf16", session_of(tmp_path, *gates), look)
    return final(look, [found], named=look.source), found


def images(verdict, misses=(), findings=()):
    figures = {"misses": list(misses), "findings": list(findings)}
    return {"gate": "image_similarity", "verdict": verdict, "figures": figures}


@pytest.mark.slow
def test_its_first_run_is_green_and_goes_red_when_a_sync_is_added(
    pytester, private_temp, capsys, monkeypatch
):
    monkeypatch.setattr("torch.version.cuda", None)  # GPU cost has tests of its own
    pytester.makepyfile(shop=READING)
    (pytester.path / "tests").mkdir()
    assert main(["init", "shop:make", "--device=cpu"]) == 0
    printed = capsys.readouterr().out
    path = pytester.path / "tests" / "test_diffspeed.py"
    text = path.read_text("utf-8")
    assert "@pytest.mark.no_gpu_syncs(first_step=1, per_step=1)" in text
    assert "# shop.py:7  model_output.max().item()" in text
    assert "no_gpu_syncs      1 host sync in the first step, up to 1 a step: allowed" in printed
    assert "diffspeed_pipeline = shop:make" in (pytester.path / "pytest.ini").read_text("utf-8")
    assert "shop:make | bf16 | unet | breaks = 0" in (
        (pytester.path / "diffspeed-counts.txt").read_text("utf-8")
    )
    # What it wrote: green as it is, red by one line more (of which only syncs are counted again).
    words = ("--diffspeed", "--diffspeed-device=cpu", "--diffspeed-store=none")
    pytester.syspathinsert()
    sys.modules.pop("shop")  # the command has imported it here
    pytester.runpytest_inprocess(*words).assert_outcomes(passed=1)
    twice = READING.replace(
        "        model_output.max().item()\n", 2 * "        model_output.max().item()\n"
    )
    pytester.makepyfile(shop=twice)
    others = re.compile(r"^@pytest.mark.(no_graph|max_mem|image_sim).*\n", re.M)
    path.write_text(others.sub("", text), "utf-8")
    result = pytester.runpytest_inprocess(*words)
    result.assert_outcomes(failed=1)
    result.stdout.fnmatch_lines(["GPU SYNC *", "*shop.py:7 *up to 2 a step; 1 allowed*"])
    # And a second time it leaves everything as it is.
    before = path.read_bytes()
    assert main(["init", "shop:make"]) == 0
    assert path.read_bytes() == before
    assert "is there and was kept" in capsys.readouterr().out


def test_what_is_red_is_allowed_with_its_line_and_what_is_green_is_not(tmp_path):
    text, _ = written(
        tmp_path,
        {
            "gate": "no_graph_breaks",
            "verdict": "FAIL",
            "figures": {
                "breaks": 1,
                "components": {
                    "unet": {"breaks": [{"file": "a/unet.py", "line": 7, "reason": "print\nmore"}]}
                },
            },
        },
        {"gate": "max_memory", "verdict": "PASS", "figures": {"memory_ratio": 0.5}},
        {"gate": "gpu_cost", "verdict": "PASS", "figures": {"found": "step 1: kernels 9"}},
        images("PASS"),
    )
    compile(text, "test_diffspeed.py", "exec")
    assert "# a/unet.py:7  unet: print\n@pytest.mark.no_graph_breaks(max_breaks=1)\n" in text
    assert "@pytest.mark.max_memory(0.55)\n" in text
    assert '@pytest.mark.gpu_cost(over="saved")\n' in text
    assert '@pytest.mark.image_similarity("lossless")\n' in text
    assert '@pytest.mark.diffspeed("bf16", pipeline="shop:make")\n' in text


def test_images_that_miss_a_limit_get_one_that_they_keep(tmp_path):
    misses = [
        {"limit": "psnr_worst", "found": 31.5, "bound": 39.0, "image": 0},
        {"limit": "ssim_mean", "found": 0.98, "bound": 0.994, "image": 0},
        {"limit": "other_image_ratio_mean", "found": 0.04, "bound": 0.025, "image": 0},
    ]
    text, _ = written(tmp_path, images("FAIL", misses))
    assert (
        'image_similarity("lossless", psnr_worst=30, ssim_mean=0.975, '
        "other_image_ratio_mean=0.05)" in text
    )
    assert "# psnr_worst is 31.5, lossless needs 39\n" in text


def test_broken_images_are_never_allowed(tmp_path):
    finding = {"image": 0, "kind": "nan", "problem": "has NaN values"}
    gate = {**images("FAIL", findings=[finding]), "reason": "image 1 has NaN values"}
    text, found = written(tmp_path, gate)
    assert "@pytest.mark.image_similarity" not in text
    assert "# no image_similarity: image 1 has NaN values\n" in text
    assert any("NaN" in line for line in found.lines())


def test_images_that_take_too_long_here_are_left_to_a_gpu(tmp_path):
    look = Look(**{**vars(LOOK), "step_s": 60.0})
    assert IMAGES * 20 * 60.0 > MOST_IMAGES_S
    assert "image_similarity" not in draft(look, ["bf16"])
    text, found = written(
        tmp_path,
        {"gate": "max_memory", "verdict": "PASS", "figures": {"memory_ratio": 0.5}},
        look=look,
    )
    assert '@pytest.mark.image_similarity("lossless", device="cuda")\n' in text
    assert any("16 images would take about 320 min on cpu" in line for line in found.lines())


def test_a_stack_that_does_not_take_hold_gets_no_test(tmp_path):
    found = stack_of("bf16", session_of(tmp_path), LOOK)
    assert found == FirstStack("bf16", why_not="its test reached no gate")


@pytest.mark.parametrize(
    ("folders", "said"),
    [
        ([], "no folder here has a model_index.json"),
        (["a", "b"], "there are several pipelines here (a, b); name one: diffspeed init a"),
    ],
)
def test_without_a_source_there_must_be_one_pipeline(tmp_path, monkeypatch, capsys, folders, said):
    monkeypatch.chdir(tmp_path)
    for name in folders:
        (tmp_path / name).mkdir()
        (tmp_path / name / "model_index.json").touch()
    assert main(["init"]) == 2
    assert said in capsys.readouterr().err


def test_pipelines_are_looked_for_three_levels_down(tmp_path):
    for place in ("checkpoints/mine", "checkpoints/mine/unet", "a/b/c/d", ".git/x"):
        (tmp_path / place).mkdir(parents=True, exist_ok=True)
        (tmp_path / place / "model_index.json").touch()
    assert pipelines_in(tmp_path) == [Path("checkpoints/mine")]


def test_its_workflow_is_the_recipe_of_the_examples():
    recipe = ROOT / "examples" / "ci" / "gpu_less.yml"
    assert init.TEMPLATE.read_text("utf-8") == recipe.read_text("utf-8")


def test_the_workflow_installs_what_is_there(tmp_path, monkeypatch, capsys):
    monkeypatch.chdir(tmp_path)
    assert init._workflow(tmp_path) == []
    assert "is not the root of a git repository" in capsys.readouterr().out
    subprocess.run(["git", "init", "--quiet"], check=True)
    (tmp_path / "pyproject.toml").write_text("[project]\n")
    (path,) = init._workflow(tmp_path)
    text = path.read_text("utf-8")
    assert "run: python -m pip install pytest-diffspeed --editable .\n" in text
    assert "cache: pip" not in text
    assert init._workflow(tmp_path) == []
    assert "is there and was kept" in capsys.readouterr().out
