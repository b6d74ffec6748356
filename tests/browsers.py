"""Chromium for tests of pages: whoever imports this is skipped where Playwright or the browser is missing."""

import contextlib
import shutil

import pytest

playwright = pytest.importorskip("playwright.sync_api", reason="no playwright: pip install playwright")
CHROMIUM = shutil.which("chromium")
needs_browser = pytest.mark.skipif(CHROMIUM is None, reason="no browser: apt-get install chromium")
OFFLINE = ("file:", "blob:", "data:")


@contextlib.contextmanager
def launched(*words):
    """Yield a browser that plays sound without a click."""
    with playwright.sync_playwright() as driver:
        arguments = ["--autoplay-policy=no-user-gesture-required", *words]
        browser = driver.chromium.launch(executable_path=CHROMIUM, args=arguments)
        yield browser
        browser.close()


@contextlib.contextmanager
def visits(browser, *, width, height, timeout_s, offline=True):
    """Yield a function that opens a page; at the end no page may have complained, or left the disk if `offline`."""
    faults = []
    context = browser.new_context(accept_downloads=True, viewport={"width": width, "height": height})

    def open_page(url, script=None, ready=True):
        page = context.new_page()
        page.set_default_timeout(1000 * timeout_s)
        page.on("console", lambda message: faults.append(message.text))
        page.on("pageerror", lambda error: faults.append(str(error)))
        if offline:
            page.on("request", lambda request: request.url.startswith(OFFLINE) or faults.append(request.url))
        if script:
            page.add_init_script(script)
        page.goto(url)
        if ready:
            page.wait_for_selector("html[data-ready]", state="attached")
        return page

    yield open_page
    context.close()
    assert not faults


def frame(page):
    """Wait until the pictures of the last change are drawn."""
    page.evaluate("new Promise((done) => requestAnimationFrame(() => requestAnimationFrame(done)))")
