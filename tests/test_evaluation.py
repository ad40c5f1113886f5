import dataclasses
import math
from dataclasses import replace

import polars as pl
import pytest

from miniplm.errors import ArtefactError
from miniplm.evaluation.averages import APART, AVERAGE, OVERALL
from miniplm.evaluation.difference import Difference
from miniplm.evaluation.summary import summarise
from miniplm.report.equal_loss import equal_loss_rows
from miniplm.report.findings import regime_sentences, verdict_sentences
from miniplm.report.model_content import (
    CurvePoint,
    EqualLossRow,
    HeldOutRow,
    ModelRow,
    TrainingCurves,
)
from miniplm.scaling.curves import compute_at_loss


def test_held_out_table_by_hand():
    scores = pl.DataFrame(
        {
            "domain": ["b", "a", "a", "empty"],
            "log_prob": [-8.0, -2.0, -4.0, 0.0],
            "num_tokens": [4, 2, 4, 0],
            "num_bytes": [8, 10, 20, 0],
        }
    )
    lines = {line.domain: line for line in summarise(scores)}
    assert list(lines) == ["a", "b", AVERAGE, OVERALL]
    assert lines["a"].loss == pytest.approx(1.0)
    assert lines["a"].perplexity == pytest.approx(math.e)
    assert lines["a"].bits_per_byte == pytest.approx(6 / 30 / math.log(2))
    assert lines["b"].loss == pytest.approx(2.0)
    assert lines[AVERAGE].loss == pytest.approx(1.5)
    assert lines[OVERALL].loss == pytest.approx(1.4)
    assert lines[OVERALL].bits_per_byte == pytest.approx(14 / 38 / math.log(2))
    assert (lines[OVERALL].num_tokens, lines[OVERALL].num_bytes) == (10, 38)


def test_nothing_scored_is_an_error():
    empty = pl.DataFrame({"domain": ["a"], "log_prob": [0.0], "num_tokens": [0], "num_bytes": [0]})
    with pytest.raises(ArtefactError, match="no token"):
        summarise(empty)


def test_compute_at_loss_by_hand():
    flops, losses = [0, 10, 20, 30], [5.0, 4.0, 4.5, 3.0]
    assert compute_at_loss(flops, losses, 4.25) == pytest.approx(7.5)
    assert compute_at_loss(flops, losses, 3.5) == pytest.approx(20 + 10 / 1.5)
    assert compute_at_loss(flops, losses, 6.0) == 0.0
    assert compute_at_loss(flops, losses, 2.9) is None


def curve(name, losses):
    points = [CurvePoint(i, i * 10, i * 100.0, loss) for i, loss in enumerate(losses)]
    return TrainingCurves(name, "student", "all", [], points)


def test_equal_loss_says_which_way_it_went():
    plain, better, worse = (
        curve("plain", [5, 4, 3]), curve("better", [5, 3, 2]), curve("worse", [5, 4.5, 4]),
    )  # fmt: skip
    rows = {row.student: row for row in equal_loss_rows([plain, better, worse], "plain")}
    assert (rows["better"].student_flops, rows["better"].baseline_flops) == (100, 200)
    assert "2.00 times less training compute" in rows["better"].sentence
    assert (rows["worse"].loss, rows["worse"].baseline_flops) == (4, 100)
    assert "2.00 times the training compute of plain" in rows["worse"].sentence
    assert "cautious" not in rows["better"].sentence  # the learning rate never falls
    points = [replace(point, lr=lr) for point, lr in zip(better.held_out, (1, 1, 0.1), strict=True)]
    (row,) = equal_loss_rows([plain, replace(better, held_out=points)], "plain")
    assert row.sentence.endswith(
        "had not let its learning rate fall yet, so the factor is cautious)."
    )


def test_a_student_that_never_leaves_the_first_loss_shares_none():
    plain, stuck = curve("plain", [5.0, 4.9]), curve("stuck", [5.2, 5.1])
    (row,) = equal_loss_rows([plain, stuck], "plain")
    assert "share no loss" in row.sentence


def test_evaluations_that_are_no_number_are_not_read():
    plain, broken = curve("plain", [5, 4, 3]), curve("broken", [5, math.nan, 3, math.nan])
    (row,) = equal_loss_rows([plain, broken], "plain")
    assert (row.student_flops, row.baseline_flops) == (200, 200)


@pytest.mark.parametrize(("rate", "cautious"), [(1.0, True), (0.12, False)])
def test_caution_is_told_where_the_first_one_had_a_high_learning_rate(rate, cautious):
    plain, better = curve("plain", [5, 4, 3]), curve("better", [5, 3, 2])
    rates = [1.0, rate, 0.1]
    points = [dataclasses.replace(p, lr=lr) for p, lr in zip(better.held_out, rates, strict=True)]
    (row,) = equal_loss_rows([plain, dataclasses.replace(better, held_out=points)], "plain")
    assert ("cautious" in row.sentence) == cautious


def model(name, role, loss, per_param=50.0):
    return ModelRow(name, role, "", 10, 500, per_param, loss, loss / 2)


def held_out(plain, ours):
    rows = [
        HeldOutRow(d, 10, {"plain": p, "ours": o}, {"plain": p, "ours": o})
        for d, p, o in zip("abc", plain, ours, strict=True)
    ]
    mean = {"plain": sum(plain) / 3, "ours": sum(ours) / 3}
    return [*rows, HeldOutRow(AVERAGE, 30, mean, mean), HeldOutRow(OVERALL, 30, mean, mean)]


@pytest.mark.parametrize(
    ("ours", "expected"),
    [
        ([1.0, 1.0, 1.0], "ours is better than plain"),
        ([3.0, 3.0, 1.0], "ours lost to plain"),
        ([2.0, 2.0, 2.0], "ours and plain come out even"),
    ],
)
def test_the_verdict_follows_the_numbers(ours, expected):
    models = [model("plain", "student", 2.0), model("ours", "student", 2.0)]
    sentences = verdict_sentences(models, held_out([2.0, 2.0, 2.0], ours), [], "plain")
    assert sentences[0].startswith(expected)
    better = sum(value < 2.0 for value in ours)
    assert f"better in {better} of 3 domains" in sentences[0]
    assert "one seed" in sentences[-1]


def test_many_students_are_ranked():
    names = {"plain": 2.0, "a": 2.5, "b": 1.5, "c": 2.0, "d": 1.0}
    models = [model(name, "student", loss, 10 * loss) for name, loss in names.items()]
    rows = [HeldOutRow(domain, 10, names, names) for domain in ("a", "b", AVERAGE, OVERALL)]
    compute = {"a": (8.0, 4.0), "b": (4.0, 8.0), "d": (1.0, 8.0)}
    equal = [EqualLossRow(n, "plain", 3.0, *flops, "") for n, flops in compute.items()]
    first, better, even, worse, savings, last = verdict_sentences(models, rows, equal, "plain")
    assert "against the 2.0000 of plain" in first
    assert better.startswith("Better than plain, best first: d (-1.0000, better in 2 of 2 domains)")
    assert "b (-0.5000" in better
    assert even.startswith("Even with plain, best first: c (+0.0000")
    assert worse.startswith("Lost to plain, best first: a (+0.5000, better in 0 of 2")
    assert savings.endswith("d (8.00 times less), b (2.00 times less).")
    assert "one seed" in last
    assert "None needed less" in verdict_sentences(models, rows, equal[:1], "plain")[-2]
    assert regime_sentences(models)[0].startswith("5 students saw 10.0 to 25.0 tokens")


def test_the_verdict_carries_intervals():
    names = {"plain": 2.0, "a": 2.5, "b": 1.5, "c": 2.0, "d": 1.0}
    rows = [HeldOutRow(domain, 10, names, names) for domain in ("a", "b", AVERAGE, OVERALL)]
    differences = {
        "a": Difference(0.5, 0.4, 0.6, 0.001, "a test", 20),
        "b": Difference(-0.5, -1.1, 0.1, 0.2, "a test", 20),
    }

    def said(*students):
        models = [model(name, "student", names[name]) for name in ("plain", *students)]
        return verdict_sentences(models, rows, [], "plain", differences)

    assert "(a test" not in said("a")[0]
    assert "does not account for this difference (95 % interval +0.4000 to +0.6000" in said("a")[1]
    assert "could account for" in said("b")[1]
    assert "one seed" in said("a")[-1]
    assert "nothing of what another seed would give" in said("a")[-1]
    first, better, *_, worse, last = said("a", "b", "c", "d")
    assert "with 95 % intervals over documents" in first
    assert "b (-0.5000 [-1.1000, +0.1000], could be chance, better in 2" in better
    assert "a (+0.5000 [+0.4000, +0.6000], better in 0" in worse
    assert "one seed" in last


def test_the_regime_is_judged():
    models = [model("t", "teacher", 3.0, 5.0), model("r", "reference", 4.0, 25.0)]
    sentences = regime_sentences([*models, model("s", "student", 4.0, 12.0)])
    assert "The teacher saw 5.0 tokens per parameter" in sentences[0]
    assert "s saw 12.0 tokens per parameter" in sentences[1]
    assert "ahead of the reference by 1.000" in sentences[2]
    upside_down = [model("t", "teacher", 4.0), model("r", "reference", 3.0)]
    assert "say nothing" in regime_sentences(upside_down)[-1]


def test_a_teacher_with_tokens_of_its_own_is_ahead_in_bits_per_byte():
    """Its tokens are longer: more nats for each, and fewer for the text."""
    teacher = dataclasses.replace(model("t", "teacher", 6.0), bits_per_byte=1.0)
    models = [teacher, model("r", "reference", 4.0)]
    (said,) = regime_sentences(models, {"t": "that of a hub model", "r": ""})
    assert "ahead of the reference by 1.000 bits per byte" in said
    assert "(1.000 against 2.000 bits per byte)" in said


def test_domains_set_apart_have_an_average_of_their_own():
    scores = pl.DataFrame(
        {
            "domain": ["a", "b", "noise-x", "noise-y"],
            "log_prob": [-8.0, -2.0, -40.0, -10.0],
            "num_tokens": [4, 2, 4, 2],
            "num_bytes": [8, 10, 20, 20],
        }
    )
    lines = {line.domain: line for line in summarise(scores, ["noise-*"])}
    assert list(lines) == ["a", "b", "noise-x", "noise-y", AVERAGE, APART, OVERALL]
    assert [line.set_apart for line in lines.values()] == [False] * 2 + [True] * 2 + [
        False, True, False,
    ]  # fmt: skip
    assert lines[AVERAGE].loss == pytest.approx(1.5)
    assert lines[APART].loss == pytest.approx(7.5)
    assert lines[APART].bits_per_byte == pytest.approx(1.25 / math.log(2))
    assert lines[AVERAGE].num_bytes == 18
    assert lines[OVERALL].bits_per_byte == pytest.approx(60 / 58 / math.log(2))
    everything = {line.domain: line for line in summarise(scores)}
    assert everything[OVERALL] == lines[OVERALL]


def test_the_verdict_says_what_it_is_averaged_over():
    models = [model("plain", "student", 2.0), model("ours", "student", 2.0)]
    rows = held_out([2.0, 2.0, 2.0], [1.0, 1.0, 3.0])
    rows[2] = replace(rows[2], set_apart=True)
    first = verdict_sentences(models, rows, [], "plain")[0]
    assert "averaged over domains (1 set apart) (" in first
    assert "better in 2 of 2 domains" in first
