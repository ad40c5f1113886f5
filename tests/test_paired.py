"""Differences of two models on the same text: intervals, p values, refusals."""

import math

import numpy as np
import polars as pl
import pytest

from miniplm.errors import ArtefactError
from miniplm.evaluation.averages import APART, AVERAGE, OVERALL
from miniplm.evaluation.difference import Difference
from miniplm.evaluation.documents import Documents
from miniplm.evaluation.paired import (
    HIERARCHICAL_BOOTSTRAP,
    PAIRED_BOOTSTRAP,
    paired_documents,
    paired_items,
)
from miniplm.evaluation.paired_items import paired_average, sign_flip_p_value
from miniplm.report.chance import chance_sentence

DOMAINS = ("books", "law", "noise-x")
SCHEMA = ["domain", "document", "log_prob", "num_tokens", "num_bytes"]


def measured(gap=0.0, spread=0.02, seed=0, num_documents=40, hard=0, unit="documents"):
    """A model on documents that differ much; `gap` bits per byte worse, give or take `spread`."""
    documents, own = np.random.default_rng(hard), np.random.default_rng([seed, 9])
    lines = []
    for domain in DOMAINS:
        sizes = documents.integers(50, 500, num_documents)
        bits = documents.normal(2.0, 0.5, num_documents) + own.normal(gap, spread, num_documents)
        lines += [
            (domain, f"{domain}/{n}", -bits[n] * sizes[n] * math.log(2), int(sizes[n]) // 3,
             int(sizes[n]))
            for n in range(num_documents)
        ]  # fmt: skip
    return Documents.of_pieces(pl.DataFrame(lines, SCHEMA, orient="row"), unit)


def test_a_model_is_no_different_from_itself():
    for difference in paired_documents([(measured(), measured())]).values():
        assert (difference.value, difference.low, difference.high) == (0, 0, 0)
        assert difference.p_value == 1.0
        assert not difference.is_clear
    items = paired_items([1, 0, 1, 1, 0], [1, 0, 1, 1, 0])
    assert (items.value, items.low, items.high, items.p_value) == (0, 0, 0, 1.0)


def test_differences_are_those_of_the_figures():
    ours, theirs = measured(0.03, seed=1), measured(seed=2)
    found = paired_documents([(ours, theirs)], {"noise-x"})
    assert list(found) == [*DOMAINS, AVERAGE, APART, OVERALL]

    def bits(model, *domains):
        rows = model.table.filter(pl.col("domain").is_in(domains))
        return -rows["log_prob"].sum() / rows["num_bytes"].sum() / math.log(2)

    for domain in DOMAINS:
        assert found[domain].value == pytest.approx(bits(ours, domain) - bits(theirs, domain))
    assert found[AVERAGE].value == pytest.approx((found["books"].value + found["law"].value) / 2)
    assert found[APART].value == found["noise-x"].value
    assert found[OVERALL].value == pytest.approx(bits(ours, *DOMAINS) - bits(theirs, *DOMAINS))
    assert [found[name].num_units for name in (AVERAGE, APART, OVERALL)] == [80, 40, 120]
    back = paired_documents([(theirs, ours)], {"noise-x"})
    for name, difference in found.items():
        assert back[name].value == pytest.approx(-difference.value)
        assert back[name].low == pytest.approx(-difference.high)
        assert back[name].p_value == difference.p_value
    assert found == paired_documents([(ours, theirs)], {"noise-x"})


def test_pairing_sees_what_two_figures_hide():
    """Documents differ by 0.5 bits per byte, models by 0.03 with a spread of 0.02 a document."""
    found = paired_documents([(measured(0.03, seed=1), measured(seed=2))])[AVERAGE]
    assert found.is_clear
    assert found.p_value < 0.01
    assert found.high - found.low == pytest.approx(3.92 * 0.02 * math.sqrt(2 / 120), rel=0.3)
    assert found.test == PAIRED_BOOTSTRAP


def test_the_interval_covers_no_difference_as_often_as_it_says():
    covered = 0
    for seed in range(150):
        pair = (measured(seed=seed, hard=seed), measured(seed=seed + 500, hard=seed))
        found = paired_documents([pair], num_resamples=300)[AVERAGE]
        covered += not found.is_clear
    assert covered / 150 >= 0.95 - 3 * 0.018 - 0.01


@pytest.mark.parametrize(("per_domain", "known"), [(1, False), (2, False), (3, True)])
def test_too_few_documents_tell_no_chance(per_domain, known):
    """Drawing the only document of a domain gives it again: an interval without any width."""
    pair = (measured(0.03, num_documents=per_domain), measured(num_documents=per_domain))
    found = paired_documents([pair])
    assert found["books"].value != 0
    assert (found["books"].interval, found["books"].p_value) == (None, None)
    assert not found["books"].is_clear
    assert (found[AVERAGE].interval is not None) == known
    assert (found[OVERALL].p_value is not None) == known
    if not known:
        assert "not known" in chance_sentence(found[AVERAGE])


def test_too_few_items_have_no_interval():
    found = paired_items([1.0], [0.0])
    assert (found.value, found.interval, found.p_value) == (1.0, None, 1.0)


def test_resamples_without_a_byte_count_for_nothing():
    """Of one document in three there is no text: some resamples are no number."""

    def model(gap):
        lines = [("x", f"{n}", -(2 + gap) * size, size, size)
                 for n, size in enumerate([100, 0, 0, 0, 0, 0])]  # fmt: skip
        return Documents.of_pieces(pl.DataFrame(lines, SCHEMA, orient="row"))

    found = paired_documents([(model(0.0), model(0.1))], num_resamples=1000)["x"]
    drawn = round(2 / found.p_value) - 1
    assert 550 < drawn < 750  # 1 - (5 / 6)^6 of the thousand


def test_seeds_that_disagree_widen_the_interval():
    """The same four differences, in two: all seeds alike, and each its own."""
    alike = [(measured(0.02, seed=s), measured(seed=s + 50)) for s in range(4)]
    gaps = (-0.06, 0.10, -0.02, 0.06)
    apart = [(measured(gap, seed=s), measured(seed=s + 50)) for s, gap in enumerate(gaps)]
    first, second = (paired_documents(pairs)[AVERAGE] for pairs in (alike, apart))
    assert (first.num_seeds, first.test) == (4, HIERARCHICAL_BOOTSTRAP)
    assert first.value == pytest.approx(second.value, abs=1e-3)
    assert first.value == pytest.approx(np.mean(first.by_seed))
    assert first.is_clear
    assert not second.is_clear
    spread = 3.92 * np.std(second.by_seed) / 2  # of a mean of four
    assert second.high - second.low == pytest.approx(spread, rel=0.15)


def test_other_documents_are_refused():
    fewer = Documents(measured().table.filter(pl.col("document") != "law/7"))
    with pytest.raises(ArtefactError, match=r"120 documents.*119.*119 of which.*'law/7'"):
        paired_documents([(measured(), fewer)])
    with pytest.raises(ArtefactError, match="120 rows"):
        paired_documents([(measured(), measured(unit="rows"))])
    twice = measured().table.with_columns(pl.col("num_bytes") * 2)
    with pytest.raises(ArtefactError, match=r"of the same names.*bytes"):
        paired_documents([(measured(), Documents(twice))])
    with pytest.raises(ArtefactError, match="no pair"):
        paired_documents([])
    with pytest.raises(ArtefactError, match=r"\(1, 3\) and \(1, 2\)"):
        paired_items([1, 0, 1], [1, 0])


def test_sign_flips_by_hand():
    """Of five items all better, 2 of the 32 ways to deal signs are as far out."""
    assert sign_flip_p_value(np.ones(5), num_flips=20_000) == pytest.approx(2 / 32, abs=0.006)
    assert sign_flip_p_value(np.array([1.0, -1.0, 0.0])) == 1.0
    assert sign_flip_p_value(np.ones(60)) == pytest.approx(1 / 10_001)


def test_items_by_hand():
    generator = np.random.default_rng(4)
    theirs = generator.integers(0, 2, 400).astype(float)
    ours = np.where(generator.random(400) < 0.15, 1.0, theirs)
    found = paired_items(ours, theirs)
    gaps = ours - theirs
    assert found.value == pytest.approx(gaps.mean())
    width = 3.92 * gaps.std() / 20
    assert found.high - found.low == pytest.approx(width, rel=0.08)
    assert found.is_clear
    assert found.p_value < 0.001
    seeds = paired_items(np.stack([ours, theirs]), np.stack([theirs, theirs]))
    assert seeds.by_seed == (pytest.approx(found.value), 0.0)
    assert seeds.num_seeds == 2
    assert not seeds.is_clear


def test_the_average_over_tasks_by_hand():
    one = np.array([1.0, 1.0, 0.0, 1.0, 1.0]), np.array([0.0, 1.0, 0.0, 1.0, 1.0])
    two = np.array([0.0, 1.0]), np.array([1.0, 1.0])
    found = paired_average([one, two])
    assert found.value == pytest.approx((0.2 - 0.5) / 2)
    assert found.low < found.value < found.high
    assert paired_average([two]).interval is None
    alone = paired_average([one])
    same = paired_items(*one)
    assert (alone.value, alone.low, alone.high) == (same.value, same.low, same.high)
    assert alone.p_value == same.p_value
    with pytest.raises(ArtefactError, match="same items"):
        paired_average([(one[0], two[1])])


def test_the_verdict_says_whether_it_could_be_chance():
    clear = Difference(-0.03, -0.05, -0.01, 0.004, PAIRED_BOOTSTRAP, 1121)
    said = chance_sentence(clear)
    assert "does not account for" in said
    assert "-0.0500 to -0.0100, p = 0.004" in said
    assert "1,121 of them" in said
    assert "could account for" in chance_sentence(
        Difference(-0.03, -0.05, 0.01, 0.2, PAIRED_BOOTSTRAP, 9)
    )
