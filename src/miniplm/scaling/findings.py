"""From curves to all that is found about scaling."""

from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import asdict

import numpy as np

from miniplm.scaling.cautions import reading_cautions, series_cautions
from miniplm.scaling.content import (
    BandPoint,
    Constant,
    CurveContent,
    Extrapolation,
    FitContent,
    FitPoint,
    FittedSaving,
    JointContent,
    MeasuredSaving,
    ScalingFindings,
    SeriesContent,
)
from miniplm.scaling.curves import LossCurve
from miniplm.scaling.fits import CONSTANTS, Fit
from miniplm.scaling.held_out_values import LossKind
from miniplm.scaling.resampling import LEVEL, interval
from miniplm.scaling.savings import fitted_saving, measured_saving
from miniplm.scaling.series import FitSettings, JointFit, Series, all_series, joint_fits

_BAND_POINTS = 60


def scaling_findings(
    methods: Mapping[str, Sequence[LossCurve]],
    kind: LossKind,
    *,
    baseline: str | None = None,
    budgets: Sequence[float] = (),
    settings: FitSettings | None = None,
) -> ScalingFindings:
    """Fit laws to curves, extrapolate to budgets, and compare methods with a baseline.

    Args:
        methods: Curves by method; no method without a curve.
        kind: What their losses are.
        baseline: A method; the first where it is not given.
        budgets: In tokens that the baseline is trained on; the methods of a size all get its
            training compute.
        settings: How laws are fitted.

    Raises:
        ConfigError: Students of one method and size cost differently.
    """
    settings = settings or FitSettings()
    chosen = baseline or next(iter(methods))
    in_order = {chosen: methods[chosen], **methods}
    series = all_series(in_order, settings)
    base = {each.size: each for each in series if each.method == chosen}
    others = [each for each in series if each.method != chosen]
    told = [_extrapolations(each, base, budgets) for each in series]
    targets = {
        each.size: own for each, own in zip(series, told, strict=True) if each.method == chosen
    }
    measured = [_measured(each, base, chosen) for each in others]
    return ScalingFindings(
        loss=kind.name,
        unit=kind.unit,
        level=LEVEL,
        baseline=chosen if others else None,
        series=tuple(
            _series_content(each, own, settings) for each, own in zip(series, told, strict=True)
        ),
        joint=tuple(_joint_content(each, budgets) for each in joint_fits(series, settings)),
        measured=tuple(measured),
        fitted=tuple(
            saving
            for each, read in zip(others, measured, strict=True)
            if each.size in base
            for saving in _fitted(each, base[each.size], read, targets[each.size])
        ),
        cautions=(*series_cautions(series, settings), *reading_cautions(measured)),
    )


def _extrapolations(
    series: Series, base: Mapping[int | str, Series], budgets: Iterable[float]
) -> list[Extrapolation]:
    per_token = base.get(series.size, series).flops_per_token
    return [series.extrapolation(budget, budget * per_token) for budget in budgets]


def _measured(series: Series, base: Mapping[int | str, Series], baseline: str) -> MeasuredSaving:
    if of_size := base.get(series.size):
        return measured_saving(series, of_size)
    size = f"{series.num_params:,} parameters" if series.num_params else "this size"
    refusal = f"{baseline} has no curve of a student of {size}"
    count = (len(series.curves), 0)
    return MeasuredSaving(
        series.method, baseline, series.num_params, None, None, None, count, "unknown", refusal
    )


def _fitted(
    series: Series, base: Series, measured: MeasuredSaving, targets: Iterable[Extrapolation]
) -> list[FittedSaving]:
    """To the loss that was compared at on the curves, and to the baseline's at each budget."""
    return [
        fitted_saving(series, base, measured.loss, None, None),
        *(
            fitted_saving(
                series,
                base,
                target.loss,
                target.num_tokens,
                f"{base.method}: {target.refusal}" if target.refusal else None,
            )
            for target in targets
        ),
    ]


def _series_content(
    series: Series, extrapolations: Sequence[Extrapolation], settings: FitSettings
) -> SeriesContent:
    return SeriesContent(
        method=series.method,
        num_params=series.num_params,
        flops_per_token=series.flops_per_token,
        curves=tuple(_curve_content(curve, settings) for curve in series.curves),
        fit=_fit_content(series.fit) if series.fit else None,
        refusals=series.refusals,
        band=tuple(_band(series, extrapolations, settings)),
        extrapolations=tuple(extrapolations),
    )


def _curve_content(curve: LossCurve, settings: FitSettings) -> CurveContent:
    fitted = {
        point for each in settings.fitted([curve]) for point in each.fit_points(settings.skip)
    }
    return CurveContent(
        curve.student,
        curve.run,
        curve.finished,
        tuple(
            FitPoint(point.num_tokens, point.flops, point.loss, point in fitted)
            for point in curve.points
        ),
    )


def _joint_content(joint: JointFit, budgets: Iterable[float]) -> JointContent:
    return JointContent(
        method=joint.method,
        sizes=joint.sizes,
        fit=_fit_content(joint.fit) if joint.fit else None,
        refusals=joint.refusals,
        extrapolations=tuple(each for budget in budgets for each in joint.extrapolations(budget)),
    )


def _fit_content(fit: Fit) -> FitContent:
    names = CONSTANTS[len(fit.law.exponents)]
    resampled = zip(*(law.constants for law in fit.resampled), strict=True)
    intervals = [interval(values) for values in resampled]
    return FitContent(
        constants=tuple(map(Constant, names, fit.law.constants, intervals)), **asdict(fit.quality)
    )


def _band(
    series: Series, extrapolations: Sequence[Extrapolation], settings: FitSettings
) -> Iterator[BandPoint]:
    """From the first fitted point to the last one, or to the furthest budget that is told."""
    fit = series.fit
    if fit is None:
        return
    points = [
        point
        for curve in settings.fitted(series.curves)
        for point in curve.fit_points(settings.skip)
    ]
    told = [each.flops for each in extrapolations if each.loss is not None]
    begin, end = min(point.flops for point in points), max([fit.last_amount, *told])
    for flops in np.geomspace(begin, end, _BAND_POINTS).tolist():
        found = fit.interval(lambda law, at=flops: law.loss(at))  # type: ignore[misc]
        yield BandPoint(flops, fit.law.loss(flops), found, flops <= fit.last_amount)
