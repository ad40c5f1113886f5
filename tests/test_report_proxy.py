import dataclasses
import doctest

import numpy as np
import pytest

from made_up_proxy import judgement, predicted
from made_up_report import DOMAINS, report
from miniplm.errors import ArtefactError
from miniplm.manifest import Manifest
from miniplm.report import proxy as views
from miniplm.report.page import render_page
from miniplm.report.proxy_content import read_predicted, selection_warnings
from miniplm.scoring.proxy_bar import Comparison, judge
from miniplm.scoring.proxy_config import ProxyConfig
from miniplm.scoring.proxy_held_out import HELD_OUT_NAME, HeldOut
from miniplm.selection.config import SelectionConfig
from test_report_page import HOSTILE, check, poisoned


@pytest.fixture(scope="module")
def page():
    return check(render_page(report(predicted=predicted())))


def test_only_a_run_with_a_proxy_says_anything_of_one(page):
    assert 'id="predicted"' in page.html
    assert 'href="#predicted"' in page.html
    assert 'id="predicted"' not in check(render_page(report())).html


def test_what_was_scored_and_what_it_cost(page):
    text = " ".join(" ".join(page.texts).split())
    assert "Scored by the teacher 2,061 of 41,000 sequences, 5.0 %" in text
    assert "4.72 TFLOPs 19.6 % of the 24.1 TFLOPs for scoring everything" in text
    assert "Spearman with the true scores 0.908 0.893 to 0.921" in text
    assert "Measured on 410 held-out sequences" in text


def test_every_selection_has_its_agreement_its_bar_and_its_outcome(page):
    assert page.row("miniplm", "Selection") == [
        "the whole corpus", "50.0 %", "", "87.8 %", "84.8 to 89.8 %", "0.76", "0.70",
        "above the bar",
    ]  # fmt: skip
    assert page.row("by-domain", "Selection")[3:] == [
        "70.0 %", "67.0 to 72.0 %", "0.40", "0.50", "under the bar, allowed",
    ]  # fmt: skip
    assert page.row("chance", "Selection") == ["does not look at the teacher’s scores"]  # noqa: RUF001


def test_other_ratios_are_shown_over_the_corpus_and_inside_domains(page):
    (table,) = [table for table in page.tables if table[0][:2] == ["Ranked", "Kept"]]
    assert [[row[0], row[1], row[3], row[5]] for row in table[1:]] == [
        ["the whole corpus", "50.0 %", "87.8 %", "0.76"],
        ["inside each domain", "50.0 %", "77.5 %", "0.55"],
        ["the whole corpus", "25.0 %", "75.7 %", "0.68"],
        ["inside each domain", "25.0 %", "64.4 %", "0.53"],
    ]


def test_domains_are_shown_largest_first(page):
    (table,) = [table for table in page.tables if "Agreement on its top half" in table[0]]
    assert table[1][:2] == ["books", "81"]
    assert sorted(row[0] for row in table[1:]) == sorted(DOMAINS)


@pytest.mark.parametrize(
    ("found", "outcome"),
    [
        (judgement(0.851), "above the bar"),
        (judgement(0.849), "under the bar"),
        (judgement(0.849, allowed=True), "under the bar, allowed"),
        (judgement(0.76, within=True, allowed=True), "above the bar"),
        (judgement(0.74, within=True), "under the bar"),
        (dataclasses.replace(judgement(0.52, within=True), bar=0.01), "may be chance"),
    ],
)
def test_the_outcome_is_that_of_the_bar(found, outcome):
    view = views.predicted_view(predicted(selections={"one": found}))
    assert view.selections[0].agreement.outcome == outcome


def test_a_selection_under_the_bar_carries_a_warning():
    (warning,) = selection_warnings(judgement(0.7, within=True, allowed=True))
    assert "kappa 0.40, the bar 0.5" in warning
    assert "allow_low_agreement let through" in warning
    (warning,) = selection_warnings(judgement(0.7))  # the bar was raised afterwards
    assert "let through" not in warning
    assert selection_warnings(judgement()) == selection_warnings(None) == []


@pytest.mark.parametrize(
    "changes",
    [
        {"selections": {}},
        {"domains": [], "shown": []},
        {"num_sequences": 0, "num_scored": 0, "flops": 0.0, "flops_in_full": 0.0},
        {"features": "hidden"},
    ],
)
def test_edges_render(changes):
    check(render_page(report(predicted=predicted(**changes))))


def test_no_name_gets_out_of_its_place():
    html = render_page(poisoned(report(predicted=predicted())))
    check(html)
    assert HOSTILE not in html


def manifest(facts):
    return Manifest(
        "score/teacher", "f", {}, {}, {"sequences": 900, "scored": 90}, 0, 0.0, {"proxy": facts},
        1.0, "", {},
    )  # fmt: skip


def test_what_the_score_stage_left_is_read_and_judged_as_each_selection_asks(tmp_path):
    generator = np.random.default_rng(0)
    true = generator.normal(size=300)
    groups = (np.arange(300) % 3).astype(np.int32)
    rows = HeldOut(
        np.arange(300), ("a", "b", "c"), groups, true + groups, true + groups,
        np.full(300, 4, dtype=np.int32), np.full(300, 9), "token",
    )  # fmt: skip
    flops = {"teacher": 2.0, "head": 1.0, "reference": 4.0, "teacher_on_everything": 20.0}
    made = manifest({"features": "ngrams", **rows.facts(), "flops": flops})
    selections = {
        "inside": SelectionConfig(ratio=0.2, within="domain"),
        "chance": SelectionConfig(policy="random"),
    }
    with pytest.raises(ArtefactError):
        read_predicted(made, tmp_path, ProxyConfig(), selections)
    rows.write(tmp_path / HELD_OUT_NAME)
    proxy = ProxyConfig(min_kappa_within_domains=0.9)
    read = read_predicted(made, tmp_path, proxy, selections)
    assert (read.num_sequences, read.num_scored, read.num_held_out) == (900, 90, 300)
    assert (read.flops, read.flops_in_full) == (7.0, 24.0)
    assert read.spearman.value == pytest.approx(1)
    ranked = rows.ranked("per_token", within_domains=True)
    inside = judge(ranked, proxy, Comparison(0.2, "per_token", "domain"))
    assert read.selections == {"inside": inside, "chance": None}
    assert inside.kappa.value == 1
    assert [row.domain for row in read.domains] == ["a", "b", "c"]


def test_examples_in_docstrings_hold():
    failed, tried = doctest.testmod(views)
    assert failed == 0
    assert tried > 0
