"""Which domains an average is over: `evaluation.set_apart` leaves some out.

Everything that averages over domains (held-out figures, curves, verdicts) goes by this module.
"""

from collections.abc import Collection, Iterable, Mapping, Sequence
from fnmatch import fnmatchcase

from miniplm.errors import ArtefactError

AVERAGE = "average of domains"
"""Counts each domain once; those set apart are left out."""
APART = "average of domains set apart"
"""Counts each of the others once."""
OVERALL = "all text"
"""Counts each token (or byte) once, of all domains."""
AVERAGES = (AVERAGE, APART, OVERALL)


def domains_apart(domains: Iterable[str], globs: Sequence[str]) -> frozenset[str]:
    """The domains that any of the globs matches, case and all.

    Raises:
        ArtefactError: All are, so that there would be nothing to average.

    Example:
        >>> sorted(domains_apart(["books", "noise-hex", "noise-logs"], ["noise-*"]))
        ['noise-hex', 'noise-logs']
    """
    names = set(domains)
    apart = frozenset(name for name in names if any(fnmatchcase(name, glob) for glob in globs))
    if not leaves_some(names, globs):
        raise ArtefactError(
            f"evaluation.set_apart ({', '.join(globs)}) matches every domain of the held-out text "
            f"({', '.join(sorted(names))}), so that none is left to average over. Leave some out."
        )
    return apart


def leaves_some(domains: Iterable[str], globs: Sequence[str]) -> bool:
    """Whether there is a domain that no glob matches, or none at all."""
    names = set(domains)
    return not names or any(not any(fnmatchcase(name, glob) for glob in globs) for name in names)


def mean_over_domains(values: Mapping[str, float], apart: Collection[str] = ()) -> float:
    """The mean over the domains that are not set apart, each counted once.

    Args:
        values: A figure of each domain, in any unit.
        apart: Names of those to leave out.

    Raises:
        ValueError: No domain is left.

    Example:
        >>> mean_over_domains({"books": 1.0, "law": 2.0, "noise-hex": 9.0}, {"noise-hex"})
        1.5
    """
    counted = [value for name, value in values.items() if name not in apart]
    if not counted:
        raise ValueError(f"no domain to average over; there are {sorted(values)}, all set apart")
    return sum(counted) / len(counted)
