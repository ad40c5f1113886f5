"""Which students are of one method."""

from collections.abc import Sequence
from fnmatch import fnmatchcase

from miniplm.errors import ConfigError
from miniplm.scaling.curves import LossCurve


def parse_methods(options: Sequence[str]) -> list[tuple[str, str]]:
    """Names and patterns of `--method NAME=GLOB`.

    Raises:
        ConfigError: One is not of this form.

    Example:
        >>> parse_methods(["plain=plain-*"])
        [('plain', 'plain-*')]
    """
    faults = [
        f"takes NAME=GLOB, such as 'plain=plain-*'; given: {option!r}"
        for option in options
        if not all(option.partition("=")[::2])
    ]
    if faults:
        raise ConfigError("--method", faults)
    return [(name, pattern) for name, _, pattern in (each.partition("=") for each in options)]


def curves_by_method(
    curves: Sequence[LossCurve], patterns: Sequence[tuple[str, str]]
) -> dict[str, list[LossCurve]]:
    """The curves of each method, in the order of the patterns.

    Args:
        curves: Of all students.
        patterns: Name of a method, and a pattern of its students' names, or of `RUN/STUDENT` where
            it has a slash. A method may have several. None at all: each student's name is a method.

    Raises:
        ConfigError: A pattern fits no student, or a student is of two methods.
    """
    found: dict[str, list[LossCurve]] = {}
    if not patterns:
        for curve in curves:
            found.setdefault(curve.student, []).append(curve)
        return found
    faults = []
    for name, pattern in patterns:
        fitting = [curve for curve in curves if _fits(curve, pattern)]
        if not fitting:
            names = ", ".join(dict.fromkeys(curve.student for curve in curves))
            faults.append(f"no student fits {name}={pattern}; there are {names}")
        own = found.setdefault(name, [])
        own += [curve for curve in fitting if curve not in own]
    for curve in curves:
        owners = [name for name, own in found.items() if curve in own]
        if len(owners) > 1:
            faults.append(f"{curve.run}/{curve.student} would be of {' and '.join(owners)}")
    if faults:
        raise ConfigError("--method", faults)
    return found


def _fits(curve: LossCurve, pattern: str) -> bool:
    name = f"{curve.run}/{curve.student}" if "/" in pattern else curve.student
    return fnmatchcase(name, pattern)
