"""``diffspeed init``: what it writes is green today, and red when something grows."""

import re
import subprocess
import sys
from dataclasses import replace
from pathlib import Path

import pytest

from pytest_diffspeed.commands import init
from pytest_diffspeed.commands.cli import main
from pytest_diffspeed.commands.first_look import IMAGES, MOST_IMAGES_S, Look, pipelines_in
from pytest_diffspeed.commands.first_tests import FirstStack, draft, drafted, final, stack_of
from pytest_diffspeed.common.errors import UsageError
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


make.call_defaults = {"steps": 2, "prompts": ["a red apple", "an owl in the snow"]}
"""


TEST = "test_x.py::test_bf16[bf16]"


def verdict_of(gate, verdict="PASS", **figures):
    """A line of the records."""
    return {
        "kind": "gate",
        "gate": gate,
        "claim": gate,
        "test": TEST,
        "stack": "bf16",
        "verdict": verdict,
        "reason": "",
        "evidence": "counted",
        "blocking": verdict == "FAIL",
        "figures": figures,
    }


def images(verdict="PASS", misses=(), findings=(), skipped=()):
    figures = {"misses": list(misses), "findings": list(findings), "skipped": dict(skipped)}
    return verdict_of("image_similarity", verdict, **figures)


def breaks(verdict="PASS", count=0, worse=(), components=None, not_looked_at=()):
    return verdict_of(
        "no_graph_breaks",
        verdict,
        breaks=count,
        worse=list(worse),
        components=components or {"unet": {"breaks": []}},
        not_looked_at=list(not_looked_at),
    )


GREEN = {
    "no_gpu_syncs": verdict_of("no_gpu_syncs", first_step=0, outside=0, per_step=[0], sites=[]),
    "no_graph_breaks": breaks(),
    "max_memory": verdict_of("max_memory", memory_ratio=0.5),
    "image_similarity": images(),
    "gpu_cost": verdict_of("gpu_cost", found="step 1: kernels 9"),
}
COUNTED = replace(LOOK, counts_gpu_cost=True)


def found_in(tmp_path, lines, look=COUNTED):
    session = recorded_session(lines, tmp_path / "records.jsonl", 0, None)
    found = stack_of("bf16", session, look)
    return final(look, [found], named=look.source), found


def written(tmp_path, *lines, look=COUNTED):
    """Of a session in which all other gates are green."""
    others = {**GREEN, **{line["gate"]: line for line in lines}}
    return found_in(tmp_path, others.values(), look)


@pytest.mark.parametrize(
    ("file", "head", "is_taken"),
    [
        ("pyproject.toml", "[tool.pytest.ini_options]", True),
        ("pyproject.toml", "[project]", False),
        ("pytest.ini", "[pytest]", True),
        ("package/pytest.ini", "[pytest]", True),
        ("package/tests/tox.ini", "[pytest]", True),
        ("package/tests/tox.ini", "[testenv]", False),
        ("package/tests/more/pytest.ini", "[pytest]", False),
    ],
)
def test_options_are_looked_for_as_pytest_does(pytester, file, head, is_taken):
    path, tests = pytester.path / file, pytester.path / "package" / "tests"
    for folder in (tests, path.parent):
        folder.mkdir(parents=True, exist_ok=True)
    path.write_text(f"{head}\npython_files = 'of_this_file.py'\n")
    assert init.configured_by(tests) == (path.parent if is_taken else None)
    found = pytester.parseconfig(tests).getini("python_files")
    assert ("of_this_file.py" in str(found)) is is_taken


@pytest.mark.slow
def test_its_first_run_is_green_and_goes_red_when_a_sync_is_added(
    pytester, private_temp, capsys, monkeypatch
):
    monkeypatch.setattr("torch.version.cuda", None)  # GPU cost has tests of its own
    monkeypatch.setenv("PYTEST_ADDOPTS", "-k nothing")  # a shell's habits do not reach the try
    # Pytest would take the folder with a pyproject.toml for the root of all, were there no options.
    pytester.makepyprojecttoml("[project]\nname = 'all'")
    project = pytester.mkdir("shop")
    monkeypatch.chdir(project)
    (project / "shop.py").write_text(READING.lstrip())
    (project / "tests").mkdir()
    assert main(["init", "shop:make", "--device=cpu"]) == 0
    printed = capsys.readouterr().out
    path = project / "tests" / "test_diffspeed.py"
    text = path.read_text("utf-8")
    syncs = '@pytest.mark.no_gpu_syncs(scope="denoising_loop", first_step=1, per_step=1)'
    assert syncs in text
    assert "# shop.py:7  model_output.max().item()" in text
    assert "no_gpu_syncs      1 host sync in the first step, up to 1 a step: allowed" in printed
    assert "diffspeed_pipeline = shop:make" in (project / "pytest.ini").read_text("utf-8")
    assert "shop:make | bf16 | unet | breaks = 0" in (
        (project / "diffspeed-counts.txt").read_text("utf-8")
    )
    monkeypatch.delenv("PYTEST_ADDOPTS")
    # What it wrote: green as it is, red by one line more (of which only syncs are counted again).
    words = ("--diffspeed", "--diffspeed-device=cpu", "--diffspeed-store=none")
    pytester.syspathinsert(project)
    sys.modules.pop("shop")  # the command has imported it here
    pytester.runpytest_inprocess(*words).assert_outcomes(passed=1)
    twice = READING.replace(
        "        model_output.max().item()\n", 2 * "        model_output.max().item()\n"
    )
    (project / "shop.py").write_text(twice.lstrip())
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
    broken = {"breaks": [{"file": "a/unet.py", "line": 7, "reason": "print\nmore"}]}
    text, found = written(
        tmp_path, breaks("FAIL", 1, components={"unet": broken}, not_looked_at=["vae (ran 1 ×)"])
    )
    compile(text, "test_diffspeed.py", "exec")
    assert "# a/unet.py:7  unet: print\n@pytest.mark.no_graph_breaks(max_breaks=1)\n" in text
    assert "@pytest.mark.max_memory(0.52)\n" in text  # 0.5 on a simulated GPU
    assert '@pytest.mark.gpu_cost(over="saved")\n' in text
    assert '@pytest.mark.image_similarity("lossless")\n' in text
    assert '@pytest.mark.diffspeed("bf16", pipeline="shop:make")\n' in text
    assert not any(gate.missing for gate in found.gates)


def test_what_a_green_gate_did_not_look_at_is_told(tmp_path):
    skipped = images(skipped={"rank1_mean": "one image is all there is"})
    text, found = written(tmp_path, skipped, breaks(not_looked_at=["text_encoder (ran 2 ×)"]))
    assert "# NOT CHECKED: rank1_mean, since one image is all there is\n" in text
    printed = list(found.lines())
    assert "  no_graph_breaks   none in unet; not looked at: text_encoder (ran 2 ×)" in printed


OPEN = {"kind": "gate-start", "gate": "max_memory", "claim": "max_memory over fp32", "test": TEST}
ERROR = {"kind": "gate-error", "claim": "gpu_cost of a step", "error": "no saved cost; write it"}
NOT_RUN = {"kind": "not-run", "test": TEST, "claim": "no_gpu_syncs in scheduler.step"}


@pytest.mark.parametrize(
    ("gate", "instead", "why"),
    [
        ("no_graph_breaks", [], "has no verdict: the session that tried it does not say why"),
        (
            "no_gpu_syncs",
            [{**NOT_RUN, "reason": "stopped by the user"}],
            "has no verdict: stopped by the user",
        ),
        (
            "max_memory",
            [{**OPEN, "stack": "bf16"}],
            "has no verdict: the run ended after 0 pairs, before this gate reached a verdict",
        ),
        (
            "image_similarity",
            [{**images("INCONCLUSIVE"), "reason": "it may be either"}],
            "has no verdict: it may be either",
        ),
        (
            "gpu_cost",
            [{**ERROR, "test": TEST, "stack": "bf16"}],
            "could not be checked: no saved cost; write it",
        ),
        (
            "max_memory",
            [GREEN["max_memory"], {**GREEN["max_memory"], "claim": "max_memory over tf32"}],
            "has several verdicts, of max_memory, max_memory over tf32",
        ),
        (
            "gpu_cost",
            [{**verdict_of("gpu_cost", "FAIL", found="kernels"), "reason": "kernels 9 → 11"}],
            "red, and nothing can be allowed: kernels 9 → 11",
        ),
        (
            "no_graph_breaks",
            [{**breaks("FAIL"), "reason": "dynamo counted inline without a place"}],
            "red, and nothing can be allowed: dynamo counted inline without a place",
        ),
        (
            "no_graph_breaks",
            [{**breaks("FAIL", 3, worse=["graphs 4, 3 saved"]), "reason": "graphs 4, 3 saved"}],
            "red, and nothing can be allowed: graphs 4, 3 saved",
        ),
    ],
    ids=["absent", "not-run", "died", "open", "error", "twice", "cost", "no-place", "ratchet"],
)
def test_a_gate_without_its_one_verdict_is_not_written_as_green(tmp_path, gate, instead, why):
    lines = [*(line for name, line in GREEN.items() if name != gate), *instead]
    text, found = found_in(tmp_path, lines)
    assert f"@pytest.mark.{gate}" not in text
    assert f"# no {gate}: {why[:60]}" in text
    assert [one.name for one in found.gates if one.missing] == [gate]
    printed = "\n".join(found.lines())
    assert f"  {gate:<17} {why}\n      next: see .diffspeed/init.log, mend it, and add " in printed
    assert f"and add @pytest.mark.{drafted(COUNTED)[gate]}" in printed


def test_the_allocator_of_a_gpu_gets_more_room_than_a_simulated_gpu(tmp_path):
    figures = {"memory_ratio": 0.61, "candidate_reserved_bytes": 2**20}
    on_gpu, _ = written(tmp_path, verdict_of("max_memory", **figures))
    simulated, _ = written(tmp_path, verdict_of("max_memory", memory_ratio=0.61))
    assert "@pytest.mark.max_memory(0.70)\n" in on_gpu
    assert "@pytest.mark.max_memory(0.64)\n" in simulated


def test_a_gate_that_says_nothing_here_is_not_missing(tmp_path):
    none = {**verdict_of("gpu_cost", "NOT_APPLICABLE"), "reason": "no such GPU"}
    text, found = written(tmp_path, none)
    assert "# no gpu_cost: no such GPU\n" in text
    assert not any(gate.missing for gate in found.gates)
    text, found = written(tmp_path, look=LOOK)
    assert "# no gpu_cost: not tried: this torch is built without CUDA" in text
    assert not any(gate.missing for gate in found.gates)


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
    assert "# no image_similarity: red, and nothing can be allowed: image 1 has NaN" in text
    assert any("NaN" in line for line in found.lines())


def test_images_that_take_too_long_here_are_left_to_a_gpu(tmp_path):
    look = replace(LOOK, step_s=60.0)
    assert IMAGES * 20 * 60.0 > MOST_IMAGES_S
    assert "image_similarity" not in draft(look, ["bf16"])
    text, found = written(tmp_path, look=look)
    assert '@pytest.mark.image_similarity("lossless", device="cuda")\n' in text
    assert any("16 images would take about 320 min on cpu" in line for line in found.lines())


ENDED = {"kind": "test", "test": TEST, "stack": None, "outcome": "failed"}


@pytest.mark.parametrize(
    ("lines", "why"),
    [
        ([], "its test did not run: see .diffspeed/init.log"),
        ([{**ENDED, "error": "its weights are float32"}], "its weights are float32"),
        ([{**ENDED, "outcome": "skipped"}], "its test ended as skipped"),
        (
            [
                {**ENDED, "test": "x.py::test_fp16[fp16]", "error": "other"},
                {**NOT_RUN, "reason": "-x"},
            ],
            "-x",
        ),
        ([*GREEN.values(), {**ENDED, "error": "teardown failed: E"}], "teardown failed: E"),
    ],
    ids=["absent", "setup", "skipped", "not-run", "beside-its-gates"],
)
def test_a_stack_whose_test_did_not_pass_gets_none(tmp_path, lines, why):
    _, found = found_in(tmp_path, lines)
    assert found == FirstStack("bf16", why_not=why)


@pytest.mark.parametrize("counted_before", [False, True])
def test_a_session_that_dies_leaves_nothing_behind(tmp_path, monkeypatch, counted_before):
    monkeypatch.chdir(tmp_path)
    counts = tmp_path / "diffspeed-counts.txt"
    dies = "import os, signal\ndef pytest_collection_finish():\n"
    if counted_before:
        counts.touch()
    else:  # as a session does that has judged its first gate
        dies += "    open('diffspeed-counts.txt', 'w').close()\n"
    (tmp_path / "conftest.py").write_text(f"{dies}    os.kill(os.getpid(), signal.SIGKILL)\n")
    draft = tmp_path / init.TRY_FILE
    with pytest.raises(
        UsageError, match=r"not come to its end \(signal 9\), so nothing was written"
    ):
        init._tried(draft, LOOK, ["bf16"], project=tmp_path, fresh=not counted_before)
    assert not draft.exists()
    assert counts.exists() == counted_before
    assert (tmp_path / ".diffspeed" / "init.log").is_file()


def test_who_stops_it_finds_nothing_that_it_began(tmp_path, monkeypatch):
    def stopped(*_, **__):
        (tmp_path / "diffspeed-counts.txt").touch()
        raise KeyboardInterrupt

    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr(init.subprocess, "run", stopped)
    with pytest.raises(KeyboardInterrupt):
        init._tried(tmp_path / init.TRY_FILE, LOOK, ["bf16"], project=tmp_path, fresh=True)
    assert list(tmp_path.iterdir()) == []


@pytest.mark.parametrize("words", [["init", "./nope"], ["cost", "./nope", "--stack=bf16"]])
def test_a_folder_that_is_not_there_is_said_at_once(tmp_path, words):
    code = (
        "import sys; from pytest_diffspeed.commands.cli import main; status = main(sys.argv[1:])\n"
        "sys.exit(99 if 'torch' in sys.modules else status)"
    )
    done = subprocess.run(
        [sys.executable, "-c", code, *words], cwd=tmp_path, capture_output=True, text=True
    )
    assert done.returncode == 2
    assert "pipeline source './nope': there is no such folder" in done.stderr
    assert len(done.stderr.splitlines()) == 1


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
