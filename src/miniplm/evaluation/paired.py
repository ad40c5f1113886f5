"""Differences of two models over the same documents, and whether they could be chance.

Two models agree on which documents are hard, so their difference is known far better than either
figure; only what both were measured on says so. The difference is in bits per byte, with the paired
percentile bootstrap over documents within domains: the sums of both models of the same documents
are drawn together. p is twice the share of resamples on the other side of zero (or on it). Of too
few documents there is neither, only the difference.

With several seeds of both it is the pigeonhole bootstrap (Owen, Annals of Applied Statistics 1(2),
2007): seeds and documents are drawn independently, since every seed was measured on all documents.
Of few seeds it understates the spread: that of S seeds by about sqrt(1 - 1/S). An interval over
documents of one seed says nothing of other seeds.

Axes: S seeds, N documents, R resamples, K sums.
"""

from collections.abc import Callable, Iterable, Mapping, Sequence

import numpy as np
from numpy.typing import NDArray

from miniplm.errors import ArtefactError
from miniplm.evaluation.averages import APART, AVERAGE, OVERALL
from miniplm.evaluation.bootstrap import (
    NUM_RESAMPLES,
    are_enough,
    interval,
    resampled_domains,
)
from miniplm.evaluation.difference import Difference, drawn_seeds
from miniplm.evaluation.documents import Documents
from miniplm.evaluation.paired_items import paired_items
from miniplm.evaluation.summary import Sums, bits_per_byte, domain_sums

__all__ = ["Difference", "paired_documents", "paired_items"]

PAIRED_BOOTSTRAP = "paired bootstrap over documents within domains"
HIERARCHICAL_BOOTSTRAP = "paired bootstrap over seeds and over documents within domains"
_MOST_UNLIKE = 1.1


def paired_documents(
    pairs: Sequence[tuple[Documents, Documents]],
    apart: Iterable[str] = (),
    *,
    seed: int = 0,
    num_resamples: int = NUM_RESAMPLES,
) -> dict[str, Difference]:
    """Differences in bits per byte, of each domain, of the averages and of all text.

    Args:
        pairs: The first and the second model of each seed; one pair gives the plain form.
        apart: Domains that are set apart from the average.
        seed: Of chance.
        num_resamples: How often documents are drawn.

    Returns:
        By domain, then `average of domains`, that of domains set apart if there are any, and
        `all text`.

    Raises:
        ArtefactError: The documents differ.
    """
    together, own = _side_by_side(pairs), frozenset(apart)
    measured = {name: sums_NK.sum(axis=0) for name, sums_NK in together.items()}
    drawn = resampled_domains(together, seed, num_resamples)
    seeds_RS = drawn_seeds(len(pairs), seed, num_resamples)
    found = {}
    for name, figure in _figures(list(together), own).items():
        by_seed_S = _differences(figure, measured, len(pairs))
        drawn_RS = _differences(figure, drawn, len(pairs))
        resampled_R = np.take_along_axis(drawn_RS, seeds_RS, axis=1).mean(axis=1)
        counts = [len(together[each]) for each in _domains_of(name, together, own)]
        enough = are_enough(counts)
        low, high = interval(resampled_R) if enough else (None, None)
        found[name] = Difference(
            value=float(by_seed_S.mean()),
            low=low,
            high=high,
            p_value=_share_beyond_zero(resampled_R) if enough else None,
            test=PAIRED_BOOTSTRAP if len(pairs) == 1 else HIERARCHICAL_BOOTSTRAP,
            num_units=sum(counts),
            num_seeds=len(pairs),
            by_seed=tuple(by_seed_S.tolist()),
        )
    return found


def _side_by_side(pairs: Sequence[tuple[Documents, Documents]]) -> Sums:
    """The sums of all models for each document, `[N, 6 * S]`, by domain.

    Raises:
        ArtefactError: The documents differ.
    """
    models = [model for pair in pairs for model in pair]
    if not models:
        raise ArtefactError("two models are compared by their documents; no pair was given")
    for other in models[1:]:
        _require_same(models[0], other)
    by_model = [domain_sums(model.table) for model in models]
    shared = [name for name in by_model[0] if all(name in sums for sums in by_model)]
    return {name: np.concatenate([sums[name] for sums in by_model], axis=1) for name in shared}


def _require_same(first: Documents, other: Documents) -> None:
    names = ["domain", "document"]
    ours, theirs = first.table.select(names), other.table.select(names)
    if first.unit == other.unit and ours.equals(theirs):
        _require_same_size(first, other)
        return
    mine, yours = set(ours.iter_rows()), set(theirs.iter_rows())
    examples = ", ".join(f"{document!r}" for _, document in sorted(mine ^ yours)[:3])
    raise ArtefactError(
        f"two models can be compared only on the same text: one was measured on {len(mine)} "
        f"{first.unit}, the other on {len(yours)} {other.unit}, {len(mine & yours)} of which are "
        f"the same{f' (not in both: {examples})' if examples else ''}. Evaluate both on the same "
        "held-out text."
    )


def _require_same_size(first: Documents, other: Documents) -> None:
    """Of the same names; tokenizers leave out first tokens of different lengths, and no more."""
    sizes = [int(model.table["num_bytes"].sum()) for model in (first, other)]
    if max(sizes) > _MOST_UNLIKE * min(sizes):
        raise ArtefactError(
            f"two models were measured on {first.unit} of the same names, but on {sizes[0]} bytes "
            f"and {sizes[1]} bytes of text. Evaluate both on the same held-out text."
        )


Figure = Callable[[Sums, int], NDArray[np.float64]]
"""Bits per byte from sums `[..., K]` by domain, of the model whose columns begin at a place."""


def _bits(sums: Sums, name: str, begin: int) -> NDArray[np.float64]:
    return bits_per_byte(sums[name][..., begin : begin + 3])


def _figures(domains: Sequence[str], apart: frozenset[str]) -> Mapping[str, Figure]:
    """What is compared, by name."""

    def of_domain(name: str) -> Figure:
        return lambda sums, begin: _bits(sums, name, begin)

    def average(names: Sequence[str]) -> Figure:
        return lambda sums, begin: np.mean([_bits(sums, each, begin) for each in names], axis=0)

    def overall(sums: Sums, begin: int) -> NDArray[np.float64]:
        parts = [sums[each][..., begin : begin + 3] for each in domains]
        return bits_per_byte(np.sum(parts, axis=0))

    figures = {name: of_domain(name) for name in domains}
    figures[AVERAGE] = average([name for name in domains if name not in apart])
    if inside := [name for name in domains if name in apart]:
        figures[APART] = average(inside)
    return figures | {OVERALL: overall}


def _domains_of(name: str, sums: Sums, apart: frozenset[str]) -> list[str]:
    """The domains that a figure is of."""
    inside = {
        AVERAGE: [each for each in sums if each not in apart],
        APART: [each for each in sums if each in apart],
        OVERALL: list(sums),
    }
    return inside.get(name, [name])


def _differences(figure: Figure, sums: Sums, num_seeds: int) -> NDArray[np.float64]:
    """First less second model of every seed, `[..., S]`."""
    return np.stack(
        [figure(sums, 6 * pair) - figure(sums, 6 * pair + 3) for pair in range(num_seeds)], axis=-1
    )


def _share_beyond_zero(values_R: NDArray[np.float64]) -> float:
    """Two-sided p value of a bootstrap: twice the smaller share of resamples beyond zero."""
    below, above = int((values_R <= 0).sum()), int((values_R >= 0).sum())
    known = int(np.isfinite(values_R).sum())
    return min(1.0, 2 * (1 + min(below, above)) / (1 + known))
