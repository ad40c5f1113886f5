"""Where values lie on a drawing: ticks in steps of 1, 2 or 5, axes, labels kept apart."""

import math
from collections.abc import Iterable, Sequence
from dataclasses import dataclass

_COUNT_UNITS = ((1e12, "trillion"), (1e9, "billion"), (1e6, "million"), (1e3, "thousand"))
_SUPERSCRIPTS = str.maketrans("0123456789", "⁰¹²³⁴⁵⁶⁷⁸⁹")
_SI_UNITS = tuple((10.0 ** (3 * power), "kMGTPEZYRQ"[power - 1]) for power in range(10, 0, -1))


def nice_step(span: float, target: int) -> float:
    """The smallest of 1, 2 or 5 times a power of ten that cuts `span` into at most `target`.

    Example:
        >>> nice_step(10, 6), nice_step(0.9, 5), nice_step(47, 5)
        (2.0, 0.2, 10.0)
    """
    raw = span / target
    power = math.floor(math.log10(raw))
    for factor in (1, 2, 5, 10):
        # Taken from its decimal spelling: 2 * 10**-1 is not always the float 0.2.
        step = float(f"{factor}e{power}")
        if step >= raw * (1 - 1e-9):
            return step
    raise AssertionError(f"no step for a span of {span} in {target}")


def nice_ticks(low: float, high: float, target: int = 6) -> list[float]:
    """Round numbers within [low, high], at most `target` + 1 of them.

    Example:
        >>> nice_ticks(0, 10)
        [0.0, 2.0, 4.0, 6.0, 8.0, 10.0]
        >>> nice_ticks(4.87, 5.31, 5)
        [4.9, 5.0, 5.1, 5.2, 5.3]
    """
    if not high > low:
        return [low]
    step = nice_step(high - low, target)
    first = math.ceil(low / step - 1e-9)
    last = math.floor(high / step + 1e-9)
    return [round(index * step, decimals(step)) + 0.0 for index in range(first, last + 1)]


def log_ticks(low: float, high: float, most: int = 8) -> list[float]:
    """1, 2 and 5 times powers of ten within [low, high]; powers alone where that is too many.

    Example:
        >>> log_ticks(3, 120)
        [5.0, 10.0, 20.0, 50.0, 100.0]
    """
    powers = range(math.floor(math.log10(low)), math.ceil(math.log10(high)) + 1)
    for factors in ((1, 2, 5), (1,)):
        candidates = [float(f"{factor}e{power}") for power in powers for factor in factors]
        ticks = [tick for tick in candidates if low <= tick <= high]
        if len(ticks) <= most:
            return ticks
    return ticks[:: math.ceil(len(ticks) / most)]


def decimals(step: float) -> int:
    """Decimals needed to write multiples of `step`, a number of one leading digit."""
    return max(0, -math.floor(math.log10(step) + 1e-9))


def tick_labels(ticks: Sequence[float], factor: float = 1.0, *, log: bool = False) -> list[str]:
    """Ticks divided by `factor`, all in as many decimals as the finest of them needs.

    With `log`, each in as many as it needs itself, or as a power of ten where they become large.

    Example:
        >>> tick_labels([0.0, 500_000.0, 1_000_000.0], 1e6)
        ['0.0', '0.5', '1.0']
        >>> tick_labels([5e5, 1e6], log=True)
        ['5·10⁵', '10⁶']
    """
    shown = [tick / factor for tick in ticks]
    if log and shown and shown[-1] >= 1e6:
        return [_power_of_ten(tick) for tick in shown]
    if log:
        return [f"{tick:,.6g}" for tick in shown]
    digits = next(
        (
            digits
            for digits in range(8)
            if all(math.isclose(round(tick, digits), tick, abs_tol=1e-12) for tick in shown)
        ),
        8,
    )
    return [f"{tick:,.{digits}f}".replace("-", "\N{MINUS SIGN}") for tick in shown]


def _power_of_ten(value: float) -> str:
    leading, exponent = f"{value:.0e}".split("e")
    power = f"10{str(int(exponent)).translate(_SUPERSCRIPTS)}"
    return power if leading == "1" else f"{leading}·{power}"


def count_unit(largest: float) -> tuple[float, str]:
    """What to divide an axis of counts by, and its word: `(1e6, "million")`; (1, "") for none."""
    return next((unit for unit in _COUNT_UNITS if largest >= unit[0]), (1.0, ""))


def si_unit(largest: float) -> tuple[float, str]:
    """What to divide an axis by, and the SI prefix that stands for it: `(1e12, "T")`."""
    return next((unit for unit in _SI_UNITS if largest >= unit[0]), (1.0, ""))


@dataclass(frozen=True)
class Axis:
    """A stretch of the number line; `log` spaces it by ratios (both ends are then above 0)."""

    low: float
    high: float
    log: bool = False

    @classmethod
    def around(cls, values: Iterable[float], padding: float = 0.0, log: bool = False) -> "Axis":
        """The axis that holds all values, wider by `padding` of its span at both ends.

        A single value gets room on both sides, no value the stretch from 0 to 1.
        """
        known = [value for value in values if math.isfinite(value) and not (log and value <= 0)]
        low, high = min(known, default=0.1 if log else 0.0), max(known, default=1.0)
        if log:
            room = 2.0 if low == high else 1.0
            return cls(low / room, high * room, log=True)
        if low == high:
            room = abs(low) * 0.1 or 1.0
            return cls(low - room, high + room)
        room = (high - low) * padding
        return cls(low - room, high + room)

    def share(self, value: float) -> float:
        """Where a value lies: 0 at the low end, 1 at the high end, clamped to these."""
        if self.log:
            value = max(value, self.low)
            share = math.log(value / self.low) / math.log(self.high / self.low)
        else:
            share = (value - self.low) / (self.high - self.low)
        return min(1.0, max(0.0, share))

    def holds(self, value: float) -> bool:
        """Whether a value lies on this stretch."""
        return self.low <= value <= self.high

    def ticks(self, target: int = 6) -> list[float]:
        """Round numbers on this stretch."""
        return (
            log_ticks(self.low, self.high) if self.log else nice_ticks(self.low, self.high, target)
        )


def spread(positions: Sequence[float], gap: float, low: float, high: float) -> list[float]:
    """Move positions as little as needed so that they are `gap` apart and within [low, high].

    The order stays. Where there is no room for all, they are spaced evenly.

    Example:
        >>> spread([10, 11, 50], 10, 0, 100)
        [5.5, 15.5, 50.0]
    """
    if (len(positions) - 1) * gap > high - low:
        gap = (high - low) / (len(positions) - 1)
    # Each group is a run of neighbours that touch: the positions they would like for their first
    # member, and how many they are. Groups that overlap are merged and stand at their mean.
    order = sorted(range(len(positions)), key=lambda index: positions[index])
    groups: list[tuple[float, int]] = []
    for index in order:
        wish, size = float(positions[index]), 1
        while groups and _start(groups[-1], gap, low, high) + groups[-1][1] * gap > _start(
            (wish, size), gap, low, high
        ):
            other, other_size = groups.pop()
            wish = (other * other_size + (wish - other_size * gap) * size) / (other_size + size)
            size += other_size
        groups.append((wish, size))
    placed = [
        _start(group, gap, low, high) + place * gap for group in groups for place in range(group[1])
    ]
    moved = dict(zip(order, placed, strict=True))
    return [moved[index] for index in range(len(positions))]


def _start(group: tuple[float, int], gap: float, low: float, high: float) -> float:
    """Where the first member of a group stands, so that the whole of it has room."""
    wish, size = group
    return max(low, min(wish, high - (size - 1) * gap))
