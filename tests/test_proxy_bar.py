"""Predicted scores are judged by the ranking that a selection makes of them."""

import dataclasses

import numpy as np
import pytest

from made_up_candidates import Row, write_candidates, write_row_tables
from miniplm.errors import ArtefactError
from miniplm.scoring.proxy_bar import shown_judgements
from miniplm.scoring.proxy_config import ProxyConfig
from miniplm.scoring.proxy_held_out import HELD_OUT_NAME, HeldOut
from miniplm.selection.config import SelectionConfig
from miniplm.selection.group_tables import groups_of
from miniplm.selection.predicted import judge_selection, require_to_select

NUM_ROWS = 1200
KINDS = np.arange(NUM_ROWS) % 4
PROXY = ProxyConfig()


def normal(seed, deviation):
    return np.random.default_rng(seed).normal(size=NUM_ROWS) * deviation


def held_out(true, predicted, *, kinds=None, reference=None):
    """Held-out rows in domains, or in one that is all of them."""
    numbers = np.zeros(NUM_ROWS, np.int32) if kinds is None else kinds.astype(np.int32)
    return HeldOut(
        np.arange(NUM_ROWS), tuple("abcd"[: numbers.max() + 1]), numbers, true, predicted,
        np.full(NUM_ROWS, 10, np.int32), np.full(NUM_ROWS, 30), "token", reference,
    )  # fmt: skip


def judged(rows, groups_folder=None, proxy=PROXY, **selection):
    return judge_selection(rows, proxy, SelectionConfig(**selection), groups_folder)


@pytest.fixture(scope="module")
def groups_folder(tmp_path_factory):
    """Group tables of the kinds, over three shards."""
    folder = tmp_path_factory.mktemp("groups")
    rows = [Row(i, -1.0, -2.0, 1, "text", group=int(KINDS[i])) for i in range(NUM_ROWS)]
    write_candidates(folder, rows, 3)
    return write_row_tables(folder, rows).groups


def knows_the_kind(**described):
    """Predictions that tell the kind of a row and nothing else; across kinds that is a lot."""
    return held_out(KINDS + normal(0, 0.5), KINDS + normal(1, 0.01), **described)


def test_groups_of_rows_are_found_in_any_shard(groups_folder):
    assert groups_of(groups_folder, np.array([9, 4, 1198])).tolist() == [1, 0, 2]
    with pytest.raises(ArtefactError, match="no group for 1 of 2 sequences"):
        groups_of(groups_folder, np.array([3, NUM_ROWS]))


@pytest.mark.parametrize("selection", [{"within": "group"}, {"policy": "quota", "within": "group"}])
def test_selections_by_group_are_judged_inside_groups(groups_folder, selection):
    rows = knows_the_kind()
    across = judged(rows)
    assert across.kappa.value > 0.6
    inside = judged(rows, groups_folder, **selection)
    assert "inside each group" in inside.in_words
    assert (abs(inside.kappa.value) < 0.1, inside.bar, inside.passes) == (True, 0.5, False)
    good = held_out(own := normal(0, 0.5), own + normal(1, 0.2))
    assert judged(good, groups_folder, **selection).passes


def test_selections_by_group_without_group_tables_have_the_higher_bar():
    found = judged(knows_the_kind(kinds=KINDS), within="group")
    assert found.bar == 0.7
    assert "inside each domain" in found.in_words
    assert "the higher of both, for rows were not grouped" in found.in_words


@pytest.mark.parametrize(
    "selection", [{"within": "domain"}, {"policy": "quota"}, {"calibration": "zscore"}]
)
def test_inside_of_one_domain_is_the_whole_corpus(selection):
    found = judged(knows_the_kind(), **selection)
    assert (found.bar, found.dial, found.comparison.within) == (0.7, "min_kappa", "corpus")
    assert [each.comparison.within for each in shown_judgements(knows_the_kind(), PROXY)] == [
        "corpus",
        "corpus",
    ]


def test_a_calibration_that_levels_domains_is_judged_inside_them():
    rows = knows_the_kind(kinds=KINDS)
    found = judged(rows, calibration="zscore")
    assert abs(found.kappa.value) < 0.1
    assert not found.passes
    assert "by z-scores inside each domain" in found.in_words


def test_z_scores_are_also_of_a_rows_length():
    """What is predicted is that long rows score higher, which z-scores level."""
    long = np.arange(NUM_ROWS) // 2 % 2
    rows = held_out(long + normal(0, 0.1), long + normal(1, 0.1), kinds=np.arange(NUM_ROWS) % 2)
    rows = dataclasses.replace(rows, num_tokens_R=(10 + 90 * long).astype(np.int32))
    assert judged(rows, within="domain").kappa.value > 0.9
    assert abs(judged(rows, within="domain", calibration="zscore").kappa.value) < 0.15


def test_the_teacher_alone_is_judged_by_its_own_scores():
    """Differences that nobody can predict, and losses that differ by far more than they do."""
    rows = held_out(normal(0, 0.1), normal(1, 0.1), reference=normal(2, 2.0))
    assert abs(judged(rows).kappa.value) < 0.1
    found = judged(rows, policy="teacher_only")
    assert found.kappa.value > 0.8
    assert "top 50% by the teacher alone of the whole corpus" in found.in_words


def test_residuals_are_judged_as_residuals():
    """Most of the difference is the reference's loss, which the residual takes out."""
    reference = normal(0, 1.0)
    true, predicted = normal(1, 0.1) - reference, normal(2, 0.1) - reference
    rows = held_out(true, predicted, reference=reference)
    assert judged(rows).kappa.value > 0.8
    found = judged(rows, calibration="residual")
    assert abs(found.kappa.value) < 0.1
    assert "by residuals of the whole corpus" in found.in_words


@pytest.mark.parametrize("selection", [{"policy": "teacher_only"}, {"calibration": "residual"}])
def test_rows_without_the_references_scores_have_the_higher_bar(tmp_path, selection):
    rows = held_out(true := normal(0, 1.0), true + normal(1, 0.5), kinds=KINDS)
    found = judged(rows, **selection, within="domain")
    assert found.bar == 0.7
    assert judged(rows, within="domain").bar == 0.5
    upside_down = ProxyConfig(min_kappa=0.1, min_kappa_within_domains=1.0)
    rows.write(tmp_path / HELD_OUT_NAME)
    refusal = r"the bar 1, the higher of both, for differences were compared.*min_kappa_within"
    with pytest.raises(ArtefactError, match=refusal):
        require_to_select(tmp_path, upside_down, SelectionConfig(**selection), None)


def test_quotas_that_rank_across_domains_have_the_higher_bar():
    rows = held_out(true := normal(0, 1.0), true + normal(1, 0.5), kinds=KINDS)
    floor = judged(rows, policy="quota", floor=0.1)
    assert (floor.bar, floor.comparison.within) == (0.7, "corpus")
    assert "a floor is kept inside each" in floor.in_words
    some = judged(rows, policy="quota", shares={"a": 0.5, "b": 0.1})
    assert (some.bar, "without a share" in some.in_words) == (0.7, True)
    all_but_one = judged(rows, policy="quota", shares={"a": 0.5, "b": 0.1, "c": 0.2})
    assert (all_but_one.bar, all_but_one.comparison.doubt) == (0.5, "")
    assert all_but_one.agreement == judged(rows, policy="quota").agreement


def test_the_references_scores_come_back_and_know_other_normalizations(tmp_path):
    rows = held_out(normal(0, 1.0), normal(1, 1.0), reference=normal(2, 1.0))
    rows.write(tmp_path / HELD_OUT_NAME)
    again = HeldOut.read(tmp_path / HELD_OUT_NAME)
    np.testing.assert_array_equal(again.reference_R, rows.reference_R)
    np.testing.assert_allclose(again.reference("per_byte"), rows.reference_R / 3)
    np.testing.assert_allclose(again.reference("sum"), rows.reference_R * 10)
    assert held_out(normal(0, 1.0), normal(1, 1.0)).reference("per_byte") is None
