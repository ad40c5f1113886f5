import dataclasses
import doctest

import pytest

from made_up_effects import UNMEASURED, effects, figures
from made_up_report import DOMAINS, report, selection
from miniplm.report import effects as views
from miniplm.report.effects_content import Change, read_effects
from miniplm.report.page import render_page
from miniplm.report.side_by_side import overview
from test_report_page import HOSTILE, check, poisoned


def page_of(*summaries):
    return check(render_page(report(selections=list(summaries))))


@pytest.fixture(scope="module")
def page():
    return page_of(
        selection(effects=effects()),
        selection(
            name="other", warnings=[], effects=effects(), dials=["within domain", "floor 0.1"]
        ),
    )


def test_measures_stand_before_and_after_with_their_change(page):
    assert page.row("Compression, in blocks", "Measure") == ["2.500", "3.000", "+20.0 %", "to 1"]
    assert page.row("Distinct 3-grams", "Measure")[:3] == ["0.450", "0.360", "−20.0 %"]
    assert page.row("Likeness of two rows", "Measure")[:2] == ["0.0200", "0.0250"]
    assert page.row("Rows", "Measure") == ["41,000", "20,500", "−50.0 %", ""]


def test_ids_are_not_called_tokens_where_a_budget_counts_predicted_ones(page):
    assert page.row("Token ids", "Measure")[0] == "9.84M"
    headings = next(table[0] for table in page.tables if "Lost most" in table[0])
    assert "Token ids" in headings
    assert "Tokens" not in headings
    assert "a budget in tokens counts those that are predicted" in "".join(page.texts)


def test_every_domain_has_a_pair_of_bars_that_says_both_shares(page):
    candidates, kept = (sum(row[i] for row in DOMAINS.values()) for i in (0, 1))
    before, after = (f"{100 * n / t:.1f} %" for n, t in ((8100, candidates), (3402, kept)))
    assert f"books: {before} of the candidates' tokens, <0.1 % after" in page.titles
    assert any(title.endswith(f"{after} after") for title in page.titles)


def test_agreement_and_what_the_choice_follows(page):
    assert page.row("teacher_only", "Baseline") == ["", "80.0 %", "0.67"]
    assert page.row("loss of the teacher", "Quantity") == ["−0.72", "11.9 %"]
    assert page.row("length", "Quantity") == ["–", "–"]


def test_the_text_of_a_domain_of_which_little_is_kept_is_not_made_up(page):
    assert page.row("books", "Median length")[3:] == [
        "–",
        "45.0 %",
        "–",
        "0.020",
        "–",
        "4.500",
        "–",
    ]


def test_selections_stand_side_by_side_after_the_candidates(page):
    assert page.row("all candidates", "Lost most")[2:4] == ["2.50", "–"]
    made = "top_ratio, 50% of the sequences, within domain, floor 0.1"
    row = page.row(f"other{made}", "Lost most")
    assert row[2:4] == ["3.00", "−20.0 %"]
    assert row[-2].startswith("books 19.8 → <0.1 %")
    assert row[-1].startswith("code-javascript 9.5 → 16.6 %")
    assert page.row("other", "teacher_only") == ["50.0 %", "80.0 %"]
    assert page.html.count('id="selections"') == 1


def test_distinct_ngrams_compare_with_the_candidates_at_equal_numbers():
    small = Change("", figures(41_000, 2.5, 0.8), figures(300, 3.0, 0.72))
    page = page_of(
        selection(effects=effects()), selection(name="small", effects=effects(overall=small))
    )
    assert page.row("smalltop_ratio, 50% of the sequences", "Lost most")[3] == "−10.0 %"
    assert "A dash under compression" not in page.html


def test_a_dash_under_compression_is_explained():
    short = Change("", figures(41_000, 2.5, 0.5), figures(30, None, 0.5))
    page = page_of(
        selection(effects=effects()), selection(name="short", effects=effects(overall=short))
    )
    assert page.row("shorttop_ratio, 50% of the sequences", "Lost most")[2] == "–"
    assert "does not fill a block of 32.8 kB" in "".join(page.texts)


def test_one_selection_has_no_table_of_all():
    page = page_of(selection(effects=effects()))
    assert 'id="selections"' not in page.html
    assert "What selection did" in page.texts
    assert "What selection did" not in page_of(selection()).texts


def test_repeats_are_said():
    page = page_of(selection(effects=effects(num_distinct_rows=1_200)))
    assert "1,200 different ones were kept" in "".join(page.texts)
    assert "different ones were kept" not in "".join(page_of(selection(effects=effects())).texts)


def test_moves_that_are_chance_are_not_named():
    still = [Change(name, figures(100, 2.0, 0.5), figures(50, 2.0, 0.5)) for name in "ab"]
    overall = Change("", figures(200, 2.0, 0.5), figures(100, 2.0, 0.5))
    unmoved = effects(domains=still, overall=overall)
    made = overview([selection(effects=unmoved), selection(effects=effects())])
    assert made.rows[0].lost == made.rows[0].gained == []


def many():
    return [Change(f"d{i}", figures(9 + i, 2.0, 0.5), figures(i, 2.0, 0.5)) for i in range(60)]


def nothing():
    empty = figures(0, 2.0, 0.5, length=[None] * 3, **UNMEASURED)
    return effects(overall=Change("", empty, empty), domains=[Change("a", empty, empty)])


@pytest.mark.parametrize(
    "made",
    [
        lambda: effects(domains=many()),
        lambda: effects(domains=[]),
        nothing,
        lambda: effects(agreements=[], followed=[]),
    ],
)
def test_edges_render(made):
    page_of(selection(effects=made()), selection(name="other", effects=effects()), selection())


def test_small_domains_are_drawn_as_one():
    page = page_of(selection(effects=effects(domains=many())))
    assert sum("of the candidates' tokens," in title for title in page.titles) == views.MOST_DRAWN
    assert any(title.startswith("37 other domains: ") for title in page.titles)


def test_no_name_gets_out_of_its_place():
    made = [selection(effects=effects(), name=name) for name in ("one", "two")]
    html = render_page(poisoned(report(selections=made)))
    check(html)
    assert HOSTILE not in html


def test_the_facts_of_the_stage_are_read_whole():
    record = {
        **dataclasses.asdict(figures(9, 2.0, 0.5)),
        "length": {"p10": 1, "p50": 2, "p90": 3},
        "num_sampled": 9,
    }
    facts = {
        "measured": {"compressor": "zstd, level 9", "block_bytes": 32768, "orders": [1, 2, 3, 4]},
        "overall": {"candidates": record, "kept": record, "num_distinct_rows": 7},
        "domains": {"a": {"candidates": record, "kept": record}},
        "agreement": {
            "baselines": {"random": {"overlap": 0.5, "jaccard": 0.25}},
            "follows": {"length": {"spearman": 0.1, "kept_has_more": 0.5}},
        },
    }
    read = read_effects(facts)
    assert read.overall.kept == figures(9, 2.0, 0.5, length=[1, 2, 3])
    assert (read.num_distinct_rows, [row.domain for row in read.domains]) == (7, ["a"])
    assert read.agreements[0].jaccard == 0.25
    assert read.followed[0].kept_has_more == 0.5


def test_examples_in_docstrings_hold():
    failed, tried = doctest.testmod(views)
    assert failed == 0
    assert tried > 0
