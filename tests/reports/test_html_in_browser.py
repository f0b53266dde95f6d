"""The HTML report in a real Chromium, offline: what a person sees and does."""

import re

import pytest
from gpu_cost_records import TEST as COST
from gpu_cost_records import red_cost
from report_sessions import (
    about,
    gate,
    identity,
    images,
    ladder,
    many,
    mixed,
    ratio,
    series,
    strips,
    told,
)

from pytest_diffspeed.records.finished import FinishedSession
from pytest_diffspeed.reports.html import write

PHONE = {"viewport": {"width": 360, "height": 740}, "device_scale_factor": 2, "has_touch": True}
SLOW = "tests/test_a.py::test_slow[bf16]"


@pytest.fixture
def report(tmp_path):
    def report_(records, history=()):
        path = tmp_path / "report.html"
        write(str(path), FinishedSession(records, tmp_path, history))
        return path

    return report_


@pytest.fixture
def opened(report, open_file):
    def opened_(records=None, history=(), **options):
        return open_file(report(mixed() if records is None else records, history), **options)

    return opened_


def gate_of(page, verdict, claim):
    return page.locator(f"details.gate.v-{verdict}", has_text=claim).first


def names_shown(page):
    return page.locator("#tests-table tbody tr:not(.below):visible th .test").all_text_contents()


def see(page, locator):
    locator.scroll_into_view_if_needed()
    locator.locator("svg").first.wait_for()


# --- charts


def test_the_pair_plot_shows_each_pair_and_the_dropped_ones_apart(opened):
    page = opened()
    slow = gate_of(page, "FAIL", "min_speedup")
    see(page, slow.locator(".plot"))
    assert slow.locator("svg circle").count() == 8
    # Plot draws a symbol that is no circle as a path: the one dropped pair.
    dropped = slow.locator('svg g[aria-label="dot"] path')
    assert dropped.count() == 1
    assert "dropped: another process was busy" in dropped.locator("title").text_content()
    titles = " ".join(slow.locator("svg circle title").all_text_contents())
    assert "baseline first" in titles and "this stack first" in titles
    assert slow.locator("svg rect").count() == 1  # the interval
    assert slow.locator("svg", has_text="need 1.80×").count() == 1
    label = slow.locator("svg[role=img]").get_attribute("aria-label")
    assert re.search(r"8 pairs .* 8 of them below the 1\.8× that are needed", label)


def test_pairs_can_be_read_as_a_table(opened):
    page = opened()
    slow = gate_of(page, "FAIL", "min_speedup")
    slow.get_by_text("These pairs as a table").click()
    rows = slow.locator("[data-table] tbody tr")
    rows.first.wait_for()
    assert rows.count() == 9
    assert "no: another process was busy" in rows.nth(2).inner_text()


def test_the_ratios_stand_beside_what_they_need(opened):
    page = opened()
    chart = page.locator("#ratio > figure .plot")
    see(page, chart)
    text = chart.locator("svg").text_content()
    assert "test_slow[bf16] over fp32" in text and "test_fine[compile] over fp32" in text
    chart.locator("svg a").first.click()
    assert page.url.endswith(gate_of(page, "FAIL", "min_speedup").get_attribute("id"))


def test_the_ladder_is_a_chart_and_a_table(opened):
    page = opened(ladder())
    assert page.locator("h1").inner_text() == "The ladder of 5 stacks"
    see(page, page.locator("#ladder .plot"))
    text = page.locator("#ladder svg").text_content()
    assert all(word in text for word in ("bf16+channels_last+compile", "1.60×", "0.073×", "≈"))
    table = page.locator("#ladder table").inner_text()
    assert "1.602× [1.538, 1.666]" in table and "448 images" in table and "3 GiB" in table
    assert "not run: TF32 is a mode of NVIDIA's tensor cores" in table
    assert page.locator("#tests").count() == 0
    page.locator("#ladder th button").nth(1).click()
    first = page.locator("#ladder tbody tr th")
    assert first.nth(0).inner_text() == "tf32"
    assert first.nth(1).inner_text() == "fp16"


def test_history_shows_its_change_points(opened):
    page = opened(mixed(), [series(), series(figure="breaks", changes=(), drift=None)])
    see(page, page.locator("#series-0 .plot"))
    assert page.locator("#series-0 svg circle").count() == 40
    text = page.locator("#series-0").inner_text()
    assert "jump -20.0 % (worse): 1.5 → 1.2, after" in text
    assert "1.2 now, 1.5 at the beginning: more than its noise" in text
    assert page.locator("#series-1").get_attribute("open") is None  # nothing changed in it


# --- the table of tests


def test_failures_come_first_the_most_reliable_before_others(opened):
    page = opened()
    assert names_shown(page) == [
        "tests/test_a.py::test_b",
        "test_c.py::t",
        SLOW,
        "tests/test_d.py::test_dead",
        "tests/test_d.py::test_fine[compile]",
    ]
    assert "no_gpu_syncs in scheduler.step" in page.locator("tr.below").inner_text()
    sections = page.locator("main section").evaluate_all("found => found.map(one => one.id)")
    wanted = ["structure", "images", "ratio", "memory", "time"]
    assert [one for one in sections if one in wanted] == wanted


def test_the_table_sorts_by_keyboard(opened):
    page = opened()
    button = page.locator("#tests-table th button", has_text="test")
    head = page.locator("#tests-table thead th").nth(1)
    button.focus()
    page.keyboard.press("Enter")
    assert head.get_attribute("aria-sort") == "ascending"
    assert page.locator("#tests-table th[aria-sort]").count() == 1
    up = names_shown(page)
    assert up == sorted(up)
    page.keyboard.press("Space")
    assert head.get_attribute("aria-sort") == "descending"
    assert names_shown(page) == up[::-1]
    page.locator("#tests-table th button", has_text="ratio").press("Enter")
    ratios = page.locator("#tests-table tbody tr:not(.below) td:nth-child(6)").all_inner_texts()
    found = [float(re.search(r"[\d.]+", text)[0]) for text in ratios if text.strip()]
    assert len(found) == 2 and found == sorted(found)
    # What was not run stands below its test, wherever that goes.
    before = page.locator("tr.below").evaluate("row => row.previousElementSibling.textContent")
    assert "test_dead" in before


def test_the_table_filters_by_words_and_by_verdict(opened):
    page = opened()
    assert page.locator("#shown").inner_text() == "5 tests"
    page.get_by_label("filter").fill("TEST_A slow")
    assert names_shown(page) == [SLOW]
    assert page.locator("#shown").inner_text() == "1 of 5 tests"
    page.get_by_label("filter").fill("nothing like it")
    assert page.get_by_text("No test fits this filter.").is_visible()
    page.get_by_label("filter").fill("")
    shows = page.get_by_role("group", name="show tests by verdict")
    passing = shows.get_by_role("button", name="PASS")
    passing.press("Enter")
    assert passing.get_attribute("aria-pressed") == "false"
    assert len(names_shown(page)) == 4
    passing.press("Enter")
    assert len(names_shown(page)) == 5


def test_a_cell_leads_to_its_gate_even_where_that_is_folded(opened):
    page = opened()
    row = page.locator("#tests-table tr", has_text="test_fine")
    row.locator("a", has_text="0 syncs").press("Enter")
    target = page.locator(page.evaluate("location.hash"))
    target.locator(".body").wait_for(state="visible")
    assert "no_gpu_syncs" in target.inner_text()


# --- people and their devices


@pytest.mark.parametrize("records", [mixed, ladder], ids=["gates", "ladder"])
def test_a_phone_never_scrolls_sideways(opened, records):
    page = opened(records(), [series()], **PHONE)
    page.evaluate("for (const details of document.querySelectorAll('details')) details.open = true")
    height = page.evaluate("document.documentElement.scrollHeight")
    for y in range(0, height, 500):
        page.evaluate(f"scrollTo(0, {y})")
    page.wait_for_function("[...document.querySelectorAll('.plot')].every(plot => plot.firstChild)")
    assert page.evaluate("document.documentElement.scrollWidth") <= 360
    assert page.locator("#theme").bounding_box()["height"] >= 24  # WCAG 2.2, target size


def test_many_columns_of_long_words_stay_on_the_page(opened):
    """All axes, a long stack, and an image gate that missed limits with long names."""
    stack = "bf16+fused_qkv+int8_dynamic(granularity=row)+compile"
    test = f"tests/test_pipeline.py::test_a_name_that_says_what_it_is_about[{stack}]"
    drawn = images(test, stack, "FAIL")
    missed = [{"limit": f"other_image_ratio_{of}", "found": 0.4, "bound": 0.1} for of in "ab"]
    drawn["figures"]["misses"] = [*missed, *missed]
    words = "kernels of a plug-in"
    other = gate(test, stack, "max_kernels", "PASS") | {
        "metrics": [{"name": "n", "value": 12345, "unit": words, "is_counted": True}]
    }
    error = {**identity(test, stack, "no_recompiles"), "kind": "gate-error", "error": "no call"}
    more = [
        gate(test, stack, "max_memory of fp32", "PASS", memory_ratio=0.5),
        gate(test, stack, "max_compile_time", "PASS", first_call_s=61.2),
        *(red_cost(test=test), drawn, other, error, told(test, "failed", stack)),
    ]
    page = opened(
        [about(), *ratio(test, stack, "FAIL"), *more], viewport={"width": 1280, "height": 900}
    )
    assert "not checked" in page.locator("#tests-table").inner_text()
    table = page.locator(".scroll", has=page.locator("#tests-table"))
    assert table.evaluate("one => one.scrollWidth - one.clientWidth") == 0
    page.set_viewport_size({"width": 800, "height": 900})  # narrower, it is scrolled by itself
    assert page.evaluate("document.documentElement.scrollWidth") <= 800


def contrast(page, name, behind="--paper"):
    """The ratio of WCAG 2.2 between two colours of the page."""
    channels = page.evaluate(
        """names => names.map(name => {
            const probe = document.createElement('i');
            document.body.append(probe);
            probe.style.color = `var(${name})`;
            const found = getComputedStyle(probe).color.match(/[\\d.]+/g).slice(0, 3).map(Number);
            probe.remove();
            return found;
        })""",
        [name, behind],
    )
    lights = []
    for colour in channels:
        linear = [
            c / 12.92 if c <= 0.04045 else ((c + 0.055) / 1.055) ** 2.4
            for c in (value / 255 for value in colour)
        ]
        lights.append(0.2126 * linear[0] + 0.7152 * linear[1] + 0.0722 * linear[2])
    return (max(lights) + 0.05) / (min(lights) + 0.05)


COLOURS = ("ink", "muted", "link", "FAIL", "INCONCLUSIVE", "PASS", "NOT_APPLICABLE")


@pytest.mark.parametrize("scheme", ["light", "dark"])
def test_colours_follow_the_system_and_the_button_and_can_be_read(opened, scheme):
    page = opened(color_scheme=scheme)

    def is_dark():
        colour = page.evaluate("getComputedStyle(document.body).backgroundColor")
        return max(map(int, re.findall(r"\d+", colour))) < 64

    assert is_dark() is (scheme == "dark")
    for behind in ("--paper", "--raised"):
        assert all(contrast(page, f"--{name}", behind) >= 4.5 for name in COLOURS)
    page.locator("#theme").press("Enter")
    assert is_dark() is (scheme == "light")
    assert all(contrast(page, f"--{name}") >= 4.5 for name in COLOURS)


def test_the_keyboard_reaches_everything_and_shows_where_it_is(opened):
    page = opened()
    page.keyboard.press("Tab")
    assert page.evaluate("document.activeElement.className") == "skip"
    seen = set()
    for _ in range(150):
        page.keyboard.press("Tab")
        what = page.evaluate(
            """() => {
                const at = document.activeElement, style = getComputedStyle(at);
                return [at.nodeName.toLowerCase(), at.id, at.className.baseVal ?? at.className,
                        style.outlineStyle !== 'none' && parseFloat(style.outlineWidth) > 0];
            }"""
        )
        if what[0] == "body":
            break
        assert what[3], f"{what} has the focus and does not show it"
        seen.add(what[0])
        seen.add(what[1])
    assert {"a", "button", "input", "summary", "theme", "filter"} <= seen


def test_paper_shows_what_is_folded_and_the_charts(opened):
    page = opened(color_scheme="dark")
    folded = page.locator("details.rest .gate .reason").first
    assert not folded.is_visible()
    page.emulate_media(media="print", color_scheme="dark")
    assert folded.evaluate("one => one.getBoundingClientRect().height") > 0
    assert page.evaluate("getComputedStyle(document.body).backgroundColor") == "rgb(255, 255, 255)"
    assert not page.locator("nav").is_visible() and not page.locator("#filter").is_visible()
    page.emulate_media(media="screen")
    before = page.locator("details[open]").count()
    page.evaluate("dispatchEvent(new Event('beforeprint'))")
    assert page.locator("details:not([open])").count() == 0
    assert page.locator(".plot:not(:has(svg))").count() == 0
    assert page.locator("[data-table]:not(:has(table))").count() == 0
    page.evaluate("dispatchEvent(new Event('afterprint'))")
    assert page.locator("details[open]").count() == before
    assert page.pdf(format="A4").startswith(b"%PDF")


def test_without_javascript_the_tables_are_there(opened):
    page = opened(ready=False, java_script_enabled=False)
    assert page.locator("noscript p").is_visible()
    assert page.locator("#tests-table tbody tr").count() == 6
    assert page.get_by_text("alpha_prod_t = self.alphas_cumprod[timestep]").is_visible()
    assert not page.locator(".plot").first.is_visible()
    assert not page.locator("#filter").is_visible() and not page.locator("#theme").is_visible()


# --- strangers


HOSTILE = (
    "</script><script>window.pwned = 1</script>",
    "\"><img src=x onerror='window.pwned = 1'>",
    "<!--<script>",
    "javascript:window.pwned=1",
    "{{ 7 * 7 }}${window.pwned = 1}",
    "]]></style><style>*{display:none}</style>",
    "\u202egnp.exe\u2066\x00\x1b[31m\ud800 end",
    "x" * 10_000,
    "https://example.com/pixel.png",
)


SECTIONS = [
    "base", "tests", "ladder", "structure", "images", "ratio", "other", "pictures", "history",
    "proofs", "session",
]  # fmt: skip


@pytest.mark.parametrize("word", HOSTILE, ids=range(len(HOSTILE)))
def test_nothing_that_a_name_holds_is_executed_or_breaks_the_page(opened, word):
    site = {"reason": word, "file": word, "line": 3, "source": word, "function": word,
            "remedy": word, "skipped": word}  # fmt: skip
    test = f"test_{word}.py::test_{word}[{word}]"
    lines = [
        about(subject=word, commit=word, pipeline=word, environment={word: word},
              options={word: word, "prompts": [word]}, device={"kind": word, "name": word},
              base={"rev": word, word: word},
              command={"program": [word], "words": [word, word], "tests": [word], "folder": word,
                       "environment": {word: word}}),
        *ratio(test, word, "FAIL", over=word),
        gate(test, word, f"no_graph_breaks {word}", "FAIL", reason=word, found=word, breaks=1,
             components={word: {"breaks": [site]}},
             new_sites=[word, site, {"what": word, "component": word}],
             base={word: 1}, head={word: 2}),
        {**images(test, word, "FAIL", [word], prompts=(word,)), "claim": "image_similarity"},
        gate(test, word, word, "INCONCLUSIVE", reason=word),
        {"kind": "proof", "source": word, "stack": word,
         "proofs": [{"technique": word, "found": word}]},
        {"kind": "not-run", "test": test, "claim": word},
        {**ladder()[1], "stack": word, "known_slow": [word], "reason": word},
        {**told(test, "failed", word, [word]), "error": word,
         "cause": {"kind": word, "found": word, "next_step": word, "place": word, "source": word}},
    ]  # fmt: skip
    ratio_line = next(line for line in lines if line["kind"] == "gate")
    ratio_line["figures"]["stages"] = {"baseline": {"call_s": 1.0, "components": {word: 1.0}}}
    history = series(test=word, claim=word, figure=word, stack=word)
    before = series(test=test, claim=ratio_line["claim"], stack=word)
    for point in before.points:
        vars(point).update(commit=word, subject=word, verdict=word, at=word)
    page = opened(lines, [history, before], **PHONE)
    page.evaluate("dispatchEvent(new Event('beforeprint'))")  # unfolds and draws everything
    page.evaluate("dispatchEvent(new Event('afterprint'))")
    assert page.evaluate("window.pwned") is None
    assert page.locator("script").count() == 5
    assert page.locator("style:not(svg style)").count() == 1
    assert page.locator("[onerror], a[href^='javascript'], img:not([src^='data:'])").count() == 0
    assert page.locator("#tests-table tbody tr").count() == 2
    sections = page.locator("main > section").evaluate_all("found => found.map(one => one.id)")
    assert sections == SECTIONS
    assert page.locator("#session h3", has_text="Again").is_visible()
    assert page.locator("details.gate svg circle").count() > 0
    assert page.evaluate("document.documentElement.scrollWidth") <= 360
    assert "\u202e" not in page.content() and "\x00" not in page.content()


# --- size


@pytest.mark.slow
def test_500_tests_with_pictures_stay_below_5_mb_and_open(report, open_file, tmp_path):
    lines = many(500)
    names = strips(tmp_path / "pictures", 12)
    for line in lines:
        if line.get("gate") == "image_similarity":
            line["figures"]["pictures"] = names
    path = report(lines)
    assert path.stat().st_size < 5_000_000
    page = open_file(path)
    assert page.locator("#tests-table tbody tr").count() == 500
    assert page.locator("details.gate").count() == 2000
    assert page.locator("h1").inner_text().endswith("FAIL of 2000 gates")
    assert page.locator("img").count() > 8
    assert "left out, so that this file stays below 5 MB" in page.locator("header").inner_text()
    opened_ms = page.evaluate("performance.getEntriesByType('navigation')[0].domComplete")
    print(f"500 tests, {path.stat().st_size} bytes: open after {opened_ms:.0f} ms")
    page.get_by_label("filter").fill("test_case_499")
    assert len(names_shown(page)) == 1


# --- GPU cost


def test_the_bars_of_a_gpu_cost_stand_without_a_script_and_fit_a_phone(opened):
    page = opened(
        [about(), red_cost(), told(COST, "failed")], ready=False, java_script_enabled=False
    )
    gate = gate_of(page, "FAIL", "gpu_cost")
    bars = gate.locator(".bar svg")
    assert bars.count() == 12
    unet = gate.locator(".bar", has_text="unet").nth(1)
    cast = unet.locator("rect.c-cast")
    legend = gate.locator(".bars").first.locator("i.c-cast")
    assert cast.evaluate("one => getComputedStyle(one).fill") == legend.evaluate(
        "one => getComputedStyle(one).backgroundColor"
    )
    assert unet.locator("svg").bounding_box()["width"] > 300
    phone = opened([about(), red_cost(), told(COST, "failed")], **PHONE)
    assert phone.evaluate("document.documentElement.scrollWidth") <= 360
    box = gate_of(phone, "FAIL", "gpu_cost").locator(".bar svg").nth(1).bounding_box()
    assert box["width"] > 280


def test_the_colours_of_kinds_can_be_told_from_paper(opened):
    for scheme in ("light", "dark"):
        page = opened([about(), red_cost(), told(COST, "failed")], color_scheme=scheme)
        ratios = page.evaluate(
            """() => {
              const light = text => {
                const [r, g, b] = text.match(/[\\d.]+/g).map(Number).map(v => v / 255)
                  .map(v => v <= .04045 ? v / 12.92 : ((v + .055) / 1.055) ** 2.4);
                return .2126 * r + .7152 * g + .0722 * b;
              };
              const paper = light(getComputedStyle(document.body).backgroundColor);
              const names = ["gemm", "conv", "attention", "triton_template", "pointwise",
                "triton_pointwise", "reduction", "triton_reduction", "copy", "cast", "layout",
                "opaque", "f64", "f32", "tf32", "b16", "i8", "f8", "other"];
              return names.map(name => {
                const one = document.body.appendChild(document.createElement("i"));
                one.className = `c-${name}`;
                const two = [paper, light(getComputedStyle(one).color)].sort((a, b) => b - a);
                return [name, (two[0] + .05) / (two[1] + .05)];
              });
            }"""
        )
        assert [name for name, ratio in ratios if ratio < 3] == [], (scheme, ratios)
