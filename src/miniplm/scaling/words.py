"""Figures of scaling as people read them."""

from miniplm.scaling.content import Constant, Factor
from miniplm.scaling.resampling import Interval


def series_name(method: str, num_params: int | None) -> str:
    """A method and a size.

    Example:
        >>> series_name("plain", 154_128)
        'plain, 154k'
    """
    return method if num_params is None else f"{method}, {count(num_params)}"


def count(value: float) -> str:
    """A number of parameters or tokens, in three digits.

    Example:
        >>> [count(value) for value in (980, 154_128, 999_999, 1e12)]
        ['980', '154k', '1M', '1T']
    """
    for limit, suffix in ((1e12, "T"), (1e9, "B"), (1e6, "M"), (1e3, "k")):
        if value >= 0.9995 * limit:
            return f"{value / limit:.3g}{suffix}"
    return f"{value:.3g}"


def constant_text(constant: Constant) -> str:
    """A constant and its interval."""
    if constant.name in ("A", "B"):
        return f"{constant.value:.1e} {interval_text(constant.interval, '.0e')}"
    form = ".2f" if constant.name in ("a", "b") else ".3f"
    return f"{constant.value:{form}} {interval_text(constant.interval, form)}"


def interval_text(found: Interval | None, form: str) -> str:
    """An interval in brackets, in a format; nothing where there is none."""
    return f"[{found.low:{form}}, {found.high:{form}}]" if found else ""


def times_text(factor: Factor) -> str:
    """How many times less is needed; of a factor under 1, how many times more.

    Example:
        >>> times_text(Factor(2.0, None)), times_text(Factor(0.5, Interval(0.25, 0.8)))
        ('2.00 times less', '2.00 [1.25, 4.00] times more')
    """
    if factor.value >= 1:
        return f"{factor_text(factor)} times less"
    found = factor.interval
    inverse = Interval(1 / found.high, 1 / found.low) if found else None
    return f"{factor_text(Factor(1 / factor.value, inverse))} times more"


def factor_text(factor: Factor) -> str:
    """A factor and its interval."""
    return f"{factor.value:.2f} {interval_text(factor.interval, '.2f')}".rstrip()
