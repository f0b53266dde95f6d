"""What the pages of a history cost: seconds to build them, bytes, milliseconds until they stand.

    make benchmark-site

The store is that of ``benchmarks/history.py``, 100 000 records of 12 tests, and one of many tests
with few sessions.  Each build is a process of its own.  Pages are opened from the disk in the
Chromium of this machine, afresh each time: ``first paint`` is the browser's word, ``ready`` is when
the script has filtered and drawn what is to be seen.
"""

from __future__ import annotations

import argparse
import os
import platform
import resource
import statistics
import sys
import tempfile
from collections.abc import Mapping
from importlib.metadata import version
from pathlib import Path
from typing import Any

sys.path.insert(0, str(Path(__file__).resolve().parents[1] / "tests" / "reports"))

from chromium import FLAGS, find_chromium
from history import COMMAND, measured, session, write_records
from playwright.sync_api import Browser, sync_playwright
from startup import processor

from pytest_diffspeed.records.journal import as_line

READY_MS = """() => new Promise(tell => {
    const plots = () => [...document.querySelectorAll('details[open] .plot')].slice(0, 2);
    const paint = () => performance.getEntriesByType('paint')[0]?.startTime;
    const end = () => document.documentElement.dataset.ready && paint() !== undefined
        && plots().every(plot => plot.firstChild);
    const wait = () => end() ? tell([paint(), performance.now()]) : requestAnimationFrame(wait);
    wait();
})"""


def many_tests(path: Path, tests: int, sessions: int) -> None:
    """Sessions in which each test of the usual ones stands many times under other names."""
    with path.open("w", encoding="utf-8") as file:
        for number in range(sessions):
            about, *others = session(number)
            file.write(as_line(about))
            for copy in range(tests // 12):
                for record in others:
                    file.write(as_line(_renamed(record, copy)))


def _renamed(record: Mapping[str, Any], copy: int) -> Mapping[str, Any]:
    if "test" not in record:
        return record
    return {**record, "test": record["test"].replace("test_pipelines", f"test_pipelines_{copy}")}


def _children_s() -> float:
    """Seconds of a core that processes of ours took which have ended."""
    used = resource.getrusage(resource.RUSAGE_CHILDREN)
    return used.ru_utime + used.ru_stime


def opened(browser: Browser, path: Path, times: int) -> tuple[float, float]:
    found = []
    for _ in range(times):
        page = browser.new_page(viewport={"width": 1180, "height": 900})
        page.goto(path.as_uri(), wait_until="commit")
        found.append(page.evaluate(READY_MS))
        page.close()
    paint, ready = (statistics.median(column) for column in zip(*found, strict=True))
    return paint, ready


def main() -> None:
    parser = argparse.ArgumentParser(description=(__doc__ or "").partition("\n")[0])
    parser.add_argument("--records", type=int, default=100_000, help="(default: 100000)")
    parser.add_argument("--tests", type=int, default=1200, help="of the second store (1200)")
    parser.add_argument("--times", type=int, default=5, help="how often each page is opened (5)")
    options = parser.parse_args()
    executable = find_chromium()
    if executable is None:
        sys.exit("no Chromium is installed; on Debian: apt-get install chromium")
    with tempfile.TemporaryDirectory() as name, sync_playwright() as playwright:
        browser = playwright.chromium.launch(executable_path=executable, args=list(FLAGS))
        for title in ("long", "wide"):
            folder = Path(name) / title
            folder.mkdir()
            lines = folder / "records.jsonl"
            if title == "long":
                sessions, records = write_records(lines, options.records)
                print(f"{records} records of 12 tests, {sessions} sessions")
            else:
                many_tests(lines, options.tests, 6)
                records = sum(1 for _ in lines.open(encoding="utf-8"))
                print(f"{records} records of {options.tests} tests, 6 sessions")
            store = ["--store", "sqlite:///history.sqlite"]
            measured(["-c", COMMAND, "history", "import", lines.name, *store], folder)
            for what in ("build", "build again"):
                words = ["history", "site", "--out", "pages", *store]
                before_s = _children_s()
                wall_s, peak_mib, _ = measured(["-c", COMMAND, *words], folder)
                own_s = _children_s() - before_s
                print(f"  {what:<14} {wall_s:6.2f} s, {own_s:.2f} s of a core, {peak_mib:.0f} MiB")
            pages = folder / "pages"
            sizes = {path: path.stat().st_size for path in pages.rglob("*") if path.is_file()}
            tests = sorted(pages.glob("tests/*.html"), key=sizes.__getitem__)
            print(f"  in all         {sum(sizes.values()) / 1e6:6.2f} MB in {len(sizes)} files")
            for what, page in (("overview", pages / "index.html"), ("largest test", tests[-1])):
                paint, ready = opened(browser, page, options.times)
                print(
                    f"  {what:<14} {sizes[page] / 1e6:6.2f} MB, first paint {paint:.0f} ms, "
                    f"ready {ready:.0f} ms",
                    flush=True,
                )
        browser.close()
    print("Measured on")
    print(
        f"  pytest-diffspeed {version('pytest-diffspeed')}, Python {platform.python_version()}, "
        f"{platform.system()} {platform.machine()}"
    )
    print(f"  {processor()}, {os.cpu_count()} logical cores")
    print(f"  load average of the last minute at the end: {os.getloadavg()[0]:.1f}")


if __name__ == "__main__":
    main()
