"""The curves of one method and one size, the law through them, and what it says further on."""

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass

from miniplm.errors import ConfigError
from miniplm.scaling.content import Extrapolation
from miniplm.scaling.curves import LossCurve
from miniplm.scaling.extrapolation import Budget, extrapolate
from miniplm.scaling.fits import (
    CONSTANTS,
    RESAMPLES,
    SKIP,
    Fit,
    compute_points,
    fit_curves,
    size_points,
)
from miniplm.scaling.reliability import fit_refusals, size_refusals
from miniplm.scaling.resampling import Points


@dataclass(frozen=True)
class FitSettings:
    """How laws are fitted.

    Args:
        skip: Share of a curve's compute that is left out at its beginning.
        ends_only: Fit to the last points of finished curves alone, as Hoffmann et al. do: runs of
            several budgets are needed, and none is judged by a loss before its end.
        resamples: For the intervals.
        seed: Of what is drawn.
    """

    skip: float = SKIP
    ends_only: bool = False
    resamples: int = RESAMPLES
    seed: int = 0

    def fitted(self, curves: Iterable[LossCurve]) -> list[LossCurve]:
        """The curves, or what is looked at of them."""
        if not self.ends_only:
            return list(curves)
        return [curve.end_only() for curve in curves if curve.finished]


@dataclass(frozen=True)
class Series:
    """The curves of a method and size.

    Args:
        method: Its name.
        num_params: Of its students; None where unknown.
        curves: At least one.
        fit: The law of compute through them; None where there are too few points.
        refusals: Why it must not be extrapolated.
    """

    method: str
    num_params: int | None
    curves: tuple[LossCurve, ...]
    fit: Fit | None
    refusals: tuple[str, ...]

    @property
    def size(self) -> int | str:
        """Tells sizes apart: parameters, or what a token costs where these are not known."""
        return self.num_params or _cost(self.curves[0])

    @property
    def flops_per_token(self) -> float:
        """Of training."""
        return self.curves[0].flops_per_token

    def extrapolation(self, num_tokens: float, flops: float) -> Extrapolation:
        """The loss at a budget of so many tokens and its compute, or why there is none."""
        budget = Budget(self.num_params, num_tokens, flops)
        last = (self.fit.last_amount,) if self.fit else ()
        return extrapolate(self.fit, self.refusals, (flops,), last, budget)


@dataclass(frozen=True)
class JointFit:
    """L(N, D) over the sizes of a method.

    Args:
        method: Its name.
        sizes: Parameters of its students, ascending.
        fit: The law of parameters and tokens; None where it cannot be fitted.
        refusals: Why it must not be used beyond the points.
        members: The method's series.
    """

    method: str
    sizes: tuple[int, ...]
    fit: Fit | None
    refusals: tuple[str, ...]
    members: tuple[Series, ...]

    def extrapolations(self, num_tokens: float) -> list[Extrapolation]:
        """The loss of each size at a budget, or why there is none."""
        return [
            extrapolate(
                self.fit,
                self.refusals,
                (float(each.num_params), num_tokens),
                (float(each.num_params), float(each.curves[-1].points[-1].num_tokens)),
                Budget(each.num_params, num_tokens, num_tokens * each.flops_per_token),
            )
            for each in self.members
            if each.num_params is not None
        ]


def all_series(methods: Mapping[str, Sequence[LossCurve]], settings: FitSettings) -> list[Series]:
    """A series for each method and size, sizes ascending.

    Raises:
        ConfigError: Students of one method and size cost differently, so that they are of several.
    """
    curves = [curve for each in methods.values() for curve in each]
    known = {_cost(curve): curve.num_params for curve in curves if curve.num_params is not None}
    found = []
    for method, own in methods.items():
        groups: dict[tuple[str, int | None], list[LossCurve]] = {}
        for curve in sorted(own, key=lambda each: each.flops_per_token):
            size = curve.num_params or known.get(_cost(curve))
            groups.setdefault((_cost(curve), size), []).append(curve)
        _check_costs(method, list(groups))
        found += [_series(method, size, group, settings) for (_, size), group in groups.items()]
    return found


def _check_costs(method: str, groups: Sequence[tuple[str, int | None]]) -> None:
    sizes = [size for _, size in groups]
    for size in set(sizes):
        costs = [cost for cost, each in groups if each == size]
        if len(costs) > 1 and size is not None:
            raise ConfigError(
                "--method",
                [
                    f"the students of {method!r} with {size:,} parameters train at "
                    f"{' and '.join(costs)} FLOPs for a token: by several methods, or on rows of "
                    "several lengths; tell them apart with --method NAME=RUN/STUDENT"
                ],
            )


def _cost(curve: LossCurve) -> str:
    """Tells sizes of a method apart, also of a run without a manifest: FLOPs for a token."""
    return f"{curve.flops_per_token:.6g}"


def _series(
    method: str, num_params: int | None, curves: Sequence[LossCurve], settings: FitSettings
) -> Series:
    points = [compute_points(curve, settings.skip) for curve in settings.fitted(curves)]
    fit = fit_curves([points], count=settings.resamples, seed=settings.seed) if points else None
    reasons = fit_refusals(fit, _count(points), len(CONSTANTS[1]))
    return Series(method, num_params, tuple(curves), fit, tuple(reasons))


def joint_fits(series: Iterable[Series], settings: FitSettings) -> list[JointFit]:
    """L(N, D) for each method with students of several sizes."""
    methods: dict[str, list[Series]] = {}
    for each in series:
        methods.setdefault(each.method, []).append(each)
    return [
        _joint(method, members, settings) for method, members in methods.items() if len(members) > 1
    ]


def _joint(method: str, members: Sequence[Series], settings: FitSettings) -> JointFit:
    sized = [each for each in members if each.num_params is not None]
    sizes = tuple(sorted({each.num_params for each in sized if each.num_params is not None}))
    reasons = size_refusals(list(sizes))
    if reasons:
        return JointFit(method, sizes, None, tuple(reasons), tuple(members))
    strata = [
        [size_points(curve, each.num_params, settings.skip) for curve in fitted]
        for each in sized
        if each.num_params is not None and (fitted := settings.fitted(each.curves))
    ]
    count = sum(map(_count, strata))
    fit = fit_curves(strata, count=settings.resamples, seed=settings.seed) if count else None
    reasons = fit_refusals(fit, count, len(CONSTANTS[2]))
    return JointFit(method, sizes, fit, tuple(reasons), tuple(members))


def _count(points: Iterable[Points]) -> int:
    return sum(len(each.losses_P) for each in points)
