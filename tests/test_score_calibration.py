"""Calibrated difference scores."""

import numpy as np
import pytest

from miniplm.errors import ArtefactError
from miniplm.selection.calibration import Residual, Rows, ZScore, fit_calibration
from test_policies import many_rows, select


def rows(reference, teacher, num_tokens=None, domains=("a",), numbers=None):
    size = len(reference)
    return Rows(
        np.array(teacher, float),
        np.array(reference, float),
        np.full(size, 10, np.int32) if num_tokens is None else np.array(num_tokens, np.int32),
        tuple(domains),
        np.zeros(size, np.int32) if numbers is None else np.array(numbers, np.int32),
    )


def test_the_residual_is_how_far_the_teacher_is_below_the_line():
    reference_loss = np.linspace(2, 6, 50)
    teacher_loss = 0.5 + 0.4 * reference_loss
    line = Residual.fit(rows(-reference_loss, -teacher_loss))
    assert (line.slope, line.intercept) == (pytest.approx(0.4), pytest.approx(0.5, abs=1e-6))
    found = line.scores(rows([-4.0, -4.0], [-2.1, -1.8]))
    np.testing.assert_allclose(found, [0.0, 0.3], atol=1e-6)  # 0.5 + 0.4 * 4 = 2.1


def test_rows_that_the_teacher_knows_by_heart_do_not_bend_the_line():
    generator = np.random.default_rng(0)
    reference_loss = generator.uniform(2, 6, 2000)
    teacher_loss = 0.5 + 0.4 * reference_loss + 0.05 * generator.standard_normal(2000)
    teacher_loss[reference_loss > 5.5] = 0.1  # an eighth of all, at one end
    line = Residual.fit(rows(-reference_loss, -teacher_loss))
    least_squares = np.polyfit(reference_loss, teacher_loss, 1)
    assert abs(least_squares[0] - 0.4) > 0.3
    assert line.slope == pytest.approx(0.4, abs=0.05)


def test_without_a_spread_of_reference_losses_there_is_no_line():
    with pytest.raises(ArtefactError, match="2 scored rows with one reference loss give no line"):
        Residual.fit(rows([-1.0, -1.0, -2.0], [-1.0, -2.0, np.nan]))


def test_zscores_by_hand():
    differences = [1.0, 2.0, 3.0] * 20  # median 2, median distance 1
    others = [11.0, 14.0, 17.0] * 20
    sample = rows(
        np.zeros(120), differences + others, domains=("a", "b"), numbers=[0] * 60 + [1] * 60
    )
    found = ZScore.fit(sample).scores(
        rows([0, 0, 0], [3.0, 17.0, 2.0], domains=("b", "a", "c"), numbers=[1, 0, 2])
    )
    # 3 is one deviation above the middle of a, 17 one above that of b; c is unknown: all together
    middle, distance = 7.0, 5.5
    np.testing.assert_allclose(found, np.array([1, 1, (2 - middle) / distance]) / 1.4826, rtol=1e-6)


def test_zscores_compare_rows_of_a_length():
    short, long = np.arange(40.0), 100 + np.arange(40.0)
    sample = rows(np.zeros(80), [*short, *long], num_tokens=[10] * 40 + [200] * 40)
    scores = ZScore.fit(sample).scores(sample)
    np.testing.assert_allclose(scores[:40], scores[40:], atol=1e-9)


def test_an_unscored_row_stays_unscored():
    sample = rows([-1.0, -2.0, -3.0, np.nan] * 20, [-1.0, -1.0, -2.0, -1.0] * 20)
    for kind in ("residual", "zscore"):
        scores = fit_calibration(kind, sample).scores(sample)
        np.testing.assert_array_equal(np.isnan(scores), np.isnan(sample.reference))
    assert fit_calibration("none", sample) is None


@pytest.mark.parametrize("calibration", ["residual", "zscore"])
def test_the_stage_ranks_by_calibrated_scores_whatever_the_shards(tmp_path, calibration):
    candidates, tables = many_rows(600), []
    for num_shards in (1, 4):
        outcome, table = select(
            tmp_path / str(num_shards), candidates, num_shards, ratio=0.25, calibration=calibration
        )
        tables.append(table)
    assert tables[0].equals(tables[1])
    names = sorted({row.domain for row in candidates})
    sample = rows(
        [row.reference for row in candidates],
        [row.teacher for row in candidates],
        [row.num_tokens for row in candidates],
        names,
        [names.index(row.domain) for row in candidates],
    )
    scores = fit_calibration(calibration, sample).scores(sample)
    best = np.argsort(-scores, kind="stable")[:150]
    assert tables[0]["sequence_id"].to_pylist() == sorted(best.tolist())
    assert outcome.facts["threshold"] is None  # no difference score tells kept from dropped
    assert outcome.facts["calibration"]
