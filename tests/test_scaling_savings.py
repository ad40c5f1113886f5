"""Compute and data saved at equal loss, read off curves and off laws."""

import json
import math
from dataclasses import asdict

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy.stats import ttest_ind

from made_up_curves import PAPER_LAWS, cosine, law_of, made_up_curve
from miniplm.errors import ConfigError
from miniplm.scaling.curves import LossCurve, compute_at_loss
from miniplm.scaling.findings import scaling_findings
from miniplm.scaling.held_out_values import LossKind
from miniplm.scaling.savings import measured_saving
from miniplm.scaling.series import FitSettings, Series, all_series

QUICK = FitSettings(resamples=20)


def bare(*curves, method="plain"):
    """A series without a law."""
    return Series(method, 100, curves, None, ("not fitted",))


def steep(flops):
    return 3 + 2e3 / flops**0.5


def sooner(times):
    """The same losses at so many times less compute."""
    return lambda flops: steep(times * flops)


def test_a_method_that_is_twice_as_quick_saves_half():
    plain = bare(made_up_curve(steep, count=400))
    saving = measured_saving(bare(made_up_curve(sooner(2), count=400)), plain)
    assert saving.loss == plain.curves[0].points[-1].loss
    assert saving.compute.value == pytest.approx(2, rel=1e-3)
    assert saving.data.value == pytest.approx(2, rel=1e-3)
    assert saving.compute.interval is None
    assert saving.num_curves == (1, 1)
    slower = measured_saving(plain, bare(made_up_curve(sooner(2), count=400)))
    assert slower.compute.value == pytest.approx(1 / saving.compute.value)


def test_a_curve_that_begins_below_the_loss_is_not_read():
    """It got there before its first evaluation, when is not known."""
    slow, fast = made_up_curve(steep, count=4), made_up_curve(sooner(100), count=4)
    assert fast.points[0].loss < slow.points[-1].loss
    saving = measured_saving(bare(fast), bare(slow))
    assert (saving.compute, saving.data) == (None, None)
    assert f"a curve begins below {slow.points[-1].loss:.3f}" in saving.refusal
    alone = measured_saving(bare(slow.end_only()), bare(slow.end_only()))
    assert alone.compute.value == 1


def test_a_teacher_beside_the_student_costs_compute_and_no_data():
    taught = made_up_curve(lambda flops: steep(flops / 2), count=400, per_token=1200.0)
    saving = measured_saving(bare(taught), bare(made_up_curve(steep, count=400)))
    assert saving.data.value == pytest.approx(1)
    assert saving.compute.value == pytest.approx(0.5)


@settings(max_examples=20)
@given(
    st.lists(st.floats(1, 10), min_size=2, max_size=20),
    st.lists(st.floats(1e-3, 1e3), min_size=20, max_size=20),
)
def test_nothing_saves_against_itself(losses, steps):
    flops = [sum(steps[: place + 1]) for place in range(len(losses))]
    curve = made_up_curve(
        lambda at: losses[min(range(len(losses)), key=lambda place: abs(flops[place] - at))]
    )
    saving = measured_saving(bare(curve, curve), bare(curve, curve))
    assert saving.compute.value == 1
    assert saving.data.value == 1
    assert saving.compute.interval.low == saving.compute.interval.high == 1


@settings(max_examples=20)
@given(st.floats(1e-6, 1e9), st.floats(0.1, 10))
def test_units_change_no_saving(factor, scale):
    def pair(of_flops, of_loss):
        return [
            bare(
                made_up_curve(
                    lambda flops, law=law: of_loss * law(flops / of_flops),
                    per_token=600 * of_flops,
                )
            )
            for law in (sooner(1.5), steep)
        ]

    before, after = measured_saving(*pair(1, 1)), measured_saving(*pair(factor, scale))
    assert after.compute.value == pytest.approx(before.compute.value, rel=1e-6)
    assert after.data.value == pytest.approx(before.data.value, rel=1e-6)


@settings(max_examples=20)
@given(
    st.lists(st.floats(0, 9), min_size=2, max_size=20),
    st.lists(st.floats(0, 9), min_size=2, max_size=2),
)
def test_a_lower_loss_is_never_reached_sooner(losses, targets):
    flops = list(range(1, len(losses) + 1))
    high, low = (compute_at_loss(flops, losses, target) for target in sorted(targets)[::-1])
    if low is not None and high is not None:
        assert high <= low
    if low is not None and high is None:
        assert losses[0] < max(targets)


def test_the_interval_over_seeds_is_that_of_welch():
    times = [[1.8, 2.2, 2.0], [0.9, 1.1]]
    groups = [bare(*(made_up_curve(sooner(each), count=100) for each in group)) for group in times]
    saving = measured_saving(*groups)
    logs = [[math.log(c.flops_at_loss(saving.loss)) for c in group.curves] for group in groups]
    expected = ttest_ind(logs[1], logs[0], equal_var=False).confidence_interval(0.95)
    assert saving.compute.interval.low == pytest.approx(math.exp(expected.low))
    assert saving.compute.interval.high == pytest.approx(math.exp(expected.high))
    assert saving.compute.interval.low < 2 < saving.compute.interval.high
    assert saving.num_curves == (3, 2)


@pytest.mark.parametrize(
    ("ours", "theirs", "reading"),
    [
        ({"lr": cosine}, {"lr": cosine}, "at least"),
        ({}, {}, "about"),  # a constant learning rate has nowhere to fall
        ({"finished": False}, {}, "at least"),
        ({}, {"finished": False}, "at most"),
        ({"lr": cosine}, {"finished": False}, "unknown"),
    ],
)
def test_what_ends_before_its_schedule_is_taken_with_care(ours, theirs, reading):
    saving = measured_saving(
        bare(made_up_curve(sooner(2), **ours)), bare(made_up_curve(steep, **theirs))
    )
    assert saving.reading == reading


def test_a_curve_that_loses_is_read_the_other_way():
    saving = measured_saving(
        bare(made_up_curve(steep, lr=cosine)), bare(made_up_curve(sooner(2), lr=cosine))
    )
    assert saving.reading == "at most"
    assert saving.compute.value < 1


def paper_curves(size, per_token, method="no KD", **changes):
    law = law_of(PAPER_LAWS[size, method])
    return [
        made_up_curve(
            law, student=method, per_token=per_token, num_tokens=50_000_000_000,
            num_params=int(per_token / 6), noise=3e-4, seed=seed, **changes,
        )
        for seed in range(3)
    ]  # fmt: skip


@pytest.fixture(scope="module")
def findings():
    methods = {
        "MiniPLM": paper_curves("500M", 3.14e9, "MiniPLM")
        + paper_curves("200M", 1.26e9, "MiniPLM"),
        "no KD": paper_curves("500M", 3.14e9) + paper_curves("200M", 1.26e9),
    }
    return scaling_findings(
        methods, LossKind(), baseline="no KD", budgets=[1e12, 1e13], settings=QUICK
    )


def test_findings_hold_the_papers_figures(findings):
    assert [(each.method, each.num_params) for each in findings.series] == [
        ("no KD", 210_000_000), ("no KD", 523_333_333),
        ("MiniPLM", 210_000_000), ("MiniPLM", 523_333_333),
    ]  # fmt: skip
    printed = [[3.35, 3.32], [3.12, 3.08], [3.28, 3.26], [3.074, 3.04]]
    for series, losses in zip(findings.series, printed, strict=True):
        assert [each.loss for each in series.extrapolations] == pytest.approx(losses, abs=0.012)
        assert all(each.interval.low <= each.loss <= each.interval.high
                   for each in series.extrapolations)  # fmt: skip
        assert [constant.name for constant in series.fit.constants] == ["A", "alpha", "L_inf"]


def test_savings_off_the_laws_are_those_of_the_constants(findings):
    small = [each for each in findings.fitted if each.num_params == 210_000_000]
    assert [each.num_tokens for each in small] == [None, 1e12, 1e13]
    amplitude, exponent, floor = PAPER_LAWS["200M", "MiniPLM"][:3]
    expected = 1.26e21 / (amplitude / (law_of(PAPER_LAWS["200M", "no KD"])(1.26e21) - floor)) ** (
        1 / exponent
    )
    assert small[1].compute.value == pytest.approx(expected, rel=0.1)
    assert small[1].compute.interval.low < expected < small[1].compute.interval.high
    assert small[1].data == small[1].compute  # no teacher beside either
    assert small[0].loss == findings.measured[0].loss
    near = findings.measured[0].compute.value
    assert small[0].compute.value == pytest.approx(near, rel=0.05)


def test_the_band_goes_on_to_what_is_told(findings):
    for series in findings.series:
        band = series.band
        assert band[0].flops >= 0.04 * series.curves[0].points[-1].flops
        assert band[-1].flops == pytest.approx(series.extrapolations[-1].flops)
        assert [each.is_measured for each in band] == sorted(
            (each.is_measured for each in band), reverse=True
        )
        assert all(each.interval.low <= each.interval.high for each in band)
        losses = [each.loss for each in band]
        assert losses == sorted(losses, reverse=True)


def test_findings_are_plain_data(findings):
    content = json.loads(json.dumps(asdict(findings), allow_nan=False))
    assert content["series"][0]["curves"][0]["points"][0]["is_fitted"] is False
    assert content["series"][0]["curves"][0]["points"][-1]["is_fitted"] is True
    assert content["unit"] == "nats per token"
    assert content["joint"][0]["refusals"][0].startswith("students of 2 sizes")


def test_methods_of_a_size_get_the_baselines_compute():
    taught = made_up_curve(steep, student="taught", per_token=1200.0)
    found = scaling_findings(
        {"plain": [made_up_curve(steep)], "taught": [taught]}, LossKind(), budgets=[1e7],
        settings=QUICK,
    )  # fmt: skip
    assert [series.extrapolations[0].flops for series in found.series] == [6e9, 6e9]


def test_a_method_without_its_size_in_the_baseline_is_not_compared():
    found = scaling_findings(
        {"plain": [made_up_curve(steep)], "large": [made_up_curve(steep, num_params=7)]},
        LossKind(),
        settings=QUICK,
    )
    (saving,) = found.measured
    assert saving.refusal == "plain has no curve of a student of 7 parameters"
    assert found.fitted == ()


def test_what_the_laws_do_not_carry_is_refused_in_words():
    found = scaling_findings(
        {"plain": [made_up_curve(steep, noise=0.03)], "other": [made_up_curve(steep)]},
        LossKind(), budgets=[1e7], settings=QUICK,
    )  # fmt: skip
    among, at_budget = found.fitted
    assert among.refusal.startswith("plain: losses lie ")
    assert at_budget.refusal.startswith("plain: ")
    assert "losses lie" in at_budget.refusal
    assert among.compute is at_budget.compute is None
    assert found.measured[0].compute is not None


def test_a_loss_below_a_methods_floor_is_no_saving():
    poor = made_up_curve(lambda flops: 0.1 + steep(flops), student="poor")
    found = scaling_findings(
        {"plain": [made_up_curve(steep)], "poor": [poor]}, LossKind(), budgets=[2e7],
        settings=QUICK,
    )  # fmt: skip
    saving = found.fitted[-1]
    assert saving.loss == pytest.approx(steep(1.2e10), abs=1e-3)
    assert saving.compute is None
    assert "never comes down to" in saving.refusal


def test_cautions_say_what_the_figures_rest_on():
    def cautions(**changes):
        methods = {"plain": [made_up_curve(steep, **changes)] * 2,
                   "other": [made_up_curve(sooner(2), **changes)] * 2}  # fmt: skip
        found = scaling_findings(methods, LossKind(), settings=QUICK)
        return " ".join(found.cautions)

    assert cautions() == ""
    assert "Learning rates fall" in cautions(lr=cosine)
    assert "the difference is understated" in cautions(lr=cosine)
    assert "Not trained to the end yet: plain." in cautions(finished=False)
    single = scaling_findings({"plain": [made_up_curve(steep)]}, LossKind(), settings=QUICK)
    assert "one curve only" in single.cautions[0]
    assert single.baseline is None


def test_students_of_unfinished_runs_join_those_of_their_cost():
    curves = [made_up_curve(steep), made_up_curve(steep, num_params=None, finished=False)]
    (series,) = all_series({"plain": curves}, QUICK)
    assert series.num_params == 100
    assert len(series.curves) == 2


def test_students_of_one_method_and_size_cost_the_same():
    curves = [made_up_curve(steep), made_up_curve(steep, per_token=700.0)]
    with pytest.raises(ConfigError, match="'plain' with 100 parameters train at 600 and 700 FLOPs"):
        all_series({"plain": curves}, QUICK)


def test_the_warm_up_and_the_first_part_are_not_fitted_to():
    curve = made_up_curve(steep, count=100, lr=lambda share: min(1.0, share / 0.1))
    assert len(curve.fit_points(0.05)) == 91
    assert len(curve.fit_points(0.5)) == 51
    assert isinstance(curve.end_only(), LossCurve)
    assert curve.end_only().points == curve.points[-1:]


def test_students_of_unknown_size_are_compared_by_their_cost():
    unknown = {"num_params": None, "finished": False}
    methods = {
        "plain": [
            made_up_curve(steep, **unknown),
            made_up_curve(steep, per_token=700.0, **unknown),
        ],
        "quick": [made_up_curve(sooner(2), **unknown)],
        "taught": [made_up_curve(steep, per_token=1200.0, **unknown)],
    }
    quick, taught = scaling_findings(methods, LossKind(), settings=QUICK).measured
    assert quick.compute.value == pytest.approx(2, rel=0.05)
    assert taught.refusal == "plain has no curve of a student of this size"
