"""The ratchet: worse fails, better is told, and entries survive the merge of two branches."""

import subprocess

import pytest
from diffusers import UNet2DConditionModel

from pytest_diffspeed.compilation.counts_file import (
    FILE_NAME,
    CountsFileError,
    checked_entry,
    compare,
    read_counts,
    write_counts,
    written,
)
from pytest_diffspeed.techniques.catalog import compile as compile_catalog

UNET = ("demo", "compile", "unet")
VAE = ("demo", "compile", "vae.decode")
BF16 = ("demo", "bf16+compile", "unet")
NOT_SAVED = "demo | compile | unet has no saved count of recompiles (now 0)"
COUNTS = {"graphs": 1, "breaks": 0, "ops": 412}


def test_the_file_is_for_people(tmp_path):
    path = tmp_path / FILE_NAME
    write_counts(path, {VAE: {"graphs": 1}, UNET: COUNTS})
    text = path.read_text(encoding="utf-8")
    line = "\ndemo | compile | unet | "
    assert f"\n{line}breaks = 0{line}graphs = 1{line}ops = 412\n" in text
    assert text.index("| unet |") < text.index("| vae.decode |")
    assert read_counts(path) == {UNET: COUNTS, VAE: {"graphs": 1}}
    assert written(read_counts(path)) == text


@pytest.mark.parametrize(
    ("now", "worse", "better"),
    [
        (COUNTS, [], []),
        ({**COUNTS, "breaks": 2}, ["demo | compile | unet | breaks: 2, saved 0"], []),
        ({**COUNTS, "ops": 400}, [], ["demo | compile | unet | ops: 400, saved 412"]),
        ({"recompiles": 0}, [NOT_SAVED], []),
    ],
)
def test_worse_and_better(now, worse, better):
    assert compare(UNET, COUNTS, now) == (worse, better)


def test_what_has_no_entry_is_worse():
    worse, better = compare(UNET, None, COUNTS)
    assert len(worse) == 3
    assert better == []


def merged(tmp_path, base, ours, theirs, *options):
    for name, entries in (("base", base), ("ours", ours), ("theirs", theirs)):
        write_counts(tmp_path / name, entries)
    command = ["git", "merge-file", "--stdout", *options, "ours", "base", "theirs"]
    done = subprocess.run(command, cwd=tmp_path, capture_output=True, text=True, check=False)
    path = tmp_path / FILE_NAME
    path.write_text(done.stdout, encoding="utf-8")
    return done.returncode, path


def test_two_branches_that_change_other_entries_merge(tmp_path):
    base = {UNET: COUNTS, VAE: COUNTS, BF16: COUNTS}
    ours, theirs = {**base, BF16: {**COUNTS, "ops": 400}}, {**base, VAE: {**COUNTS, "ops": 300}}
    conflicts, path = merged(tmp_path, base, ours, theirs)
    assert conflicts == 0
    assert read_counts(path) == {UNET: COUNTS, BF16: ours[BF16], VAE: theirs[VAE]}


def test_two_branches_that_add_entries_at_one_place_merge_by_union(tmp_path):
    base = {UNET: COUNTS}
    ours, theirs = {**base, VAE: COUNTS}, {**base, ("demo", "compile", "zz"): COUNTS}
    conflicts, path = merged(tmp_path, base, ours, theirs)
    assert conflicts == 1
    with pytest.raises(CountsFileError, match="a merge left a conflict here; keep the lines of"):
        read_counts(path)
    conflicts, path = merged(tmp_path, base, ours, theirs, "--union")
    assert conflicts == 0
    assert read_counts(path) == {**ours, **theirs}


def test_two_branches_merge_in_a_real_repository(tmp_path):
    """With the line that the docs give for .gitattributes, whatever both branches did."""

    def git(*words):
        me = ("-c", "user.name=t", "-c", "user.email=t@example.org", "-c", "commit.gpgsign=false")
        command = ["git", *me, *words]
        subprocess.run(command, cwd=tmp_path, check=True, capture_output=True, text=True)

    def commit(entries):
        write_counts(tmp_path / FILE_NAME, entries)
        git("add", "-A")
        git("commit", "-m", "counts")

    base = {UNET: COUNTS, VAE: {**COUNTS, "breaks": 4}}
    new, mine = ("demo", "compile", "text_encoder"), ("demo", "compile", "scheduler.step")
    git("init", "-b", "main")
    (tmp_path / ".gitattributes").write_text(f"{FILE_NAME} merge=union\n", encoding="utf-8")
    commit(base)
    git("checkout", "-b", "theirs")
    commit({**base, UNET: {**COUNTS, "ops": 400}, VAE: {**COUNTS, "breaks": 3}, new: COUNTS})
    git("checkout", "main")
    commit({**base, VAE: {**COUNTS, "breaks": 2}, mine: COUNTS})
    git("merge", "theirs", "-m", "merged")
    assert read_counts(tmp_path / FILE_NAME) == {
        UNET: {**COUNTS, "ops": 400},
        VAE: {**COUNTS, "breaks": 2},
        new: COUNTS,
        mine: COUNTS,
    }


def test_of_two_counts_of_one_thing_the_smaller_holds(tmp_path):
    base, ours, theirs = ({UNET: {"breaks": count}} for count in (6, 5, 3))
    conflicts, path = merged(tmp_path, base, ours, theirs, "--union")
    assert conflicts == 0
    assert read_counts(path) == {UNET: {"breaks": 3}}


@pytest.mark.parametrize(
    "line", ["a | b | c | breaks = -1", "a | b | c | brakes = 1", "a | breaks = 1", "x"]
)
def test_a_line_that_cannot_be_meant_is_named(tmp_path, line):
    path = tmp_path / FILE_NAME
    path.write_text(f"demo | compile | unet | ops = 1\n{line}\n", encoding="utf-8")
    with pytest.raises(CountsFileError, match=r":2: '.+' is not"):
        read_counts(path)


def test_a_long_line_is_refused_in_time_that_grows_with_its_length_only(tmp_path):
    """A pattern that tries every way to split it took minutes for a megabyte."""
    path = tmp_path / FILE_NAME
    path.write_text("a | " * 300_000)
    with pytest.raises(CountsFileError) as error:
        read_counts(path)
    assert len(str(error.value)) < 500


def test_a_number_of_thousands_of_digits_is_refused_in_a_sentence(tmp_path):
    path = tmp_path / FILE_NAME
    path.write_text(f"demo | fp32 | unet | breaks = {'9' * 5000}\n")
    with pytest.raises(CountsFileError, match=r":1: 'demo \| fp32"):
        read_counts(path)


@pytest.mark.parametrize("part", ["a|b", "a]", "", "a\nb"])
def test_names_that_would_be_read_otherwise_are_refused(part):
    with pytest.raises(CountsFileError, match="cannot be kept"):
        checked_entry((part, "compile", "unet"))


SUITE = """
import pytest

@pytest.mark.diffspeed("channels_last")
@pytest.mark.no_graph_breaks(components=["denoiser"], max_breaks={limit!r})
def test_structure(optimized_pipeline): ...
"""


@pytest.mark.usefixtures("verbose")
def test_saved_then_worse_then_saved_again_then_better(
    pytester, run_diffspeed, fresh_dynamo, monkeypatch
):
    def run(*words, limit="saved"):
        pytester.makepyfile(test_it=SUITE.format(limit=limit))
        return run_diffspeed("--diffspeed-pipeline=small_pipeline:build", *words)

    outcome = run()
    outcome.assert_outcomes(failed=1)
    outcome.stdout.fnmatch_lines([f"*its limit is 'saved', and there is no {FILE_NAME} in *"])
    run("--diffspeed-save-counts").assert_outcomes(passed=1)
    path = pytester.path / FILE_NAME
    (entry,) = read_counts(path)
    assert entry == ("small_pipeline:build", "channels_last", "unet")
    clean = path.read_text(encoding="utf-8")
    run().assert_outcomes(passed=1)

    original = UNet2DConditionModel.get_time_embed

    def get_time_embed(self, *args, **kwargs):
        print("worse")
        return original(self, *args, **kwargs)

    with monkeypatch.context() as patch:
        patch.setattr(UNet2DConditionModel, "get_time_embed", get_time_embed)
        # The file limits a gate with a limit of its own too.
        outcome = run(limit=5)
        outcome.assert_outcomes(failed=1)
        outcome.stdout.fnmatch_lines(
            [
                f"*worse than {FILE_NAME}: small_pipeline:build | channels_last | unet | "
                "breaks: 1, saved 0",
                "*if that is meant, save it: pytest --diffspeed --diffspeed-save-counts",
            ]
        )
        assert path.read_text(encoding="utf-8") == clean
        run("--diffspeed-save-counts").assert_outcomes(passed=1)
    outcome = run()
    outcome.assert_outcomes(passed=1)
    outcome.stdout.fnmatch_lines(
        ["*better than saved: *breaks: 0, saved 1*keep it with pytest --diffspeed --diffspeed-*"]
    )
    path.write_text(path.read_text(encoding="utf-8").replace("unet", "vae.decode"), "utf-8")
    outcome = run()
    outcome.assert_outcomes(failed=1)
    outcome.stdout.fnmatch_lines(["*unet has no saved count of breaks (now 0)*"])


RECOMPILES = """
import pytest

@pytest.mark.diffspeed("compile")
@pytest.mark.no_recompiles(max_recompiles="saved", {arguments})
def test_one(optimized_pipeline): ...

@pytest.mark.diffspeed("compile")
@pytest.mark.no_recompiles(max_recompiles="saved")
def test_two(optimized_pipeline): ...
"""


@pytest.mark.usefixtures("verbose")
def test_recompilations_are_saved_by_component_and_by_what_was_called(
    pytester, run_diffspeed, fresh_dynamo, monkeypatch
):
    """Two tests of one stack with other calls do not take each other's count."""
    monkeypatch.setattr(compile_catalog.Compile, "backend", "eager")

    def run(*words, arguments="sizes=[(16, 24)], prompts=['a [fox] | owl']"):
        pytester.makepyfile(test_it=RECOMPILES.format(arguments=arguments))
        return run_diffspeed("--diffspeed-pipeline=small_pipeline:build", *words)

    run("--diffspeed-save-counts").assert_outcomes(passed=2)
    entries = read_counts(pytester.path / FILE_NAME)
    over = "size 16 × 24, prompt 'a fox owl'"
    stack = ("small_pipeline:build", "compile")
    assert entries == {
        (*stack, "unet"): {"recompiles": 0},
        (*stack, "vae.decode"): {"recompiles": 0},
        (*stack, f"unet over {over}"): {"recompiles": 1},
        (*stack, f"vae.decode over {over}"): {"recompiles": 1},
    }
    run().assert_outcomes(passed=2)
    outcome = run(arguments="sizes=[(16, 24), (24, 32)]")
    outcome.assert_outcomes(passed=1, failed=1)
    outcome.stdout.fnmatch_lines(["*unet over size 16 × 24, size 24 × 32 has no saved count of *"])


def test_processes_that_save_at_the_same_time_lose_nothing(tmp_path):
    """As workers of xdist do; a real process each."""
    import sys

    program = (
        "import sys\n"
        "from pathlib import Path\n"
        "from types import SimpleNamespace as N\n"
        "from pytest_diffspeed.gates.saved_counts import SavedCounts\n"
        "saved = SavedCounts(Path(sys.argv[1]), save=True)\n"
        "for number in range(20):\n"
        "    spec = N(source='demo', stack=N(name=f'stack{sys.argv[2]}_{number}'))\n"
        "    context = N(candidate=N(spec=spec))\n"
        "    saved.check(context, {'denoiser': {'graphs': 1}}, needed=False)\n"
    )
    running = [
        subprocess.Popen([sys.executable, "-c", program, str(tmp_path), str(number)])
        for number in range(4)
    ]
    assert [process.wait() for process in running] == [0, 0, 0, 0]
    assert len(read_counts(tmp_path / FILE_NAME)) == 4 * 20
