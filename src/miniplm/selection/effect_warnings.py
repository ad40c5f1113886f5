"""What to look at before a selection is relied on, in words.

The bounds were set between chance and collapse (docs/selection-effects.md): halves of a corpus
drawn by chance, 128 rows each, differ in these measures by one to two per cent (a standard
deviation), while selections that turned out lopsided moved them by 8 to 25.
"""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

FORMULAIC = 1.05
"""Formulaic text gains when blocks of kept text compress better by this factor."""
LESS_VARIED = 0.92
"""Text gets less varied when the share of distinct trigrams falls to this part of what it was."""
FEWEST_ROWS = 128
"""Sampled rows, before and after, below which chance alone could do as much."""
_TRIGRAMS = 2
_MOST_NAMED = 3


def effect_warnings(facts: Mapping[str, Any]) -> list[str]:
    """Warnings from the figures of the describe stage (`effect_facts.facts_of`)."""
    before, after = facts["overall"]["candidates"], facts["overall"]["kept"]
    if min(before["num_sampled"], after["num_sampled"]) < FEWEST_ROWS:
        return []
    warnings = []
    ratios = before["block_compression"], after["block_compression"]
    if None not in ratios and ratios[1] >= FORMULAIC * ratios[0]:
        warnings.append(
            f"Formulaic text gains: the kept text compresses {ratios[1]:.2f} to 1, the "
            f"candidates' {ratios[0]:.2f} to 1{_named(facts['domains'])}."
        )
    distinct = before["distinct"][_TRIGRAMS], after["distinct"][_TRIGRAMS]
    if None not in distinct and distinct[1] <= LESS_VARIED * distinct[0]:
        warnings.append(
            f"The text gets less varied: of equally many trigrams {distinct[1]:.1%} are distinct "
            f"in the kept text, {distinct[0]:.1%} in the candidates'."
        )
    return warnings


def _named(domains: Mapping[str, Any]) -> str:
    """The domains that do most for it, in words; nothing where none does any."""
    gains = sorted(compression_gains(domains), key=lambda gain: -gain.total)[:_MOST_NAMED]
    named = [gain.words() for gain in gains if gain.total > 0]
    return f"; most comes from {', '.join(named)}" if named else ""


@dataclass(frozen=True)
class CompressionGain:
    """By how much a domain lowers the compressed bytes per byte of the kept text.

    With s a domain's share of the text, c its compressed bytes per byte and C those of all
    candidates, domain by domain: `mix` is (s_after - s_before) (C - c_before), what comes of its
    growing or shrinking, `own` is s_after (c_before - c_after), what comes of which of its rows
    are kept.

    Args:
        domain: Its name.
        shares: s before and after.
        ratios: 1 / c before and after; where too little is kept to tell, they are equal.
        mean: C.
    """

    domain: str
    shares: tuple[float, float]
    ratios: tuple[float, float]
    mean: float

    @property
    def mix(self) -> float:
        """What comes of the domain's growing or shrinking."""
        return (self.shares[1] - self.shares[0]) * (self.mean - 1 / self.ratios[0])

    @property
    def own(self) -> float:
        """What comes of which of its rows are kept."""
        return self.shares[1] * (1 / self.ratios[0] - 1 / self.ratios[1])

    @property
    def total(self) -> float:
        """Both."""
        return self.mix + self.own

    def words(self) -> str:
        """The domain, and which of the two it is."""
        if self.own > self.mix:
            return (
                f"what is kept of {self.domain!r} ({self.ratios[1]:.2f} to 1, all of it "
                f"{self.ratios[0]:.2f} to 1)"
            )
        verb = "growing" if self.shares[1] > self.shares[0] else "shrinking"
        return f"{self.domain!r} {verb} from {self.shares[0]:.1%} to {self.shares[1]:.1%}"


def compression_gains(domains: Mapping[str, Any]) -> list[CompressionGain]:
    """The gain of each domain that was measured (`domains` of `effect_facts.facts_of`)."""
    before, after = (_byte_shares(domains, part) for part in ("candidates", "kept"))
    ratios = {
        domain: (record["candidates"]["block_compression"], record["kept"]["block_compression"])
        for domain, record in domains.items()
        if record["candidates"]["block_compression"]
    }
    measured = sum(before[domain] for domain in ratios)
    mean = sum(before[domain] / first for domain, (first, _) in ratios.items()) / (measured or 1.0)
    return [
        CompressionGain(domain, (before[domain], after[domain]), (first, second or first), mean)
        for domain, (first, second) in ratios.items()
    ]


def _byte_shares(domains: Mapping[str, Any], part: str) -> dict[str, float]:
    total = sum(record[part]["num_bytes"] for record in domains.values())
    return {d: record[part]["num_bytes"] / max(1, total) for d, record in domains.items()}
