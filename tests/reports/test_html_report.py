"""The HTML report as a file: what it says, what it leaves out, what it survives.  No browser."""

import hashlib
import json
import re
from importlib import resources

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from PIL import Image
from report_sessions import about, gate, identity, images, ladder, many, mixed, ratio, strips, told

from pytest_diffspeed.commands.cli import main
from pytest_diffspeed.history.url import parse_store
from pytest_diffspeed.records.finished import FinishedSession
from pytest_diffspeed.records.journal import as_line, write_all
from pytest_diffspeed.records.schema import fits
from pytest_diffspeed.reports.html import render, write
from pytest_diffspeed.reports.html.text import shown

TEST = "test_a.py::test_it[bf16]"
OTHER = "test_b.py::test_it[bf16]"


@pytest.fixture
def page(tmp_path):
    def page_(records, series=()):
        return render(FinishedSession(records, tmp_path).session, tmp_path, series)

    return page_


def words_of(html):
    """What a reader sees, about: no tags, scripts or styles, single spaces."""
    html = re.sub(r"<(script|style|template|title)\b.*?</\1>", " ", html, flags=re.S)
    return re.sub(r"\s+", " ", re.sub(r"<[^>]*>", " ", html))


def test_records_made_up_for_these_tests_are_records():
    for record in [*mixed(), *ladder(), *many(3)]:
        assert fits(record["kind"], record), record


# --- one file, offline


def test_the_file_names_no_other_file(page, tmp_path):
    names = strips(tmp_path / "pictures", 1)
    html = page([*mixed(), images(TEST, "bf16", "FAIL", names)])
    html = re.sub(r"<script>.*?</script>", "", html, flags=re.S)
    found = re.findall(r'\b(?:src|href|action|poster|srcset|data)="([^"]*)"', html)
    assert found
    assert all(link.startswith(("#", "data:image/")) for link in found)
    assert "url(" not in html and "@import" not in html and "<link" not in html


def test_the_policy_lets_only_what_is_in_the_file_run(page):
    html = page(mixed())
    policy = re.search(r'Content-Security-Policy" content="([^"]*)"', html)[1]
    rules = dict(rule.split(" ", 1) for rule in policy.split("; "))
    assert rules["default-src"] == "'none'"
    assert rules["img-src"] == "data:"
    assert "unsafe" not in policy and "http" not in policy
    assert len(rules["script-src"].split()) == 4 == html.count("<script>")
    assert " style=" not in html and not re.search(
        r"<[^>]* on[a-z]+=", html.partition("<script")[0]
    )


def test_vendored_files_are_those_recorded():
    folder = resources.files("pytest_diffspeed.reports.html").joinpath("static/vendor")
    packages = json.loads(folder.joinpath("vendor.json").read_text(encoding="utf-8"))
    assert [package["package"] for package in packages] == ["d3", "@observablehq/plot"]
    for package in packages:
        content = folder.joinpath(package["file"]).read_bytes()
        assert hashlib.sha256(content).hexdigest() == package["sha256"], "run make vendor"
        assert f"v{package['version']}".encode() in content[:200]
        licence = folder.joinpath(package["licence_file"]).read_text(encoding="utf-8")
        assert "Permission to use, copy, modify" in licence


# --- what it says


def test_the_headline_counts_what_is_wrong(page):
    assert "2 FAIL" not in words_of(page(ratio(TEST, "bf16", "PASS")))
    assert "1 gate PASS" in words_of(page(ratio(TEST, "bf16", "PASS")))
    assert "4 FAIL of 9 gates" in words_of(page(mixed()))
    dead = [{"kind": "not-run", "test": TEST, "claim": "no_recompiles"}, told(TEST, "failed")]
    assert "1 test failed otherwise , 1 gate not run" in words_of(page(dead))
    beside = [*dead, *ratio(OTHER, "bf16", "FAIL"), told(OTHER, "failed")]
    assert "1 FAIL of 1 gate , 1 test failed otherwise , 1 gate not run" in words_of(page(beside))
    passed = [*dead, *ratio(OTHER, "bf16", "PASS"), told(OTHER)]
    assert "1 gate PASS , 1 test failed otherwise , 1 gate not run" in words_of(page(passed))
    error = {"kind": "gate-error", **identity(TEST, "bf16", "c"), "error": "no steady step"}
    assert "1 not checked of 1 gate" in words_of(page([error]))
    both = [error, *ratio(OTHER, "bf16", "INCONCLUSIVE")]
    assert "1 INCONCLUSIVE and 1 not checked of 2 gates" in words_of(page(both))
    expected = [*ratio(TEST, "bf16", "FAIL"), told(TEST, "skipped")]
    assert "1 gate PASS , 1 xfailed" in words_of(page([*expected, *ratio(OTHER, "bf16", "PASS")]))
    unsure = [error, told(TEST, "skipped"), *ratio(OTHER, "bf16", "PASS")]
    assert "1 gate PASS , 1 xfailed" in words_of(page(unsure))  # as on the terminal
    only = [gate(TEST, "bf16", "max_memory", "NOT_APPLICABLE")]
    assert "No gate reached a verdict" in words_of(page(only))


def test_a_red_cell_shows_what_was_missed(page):
    text = words_of(page([images(TEST, "bf16", "FAIL")]))
    assert "✕ mean PSNR 34.1 of 42 FAIL" in text
    many = images(TEST, "bf16", "FAIL")
    limits = ("psnr_mean", "rank1_worst", "ssim_mean")
    many["figures"]["misses"] = [{"limit": n, "found": 0.5, "bound": 1.0} for n in limits]
    assert "✕ mean PSNR 0.5 of 1, rank-1 0.5 of 1, 1 more FAIL" in words_of(page([many]))
    broken = images(TEST, "bf16", "FAIL")
    broken["figures"] |= {"findings": [{"image": 0, "problem": "is black"}], "misses": []}
    assert "✕ 1 output broken FAIL" in words_of(page([broken]))
    good = images(TEST, "bf16", "PASS")
    good["figures"]["misses"] = []
    assert "✓ SSIM 0.94 PASS" in words_of(page([good]))


def test_ratios_and_bytes_have_one_format(page):
    found = {"memory_ratio": 0.5, "max_ratio": 0.3, "over": "fp32"}
    peaks = {"baseline_peak_bytes": 24 * 2**20, "candidate_peak_bytes": 3 * 2**30}
    text = words_of(page([gate(TEST, "bf16", "max_memory", "FAIL", **found, **peaks)]))
    assert "✕ 0.500× FAIL" in text and "allowed 0.300×" in text
    assert "peak of fp32 24 MiB" in text and "peak of this stack 3 GiB" in text


def test_the_head_names_the_sources_that_ran(page):
    one = gate(TEST, "bf16", "no_recompiles", "PASS")
    assert " demo · AMD" in words_of(page([about(), one]))
    named = [{**one, "claim": f"c{n}", "source": f"app:make{n}"} for n in range(5)]
    text = words_of(page([about(), named[0]]))
    assert " app:make0 · AMD" in text and " demo · " not in text
    text = words_of(page([about(), *named]))
    assert "app:make0, app:make1, app:make2 and 2 more · AMD" in text


def test_an_empty_session_says_so(page):
    text = words_of(page([]))
    assert "No gate was asked for" in text and "Nothing was recorded" in text
    assert "commit and environment are unknown" in text
    assert "pytest --diffspeed" in text


def test_a_killed_session_shows_what_was_flushed(page):
    records = ratio(TEST, "bf16", "PASS", pairs=5, end=False)  # no session line, no test line
    html = page(records)
    text = words_of(html)
    assert "1 INCONCLUSIVE of 1 gate" in text
    assert "1 gate did not end with a verdict" in text
    assert "the run ended after 4 pairs, before this gate reached a verdict" in text
    assert '"pairs":{"gate-1":' in html


def test_a_composed_call_is_marked_and_the_mark_explained(page):
    composed = [{**ladder()[1], "composed": {"step": {"times": 20}}}]
    assert "~0.387 s" in words_of(page(composed))
    assert "~ marks seconds of a call that is composed" in words_of(page(composed))
    assert "~" not in words_of(page([ladder()[1]]))


def test_a_ladder_alone_has_no_table_of_tests(page):
    html = page(ladder())
    assert 'id="ladder"' in html and 'id="tests"' not in html
    assert "The ladder of 5 stacks" in words_of(html)
    assert "--diffspeed-budget=20 --pyargs pytest_diffspeed.ladder" in html
    assert "not run: TF32 is a mode" in words_of(html)


def test_the_reason_does_not_repeat_the_sites(page):
    site = {"file": "a.py", "line": 3, "function": "step", "kind": "value_read", "op": "item",
            "source": "x.item()", "count": 2, "first_step": 2}  # fmt: skip
    reason = "syncs: 2 in the first step, 0 allowed\n  a.py:3  value_read  item  ×2\nallowed: all"
    record = gate(TEST, "fp32", "no_gpu_syncs", "FAIL", reason=reason, sites=[site])
    text = words_of(page([record]))
    assert text.count("a.py:3") == 1
    assert "syncs: 2 in the first step, 0 allowed allowed: all" in text
    assert "x.item()" in text and "2 in the first step" in text


def test_a_base_stands_beside_its_head(page):
    record = gate(
        TEST, "fp32", "no_graph_breaks against base", "FAIL",
        base={"unet": {"breaks": 0}, "vae.decode": 1},
        head={"unet": {"breaks": 2}, "vae.decode": 1},
        new_sites=[{"component": "unet", "what": "a print", "file": "unet.py", "line": 12,
                    "function": "forward", "source": "print(1)", "count": 2}],
        gone_sites=["somewhere else"], worse=["unet: breaks 0 → 2"], against_base={"name": "main"},
        reason="against main: unet: breaks 0 → 2\n  new here: unet.py:12\n  better: graphs 3 → 2",
    )  # fmt: skip
    over = ratio(TEST, "fp32", "PASS", over="base")
    base = {"rev": "main", "commit": "a30cedf", "python": "/next/bin/python"}
    html = page([about(base=base), record, *over])
    text = words_of(html)
    assert "Against the base rev main commit a30cedf" in text
    assert "unet.breaks 0 → 2" in text
    assert "unet.breaks 0 2 +2" in text and "vae.decode 1 1 same" in text
    assert "New against the base unet.py:12 in forward 2 × print(1) unet: a print" in text
    assert "✕ 1 count worse than base" in text
    assert "Gone since the base somewhere else" in text
    assert "unet: breaks 0 → 2 better: graphs 3 → 2" in text
    assert "min_speedup over base per call" in html.partition('id="tests"')[0]
    assert "--diffspeed-base=main --diffspeed-base-python=/next/bin/python" in text


def test_a_test_that_ran_twice_counts_as_its_worse_phase(page):
    records = [gate(TEST, "bf16", "no_recompiles", "PASS", recompiles=0)]
    text = words_of(page([*records, told(TEST, "failed"), told(TEST, "passed")]))
    assert "✕ FAILED" in text


def test_the_command_runs_one_test_as_it_ran(page):
    options = {"steps": 4, "budget_s": 20.0, "prompts": ["a fox", "it's"], "techniques": ["bf16"]}
    html = page([about(options=options), *ratio(TEST, "bf16", "FAIL")])
    assert (
        "pytest --diffspeed --diffspeed-device=cpu --diffspeed-pipeline=demo --diffspeed-steps=4 "
        "--diffspeed-budget=20 --diffspeed-techniques=bf16 &#39;--diffspeed-prompts=a fox&#39;"
    ) in html
    assert "&#39;test_a.py::test_it[bf16]&#39;" in html


# --- pictures


def test_the_worst_pictures_of_each_gate_come_before_the_second_of_any(page, tmp_path):
    first = strips(tmp_path / "one", 6, size=(768, 256), seed=1)
    second = strips(tmp_path / "two", 6, size=(768, 256), seed=2)
    records = [
        images(TEST, "bf16", "FAIL", first),
        images("test_b.py::test_b", "bf16", "FAIL", second),
    ]
    html = page(records)
    pictures = html.count("<img ")
    assert 2 < pictures <= 12
    assert len(html.encode()) < 5_000_000
    ranks = [int(rank) for rank in re.findall(r"<figcaption>(\d+)\. ", html)]
    assert ranks[0] == 1 and ranks.count(1) == 2
    assert "“a fox” , seed 0" in words_of(html)


def test_large_strips_are_scaled_down(page, tmp_path):
    names = strips(tmp_path / "large", 2, size=(3072, 1024))
    html = page([images(TEST, "bf16", "FAIL", names)])
    assert 'width="1152" height="384"' in html
    assert len(html.encode()) < 2_500_000


@pytest.mark.parametrize(
    ("name", "why"),
    [
        ("../outside.png", "no such file below"),
        ("/etc/passwd", "no such file below"),
        ("https://example.com/a.png", "no such file below"),
        ("a\x00b.png", "no such file below"),
        ("x" * 5000, "no such file below"),
        (".", "no such file below"),
        ("text.png", "is no picture"),
        ("cut.png", "is no picture"),
        ("vector.png", "is no picture"),
        ("bomb.png", "claims 9000 × 9000 pixels"),
        ("not written: OSError: disk full", "no such file below"),
    ],
)
def test_a_picture_that_is_none_is_said_and_not_embedded(page, tmp_path, name, why):
    Image.new("RGB", (4, 4)).save(tmp_path.parent / "outside.png")
    (tmp_path / "text.png").write_text("<script>alert(1)</script>")
    (tmp_path / "vector.png").write_text("<svg xmlns='http://www.w3.org/2000/svg'/>")
    (name_of_real,) = strips(tmp_path / "real", 1)
    whole = (tmp_path / name_of_real).read_bytes()
    (tmp_path / "cut.png").write_bytes(whole[: len(whole) // 2])
    if name == "bomb.png":
        Image.new("1", (9_000, 9_000)).save(tmp_path / "bomb.png")
    html = page([images(TEST, "bf16", "FAIL", [name]), told(TEST, "failed", images=[name])])
    assert "<img " not in html
    assert f"Not shown: {shown(name, 200)}"[:100] in words_of(html)
    assert why in html or len(name) > 240


def test_a_picture_without_a_gate_is_shown_as_that(page, tmp_path):
    names = strips(tmp_path / "pictures", 1)
    text = words_of(page([*ratio(TEST, "bf16", "PASS"), told(TEST, images=names)]))
    assert "What 1 further test drew last, which no gate judged" in text


# --- size


def test_a_huge_session_stays_below_5_mb_and_says_what_is_left_out(page):
    records = many(900)
    for record in records:
        if record["kind"] == "gate":
            record["reason"] = "<&>" * 900
    html = page(records)
    assert len(html.encode()) < 5_000_000
    text = words_of(html)
    assert re.search(r"So that this file stays below 5 MB, \d+ gates, the least severe, are", text)
    listed = html.count("<tr data-verdict=")
    left_out = re.search(r"(\d+) further tests, the least severe, are not listed", text)
    assert listed + (int(left_out[1]) if left_out else 0) == 900
    assert 'id="session"' in html


def test_long_series_and_many_stacks_are_cut_and_said(page):
    from report_sessions import series

    rows = [{**ladder()[1], "stack": f"stack{number}"} for number in range(90)]
    html = page(rows, [series(points=2_000, jump=1_900, claim=f"c{n}") for n in range(60)])
    assert len(html.encode()) < 5_000_000
    assert "30 further rows are in the records" in words_of(html)
    assert "20 further series" in words_of(html)


# --- strangers

anything = st.recursive(
    st.none()
    | st.booleans()
    | st.integers()
    | st.floats(allow_nan=False, allow_infinity=False)
    | st.text(max_size=20),
    lambda inner: (
        st.lists(inner, max_size=3) | st.dictionaries(st.text(max_size=8), inner, max_size=3)
    ),
    max_leaves=6,
)
FIGURES = (
    "ratio", "need", "low", "high", "pairs", "components", "sites", "report", "metrics", "images",
    "cases", "order", "misses", "findings", "pictures", "stages", "memory", "base", "head",
    "new_sites", "over", "found", "per_step", "first_step", "breaks", "limits", "floor", "skipped",
    "first_call_s", "memory_ratio", "notes", "unit", "alpha",
)  # fmt: skip
GATES = ("no_graph_breaks", "no_recompiles", "no_gpu_syncs", "image_similarity", "min_speedup",
         "max_memory", "max_compile_time", "someone's own")  # fmt: skip


@settings(max_examples=80, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(
    name=st.sampled_from(GATES),
    figures=st.dictionaries(st.sampled_from(FIGURES), anything, max_size=6),
    more=st.dictionaries(
        st.sampled_from(["device", "environment", "options", "base", "commit"]), anything
    ),
    row=st.dictionaries(
        st.sampled_from(["over_baseline", "over_previous", "call_s", "proofs", "reason",
                         "known_slow", "break_even_images", "peak_bytes"]), anything,
    ),
)  # fmt: skip
def test_figures_of_any_kind_make_a_page(page, name, figures, more, row):
    record = gate(TEST, "bf16", name, "FAIL", **figures)
    more = {**about(), **more}
    html = page([more, record, {"kind": "ladder", "stack": "bf16", **row}])
    assert html.rstrip().endswith("</html>") and name.partition("'")[0] in html
    html.encode("utf-8")


def test_unseen_characters_are_spelt_out():
    assert shown("a\u202eb\x00c\ud800") == "a⟨U+202E⟩b⟨U+0000⟩c⟨U+D800⟩"
    assert shown("line\nand\ttab, עברית, 中文") == "line\nand\ttab, עברית, 中文"
    assert shown("x" * 30, 10) == "xxxxxxxxxx … (20 more characters)"


def test_data_cannot_end_its_script(page):
    html = page(ratio(f"</script><!--{TEST}", "</script>", "FAIL", over="</script>"))
    data = re.search(r'<script type="application/json" id="data">(.*?)</script>', html, re.S)[1]
    assert "<" not in data and "\\u003c/script\\u003e" in data
    assert json.loads(data)["pairs"]["gate-1"]["over"] == "</script>"


# --- the ways to it


def test_the_option_writes_it(pytester, run_diffspeed):
    pytester.makepyfile(
        """
        import pytest
        @pytest.mark.diffspeed("channels_last")
        @pytest.mark.no_gpu_syncs()
        def test_it(optimized_pipeline): ...
        """
    )
    result = run_diffspeed("--diffspeed-html=report.html")
    result.assert_outcomes(passed=1)
    result.stdout.fnmatch_lines(["report: report.html"])
    html = (pytester.path / "report.html").read_text(encoding="utf-8")
    assert "1 gate PASS" in words_of(html)


def test_the_command_writes_it_from_records_and_from_a_torn_journal(tmp_path, capsys):
    names = strips(tmp_path / "pictures", 1)
    records = tmp_path / "r.jsonl"
    write_all(records, [*mixed(), images(TEST, "bf16", "FAIL", names)])
    with records.open("a", encoding="utf-8") as file:
        file.write(as_line({"kind": "pair", **identity(TEST, "bf16", "c")})[:40])
    out = tmp_path / "report.html"
    assert main(["report", str(records), "--html", str(out), "--rootdir", str(tmp_path)]) == 1
    said = capsys.readouterr().out
    assert f"report: {out}" in said and "1 line of" in said
    html = out.read_text(encoding="utf-8")
    assert "<img " in html
    assert "could not be read and counts as not written" in html


def test_the_command_shows_the_history_of_a_store(tmp_path, capsys):
    from pytest_diffspeed.history.record import write as store_session

    store = parse_store("sqlite:///history.db")
    for number in range(30):
        session = about(
            session=f"{number:032x}", commit=f"{number:040x}",
            committed_at=f"2026-10-{number + 1:02d}T12:00:00+00:00", dirty=False,
        )  # fmt: skip
        timed = ratio(TEST, "bf16", "PASS", true=1.5 if number < 15 else 1.2)
        records = [session, *timed, {"kind": "end", "exit_status": 0}]
        store_session(store, FinishedSession(records, tmp_path))
    path = tmp_path / "r.jsonl"
    write_all(path, records)
    words = ["report", str(path), "--html", str(tmp_path / "r.html"), "--rootdir", str(tmp_path)]
    assert main([*words, "--store", "sqlite:///history.db"]) == 0
    html = (tmp_path / "r.html").read_text(encoding="utf-8")
    text = words_of(html)
    assert (
        "1 change point" in text
        and "(worse): " in text
        and ", after 0000000000 by 0000000000" in text
    )
    assert '"history":{"series-0":' in html
    assert "begins with this session" not in text

    (tmp_path / "history.db").unlink()
    store_session(
        store, FinishedSession(records, tmp_path)
    )  # of this session alone: it is told above
    assert main([*words, "--store", "sqlite:///history.db"]) == 0
    html = (tmp_path / "r.html").read_text(encoding="utf-8")
    assert "figure begins with this session" in words_of(html)
    assert '"series-0"' not in html
    assert main([*words, "--store", "mysql://somewhere"]) == 2
    assert "--store" in capsys.readouterr().err


def test_the_command_says_what_is_wrong(tmp_path, capsys):
    assert main(["report", str(tmp_path / "none.jsonl"), "--html", "x.html"]) == 2
    assert "cannot read the records" in capsys.readouterr().err
    records = tmp_path / "r.jsonl"
    write_all(records, mixed())
    assert main(["report", str(records)]) == 2
    assert "--html FILE" in capsys.readouterr().err
    assert main(["report", str(records), "--html", str(tmp_path)]) == 2
    assert "cannot write" in capsys.readouterr().err


def test_a_report_replaces_the_one_before_only_when_it_is_whole(tmp_path, monkeypatch):
    path = tmp_path / "report.html"
    write(str(path), FinishedSession(mixed(), tmp_path))
    before = path.read_bytes()
    broken = [{**about(), "environment": {"a": object()}}, {"kind": "ladder"}]
    with pytest.raises(KeyError):
        write(str(path), FinishedSession(broken, tmp_path))
    assert path.read_bytes() == before
