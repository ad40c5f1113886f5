"""The page in a real browser: no errors, no requests, nothing wider than a phone."""

import pytest

from browser import visit
from made_up_effects import effects
from made_up_report import report, selection
from miniplm.report.page import render_page

PHONE = 390


@pytest.fixture(scope="session")
def page_path(tmp_path_factory):
    """The page of a made-up report that has something in every section."""
    path = tmp_path_factory.mktemp("page") / "index.html"
    selections = [selection(effects=effects())]
    path.write_text(render_page(report(selections=selections)), encoding="utf-8")
    return path


def test_it_renders_without_errors_or_requests(chromium, page_path):
    with visit(chromium, page_path) as seen:
        assert seen.page.title() == report().title
        assert seen.texts("h1") == [report().title]


def test_a_phone_does_not_scroll_sideways(chromium, page_path):
    with visit(chromium, page_path, width=PHONE, height=800) as seen:
        assert seen.script("() => document.documentElement.scrollWidth") <= PHONE
