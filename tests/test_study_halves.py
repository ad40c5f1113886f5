"""Held-out documents in halves by their own score, and students on either half."""

import math

import polars as pl
import pytest

from miniplm.evaluation.documents import SUMS, Documents
from miniplm.study.halves import ScoreHalves

NAMES = "abcd"


def documents(bits, num_bytes=(10, 20, 30, 40), domains=("books", "law")):
    """The documents a to d in each domain, with bits per byte and sizes of one domain's."""
    rows = [
        (domain, name, -each * size * math.log(2), size, size)
        for domain in domains
        for name, each, size in zip(NAMES, bits, num_bytes, strict=True)
    ]
    return Documents(pl.DataFrame(rows, schema=["domain", "document", *SUMS], orient="row"))


@pytest.fixture
def halves():
    """The teacher is furthest ahead on b and c."""
    return ScoreHalves.of(documents((2.0, 1.0, 1.5, 3.0)), documents((2.5, 3.0, 3.5, 3.1)))


def test_a_domain_is_cut_at_the_median_of_its_scores(halves):
    high = halves.table.filter(pl.col("is_high")).sort("domain", "document")
    assert high.select("domain", "document").rows() == [
        ("books", "b"), ("books", "c"), ("law", "b"), ("law", "c"),
    ]  # fmt: skip
    assert halves.table.height == 8


def test_differences_are_of_pooled_text_and_means_over_domains(halves):
    baseline = documents((4.0, 4.0, 4.0, 4.0))
    found = halves.difference(documents((5.0, 3.0, 3.0, 4.0)), baseline)
    assert found.high == pytest.approx(-1)
    assert found.low == pytest.approx(10 / 50)  # a, of 10 bytes, is worse by one bit
    same = halves.difference(baseline, baseline)
    assert (same.low, same.high) == (0, 0)


def test_domains_set_apart_and_documents_nobody_measured_do_not_count(halves):
    student = documents((5.0, 3.0, 3.0, 4.0), domains=("books",))
    worse = documents((9.0, 9.0, 9.0, 9.0), domains=("law",))
    both = Documents(pl.concat([student.table, worse.table]))
    baseline = documents((4.0, 4.0, 4.0, 4.0))
    assert halves.difference(both, baseline, {"law"}).high == pytest.approx(-1)
    assert halves.difference(student, baseline).high == pytest.approx(-1)
    assert halves.difference(documents((1.0,) * 4, domains=("news",)), baseline) is None


def test_only_documents_that_both_measured_are_compared(halves):
    baseline = documents((4.0, 3.0, 2.0, 5.0))
    few = Documents(baseline.table.filter(pl.col("document").is_in(["a", "c"])))
    empty = baseline.table.with_columns(
        pl.when(pl.col("document").is_in(["b", "d"])).then(0).otherwise(pl.col(*SUMS)).name.keep()
    )
    for student in (few, Documents(empty)):
        for pair in ((student, baseline), (baseline, student)):
            found = halves.difference(*pair)
            assert (found.low, found.high) == pytest.approx((0, 0))


def test_a_domain_of_one_document_has_no_halves():
    one = Documents(documents((1.0,) * 4).table.filter(pl.col("document") == "a"))
    assert ScoreHalves.of(one, one).table.is_empty()


def test_documents_without_a_byte_have_no_score():
    empty = documents((1.0,) * 4, num_bytes=(0, 20, 30, 40))
    assert set(ScoreHalves.of(empty, empty).table["document"]) == {"b", "c", "d"}
