"""The pages of a history in a real Chromium, from a disk and from a server: what a person does."""

import functools
import http.server
import re
import threading
from urllib.parse import unquote

import pytest
from report_sessions import SYNC, about, images, ratio, strips, structure

from pytest_diffspeed.commands.cli import main
from pytest_diffspeed.history.record import write
from pytest_diffspeed.history.url import parse_store
from pytest_diffspeed.records.finished import FinishedSession

STORE = "sqlite:///history.sqlite"
SLOW, WAITS = "tests/test_a.py::test_slow[bf16]", "tests/test_a.py::test_waits"
PHONE = {"viewport": {"width": 360, "height": 740}, "device_scale_factor": 2, "has_touch": True}
SESSIONS, JUMP, SYNC_COMES, UPGRADE = 24, 10, 12, 18
HOSTILE = (
    "</script><script>window.pwned = 1</script>",
    "\"'><img src=x onerror='window.pwned = 1'>",
    "{{ 7 * 7 }}${window.pwned = 1}",
    "\u202egnp.exe\u2066\x00\x1b[31m\ud800 ../../../etc/passwd é😀",
    "x" * 4_000,
)


def commit(number):
    return f"{number:040x}"[::-1]


def session_line(number, **changes):
    torch = "2.14.1" if number < UPGRADE else "2.15.0"
    return about(**{
        "session": f"{number:032x}", "commit": commit(number), "subject": f"Change {number}",
        "committed_at": f"2026-10-{number + 1:02d}T12:00:00+00:00", "dirty": False,
        "at": f"2026-10-{number + 1:02d}T13:00:00+00:00",
        "environment": {"torch": torch}, "machine": torch.encode().hex(), **changes,
    })  # fmt: skip


def stored(folder, records):
    write(parse_store(STORE), FinishedSession(records, folder))


def built(folder, out="pages"):
    words = ["--store", STORE, "--rootdir", str(folder), "--title", "Our speed"]
    assert main(["history", "site", "--out", str(folder / out), *words]) == 0
    return folder / out


@pytest.fixture(scope="module")
def site(tmp_path_factory):
    folder = tmp_path_factory.mktemp("site")
    for number in range(SESSIONS):
        syncs = [SYNC] if number >= SYNC_COMES else []
        stored(folder, [
            session_line(number),
            *ratio(SLOW, "bf16", "PASS", true=1.5 if number < JUMP else 1.2, seed=number),
            *structure(WAITS, "compile", "FAIL", syncs=syncs),
            *structure(WAITS, "channels_last", "PASS"),
            images(SLOW, "bf16", "PASS", strips(folder / "drawn", 2, seed=number)),
        ])  # fmt: skip
    return built(folder)


@pytest.fixture
def opened(open_page):
    def opened_(page, pages, end="", **options):
        below = pages.as_uri() + "/"
        return open_page(f"{below}{page}{end}", lambda url: url.startswith(below), **options)

    return opened_


def page_of(pages, word):
    (found,) = pages.glob(f"tests/test-{word}-*.html")
    return found.relative_to(pages).as_posix()


def stacks_shown(page):
    rows = page.locator("#tests-table tbody tr:visible")
    return rows.locator("td.stack").all_inner_texts()


def state_of(page):
    return unquote(page.url.partition("#")[2])


def test_the_overview_has_each_test_and_stack_with_what_changed(site, opened):
    page = opened("index.html", site)
    assert page.title() == "Our speed"
    assert page.locator("h1").inner_text() == "2 tests over 24 commits, 2 worse"
    assert stacks_shown(page) == ["bf16", "compile", "channels_last"]  # worst first
    waits = page.locator("#tests-table tbody tr").nth(1)
    assert waits.locator("svg circle.worse").count() == 2  # syncs once, and a step
    assert waits.locator("svg path.environment").count() == 3
    text = page.locator("#jumps").inner_text()
    assert f"jump (worse): 0 → 1, after {commit(11)[:10]} by {commit(12)[:10]} (Change 12)" in text
    assert "torch" in page.locator("#environments").inner_text()
    assert "2.14.1 → 2.15.0" in page.locator("#environments").inner_text()


def test_filter_stack_state_and_order_stand_in_the_url_and_the_back_button_undoes_them(
    site, opened
):
    page = opened("index.html", site)
    page.get_by_label("filter").press_sequentially("test_WAITS")
    assert stacks_shown(page) == ["compile", "channels_last"]
    assert state_of(page) == "filter=test_WAITS"
    assert page.locator("#jumps li:visible").count() == 2
    page.locator("#stack").select_option("compile")
    assert stacks_shown(page) == ["compile"]
    page.get_by_role("button", name="worse").click()
    assert page.get_by_text("No test fits this filter.").is_visible()
    assert state_of(page) == "filter=test_WAITS&stack=compile&hide=worse"
    page.go_back()
    assert stacks_shown(page) == ["compile"]
    page.go_back()
    page.go_back()  # all that was typed at once
    assert len(stacks_shown(page)) == 3 and "#" not in page.url
    assert page.get_by_label("filter").input_value() == ""
    head = page.locator("#tests-table thead th", has_text="stack")
    head.get_by_role("button").click()
    assert stacks_shown(page) == ["bf16", "channels_last", "compile"]
    page.go_back()
    assert stacks_shown(page) == ["bf16", "compile", "channels_last"]
    assert head.get_attribute("aria-sort") is None


def test_a_link_opens_what_it_names(site, opened):
    page = opened("index.html", site, "#filter=waits&stack=compile&sort=-2")
    assert stacks_shown(page) == ["compile"]
    assert page.get_by_label("filter").input_value() == "waits"
    page.locator("#tests-table tbody tr:visible th a").click()
    page.wait_for_selector("html[data-ready]")
    assert state_of(page) == "stack=compile"
    assert (
        page.locator(".block:visible").count()
        == page.locator('.block[data-stack="compile"]').count()
    )
    page.go_back()
    page.wait_for_selector("html[data-ready]")
    assert stacks_shown(page) == ["compile"]


def test_a_test_shows_its_jumps_with_the_lines_that_moved(site, opened):
    page = opened(page_of(site, "waits"), site, "#stack=compile&changed=yes")
    block = page.locator(".block:visible", has_text="syncs a step").first
    assert block.locator("svg circle").count() == UPGRADE
    assert f"git log --oneline {commit(11)[:10]}..{commit(12)[:10]}" in block.inner_text()
    moved = block.locator("details.data", has_text="Lines that moved")
    assert "new diffusers/schedulers/scheduling_ddim.py:282 in step" in moved.inner_text()
    assert "alpha_prod_t = self.alphas_cumprod[timestep]" in moved.inner_text()
    page.get_by_role("button", name="only what changed").click()
    after = page.locator(".block:visible", has_text="syncs a step")
    assert after.count() == 2
    assert "it goes on in another environment: torch" in after.nth(1).inner_text()


def test_a_commit_is_chosen_in_a_chart_by_keys_and_by_its_link(site, opened):
    page = opened(page_of(site, "slow"), site)
    page.locator(".plot svg").first.wait_for()
    svg = page.locator(".block", has_text="min_speedup").first.locator("svg")
    box = svg.locator("circle").nth(5).bounding_box()
    page.mouse.click(box["x"] + box["width"] / 2, box["y"] + 40)
    assert state_of(page) == f"commit={commit(5)}"
    assert page.locator("#chosen-commit").inner_text() == commit(5)[:10]
    assert "ratio: min_speedup over fp32 per call" in page.locator("#chosen").inner_text()
    page.get_by_role("button", name="later").press("Enter")
    assert page.locator("#chosen-commit").inner_text() == commit(6)[:10]
    page.go_back()
    assert page.locator("#chosen-commit").inner_text() == commit(5)[:10]
    page.get_by_role("button", name="close").click()
    assert not page.locator("#chosen").is_visible() and "#" not in page.url

    linked = opened(page_of(site, "slow"), site, f"#commit={commit(20)[:8]}")
    assert linked.locator("#chosen-subject").inner_text() == "Change 20, 2026-10-21 12:00"


def test_every_point_can_be_read_as_a_table(site, opened):
    page = opened(page_of(site, "waits"), site)
    block = page.locator(".block", has_text="syncs once").first
    block.get_by_text("Every point as a table").click()
    rows = block.locator("[data-of] tbody tr")
    rows.first.wait_for()
    assert rows.count() == UPGRADE
    assert "Change 12" in rows.nth(12).inner_text()


def test_pictures_that_are_drawn_over_stay_from_build_to_build(tmp_path, opened):
    for number in range(3):
        drawn = strips(tmp_path / "drawn", 1, seed=number)
        stored(tmp_path, [session_line(number), images(SLOW, "bf16", "PASS", drawn)])
        pages = built(tmp_path)
    page = opened(page_of(pages, "slow"), pages)
    shown = page.locator("#pictures img")
    assert shown.count() == 3 and len(list(pages.glob("pictures/*"))) == 3
    page.wait_for_function(
        "[...document.querySelectorAll('#pictures img')].every(one => one.naturalWidth)"
    )
    assert "2026-10-03" in page.locator("#pictures figcaption").first.inner_text()
    other = built(tmp_path, "elsewhere")  # nobody kept the first two for it
    assert len(list(other.glob("pictures/*"))) == 1
    text = (other / page_of(other, "slow")).read_text("utf-8")
    assert "Of 2 sessions the pictures are not there any more" in text


@pytest.mark.parametrize("scheme", ["light", "dark"])
def test_a_phone_scrolls_no_page_sideways_and_colours_follow_the_system(site, opened, scheme):
    for name in ("index.html", page_of(site, "slow"), page_of(site, "waits")):
        page = opened(name, site, color_scheme=scheme, **PHONE)
        page.wait_for_timeout(50)
        assert page.evaluate("document.documentElement.scrollWidth") <= 360
        colour = page.evaluate("getComputedStyle(document.body).backgroundColor")
        assert (max(map(int, re.findall(r"\d+", colour))) < 64) is (scheme == "dark")


def test_without_javascript_values_and_jumps_are_there(site, opened):
    page = opened("index.html", site, ready=False, java_script_enabled=False)
    assert page.locator("noscript p").is_visible()
    assert page.locator("#tests-table tbody tr svg").count() > 3
    assert "jump (worse)" in page.locator("#jumps").inner_text()
    page = opened(page_of(site, "waits"), site, ready=False, java_script_enabled=False)
    assert "Lines that moved" in page.locator("main").inner_text()


@pytest.fixture
def server(site):
    handler = functools.partial(_Silent, directory=str(site))
    with http.server.ThreadingHTTPServer(("127.0.0.1", 0), handler) as serving:
        thread = threading.Thread(target=serving.serve_forever)
        thread.start()
        yield f"http://127.0.0.1:{serving.server_port}/"
        serving.shutdown()
        thread.join()


class _Silent(http.server.SimpleHTTPRequestHandler):
    def log_message(self, *words):
        pass


def test_a_server_shows_the_same(site, server, open_page):
    page = open_page(f"{server}index.html", lambda url: url.startswith(server))
    page.locator("#jumps a").first.click()
    page.wait_for_selector("html[data-ready]")
    page.locator(".plot svg").first.wait_for()
    assert page.locator("#chosen").is_visible()
    page.locator("#up").click()
    page.wait_for_selector("#tests-table")


@pytest.mark.parametrize("word", HOSTILE, ids=range(len(HOSTILE)))
def test_nothing_that_a_name_holds_runs_or_leaves_the_folder(tmp_path, opened, word):
    test = f"test_{word}.py::test_{word}[{word}]"
    site_of = {**SYNC, "source": word, "function": word, "file": word}
    for number in range(3):
        line = session_line(
            number, subject=word, commit=f"{number}{word}", pipeline=word,
            environment={word: f"{word}{number // 2}"}, machine=f"{word}{number // 2}",
            device={"kind": word, "name": word},
        )  # fmt: skip
        syncs = [site_of] if number % 2 else []
        stored(tmp_path, [
            line,
            *ratio(test, word, "PASS", over=word),
            *structure(test, word, "FAIL", syncs=syncs),
            images(test, word, "PASS", [word]),
        ])  # fmt: skip
    before = {path for path in tmp_path.parent.iterdir()}
    pages = built(tmp_path)
    assert {path for path in tmp_path.parent.iterdir()} == before
    (name,) = pages.glob("tests/*")
    assert re.fullmatch(r"[a-z0-9-]{1,75}\.html", name.name)
    for page_name in ("index.html", f"tests/{name.name}"):
        page = opened(page_name, pages)
        assert page.evaluate("window.pwned") is None
        assert page.locator("img").count() == 0 and page.locator("main section").count() >= 1
        assert page.evaluate("document.documentElement.scrollWidth") <= 1180
    page.locator("#stack").select_option(index=1)
    assert page.locator(".block:visible").count() == page.locator(".block").count()
    page.locator(".plot svg").first.click(position={"x": 100, "y": 60})
    assert page.locator("#chosen").is_visible() and page.evaluate("window.pwned") is None
