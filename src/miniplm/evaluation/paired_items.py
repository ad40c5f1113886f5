"""Differences of two models over the items of tasks.

p is that of the sign-flip permutation test: were the two models alike, the difference of each item
would as likely have the other sign.

Axes: S seeds, N items, R resamples, T tasks.
"""

from collections.abc import Sequence

import numpy as np
from numpy.typing import NDArray

from miniplm.errors import ArtefactError
from miniplm.evaluation.bootstrap import (
    NUM_RESAMPLES,
    are_enough,
    interval,
    resampled_sums,
)
from miniplm.evaluation.difference import Difference, drawn_seeds

SIGN_FLIPS = "sign-flip permutation over items"
_SIGNS_AT_ONCE = 1 << 22
_CHANCE_OF_SIGNS = 2
_CHANCE_OF_ITEMS = 3


def paired_items(
    first_SN: NDArray[np.floating],
    second_SN: NDArray[np.floating],
    *,
    seed: int = 0,
    num_resamples: int = NUM_RESAMPLES,
) -> Difference:
    """The difference in mean correctness over the same items.

    With several seeds the interval is over seeds and items; the test is over items, of each one's
    mean difference over seeds.

    Args:
        first_SN: Correctness (or any score) of each item by the first model, `[N]`, or `[S, N]` of
            several seeds.
        second_SN: By the second model; its seeds are paired with the first's.
        seed: Of chance.
        num_resamples: How often items are drawn, and signs flipped.

    Raises:
        ArtefactError: There are not as many of both, or none.
    """
    first_SN, second_SN = np.atleast_2d(first_SN), np.atleast_2d(second_SN)
    if first_SN.shape != second_SN.shape or not first_SN.size:
        raise ArtefactError(
            f"items of two models are compared one by one: {first_SN.shape} and {second_SN.shape} "
            "(seeds, items) were given; expected the same items, at least one, for both"
        )
    gaps_SN = first_SN.astype(np.float64) - second_SN.astype(np.float64)
    num_seeds, num_items = gaps_SN.shape
    generator = np.random.default_rng([seed, _CHANCE_OF_ITEMS])
    means_RS = resampled_sums(gaps_SN.T, generator, num_resamples) / num_items
    seeds_RS = drawn_seeds(num_seeds, seed, num_resamples)
    drawn_R = np.take_along_axis(means_RS, seeds_RS, axis=1).mean(axis=1)
    low, high = interval(drawn_R) if are_enough([num_items]) else (None, None)
    return Difference(
        value=float(gaps_SN.mean()),
        low=low,
        high=high,
        p_value=sign_flip_p_value(gaps_SN.mean(axis=0), seed, num_resamples),
        test=SIGN_FLIPS,
        num_units=num_items,
        num_seeds=num_seeds,
        by_seed=tuple(gaps_SN.mean(axis=1).tolist()),
    )


def paired_average(
    pairs: Sequence[tuple[NDArray[np.floating], NDArray[np.floating]]],
    *,
    seed: int = 0,
    num_resamples: int = NUM_RESAMPLES,
) -> Difference:
    """The difference of averages over tasks, each task counting once; items are drawn by task.

    Args:
        pairs: Of each task the correctness of each item by the first model, `[N]`, and the second.
        seed: Of chance.
        num_resamples: How often items are drawn, and signs flipped.

    Raises:
        ArtefactError: There is no task, or a pair has not as many items of both.
    """
    if not pairs or any(first.shape != second.shape or not first.size for first, second in pairs):
        raise ArtefactError("averages of tasks are compared over the same items of one at least")
    gaps = [first.astype(np.float64) - second.astype(np.float64) for first, second in pairs]
    generator = np.random.default_rng([seed, _CHANCE_OF_ITEMS])
    means_TR = np.stack(
        [
            resampled_sums(gaps_N[:, None], generator, num_resamples)[:, 0] / len(gaps_N)
            for gaps_N in gaps
        ]
    )
    enough = are_enough([len(gaps_N) for gaps_N in gaps])
    low, high = interval(means_TR.mean(axis=0)) if enough else (None, None)
    weighted_N = np.concatenate([gaps_N / (len(gaps_N) * len(gaps)) for gaps_N in gaps])
    value = float(weighted_N.sum())
    return Difference(
        value=value,
        low=low,
        high=high,
        p_value=sign_flip_p_value(weighted_N, seed, num_resamples),
        test=SIGN_FLIPS,
        num_units=len(weighted_N),
        num_seeds=1,
        by_seed=(value,),
    )


def sign_flip_p_value(
    gaps_N: NDArray[np.float64], seed: int = 0, num_flips: int = NUM_RESAMPLES
) -> float:
    """How often differences with signs dealt by chance add up to as much, in either direction.

    (1 + number of such) / (1 + number of tries), as Phipson and Smyth (Statistical Applications in
    Genetics and Molecular Biology 9(1), 2010) have it; 1 where no item differs.

    Args:
        gaps_N: Differences of items.
        seed: Of chance.
        num_flips: Tries.
    """
    sizes_N = np.abs(gaps_N[gaps_N != 0])
    seen, as_large = abs(float(gaps_N.sum())), 0
    generator = np.random.default_rng([seed, _CHANCE_OF_SIGNS])
    at_once = max(1, _SIGNS_AT_ONCE // max(1, len(sizes_N)))
    for begin in range(0, num_flips, at_once):
        size = min(at_once, num_flips - begin), len(sizes_N)
        signs_RN = 2.0 * generator.integers(2, size=size, dtype=np.int8) - 1.0
        as_large += int((np.abs(signs_RN @ sizes_N) >= seen * (1 - 1e-12)).sum())
    return (1 + as_large) / (1 + num_flips)
