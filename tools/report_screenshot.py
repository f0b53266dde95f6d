"""The picture of the HTML report in the documentation: a desk in light, a phone in dark.

python tools/report_screenshot.py build/report.html docs/images/report.png
"""

from __future__ import annotations

import io
import sys
from pathlib import Path

sys.path.insert(0, str(Path(__file__).resolve().parents[1] / "tests" / "reports"))

from chromium import FLAGS, find_chromium
from PIL import Image
from playwright.sync_api import sync_playwright

HEIGHT = 1240
GAP = 24
PATIENCE_MS = 180_000
"""The picture is of what stands there in the end, on a busy machine too."""


def main(report: str, target: str) -> None:
    with sync_playwright() as playwright:
        browser = playwright.chromium.launch(executable_path=find_chromium(), args=list(FLAGS))
        desk = browser.new_page(viewport={"width": 1080, "height": HEIGHT})
        phone = browser.new_page(viewport={"width": 360, "height": HEIGHT}, color_scheme="dark")
        shots = []
        for page, place in ((desk, "body"), (phone, "#ratio")):
            page.set_default_timeout(PATIENCE_MS)
            page.goto(Path(report).resolve().as_uri())
            page.locator(place).evaluate("place => place.scrollIntoView({behavior: 'instant'})")
            page.wait_for_timeout(1000)
            shots.append(Image.open(io.BytesIO(page.screenshot())).convert("RGB"))
        browser.close()
    width = shots[0].width + GAP + shots[1].width
    sheet = Image.new("RGB", (width, HEIGHT), "#d8d8d4")
    sheet.paste(shots[0], (0, 0))
    sheet.paste(shots[1], (shots[0].width + GAP, 0))
    sheet.quantize(160).save(target, optimize=True)


if __name__ == "__main__":
    main(*sys.argv[1:])
