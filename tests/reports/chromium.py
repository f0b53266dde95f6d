"""The Chromium of this machine: looked for, never downloaded."""

import shutil

BROWSERS = ("chromium", "chromium-browser", "google-chrome", "google-chrome-stable")
FLAGS = (
    "--no-sandbox",
    "--disable-gpu",
    "--disable-quic",
    "--no-first-run",
    "--disable-background-networking",
    "--disable-component-update",
    "--disable-sync",
)


def find_chromium():
    """Where it is installed, or ``None``."""
    return next(filter(None, map(shutil.which, BROWSERS)), None)
