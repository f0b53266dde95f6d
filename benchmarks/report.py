"""What the HTML report costs: seconds to write it, bytes, milliseconds until a browser shows it.

    make benchmark-report

The session is made up: tests with four gates each (breaks, syncs, images, a ratio of 20 pairs), one
in ten of them red.  It is opened in the Chromium of this machine, afresh each time.
"""

from __future__ import annotations

import argparse
import statistics
import sys
import tempfile
import time
from pathlib import Path

sys.path.insert(0, str(Path(__file__).resolve().parents[1] / "tests" / "reports"))

from chromium import FLAGS, find_chromium
from playwright.sync_api import sync_playwright
from report_sessions import many, strips

from pytest_diffspeed.records.finished import FinishedSession
from pytest_diffspeed.reports.html import write

READY_MS = """() => {
    const load = performance.getEntriesByType('navigation')[0];
    const paint = performance.getEntriesByType('paint')[0];
    return [load.domInteractive, paint?.startTime ?? NaN, load.domComplete];
}"""


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--tests", type=int, nargs="*", default=[50, 500, 2000])
    parser.add_argument("--times", type=int, default=5, help="how often each is opened")
    arguments = parser.parse_args()
    executable = find_chromium()
    if executable is None:
        sys.exit("no Chromium is installed; on Debian: apt-get install chromium")
    print("tests  pictures  written in  size     parsed   first paint  complete")
    with sync_playwright() as playwright, tempfile.TemporaryDirectory() as folder:
        browser = playwright.chromium.launch(executable_path=executable, args=list(FLAGS))
        names = strips(Path(folder) / "pictures", 12)
        for tests in arguments.tests:
            for pictures in ([], names):
                path = Path(folder) / "report.html"
                lines = many(tests)
                for line in lines:
                    if line.get("gate") == "image_similarity":
                        line["figures"]["pictures"] = pictures
                began = time.perf_counter()
                write(str(path), FinishedSession(lines, Path(folder)))
                written_s = time.perf_counter() - began
                found = []
                for _ in range(arguments.times):
                    page = browser.new_page(viewport={"width": 1180, "height": 900})
                    page.goto(path.as_uri())
                    page.wait_for_timeout(300)
                    found.append(page.evaluate(READY_MS))
                    page.close()
                parsed, paint, complete = (
                    statistics.median(column) for column in zip(*found, strict=True)
                )
                print(
                    f"{tests:<5}  {'yes' if pictures else 'no':<8}  {written_s:<8.2f} s  "
                    f"{path.stat().st_size / 1e6:.2f} MB  {parsed:4.0f} ms  {paint:8.0f} ms  "
                    f"{complete:6.0f} ms",
                    flush=True,
                )
        browser.close()


if __name__ == "__main__":
    main()
