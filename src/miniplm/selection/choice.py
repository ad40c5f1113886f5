"""Which rows a policy keeps: parts of rankings, found by going through the candidates."""

import difflib
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from functools import partial, reduce
from typing import Protocol

import numpy as np
from numpy.typing import NDArray

from miniplm.errors import ConfigError
from miniplm.selection.amounts import (
    CORPUS,
    AtLeast,
    Band,
    Budget,
    Quota,
    Remainder,
    Share,
    Target,
)
from miniplm.selection.candidates import (
    Candidates,
    ScoredBlock,
    StratumOf,
    ValueOf,
    each_its_own,
    whole_corpus,
)
from miniplm.selection.config import SelectionConfig
from miniplm.selection.cut import END, FRONT, Place
from miniplm.selection.ranking import ranking_values
from miniplm.selection.tables import UNTIL_FIELD


@dataclass(frozen=True)
class Kept:
    """Which rows of a block are kept.

    Args:
        mask: `[rows]` bool.
        repeats: How often each of all rows comes in an epoch, int32, or None: once if it is kept.
        until: Share of training at which each stops to take part, float32, or None: never.
    """

    mask: NDArray[np.bool_]
    repeats: NDArray[np.int32] | None = None
    until: NDArray[np.float32] | None = None

    @property
    def counted(self) -> NDArray[np.int32] | None:
        """How often each counts at the end of training, `[rows]`; None: once if it is kept."""
        if self.until is not None:
            return (self.mask & (self.until >= 1)).astype(np.int32)
        return self.repeats


class Choice(Protocol):
    """What is to be kept, once that is known."""

    @property
    def columns(self) -> tuple[str, ...]:
        """Fields of `Kept` that it fills beside the mask."""
        ...

    def kept(self, block: ScoredBlock) -> Kept:
        """Of a block."""
        ...

    def origin(self) -> object:
        """All that it depends on beside scores and configuration, as plain JSON values."""
        ...


@dataclass(frozen=True)
class Layer:
    """Rows of each stratum that rank after one place, up to and with another.

    Args:
        value_of: What rows are ranked by.
        stratum_of: Which are ranked against each other.
        below: Last places, by stratum.
        above: Places that come before, by stratum; without, the front.
    """

    value_of: ValueOf
    stratum_of: StratumOf
    below: Mapping[str, Place]
    above: Mapping[str, Place]

    def mask(self, block: ScoredBlock) -> NDArray[np.bool_]:
        """Which rows of a block are of it, `[rows]`."""
        values, ids = self.value_of(block), block.ids
        if self.stratum_of is whole_corpus:
            return self._inside(CORPUS, values, ids)
        mask = np.zeros(len(ids), dtype=bool)
        for stratum, places in block.by_stratum(self.stratum_of):
            mask[places] = self._inside(stratum, values[places], ids[places])
        return mask

    def _inside(
        self, stratum: str, values: NDArray[np.float64], ids: NDArray[np.int64]
    ) -> NDArray[np.bool_]:
        inside = self.below.get(stratum, FRONT).reached(values, ids)
        above = self.above.get(stratum, FRONT)
        return inside if above == FRONT else inside & ~above.reached(values, ids)

    def origin(self) -> object:
        """Its places, exactly."""
        return [
            {name: [place.value.hex(), place.sequence_id] for name, place in places.items()}
            for places in (self.below, self.above)
        ]


@dataclass(frozen=True)
class Layers:
    """What any of some layers holds; for a schedule, phase by phase.

    Args:
        phases: Layers of each phase of training, of which none holds what one before does not.
        ends: Share of training at which each phase ends, where there are several.
    """

    phases: Sequence[Sequence[Layer]]
    ends: Sequence[float] = (1.0,)

    @property
    def columns(self) -> tuple[str, ...]:
        """See `Choice`."""
        return (UNTIL_FIELD.name,) if len(self.phases) > 1 else ()

    def kept(self, block: ScoredBlock) -> Kept:
        """See `Choice`."""
        masks = [
            reduce(np.logical_or, [layer.mask(block) for layer in layers]) for layers in self.phases
        ]
        if len(masks) == 1:
            return Kept(masks[0])
        last_phase = np.maximum(0, np.stack(masks).sum(axis=0) - 1)
        return Kept(masks[0], until=np.array(self.ends, np.float32)[last_phase])

    def origin(self) -> object:
        """See `Choice`."""
        return [[layer.origin() for layer in layers] for layers in self.phases]

    @property
    def threshold(self) -> float | None:
        """The lowest value that is kept, where one says it all and something is not."""
        if len(self.phases) > 1 or len(self.phases[0]) > 1:
            return None
        layer = self.phases[0][0]
        if layer.stratum_of is not whole_corpus or layer.below[CORPUS] == END:
            return None
        return layer.below[CORPUS].value


def choose(candidates: Candidates, config: SelectionConfig, seed: int) -> Layers:
    """Find what a policy without replacement keeps.

    Raises:
        ConfigError: A share is of a domain, or group, that is not there.
    """
    value_of = ranking_of(config, seed)
    if config.shares:
        _check_shares(candidates.label_names(), config)
    if config.policy == "threshold":
        return Layers([[_threshold(config, value_of)]])
    if config.policy == "quota" and config.floor:
        return _with_floor(candidates, config, value_of)
    return Layers(
        [[_ranked(candidates, config, value_of, _whole(config, each))] for each in config.ratios],
        config.ends,
    )


def _check_shares(there: Sequence[str], config: SelectionConfig) -> None:
    kind = "group" if config.within == "group" else "domain"
    faults = []
    for name in config.shares:
        if name not in there:
            near = difflib.get_close_matches(name, there, n=1, cutoff=0.5)
            hint = f"did you mean {near[0]!r}? " if near else ""
            faults.append(
                f"shares: there is no {kind} {name!r}; {hint}there are {', '.join(there)}"
            )
    if faults:
        raise ConfigError("the selection", faults)


def ranking_of(config: SelectionConfig, seed: int) -> ValueOf:
    """What a policy ranks rows by."""
    return partial(_values, config, seed)


def ranking_in_range(config: SelectionConfig, seed: int) -> ValueOf:
    """The same, NaN for rows that a `threshold` does not keep whatever the others are."""
    value_of = ranking_of(config, seed)
    if config.policy != "threshold":
        return value_of
    return partial(_values_inside, value_of, _threshold(config, value_of))


def _values_inside(value_of: ValueOf, layer: Layer, block: ScoredBlock) -> NDArray[np.float64]:
    return np.where(layer.mask(block), value_of(block), np.nan)


def _values(config: SelectionConfig, seed: int, block: ScoredBlock) -> NDArray[np.float64]:
    rows = block.rows
    return ranking_values(config, rows.teacher, rows.reference, block.scores, block.ids, seed)


def _whole(config: SelectionConfig, ratio: float) -> Target:
    return Share(ratio) if config.tokens is None else Budget(config.tokens)


def strata(config: SelectionConfig) -> StratumOf:
    """Which rows a policy ranks against each other."""
    if config.shares:
        return partial(_named_or_rest, frozenset(config.shares))
    if config.within == "corpus" and config.policy != "quota":
        return whole_corpus
    return each_its_own


def _named_or_rest(named: frozenset[str], label: str) -> str:
    return label if label in named else CORPUS


def _threshold(config: SelectionConfig, value_of: ValueOf) -> Layer:
    lowest = END if config.min_score is None else Place(config.min_score, END.sequence_id)
    highest = FRONT if config.max_score is None else Place(config.max_score, FRONT.sequence_id)
    return Layer(value_of, whole_corpus, {CORPUS: lowest}, {CORPUS: highest})


def _ranked(
    candidates: Candidates, config: SelectionConfig, value_of: ValueOf, whole: Target
) -> Layer:
    """One part of the ranking of each stratum."""
    stratum_of, in_tokens = strata(config), config.tokens is not None
    cuts: Callable[[Target], dict[str, Place]] = partial(
        candidates.cuts, value_of, stratum_of, in_tokens=in_tokens
    )
    if config.shares:
        return Layer(value_of, stratum_of, cuts(Quota(config.shares, whole)), {})
    skip = _skipped(config)
    if not skip:
        return Layer(value_of, stratum_of, cuts(whole), {})
    return Layer(value_of, stratum_of, cuts(Band(skip, config.ratio)), cuts(Band(skip)))


def _skipped(config: SelectionConfig) -> float:
    """Share of the ranking that is left out at its top."""
    if config.policy == "perplexity_band":
        return (1 - config.ratio) / 2
    return config.skip_top if config.policy == "band" else 0.0


def _with_floor(candidates: Candidates, config: SelectionConfig, value_of: ValueOf) -> Layers:
    """A share of every domain in any case, and the best of what is left."""
    in_tokens = config.tokens is not None
    sure_cuts = candidates.cuts(
        value_of, each_its_own, AtLeast(config.floor), in_tokens=in_tokens, reach=True
    )
    sure = Layer(value_of, each_its_own, sure_cuts, {})
    size = sum(
        candidates.sizes_kept(value_of, each_its_own, sure_cuts, in_tokens=in_tokens).values()
    )
    others = partial(_values_without, value_of, sure)
    phases = []
    for ratio in config.ratios:
        target = Remainder(_whole(config, ratio), size)
        cuts = candidates.cuts(others, whole_corpus, target, in_tokens=in_tokens)
        phases.append([sure, Layer(others, whole_corpus, cuts, {})])
    return Layers(phases, config.ends)


def _values_without(value_of: ValueOf, layer: Layer, block: ScoredBlock) -> NDArray[np.float64]:
    """What the other rows of a block are ranked by."""
    return np.where(layer.mask(block), np.nan, value_of(block))
