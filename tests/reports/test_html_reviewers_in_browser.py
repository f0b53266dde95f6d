"""The reviewer's parts of the HTML report in a real Chromium: words, digests, stages, the trend."""

import pytest
from report_sessions import about, images, ratio, series, strips, told

from pytest_diffspeed.records.finished import FinishedSession
from pytest_diffspeed.reports.html import write

TEST = "tests/test_a.py::test_slow[bf16]"
PHONE = {"viewport": {"width": 360, "height": 740}, "device_scale_factor": 2, "has_touch": True}
DIGEST = "0123456789abcdef" * 4
STAGES = {
    "baseline": {"call_s": 1.0, "first_step_s": 0.2, "steady_step_s": 0.1, "steady_steps": 5},
    "candidate": {"call_s": 0.5, "first_step_s": 0.1, "steady_step_s": 0.05, "steady_steps": 5},
}


@pytest.fixture
def opened(open_file, tmp_path):
    def opened_(**options):
        lines = [about(machine=DIGEST), *ratio(TEST, "bf16", "FAIL", need=1.8)]
        lines[-1]["figures"] |= {"stages": STAGES, "evidence_for_fail": 31.2}
        drawn = images(TEST, "bf16", "FAIL", strips(tmp_path / "pictures", 2))
        missed = [
            {"limit": f"psnr_{of}", "found": 46.64, "bound": 52.0} for of in ("mean", "worst")
        ]
        drawn["figures"]["misses"] = [*missed, *missed]  # a cell as wide as a phone
        cause = {"kind": "TEARDOWN", "found": "gone", "next_step": "see its traceback"}
        failed = {**told(TEST, "failed", "bf16"), "error": "teardown failed: gone", "cause": cause}
        path = tmp_path / "report.html"
        write(str(path), FinishedSession([*lines, drawn, failed], tmp_path, [series(points=14)]))
        return open_file(path, **options)

    return opened_


def test_a_word_is_explained_by_keyboard_and_the_tip_goes_away(opened):
    page = opened(reduced_motion="reduce")  # a tip goes when the page scrolls below the pointer
    tip = page.locator("#tip")
    word = page.locator("details.gate a.term", has_text="process instances")
    word.focus()
    assert "one process in which an arm was built" in tip.inner_text()
    described = word.get_attribute("aria-describedby")
    assert page.locator(f"#{described}").text_content() == tip.inner_text()
    page.keyboard.press("Escape")
    assert tip.is_hidden()
    word.evaluate("one => one.blur()")
    page.evaluate("new Promise(done => requestAnimationFrame(() => requestAnimationFrame(done)))")
    word.hover()
    tip.wait_for(state="visible")
    box = tip.bounding_box()
    assert box["x"] >= 0 and box["x"] + box["width"] <= 1180
    tip.hover()  # may be pointed at, as WCAG 2.2 asks
    assert tip.is_visible()
    page.mouse.move(2, 2)
    assert tip.is_hidden()


def test_a_word_is_explained_on_a_phone_where_nothing_hovers(opened):
    page = opened(**PHONE)
    page.locator("#pictures a.term", has_text="SSIM").first.tap()
    tip = page.locator("#tip")
    assert "by local structure: 1 is identical" in tip.inner_text()
    box = tip.bounding_box()
    assert box["x"] >= 0 and box["x"] + box["width"] <= 360 and box["y"] + box["height"] <= 740
    page.evaluate("for (const one of document.querySelectorAll('details')) one.open = true")
    assert page.evaluate("document.documentElement.scrollWidth") <= 360


def test_without_a_script_a_word_leads_to_its_meaning(opened):
    page = opened(ready=False, java_script_enabled=False)
    page.locator("details.gate a.term", has_text="e-values").click()
    assert page.url.endswith("#word-e-value")
    assert page.locator("#word-e-value").is_visible()
    assert page.locator(".copy:visible").count() == 0


def test_a_digest_unfolds_and_is_whole_for_who_copies_it(opened):
    page = opened()
    digest = page.locator("details.digest", has_text=DIGEST[:10]).first
    assert digest.inner_text().strip() == f"{DIGEST[:10]}…"
    digest.locator("summary").focus()
    page.keyboard.press("Enter")
    whole = digest.locator("> code")
    assert whole.inner_text() == DIGEST
    assert whole.evaluate("one => getComputedStyle(one).userSelect") == "all"


@pytest.mark.parametrize("options", [{}, PHONE], ids=["desk", "phone"])
def test_stages_stand_unfolded_with_their_numbers_in_words(opened, options):
    page = opened(**options)
    bars = page.locator(".stages .bar svg")
    assert bars.count() == 2 and bars.first.is_visible()
    long, short = (bars.nth(n).locator("rect").last.bounding_box() for n in (0, 1))
    assert long["x"] + long["width"] > short["x"] + short["width"]
    image = page.get_by_role("img", name="fp32: 1 s: first step 0.2 s, 20.0 %; steady steps 0.5 s")
    assert image.count() == 1
    colour = "one => getComputedStyle(one)"
    shown = bars.first.locator("rect.s-first").evaluate(f"{colour}.fill")
    assert page.locator(".stages i.s-first").evaluate(f"{colour}.backgroundColor") == shown


def test_the_trend_and_the_reason_are_read_without_unfolding(opened):
    page = opened(**PHONE)
    line = page.get_by_role("img", name="the last 12 runs: ")
    assert line.count() == 1 and line.is_visible()
    assert "1.2" in page.locator("#trend .moved").inner_text()
    page.locator("#trend a").first.click()
    assert page.locator("details.gate.v-FAIL").first.locator(".body").is_visible()
    assert page.locator(".failure .next").inner_text() == "next: see its traceback"
    heads = page.locator(".heads span").all_inner_texts()[:3]
    assert heads == ["baseline", "bf16", "difference × 8"]
    assert page.evaluate("document.documentElement.scrollWidth") <= 360
