"""A real headless browser for the tests of pages; without one they are skipped, saying why."""

import contextlib
import os
import shutil
from dataclasses import dataclass, field
from typing import Any

import pytest

NAMES = ("chromium", "chromium-browser", "google-chrome", "google-chrome-stable")
FLAGS = (
    "--no-sandbox",  # containers run as root
    "--disable-gpu", "--disable-dev-shm-usage", "--disable-background-networking",
    "--disable-component-update", "--disable-sync", "--no-first-run",
)  # fmt: skip


def browser_path():
    """The browser to drive: `MINIPLM_BROWSER`, or the first of `NAMES` that is installed."""
    named = os.environ.get("MINIPLM_BROWSER")
    return named or next(filter(None, map(shutil.which, NAMES)), None)


@pytest.fixture(scope="session")
def chromium():
    """A running browser, one for each process of the tests."""
    playwright = pytest.importorskip("playwright.sync_api", reason="playwright is not installed")
    path = browser_path()
    if path is None:
        pytest.skip(f"no browser: none of {', '.join(NAMES)}, and MINIPLM_BROWSER is not set")
    with playwright.sync_playwright() as running:
        browser = running.chromium.launch(executable_path=path, args=FLAGS)
        yield browser
        browser.close()


@dataclass
class Visit:
    """An open page, with all that it said and asked for."""

    page: Any
    messages: list[str] = field(default_factory=list)
    requests: list[str] = field(default_factory=list)

    def script(self, code, argument=None):
        return self.page.evaluate(code, argument)

    def settle(self):
        """Wait until what was asked for is drawn, and scrolling has been told of."""
        self.script("() => new Promise(done => requestAnimationFrame(() => setTimeout(done, 50)))")

    def texts(self, selector):
        """Texts of all elements that match and can be seen."""
        found = self.page.locator(selector)
        return [each.inner_text() for each in found.all() if each.is_visible()]

    def attributes(self, selector, *names):
        """Of all elements that match, the values of some attributes, as numbers where they are."""
        code = "(all, names) => all.map(e => names.map(n => e.getAttribute(n)))"
        rows = self.page.eval_on_selector_all(selector, code, list(names))
        return [[_number(value) for value in row] for row in rows]


def _number(value):
    try:
        return float(value)
    except (TypeError, ValueError):
        return value


@contextlib.contextmanager
def visit(browser, path, *, width=1100, height=900, **options):
    """Open a file, offline; `options` are the context's, such as `color_scheme`.

    On leaving, whatever the page said on the console or asked the network for fails the test.
    """
    context = browser.new_context(
        viewport={"width": width, "height": height}, offline=True, **options
    )
    context.set_default_timeout(10_000)
    page = context.new_page()
    seen = Visit(page)
    page.on("console", lambda message: seen.messages.append(message.text))
    page.on("pageerror", lambda error: seen.messages.append(str(error)))
    page.on("request", lambda request: seen.requests.append(request.url))
    try:
        page.goto(path.as_uri())
        yield seen
        assert seen.messages == []
        assert [url for url in seen.requests if not url.startswith(("file:", "data:"))] == []
    finally:
        context.close()
