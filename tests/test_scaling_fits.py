"""Laws that are fitted to curves, against those of the paper that the points come from."""

import math
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from made_up_curves import PAPER_FLOPS_1T, PAPER_LAWS, law_of, made_up_curve
from miniplm.model import model_config
from miniplm.model_size import model_size
from miniplm.presets import preset
from miniplm.scaling.compute import six_nd, training_flops
from miniplm.scaling.fits import compute_points, fit_curves
from miniplm.scaling.law import PowerLaw
from miniplm.scaling.power_law import EXPONENT_BOUNDS, fit_power_law
from miniplm.scaling.reliability import fit_refusals, width_refusal
from miniplm.scaling.resampling import Interval, Points, resamples
from miniplm.scaling.series import FitSettings, all_series, joint_fits

DOCUMENT = Path(__file__).resolve().parents[1] / "docs" / "scaling.md"
PAPER = pytest.mark.parametrize(("size", "method"), list(PAPER_LAWS))


def paper_law(size, method):
    amplitude, exponent, floor = PAPER_LAWS[size, method][:3]
    return PowerLaw((math.log(amplitude),), (exponent,), floor)


def paper_curve(size, method, **changes):
    """To 50B tokens, as far as the paper trains."""
    per_token = PAPER_FLOPS_1T[size] / 1e12
    law = law_of(PAPER_LAWS[size, method])
    return made_up_curve(
        law, student=method, per_token=per_token, num_tokens=50_000_000_000, **changes
    )


@PAPER
def test_the_printed_constants_give_the_printed_losses(size, method):
    law, printed = paper_law(size, method), PAPER_LAWS[size, method][3:]
    found = [law.loss(times * PAPER_FLOPS_1T[size]) for times in (1, 10)]
    if (size, method) == ("500M", "MiniPLM"):
        assert round(found[0], 3) == 3.074  # printed as 3.06; the others agree
        found, printed = found[1:], printed[1:]
    assert found == pytest.approx(printed, abs=0.01)


@PAPER
def test_constants_come_back_from_their_points(size, method):
    curve = compute_points(paper_curve(size, method))
    fit = fit_power_law(curve.x_PK, curve.losses_P)
    assert fit.law.constants == pytest.approx(PAPER_LAWS[size, method][:3], rel=1e-6)
    assert fit.on_bound == ()


@pytest.mark.parametrize("seed", range(3))
def test_constants_and_losses_of_noisy_points_lie_in_the_intervals(seed):
    curves = [
        compute_points(paper_curve("500M", "no KD", noise=1e-3, seed=10 * seed + number))
        for number in range(4)
    ]
    fit = fit_curves([curves], seed=seed)
    assert fit_refusals(fit, 160) == []
    true = paper_law("500M", "no KD")
    for figure in (
        lambda law: law.log_amplitudes[0],
        lambda law: law.exponents[0],
        lambda law: law.floor,
        lambda law: law.loss(PAPER_FLOPS_1T["500M"]),
    ):
        found = fit.interval(figure)
        assert found.low < figure(fit.law) < found.high
        assert found.low < figure(true) < found.high
    assert fit.quality.deviation == pytest.approx(1e-3, rel=0.2)
    assert fit.quality.num_curves == 4


@settings(max_examples=10)
@given(
    factor=st.floats(1e-12, 1e15),
    scale=st.floats(0.1, 10),
    exponent=st.floats(0.1, 1.2),
    share=st.floats(0.2, 0.9),
)
def test_units_of_compute_and_loss_change_the_constants_as_they_must(
    factor, scale, exponent, share
):
    """L(C) with k C in place of C has A k^alpha; with s L in place of L it has s A and s L_inf."""
    flops = np.geomspace(1e15, 1e17, 12)
    losses = 2 * share + 2 * (1 - share) * (flops / 1e15) ** -exponent
    losses *= np.exp(1e-4 * np.sin(7 * np.arange(12)))
    ours = fit_power_law(flops[:, None], losses).law
    theirs = fit_power_law(factor * flops[:, None], scale * losses).law
    assert theirs.exponents == pytest.approx(ours.exponents, rel=1e-3)
    assert theirs.floor == pytest.approx(scale * ours.floor, rel=1e-3)
    rescaled = ours.log_amplitudes[0] + ours.exponents[0] * math.log(factor) + math.log(scale)
    assert theirs.log_amplitudes[0] == pytest.approx(rescaled, rel=1e-2, abs=1e-2)
    assert theirs.losses(factor * flops[:, None]) == pytest.approx(
        scale * ours.losses(flops[:, None]), rel=1e-4
    )


@settings(max_examples=10)
@given(
    st.lists(st.floats(0.5, 20), min_size=6, max_size=30),
    st.lists(st.floats(0.1, 3), min_size=30, max_size=30),
)
def test_a_law_falls_with_compute_whatever_the_points(losses, steps):
    flops = 1e18 * np.exp(np.cumsum(steps[: len(losses)]))
    law = fit_power_law(flops[:, None], np.array(losses)).law
    predicted = law.losses(np.geomspace(flops[0] / 10, flops[-1] * 10, 50)[:, None])
    assert (np.diff(predicted) <= 0).all()
    assert (predicted >= law.floor).all()
    assert EXPONENT_BOUNDS[0] <= law.exponents[0] <= EXPONENT_BOUNDS[1]


def test_one_wild_loss_does_not_move_a_law():
    curve = compute_points(paper_curve("200M", "MiniPLM"))
    losses = curve.losses_P.copy()
    losses[20] *= 1.5
    law = fit_power_law(curve.x_PK, losses).law
    assert law.constants == pytest.approx(PAPER_LAWS["200M", "MiniPLM"][:3], rel=0.02)


@pytest.mark.parametrize(
    ("flops", "losses", "message"),
    [
        ([1e9, 2e9], [3.0, 2.0], "2 points; a law of 3 constants"),
        ([1e9, 2e9, 0.0], [3.0, 2.0, 1.0], "must be above 0"),
        ([1e9, 2e9, 3e9], [3.0, 2.0, -1.0], "must be above 0"),
        ([1e9, 2e9, 3e9], [3.0, 2.0, math.nan], "not finite"),
    ],
)
def test_points_without_a_law_are_refused(flops, losses, message):
    with pytest.raises(ValueError, match=message):
        fit_power_law(np.array(flops)[:, None], np.array(losses))


def hoffmann(num_params, num_tokens):
    return 1.69 + 406.4 / num_params**0.34 + 410.7 / num_tokens**0.28


def sized_curves(sizes, noise=0.0):
    return [
        made_up_curve(
            lambda flops, size=size: hoffmann(size, flops / (6 * size)), num_params=int(size),
            per_token=6 * size, num_tokens=int(40 * size), noise=noise, seed=number,
        )
        for number, size in enumerate(sizes)
    ]  # fmt: skip


def test_the_joint_form_gives_the_constants_of_hoffmann_et_al():
    series = all_series({"plain": sized_curves([1e8, 2e8, 5e8, 1.2e9])}, FitSettings(resamples=4))
    assert [each.num_params for each in series] == [10**8, 2 * 10**8, 5 * 10**8, 12 * 10**8]
    (joint,) = joint_fits(series, FitSettings(resamples=4))
    assert joint.fit.law.constants == pytest.approx((406.4, 410.7, 0.34, 0.28, 1.69), rel=1e-3)
    assert joint.refusals == ()
    told = joint.extrapolations(1e11)
    assert [each.loss for each in told] == pytest.approx(
        [hoffmann(each.num_params, 1e11) for each in told], rel=1e-4
    )


def test_the_joint_form_is_told_in_tokens():
    series = all_series({"plain": sized_curves([1e8, 2e8, 5e8, 1.2e9])}, FitSettings(resamples=4))
    (joint,) = joint_fits(series, FitSettings(resamples=4))
    assert joint.fit.last_amount == 40 * 1.2e9
    assert joint.fit.quality.decades == pytest.approx(math.log10(20))  # of each size's tokens
    assert abs(joint.fit.quality.miss) < 1e-4
    (far, *_) = joint.extrapolations(1e15)
    assert far.refusal.startswith("1e+15 tokens are 4.3 powers of ten beyond the points")


def test_the_joint_form_holds_noisy_points_in_its_intervals():
    settings = FitSettings(resamples=40)
    series = all_series({"plain": sized_curves([1e8, 2e8, 4e8, 8e8, 16e8], 3e-3)}, settings)
    (joint,) = joint_fits(series, settings)
    true = PowerLaw((math.log(406.4), math.log(410.7)), (0.34, 0.28), 1.69)
    for figure in (lambda law: law.floor, lambda law: law.loss(8e8, 1e11)):
        found = joint.fit.interval(figure)
        assert found.low < figure(joint.fit.law) < found.high
        assert found.low < figure(true) < found.high


@pytest.mark.parametrize(
    ("sizes", "reason"),
    [([1e8, 1e9], "students of 2 sizes (100,000,000 and 1,000,000,000)"),
     ([1e8, 2e8, 3e8], "a factor of 3.0")],
)  # fmt: skip
def test_too_few_sizes_determine_no_joint_form(sizes, reason):
    settings = FitSettings(resamples=4)
    (joint,) = joint_fits(all_series({"plain": sized_curves(sizes)}, settings), settings)
    assert joint.fit is None
    assert reason in joint.refusals[0]
    assert all(each.loss is None and each.refusal for each in joint.extrapolations(1e10))


def refusals(curve, **changes):
    points = compute_points(curve, **changes)
    return fit_refusals(fit_curves([[points]], count=20), len(points.losses_P))


def test_a_good_fit_is_not_refused():
    assert refusals(paper_curve("200M", "no KD", noise=5e-4)) == []


@pytest.mark.parametrize(
    ("changes", "reason"),
    [
        ({"count": 2}, "2 points; a law of 3 constants needs 6"),
        ({"count": 5}, "5 points; a law of 3 constants needs 6"),
        ({"noise": 0.03}, "from the law (standard deviation)"),
    ],
)
def test_weak_points_are_refused_with_the_reason(changes, reason):
    assert any(reason in each for each in refusals(paper_curve("200M", "no KD", **changes)))


def test_a_short_range_is_refused():
    (first, *_) = refusals(paper_curve("200M", "no KD"), skip=0.5)
    assert first.startswith("the points cover a factor of 2.0 in compute")


def test_a_law_without_a_floor_in_sight_is_refused():
    (reason,) = refusals(made_up_curve(lambda flops: 100 / flops**0.2))
    assert "came to a bound of the search: the points" in reason


def test_a_law_that_misses_the_end_is_refused():
    """A curve that drops once more, as those of falling learning rates do."""
    late = made_up_curve(lambda flops: 3 + 2e3 / flops**0.5 - 0.2 * (flops > 4e8))
    (reason,) = [each for each in refusals(late) if "first half" in each]
    assert "above what was measured at the end" in reason


def test_flat_losses_say_nothing():
    assert refusals(made_up_curve(lambda flops: 3.0))


def test_budgets_too_far_beyond_the_points_are_refused():
    (series,) = all_series({"plain": [paper_curve("200M", "no KD")]}, FitSettings(resamples=20))
    near, far = (series.extrapolation(tokens, 1.26e9 * tokens) for tokens in (1e13, 1e15))
    assert near.loss == pytest.approx(3.32, abs=0.01)
    assert near.interval.low <= near.loss <= near.interval.high
    assert far.loss is None
    assert far.interval is None
    assert "4.3 powers of ten beyond the points, which cover 1.3" in far.refusal


def test_an_interval_that_says_nothing_is_refused():
    narrow, wide = Interval(3.2, 3.3), Interval(3.0, 3.5)
    assert width_refusal(3.25, narrow, last_loss=3.4) is None
    assert "is wider than the step" in width_refusal(3.25, wide, last_loss=3.4)
    near_the_end = Interval(3.22, 3.28)  # wider than the step, but under two per cent
    assert width_refusal(3.25, near_the_end, last_loss=3.26) is None


def test_a_resample_draws_curves_and_blocks_of_neighbours():
    curves = [
        Points(np.full((16, 1), float(number)), np.arange(16.0) + 100 * number, np.arange(16.0))
        for number in range(3)
    ]
    counts = set()
    for drawn in resamples([curves[:1], curves[1:]], 50, seed=0):
        numbers = drawn.losses_P // 100
        assert len(drawn.losses_P) == 48
        assert (numbers[:16] == 0).all()  # strata keep their share
        counts.add(int((numbers == 1).sum()))
        within = (drawn.losses_P % 100).reshape(-1, 4)  # blocks of the square root of 16
        assert set(np.diff(within, axis=1).ravel().tolist()) <= {1.0, -15.0}
    assert counts == {0, 16, 32}


def test_the_same_seed_draws_the_same():
    points = [[compute_points(paper_curve("500M", "no KD", noise=1e-3))]]
    one, two, other = (fit_curves(points, count=5, seed=seed) for seed in (0, 0, 1))
    assert one.resampled == two.resampled != other.resampled


def test_ends_of_runs_give_the_law_that_curves_on_the_way_hide():
    """Each run is above the law until its learning rate has fallen, at its end."""
    law = law_of(PAPER_LAWS["500M", "no KD"])
    curves = [
        made_up_curve(
            lambda flops, end=tokens * 3.14e9: law(flops) * (1 + 0.05 * (1 - flops / end)),
            per_token=3.14e9, num_tokens=tokens, student=f"plain-{tokens}",
        )
        for tokens in np.geomspace(2e9, 6e10, 8).astype(int).tolist()
    ]  # fmt: skip
    (ends,) = all_series({"plain": curves}, FitSettings(ends_only=True, resamples=20))
    (along,) = all_series({"plain": curves}, FitSettings(resamples=20))
    assert ends.refusals == ()
    assert ends.fit.law.loss(3.14e21) == pytest.approx(law(3.14e21), rel=1e-4)
    assert along.fit is not None
    assert along.fit.quality.deviation > 10 * ends.fit.quality.deviation
    unfinished = [curves[0], made_up_curve(law, finished=False, per_token=3.14e9)]
    (left,) = all_series({"plain": unfinished}, FitSettings(ends_only=True, resamples=20))
    assert left.fit is None
    assert left.refusals == ("1 points; a law of 3 constants needs 6",)


@pytest.mark.parametrize(
    ("name", "ours", "six"),
    [("200m", 1.33e21, 1.22e21), ("500m", 3.09e21, 2.78e21), ("1.2b", 6.02e21, 6.96e21)],
)
def test_compute_of_a_trillion_tokens_is_that_of_the_document(name, ours, six):
    student = preset("paper").students[f"plain-{name}"]
    size = model_size(model_config(student, 151_936, 1024), 1024)
    assert training_flops(size, 1e12) == pytest.approx(ours, rel=0.004)
    assert six_nd(size.num_params, 1e12) == pytest.approx(six, rel=0.004)
    printed = PAPER_FLOPS_1T[name.upper()]
    (row,) = [line for line in DOCUMENT.read_text().splitlines() if f"| {name.upper()} |" in line]
    cells = [float(cell) for cell in row.strip("| ").split("|")[1:]]
    assert cells == [printed / 1e21, ours / 1e21, six / 1e21]
