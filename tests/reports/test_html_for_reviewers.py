"""What a reviewer looks for first: what changed, why it is red, what to do, and how to run it."""

import re
import shlex
from pathlib import Path

import pytest
from report_sessions import about, gate, identity, images, ladder, ratio, strips, told

from pytest_diffspeed.plugin.invocation import invocation_of
from pytest_diffspeed.records.finished import FinishedSession
from pytest_diffspeed.records.series import Point, Series
from pytest_diffspeed.reports.glossary import SAID_OF, TERMS, term_of
from pytest_diffspeed.reports.html import render
from pytest_diffspeed.reports.html.stages import stages
from pytest_diffspeed.reports.markdown import markdown

TEST = "test_a.py::test_it[bf16]"
GLOSSARY = Path(__file__).parents[2] / "docs" / "glossary.md"


@pytest.fixture
def session(tmp_path):
    return lambda records: FinishedSession(records, tmp_path).session


@pytest.fixture
def page(session, tmp_path):
    return lambda records, history=(): render(session(records), tmp_path, history)


def part(html, begin, end):
    return html.partition(begin)[2].partition(end)[0]


def words_of(html):
    return re.sub(r"\s+", " ", re.sub(r"<[^>]*>", " ", html)).strip()


# --- what changed since the last run


def counted(many, test=TEST):
    verdict = "FAIL" if many else "PASS"
    return gate(test, "bf16", "no_graph_breaks", verdict, breaks=many, components={})


def counts_over_runs(*found, test=TEST):
    """A history with one session a day, of these counts."""
    points = [
        Point(
            at=f"2026-11-{day:02d}T12:00:00+00:00",
            commit=f"{day:040x}"[::-1],
            subject="Tidy up",
            value=many,
            low=None,
            high=None,
            verdict="FAIL" if many else "PASS",
        )
        for day, many in enumerate(found, start=1)
    ]
    return Series(test, "bf16", "no_graph_breaks", "breaks", "lower", "1bf0", points)


def trend_of(html):
    return part(html, '<section id="trend"', "</section>")


def test_a_gate_that_turned_red_stands_above_all_else(page):
    other = "test_b.py::test_b[bf16]"
    history = [counts_over_runs(0, 0, test=other), counts_over_runs(0, 0, 2)]
    html = page([about(), counted(2), counted(0, other)], history)
    assert html.index('<section id="trend"') < html.index('<section id="tests"')
    trend = trend_of(html)
    assert "1 gate turned FAIL" in words_of(trend)
    assert words_of(part(trend, "<h2", "</h2>")).endswith("2026-11-02 12:00 200000000 Tidy up")
    first, second = re.findall(r"<li>(?:(?!</li>).)*<svg.*?</li>", trend, re.S)
    assert "test_it" in first and "0 → 2 (+2)" in words_of(first)
    assert 'aria-label="the last 3 runs: 0, 0, 2; PASS, then FAIL"' in first
    assert "test_b" in second and "0 → 0" in words_of(second) and "(" not in words_of(second)
    runs = [words_of(run) for run in re.findall(r"<li>.*?</li>", part(trend, "<ol", "</ol>"), re.S)]
    assert runs[-1] == "this one 1 FAIL 1 PASS"


def test_a_session_that_is_not_in_the_store_is_compared_with_the_last_that_is(page):
    trend = trend_of(page([about(), counted(3)], [counts_over_runs(2, 1)]))
    assert "1 → 3 (+200 %)" in words_of(trend)
    assert "no verdict changed" in words_of(trend)  # it was red before


def test_later_sessions_of_a_store_are_not_this_one(page):
    trend = trend_of(page([about(), counted(2)], [counts_over_runs(0, 2, 5)]))
    assert "0 → 2 (+2)" in words_of(trend) and "5" not in words_of(part(trend, "<ul", "</ul>"))


def test_nothing_is_said_where_nothing_ran_before(page):
    assert 'id="trend"' not in page([about(), counted(0)])
    assert 'id="trend"' not in page([about(), counted(0)], [counts_over_runs(0)])


def test_a_speed_index_has_a_line(page):
    index = counts_over_runs(1.0, 1.02)
    index = Series(**{**vars(index), "claim": "per call", "figure": "speed index"})
    trend = trend_of(page([about(), counted(0)], [counts_over_runs(0, 0), index]))
    assert "speed index per call" in words_of(trend) and "1 → 1.02 (+2 %)" in words_of(trend)


# --- nothing red without its reason and what to do


def failed(test, phase, kind, **cause):
    line = told(test, "failed")
    reason = f"{phase} failed: OSError: gone"
    step = {"kind": kind, "found": "OSError: gone", "next_step": "see its traceback", **cause}
    return {**line, "error": reason, "cause": step}


def test_each_phase_that_failed_says_why_beside_a_red_gate_too(page, session):
    lines = [
        counted(1),
        told(TEST, "failed"),
        failed(TEST, "teardown", "TEARDOWN", place="conftest.py:9", source="os.remove(it)"),
        failed("test_b.py::test_b", "set-up", "SETUP"),
        failed("test_b.py::test_b", "teardown", "TEARDOWN"),
    ]
    html = page([about(), *lines])
    blocks = [
        words_of(block) for block in re.findall(r'<div class="failure">.*?</div>', html, re.S)
    ]
    assert blocks == [
        "TEARDOWN teardown failed: OSError: gone conftest.py:9 os.remove(it) "
        "next: see its traceback",
        "SETUP set-up failed: OSError: gone next: see its traceback",
        "TEARDOWN teardown failed: OSError: gone next: see its traceback",
    ]
    assert "1 FAIL of 1 gate , 2 tests failed otherwise" in words_of(part(html, "<h1>", "</h1>"))
    written = markdown(session([about(), *lines]))
    assert written.count("teardown failed") == 2 and written.count("set-up failed") == 1


@pytest.mark.parametrize(
    ("record", "step"),
    [
        ({"kind": "gate-error", **identity(TEST, "bf16", "c"), "error": "no step"}, "run it again"),
        (ratio(TEST, "bf16", "PASS", end=False)[0], "run it again"),
        ({**counted(1), "figures": {"remembered_from": "e3b0"}}, "change the tree; --diffspeed-"),
        (counted(1), ""),  # a gate of a plug-in that has no cause: its reason is there
        (counted(0), ""),
    ],
)
def test_a_gate_says_what_to_do_in_every_report(page, session, record, step):
    html = page([about(), record])
    found = re.findall(r'<p class="next">(.*?)</p>', html)
    assert [line.startswith(f"next: {step}") for line in found] == ([True] if step else [])
    assert (f"next: {step}" in markdown(session([about(), record]))) is bool(step)


# --- the command


COMMAND = {
    "program": ["python", "-m", "pytest"],
    "words": ["-p", "no:benchmark", "--rootdir=..", "--diffspeed", "-k", "a b", "sub/test_a.py"],
    "tests": ["sub/test_a.py"],
    "folder": "sub",
    "environment": {"PYTEST_ADDOPTS": "-x -q"},
}


def test_the_command_is_the_one_that_ran(page):
    test = "sub/test_a.py::test_it[a b]"
    html = page([about(command=COMMAND), counted(1, test)])
    begin = "PYTEST_ADDOPTS=&#39;-x -q&#39; python -m pytest -p no:benchmark --rootdir=.. "
    again = part(html, "<h3>Again</h3>", "</pre>")
    assert f"{begin}--diffspeed -k &#39;a b&#39; sub/test_a.py</code>" in again
    assert "in <code>sub</code>" in again
    assert f"{begin}--diffspeed -k &#39;a b&#39; &#39;test_a.py::test_it[a b]&#39;</code>" in html


def test_a_ladder_runs_again_as_it_was_started(page):
    words = ["--diffspeed", "--pyargs", "pytest_diffspeed.ladder"]
    command = {"program": ["pytest"], "words": words, "tests": words[-1:], "folder": "."}
    row = next(line for line in ladder() if line["kind"] == "ladder")
    html = page([about(command=command), row])
    assert f"<code>pytest {shlex.join(words)}</code>" in html
    # A journal has no such word: it is made of the options.
    assert "--diffspeed-budget=20 --pyargs pytest_diffspeed.ladder</code>" in page([about(), row])


def test_words_of_the_command_line_are_kept_and_passwords_are_not(pytester, monkeypatch):
    monkeypatch.setenv("PYTEST_ADDOPTS", "--diffspeed-store=postgresql://me:s3cr3t@db/h")
    pytester.makepyfile(test_a="def test_a(): ...")
    words = [
        "-p",
        "no:cacheprovider",
        "--diffspeed-store",
        "postgresql://u:p@ss/w@host/h?password=x",
    ]
    config = pytester.parseconfig(*words, "test_a.py")
    found = invocation_of(config)
    told = " ".join(found["words"])
    assert "-p no:cacheprovider" in told
    assert "postgresql://u:***@host/h" in told and "***" in told.rpartition("password=")[2]
    assert found["tests"] == ["test_a.py"] and found["folder"] == "."
    assert found["environment"] == {"PYTEST_ADDOPTS": "--diffspeed-store=postgresql://me:***@db/h"}
    assert not any(secret in str(found) for secret in ("s3cr3t", "p@ss", "ss/w", "password=x"))


# --- stages


STAGES = {
    "baseline": {
        "call_s": 1.0, "text_encoder_s": 0.1, "first_step_s": 0.2, "steady_step_s": 0.1,
        "steady_steps": 5, "vae_decode_s": 0.1, "components": {"unet": 0.6},
    },
    "candidate": {"call_s": 0.5, "first_step_s": 0.1, "steady_step_s": 0.3, "steady_steps": 2},
}  # fmt: skip


def test_the_stages_of_a_call_are_bars_on_one_scale():
    found = stages({"stages": STAGES}, ("fp32", "bf16"))
    fp32, bf16 = found.bars
    assert [round(one.width) for one in fp32.segments] == [100, 200, 500, 100, 100]
    assert [one.x for one in fp32.segments] == [0, 100, 300, 800, 900]
    assert fp32.words == (
        "fp32: 1 s: text encoders 0.1 s, 10.0 %; first step 0.2 s, 20.0 %; steady steps 0.5 s, "
        "50.0 %; VAE decode 0.1 s, 10.0 %; rest 0.1 s, 10.0 %"
    )
    # Medians may add up to more than the call: then there is no rest.
    assert [one.colour for one in bf16.segments] == ["s-first", "s-steady"]
    assert bf16.total == "0.7 s"
    assert ("steady steps", "5", "2") in found.rows and ("unet", "0.6 s", "") in found.rows
    assert stages({"stages": {"baseline": None}}, ("fp32", "bf16")) is None
    assert stages({"stages": {"baseline": {"call_s": "x", "steady_steps": -1}}}, ("a", "b")) is None


# --- pictures


def test_a_picture_says_what_its_thirds_are_and_what_was_asked(page, tmp_path):
    record = images(TEST, "bf16", "FAIL", strips(tmp_path / "pictures", 2))
    record["figures"]["images"]["psnr"] = [18.0, 30.0]
    record["figures"]["images"]["other_image_ratio"] = [0.5, 0.1]
    record["figures"]["limits"]["other_image_ratio_worst"] = 0.3
    html = page([about(), record])
    heads = words_of(part(html, '<p class="heads"', "</p>"))
    assert heads.endswith("baseline bf16 difference × 8")
    assert 'alt="Baseline, bf16 and their difference for “a fox”, seed 0"' in html
    first, second = (
        words_of(x) for x in re.findall(r"<figcaption>\d\. .*?</figcaption>", html, re.S)
    )
    assert "PSNR ✕ 18 dB , missed (at least 19 asked)" in first
    assert "other-image ratio ✕ 0.5 , missed (at most 0.3 asked)" in first
    assert "PSNR 30 dB (at least 19 asked)" in second and "missed" not in second


# --- words and digests


def plain(markdown_text):
    text = re.sub(r" \(\[[^\]]*\]\([^)]*\)\)", "", markdown_text)
    return re.sub(r"\[([^\]]*)\]\([^)]*\)", r"\1", text).replace("`", "")


def test_words_are_explained_as_in_the_glossary():
    rows = dict(re.findall(r"^\| \*\*(.+?)\*\* \| (.+) \|$", GLOSSARY.read_text("utf-8"), re.M))
    assert {word: plain(rows.get(word, "not there")) for word in TERMS} == dict(TERMS)
    assert set(SAID_OF.values()) <= set(TERMS)
    assert term_of("PSNR, dB") == "PSNR" and term_of("a call of fp32") == ""


def test_an_explained_word_leads_to_its_meaning(page):
    html = page([about(), images(TEST, "bf16", "FAIL"), *ratio(TEST, "bf16", "FAIL")])
    used = re.findall(r'class="term" href="#(word-[^"]*)" aria-describedby="(says-[^"]*)"', html)
    assert {"word-rank-1", "word-process-instance", "word-interval"} <= {word for word, _ in used}
    for word, says in used:
        assert html.count(f'id="{word}"') == html.count(f'id="{says}"') == 1


def test_a_digest_is_short_and_whole(page):
    name = "0123456789abcdef" * 2
    html = page([about(machine=name, commit="a" * 40)])
    assert f'<summary title="{name}"><code>0123456789…</code></summary><code>{name}</code>' in html
    assert f"<code>{'a' * 10}…</code></summary><code>{'a' * 40}</code>" in html
    assert "bench/abcdef0123456789" in words_of(page([about(session="bench/abcdef0123456789")]))
