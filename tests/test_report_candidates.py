"""The page's part on near-duplicates and groups says what the tables say."""

import re

import pytest

from made_up_report import report
from miniplm.report.candidate_tables import (
    CandidateTables,
    ClusterRow,
    DuplicatesRow,
    GroupRow,
    NearDuplicates,
)
from miniplm.report.page import render_page
from test_report_page import HOSTILE, check, poisoned

FOUND = NearDuplicates(
    num_sequences=41_000, num_clusters=120, in_clusters=2_400, redundant=2_280, similarity=0.8,
    ngram=5, recall=0.947, left_out=False,
    domains=[DuplicatesRow("logs", 4_000, 2_000, 1_900), DuplicatesRow("code", 9_000, 400, 380)],
    largest=[ClusterRow(310, "logs, code", "Jan 01 <b>kernel</b>: usb 1-1")],
)  # fmt: skip
GROUPS = [
    GroupRow("group 0", 30_000, [" shall", "\n"], [0.5, 0.07]),
    GroupRow("group 1", 11_000, ["$", "lemma"], [0.5, 0.93]),
]


@pytest.fixture(scope="module")
def html():
    return render_page(report(candidates=CandidateTables(FOUND, GROUPS, ["even", "raw"])))


@pytest.fixture(scope="module")
def page(html):
    return check(html)


def test_near_duplicates_stand_with_their_domains_and_the_largest_clusters(page):
    assert page.row("logs", "Nothing new") == ["4,000", "2,000", "1,900", "47.5 %"]
    text = re.sub(r"\s+", " ", "".join(page.texts))
    assert "2,400 of 41,000 candidates are in 120 clusters" in text
    assert "2,280 of them say nothing new" in text
    assert "finds 94.7 % of the pairs" in text
    assert "Jan 01 <b>kernel</b>: usb 1-1" in text
    assert "one_per_cluster" in text


def test_what_was_left_out_is_said_so(html):
    from dataclasses import replace

    tables = CandidateTables(replace(FOUND, left_out=True))
    left_out = render_page(report(candidates=tables))
    assert "left out before anything was scored" in left_out
    assert "left out before anything was scored" not in html
    assert 'id="groups"' not in left_out


def test_every_group_has_its_share_in_every_selection(page):
    assert page.row("group 1", "Marked by")[-2:] == ["50.0 %", "93.0 %"]
    assert page.row("group 0", "Marked by")[-2:] == ["50.0 %", "7.0 %"]


def test_a_run_without_them_has_no_such_sections():
    html = render_page(report())
    assert 'id="near-duplicates"' not in html
    assert 'id="groups"' not in html


def test_no_text_gets_out_of_its_place():
    tables = CandidateTables(FOUND, GROUPS, ["even", "raw"])
    html = render_page(poisoned(report(candidates=tables)))
    check(html)
    assert HOSTILE not in html
