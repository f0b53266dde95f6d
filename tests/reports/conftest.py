"""A real Chromium for tests of the HTML report."""

import pytest
from chromium import BROWSERS, FLAGS, find_chromium

from tests.services import leave_out


@pytest.fixture(scope="module")  # its event loop runs no longer than its tests
def chromium():
    found = find_chromium()
    if found is None:
        leave_out(
            f"no browser is installed (looked for {', '.join(BROWSERS)}): the HTML report is not "
            "opened in one; on Debian: apt-get install chromium"
        )
    from playwright.sync_api import sync_playwright

    with sync_playwright() as playwright:
        browser = playwright.chromium.launch(executable_path=found, args=list(FLAGS))
        yield browser
        browser.close()


@pytest.fixture
def open_page(chromium):
    """Open a URL in a page.  In the end: no request beside what ``allowed`` says, no error, no word
    on the console.
    """
    contexts, heard, requests = [], [], []

    def open_(url, allowed, *, ready=True, **options):
        options = {"viewport": {"width": 1180, "height": 900}, **options}
        context = chromium.new_context(**options)
        contexts.append(context)
        context.set_default_timeout(20_000)

        def on_route(route):
            if allowed(route.request.url.partition("#")[0]):
                route.continue_()
            else:
                requests.append(route.request.url)
                route.abort()

        context.route("**/*", on_route)
        page = context.new_page()
        page.on("console", lambda message: heard.append(message.text))
        page.on("pageerror", lambda error: heard.append(str(error)))
        page.on("dialog", lambda dialog: (heard.append("a dialog"), dialog.dismiss()))
        page.goto(url)
        if ready:
            page.wait_for_selector("html[data-ready]")
        return page

    yield open_
    for context in contexts:
        context.close()
    assert requests == []
    assert heard == []


@pytest.fixture
def open_file(open_page):
    """Open a file that needs no other one."""

    def open_(path, **options):
        url = path.as_uri()
        return open_page(url, lambda asked: asked == url, **options)

    return open_
