"""The markdown, rendered by the parser that GitHub uses: words are shown, and nothing else."""

import re
from html.parser import HTMLParser

import cmarkgfm
import pytest
from cmarkgfm.cmark import Options
from hypothesis import given, settings
from hypothesis import strategies as st

from pytest_diffspeed.records.finished import FinishedSession
from pytest_diffspeed.records.reader import recorded_session
from pytest_diffspeed.reports.markdown import LIMIT_BYTES, code, markdown, write

HOSTILE = [
    "a|b||c",
    "`code` ``more`` ```",
    "<script>alert(1)</script><img src=x onerror=alert(1)>",
    "@octocat and #17",
    "line\nbreak\r\nand | more\n\n# heading\n\n| a | b |\n|-|-|",
    "</code></pre></details><h1>x",
    "[link](javascript:alert(1)) ![p](http://x.example/p.png)",
    "http://evil.example www.evil.example",
    "**bold** _it_ ~~no~~ $x$ :tada: \\| \\`",
    "&lt;b&gt; &#124; &amp;",
    "<!-- ",
    "\x00\x1b[31mred\x07",
    "\u202egnp.exe \ud800",
]


def gate(verdict="FAIL", *, test="t.py::t[bf16]", reason="too slow", claim="no_graph_breaks"):
    return {
        "kind": "gate",
        "gate": "no_graph_breaks",
        "claim": claim,
        "test": test,
        "stack": "bf16",
        "verdict": verdict,
        "reason": reason,
        "evidence": "counted",
        "blocking": verdict == "FAIL",
        "figures": {"found": "unet: 2 graphs, 1 break"},
    }


SESSION = {
    "kind": "session",
    "session": "s",
    "at": "2026-11-25T10:00:00+00:00",
    "environment": {"torch": "2.14.1", "threads": 1},
    "device": {"kind": "cpu", "name": "AMD EPYC, 2 cores"},
    "pipeline": "demo",
    "commit": "0123456789abcdef",
    "dirty": True,
    "base": {"rev": "main", "commit": "fedcba"},
}


def report(*records, **options):
    return markdown(recorded_session(records, path=None), **options)


class Seen(HTMLParser):
    """Tags, and the text of each cell of a table and of each block of ``<pre>``."""

    def __init__(self):
        super().__init__()
        self.tags, self.cells, self.blocks = [], [], []
        self._into = None

    def handle_starttag(self, tag, attrs):
        self.tags.append(tag)
        assert not [name for name, _ in attrs if name.startswith("on")]
        if tag in ("td", "th", "pre"):
            self._into = self.blocks if tag == "pre" else self.cells
            self._into.append("")

    def handle_endtag(self, tag):
        if tag in ("td", "th", "pre"):
            self._into = None

    def handle_data(self, data):
        if self._into is not None:
            self._into[-1] += data


def rendered(text):
    seen = Seen()
    seen.feed(cmarkgfm.github_flavored_markdown_to_html(text, Options.CMARK_OPT_UNSAFE))
    return seen


OURS = {
    *("h2", "h3", "p", "table", "thead", "tbody", "tr", "th", "td", "code", "pre", "details"),
    "summary",
}


def test_what_a_reader_sees_first():
    text = report(SESSION, gate(), gate("PASS", test="t.py::u[bf16]"), gate("PASS"))
    assert text.splitlines()[:6] == [
        "## diffspeed: 2 PASS",
        "",
        "on <code>AMD EPYC, 2 cores</code>, pipeline <code>demo</code>, commit "
        "<code>0123456789ab</code> with uncommitted changes, against <code>main</code>",
        "",
        "<details><summary>2 PASS</summary>",
        "",
    ]


def test_failures_stand_in_a_table_with_their_reasons_below():
    seen = rendered(report(SESSION, gate(), gate("PASS", test="t.py::u[bf16]")))
    assert seen.cells[:8] == [
        *("verdict", "test", "gate", "found", "❌ FAIL", "t.py::t[bf16]", "no_graph_breaks"),
        "unet: 2 graphs, 1 break (counted)",
    ]
    assert [block.strip() for block in seen.blocks] == ["too slow"]
    assert set(seen.tags) <= OURS


def test_a_failure_that_was_expected_is_no_failure():
    ended = {"kind": "test", "test": "t.py::t[bf16]", "outcome": "skipped"}
    text = report(gate(), gate("PASS", test="t.py::u[bf16]"), ended)
    assert text.startswith("## diffspeed: 1 PASS, 1 xfailed\n")
    assert "FAIL" not in text
    assert "<details><summary>1 PASS, 1 xfailed</summary>" in text


def test_a_cell_of_images_has_what_was_missed_and_not_every_metric():
    dump = "8 images: PSNR 34.1 (20.3) dB, SSIM 0.981 (0.940), MAE 0.01; floor: identical"
    figures = {
        "found": dump,
        "metrics": {"psnr": [34.1, 20.3], "ssim": [0.981, 0.94]},
        "misses": [{"limit": "psnr_mean", "found": 34.1, "bound": 42.0, "image": 0}],
        "skipped": {"rank1_mean": "there is one prompt"},
        "notes": ["there is one prompt", "uncalibrated"],
        "not_compared": ["audio"],
    }
    record = {**gate(claim="image_similarity"), "gate": "image_similarity", "figures": figures}
    seen = rendered(report(SESSION, record))
    assert seen.cells[7] == (
        "mean PSNR 34.1 of 42; not checked: rank1_mean; not compared: audio; uncalibrated"
    )
    assert seen.blocks[0].split("\n")[-3:-1] == ["too slow", f"{dump} (counted)"]


def test_the_head_names_the_sources_that_ran():
    head = report(SESSION, {**gate(), "source": "app:make"}).splitlines()[2]
    assert "pipeline <code>app&#58;make</code>, commit" in head
    both = [{**gate(claim=f"c{n}"), "source": f"app{n}"} for n in range(2)]
    head = report(SESSION, *both).splitlines()[2]
    assert "pipelines <code>app0</code>, <code>app1</code>, commit" in head


@pytest.mark.parametrize("text", HOSTILE)
def test_hostile_words_are_shown_and_nothing_else(text):
    whole = report(
        {**SESSION, "pipeline": text, "environment": {text: text}},
        gate(test=text, reason=text, claim=text),
        gate("PASS", test=text, claim=f"{text}2"),
        {"kind": "not-run", "test": text, "claim": text, "reason": text},
        {"kind": "ladder", "stack": text, "status": "failed", "reason": text},
    )
    whole.encode("utf-8")
    seen = rendered(whole)
    assert set(seen.tags) <= OURS
    # Four tables, each with the cells that we wrote and no more.
    assert len(seen.cells) == 8 + 6 + 8 + 4
    shown = " ".join(text.split())
    for cell in (seen.cells[5], seen.cells[6], seen.cells[11]):
        assert len(cell) == len(shown)
        assert all(
            was == now or not was.isprintable() for was, now in zip(shown, cell, strict=True)
        )


@given(st.text(max_size=80))
@settings(max_examples=200)
def test_any_text_is_one_cell(text):
    seen = rendered(f"| a | b |\n|-|-|\n| {code(text)} | end |\n")
    assert len(seen.cells) == 4 and seen.cells[3] == "end"
    assert set(seen.tags) - {"code"} <= {"table", "thead", "tbody", "tr", "th", "td", "a"}
    assert len(seen.cells[2].strip()) == len(" ".join(text.split()))


def test_no_mention_is_outside_of_code():
    """GitHub looks for @names in the text of all elements but these."""
    whole = report(SESSION, gate(test="@octocat", reason="@octocat"))
    html = cmarkgfm.github_flavored_markdown_to_html(whole, Options.CMARK_OPT_UNSAFE)
    assert "@octocat" not in re.sub(r"<(code|pre)>.*?</\1>", "", html, flags=re.S)


def test_a_session_of_thousands_of_gates_fits_and_says_what_was_cut():
    records = [
        gate(verdict, test=f"test_file.py::test_number_{n}[bf16]", reason=f"because {n} " * 30)
        for n in range(4000)
        for verdict in (["FAIL", "PASS"][n % 2],)
    ]
    text = report(SESSION, *records)
    assert LIMIT_BYTES * 0.8 < len(text.encode()) <= LIMIT_BYTES
    assert text.startswith("## diffspeed: 2000 FAIL, 2000 PASS\n")
    seen = rendered(text)
    assert seen.cells.count("❌ FAIL") == 2000  # rows of failures are the last to be cut
    cut = re.search(r"Cut, since GitHub shows at most 1024 KiB: (.*)\.", text)[1]
    assert re.fullmatch(
        r"\d+ reasons, \d+ gates that passed or do not apply(, 2 lines on the environment)?", cut
    )
    assert len(seen.blocks) == 2000 - int(cut.split()[0])


def test_one_long_reason_does_not_take_the_place_of_all_others():
    text = report(gate(reason="x" * 2_000_000))
    assert len(text) < 50_000
    assert "… 1980000 more characters" in text


def test_a_file_is_written_and_the_summary_of_a_step_appended(tmp_path, monkeypatch):
    finished = FinishedSession([SESSION, gate()], tmp_path)
    target = tmp_path / "summary.md"
    target.write_text("before\n")
    assert write(str(target), finished) == f"markdown: {target}"
    assert target.read_text(encoding="utf-8").startswith("## diffspeed")
    monkeypatch.setenv("GITHUB_STEP_SUMMARY", str(target))
    target.write_text("before\n")
    assert write(str(target), finished) == f"markdown: appended to {target}"
    assert target.read_text(encoding="utf-8").startswith("before\n## diffspeed")


def test_what_stands_in_the_summary_already_counts(tmp_path, monkeypatch):
    target = tmp_path / "summary.md"
    monkeypatch.setenv("GITHUB_STEP_SUMMARY", str(target))
    records = [gate(test=f"t.py::t{n}") for n in range(300)]
    target.write_bytes(b"x" * (LIMIT_BYTES - 30_000) + b"\n")
    write(str(target), FinishedSession(records, tmp_path))
    assert LIMIT_BYTES - 10_000 < target.stat().st_size <= LIMIT_BYTES
    assert "Cut, since" in target.read_text(encoding="utf-8")
    target.write_bytes(b"x" * LIMIT_BYTES)
    said = write(str(target), FinishedSession(records, tmp_path))
    assert said.startswith(f"markdown: not appended to {target}, which holds {LIMIT_BYTES} bytes")
    assert target.stat().st_size == LIMIT_BYTES


def test_an_appended_report_starts_on_a_line_of_its_own(tmp_path, monkeypatch):
    target = tmp_path / "summary.md"
    monkeypatch.setenv("GITHUB_STEP_SUMMARY", str(target))
    target.write_text("no line feed")
    write(str(target), FinishedSession([gate()], tmp_path))
    assert target.read_text(encoding="utf-8").startswith("no line feed\n\n## diffspeed")
