"""A headless Chromium, as far as there is one."""

from __future__ import annotations

import os
import shutil
from collections.abc import Iterator

import pytest
from playwright.sync_api import Browser, sync_playwright

REQUIRED = "LRFIND_BROWSER_TESTS"
"""The environment variable that makes a missing browser a failure, if it is "required"."""


def browser() -> Iterator[Browser]:
    """Yield a browser, or skip the tests that need it where none is installed."""
    names = ("chromium", "chromium-browser", "google-chrome")
    path = next(filter(None, map(shutil.which, names)), None)
    if path is None:
        assert os.environ.get(REQUIRED) != "required", f"there is no browser: none of {names} was found"
        pytest.skip(f"no browser was found: none of {names}")
    with sync_playwright() as playwright:
        started = playwright.chromium.launch(executable_path=path, args=["--no-sandbox"])  # root needs it
        yield started
        started.close()
