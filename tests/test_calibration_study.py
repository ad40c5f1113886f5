"""The study of what calibrations change in a ranking."""

import numpy as np
import pytest
from benchmarks.calibration import main
from benchmarks.calibration_figures import (
    Correlation,
    domains_to_show,
    kept_by_domain,
    share_between,
    slopes_by_reference_loss,
    spearman_within,
)
from benchmarks.calibration_rankings import calibrated_rankings, read_table, sloped_rankings
from benchmarks.student_losses import first_checkpoint, put_weights, student_losses
from click.testing import CliRunner

from conftest import tiny_model, tiny_recipe
from miniplm.errors import ArtefactError
from miniplm.pipeline import run
from miniplm.recipe import make_recipe
from miniplm.selection.calibration import Rows
from test_policies import many_rows, select

UP = np.arange(30.0)


def test_a_correlation_may_be_that_of_domains_alone():
    # each domain falls, but the second one lies above the first
    scores, others = np.tile(UP, 2), np.tile(-UP, 2)
    scores[30:] += 100
    others[30:] += 100
    found = Correlation.of(scores, others, np.repeat([0, 1], 30))
    assert found.within == pytest.approx(-1)
    assert found.overall == pytest.approx(0.5, abs=0.01)


def test_domains_count_by_their_rows_and_small_ones_not_at_all():
    a = np.concatenate([np.arange(90.0), UP, [1.0, 2.0]])
    b = np.concatenate([np.arange(90.0), -UP, [2.0, 1.0]])
    domains = np.repeat([0, 1, 2], [90, 30, 2])
    assert spearman_within(a, b, domains) == pytest.approx((90 - 30) / 120)
    assert np.isnan(spearman_within(a[-2:], b[-2:], domains[-2:]))


def test_rows_without_a_figure_are_left_out():
    others = UP.copy()
    others[::2] = np.nan
    scores = np.where(np.isnan(others), -UP, UP)
    assert Correlation.of(scores, others, np.zeros(30, int)).overall == pytest.approx(1)


def test_the_share_of_variance_between_domains_by_hand():
    # means 1 and 5 about 3: 4 of a variance of 5
    scores, domains = np.array([0, 2, 4, 6, np.nan]), np.array([0, 0, 1, 1, 1])
    assert share_between(scores, domains) == pytest.approx(0.8)


def test_kept_shares_by_hand():
    shares = kept_by_domain(np.array([4.0, 3.0, 2.0, 1.0]), np.array([0, 1, 1, 1]), 3, 0.5)
    np.testing.assert_allclose(shares, [1, 1 / 3, np.nan])


def test_domains_shown_are_those_that_change_and_noise():
    names = ["z", "noise-logs", "b", "a", "gone"]
    before = np.array([0.1, 0.5, 0.5, 0.5, np.nan])
    after = [np.array([0.9, 0.5, 0.5, 0.4, np.nan]), np.array([0.1, 0.5, 0.9, 0.4, np.nan])]
    assert [names[n] for n in domains_to_show(names, before, after, 1)] == ["b", "noise-logs", "z"]


def test_a_relation_that_bends_has_different_slopes():
    reference_loss = np.linspace(1, 7, 90)
    teacher_loss = np.minimum(reference_loss, 4)
    rows = Rows(-teacher_loss, -reference_loss)
    easy, hard = slopes_by_reference_loss(rows, 2)
    assert (easy, hard) == (pytest.approx(1, abs=1e-4), pytest.approx(0, abs=1e-4))


def test_rankings_keep_what_the_select_stage_keeps(tmp_path):
    candidates = many_rows(400)
    selections = {
        kind: select(tmp_path, candidates, 3, ratio=0.5, calibration=kind)[1]
        for kind in ("none", "residual", "zscore")
    }
    run_dir = tmp_path / "run"
    for name, target in {"tokenize/candidates": "shards", "score": ""}.items():
        (run_dir / name).parent.mkdir(parents=True, exist_ok=True)
        (run_dir / name).symlink_to(tmp_path / target)
    table = read_table(run_dir)
    for kind, selection in selections.items():
        best = np.argsort(-calibrated_rankings(table)[kind], kind="stable")[:200]
        assert sorted(table.sequence_ids[best]) == selection["sequence_id"].to_pylist()


def test_sloped_rankings_go_from_the_teacher_alone_to_the_reference_alone():
    generator = np.random.default_rng(0)
    reference = generator.normal(-5, 0.25, 200)
    teacher = 4 * reference + generator.normal(0, 1e-6, 200)
    rankings = sloped_rankings(Rows(teacher, reference))
    assert [*rankings][-3:] == ["slope 3", "slope 4.00, equal deviations", "reference alone"]
    np.testing.assert_array_equal(rankings["slope 0"], teacher)
    np.testing.assert_array_equal(rankings["slope 1"], teacher - reference)
    np.testing.assert_array_equal(rankings["reference alone"], -reference)
    alike = rankings["slope 4.00, equal deviations"]
    assert np.abs(alike).max() < 1e-3  # the terms cancel


def test_a_checkpoint_that_lacks_weights_is_refused(tmp_path):
    with pytest.raises(ArtefactError, match=r"lacks \d+ of \d+ weights, such as model\."):
        put_weights(tiny_model(), tmp_path)


def test_a_run_from_end_to_end(corpus_folder, tmp_path):
    content = tiny_recipe(corpus_folder, tmp_path)
    content["training"]["keep_every_steps"] = 2
    recipe = make_recipe(content, "study")
    for kinds, only in ((["tokenize"], None), (["train"], "teacher"), (["train"], "reference"),
                        (["train"], "plain"), (["score"], None)):  # fmt: skip
        run(recipe, kinds, only)
    table = read_table(tmp_path)
    ids, size = table.sequence_ids, len(table.sequence_ids)
    at_the_end = student_losses(tmp_path, "plain", ids, 20)
    assert np.count_nonzero(np.isfinite(at_the_end)) == 20
    checkpoints = tmp_path / "train/plain/checkpoints"
    last = student_losses(tmp_path, "plain", ids, 20, checkpoints / "step-00000006")
    np.testing.assert_array_equal(last, at_the_end)
    assert first_checkpoint(tmp_path, "plain") == checkpoints / "step-00000002"
    # a student that is the teacher has the teacher's losses, in the order of ids
    as_student = student_losses(tmp_path, "teacher", ids, size)
    np.testing.assert_allclose(as_student, -table.rows.teacher, rtol=1e-5)
    said = CliRunner().invoke(main, [str(tmp_path), "--rows", "50"], catch_exceptions=False).output
    rows = [line.split(" | ") for line in said.splitlines() if line.startswith("| none")]
    assert [len(cells) for cells in rows] == [8]
    assert "50 of them scored by plain" in said
    assert "plain at step-00000002" in said
