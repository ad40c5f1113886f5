"""Sampling with replacement: how often each row comes in an epoch.

A row is to come e = K * w / sum(w) times, w = exp(score / temperature), K the number of rows there
would be without replacement. It comes floor(e) times for sure, and once more with the chance of the
fraction that is left; these are drawn so that all together come K times (`pareto_values`).

Sums are taken over whole numbers, so that no order of rows or shards changes them.
"""

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from functools import partial
from typing import Any, TypeVar

import numpy as np
from numpy.typing import NDArray

from miniplm.data.chance import uniform_by_id
from miniplm.selection.amounts import Fixed, num_kept
from miniplm.selection.candidates import Candidates, ScoredBlock, StratumOf
from miniplm.selection.choice import Kept, strata
from miniplm.selection.config import SelectionConfig
from miniplm.selection.cut import FRONT, Place
from miniplm.selection.ranking import pareto_values
from miniplm.selection.tables import REPEATS_FIELD

FoundT = TypeVar("FoundT")
_UNITS = 1 << 40
"""Weights are whole multiples of the largest one over this."""


@dataclass(frozen=True)
class Weighting:
    """Expected counts of rows.

    Args:
        temperature: Of exp(score / temperature).
        stratum_of: Rows of one stratum share a sum.
        largest: Highest score, by stratum.
        totals: Sum of weights in units, by stratum.
        wanted: K by stratum.
    """

    temperature: float
    stratum_of: StratumOf
    largest: Mapping[str, float]
    totals: Mapping[str, int]
    wanted: Mapping[str, int]

    def expected(self, block: ScoredBlock) -> NDArray[np.float64]:
        """Expected count e of each row, `[rows]`; 0 without a score."""
        expected = np.zeros(len(block.ids))
        for stratum, places in block.by_stratum(self.stratum_of):
            if self.totals.get(stratum):
                units = _units(block.scores[places], self.largest[stratum], self.temperature)
                expected[places] = self.wanted[stratum] * (units / float(self.totals[stratum]))
        return expected

    def last_values(self, seed: int, block: ScoredBlock) -> NDArray[np.float64]:
        """What rows are ranked by for what their whole counts leave; NaN without a score."""
        expected = self.expected(block)
        values = pareto_values(expected - np.floor(expected), uniform_by_id(block.ids, seed))
        return np.where(np.isnan(block.scores) | np.isneginf(values), np.nan, values)


@dataclass(frozen=True)
class Repeats:
    """What sampling with replacement keeps."""

    weighting: Weighting
    seed: int
    cuts: Mapping[str, Place]

    @property
    def columns(self) -> tuple[str, ...]:
        """See `Choice`."""
        return (REPEATS_FIELD.name,)

    def kept(self, block: ScoredBlock) -> Kept:
        """See `Choice`."""
        repeats = np.floor(self.weighting.expected(block)).astype(np.int32)
        values = self.weighting.last_values(self.seed, block)
        for stratum, places in block.by_stratum(self.weighting.stratum_of):
            cut = self.cuts.get(stratum, FRONT)
            repeats[places] += cut.reached(values[places], block.ids[places])
        return Kept(repeats > 0, repeats)

    def origin(self) -> object:
        """See `Choice`."""
        return {
            "cuts": {name: [cut.value.hex(), cut.sequence_id] for name, cut in self.cuts.items()},
            "totals": {name: str(total) for name, total in self.weighting.totals.items()},
            "wanted": dict(self.weighting.wanted),
        }


def draw_repeats(candidates: Candidates, config: SelectionConfig, seed: int) -> Repeats:
    """Draw rows with replacement, within the strata of the configuration."""
    stratum_of, temperature = strata(config), config.temperature
    gather = partial(_gather, candidates, stratum_of)
    scores = gather(lambda block, _, places: _largest_and_count(block.scores[places]))
    largest = {stratum: max(top for top, _ in parts) for stratum, parts in scores.items()}
    wanted = {
        stratum: num_kept(sum(count for _, count in parts), config.ratio)
        for stratum, parts in scores.items()
    }
    units = gather(
        lambda block, stratum, places: int(
            _units(block.scores[places], largest[stratum], temperature).sum()
        )
    )
    totals = {stratum: sum(parts) for stratum, parts in units.items()}
    weighting = Weighting(temperature, stratum_of, largest, totals, wanted)
    whole = gather(lambda block, _, places: int(np.floor(weighting.expected(block)[places]).sum()))
    rest = Fixed({stratum: wanted[stratum] - sum(parts) for stratum, parts in whole.items()})
    values = partial(weighting.last_values, seed)
    return Repeats(weighting, seed, candidates.cuts(values, stratum_of, rest, in_tokens=False))


def _gather(
    candidates: Candidates,
    stratum_of: StratumOf,
    find: Callable[[ScoredBlock, str, Any], FoundT],
) -> dict[str, list[FoundT]]:
    """What a function finds in the rows of each stratum, block by block."""
    found: dict[str, list[FoundT]] = {}

    def of_block(block: ScoredBlock) -> list[tuple[str, FoundT]]:
        strata = block.by_stratum(stratum_of)
        return [(stratum, find(block, stratum, places)) for stratum, places in strata]

    for parts in candidates.each_block(of_block):
        for stratum, part in parts:
            found.setdefault(stratum, []).append(part)
    return found


def _largest_and_count(scores: NDArray[np.float64]) -> tuple[float, int]:
    usable = scores[~np.isnan(scores)]
    return (float(usable.max()), len(usable)) if len(usable) else (-np.inf, 0)


def _units(scores: NDArray[np.float64], largest: float, temperature: float) -> NDArray[np.int64]:
    """Weights as whole numbers, `[rows]`; 0 without a score."""
    weights = np.exp((scores - largest) / temperature)
    units: NDArray[np.int64] = np.rint(np.nan_to_num(weights, nan=0.0) * _UNITS).astype(np.int64)
    return units
