"""Which domains an average is over: `evaluation.set_apart` leaves some out.

Everything that averages over domains (held-out figures, curves, verdicts) goes by this module.
"""

from collections.abc import Collection, Iterable, Mapping, Sequence
from statistics import fmean
from typing import Any

from miniplm.data.domain_globs import matches_any
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
    apart = frozenset(name for name in names if matches_any(name, globs))
    if not leaves_some(names, globs):
        raise ArtefactError(
            f"evaluation.set_apart ({', '.join(globs)}) matches every domain of the held-out text "
            f"({', '.join(sorted(names))}), so that none is left to average over. Leave some out."
        )
    return apart


def leaves_some(domains: Iterable[str], globs: Sequence[str]) -> bool:
    """Whether there is a domain that no glob matches, or none at all."""
    names = set(domains)
    return not names or any(not matches_any(name, globs) for name in names)


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


def lines_over(
    lines: Sequence[Mapping[str, Any]], domains: Collection[str]
) -> list[dict[str, Any]]:
    """Figures of some of the domains, and averages over these alone, which have no intervals.

    Args:
        lines: Of domains and averages: domain, num_tokens, num_bytes, loss (nats per token),
            bits_per_byte and set_apart, as an evaluation leaves them.
        domains: Names of those to keep.

    Raises:
        ArtefactError: None is left that is not set apart.
    """
    kept = [dict(line) for line in lines if line["domain"] in domains]
    clean = [line for line in kept if not line["set_apart"]]
    apart = [line for line in kept if line["set_apart"]]
    if not clean:
        raise ArtefactError(
            "there is no held-out domain in which every model has something to predict, and that "
            "is not set apart; give longer held-out documents, or leave a model out"
        )
    averages = [_mean_line(AVERAGE, clean)]
    averages += [_mean_line(APART, apart) | {"set_apart": True}] if apart else []
    return [*kept, *averages, _pooled_line(kept)]


def _mean_line(name: str, lines: Sequence[Mapping[str, Any]]) -> dict[str, Any]:
    return _sums(name, lines) | {
        figure: mean_over_domains({line["domain"]: line[figure] for line in lines})
        for figure in ("loss", "bits_per_byte")
    }


def _pooled_line(lines: Sequence[Mapping[str, Any]]) -> dict[str, Any]:
    """Of all text together: losses count by tokens, bits by bytes."""
    weights = {"loss": "num_tokens", "bits_per_byte": "num_bytes"}
    return _sums(OVERALL, lines) | {
        figure: fmean((line[figure] for line in lines), [line[weight] for line in lines])
        for figure, weight in weights.items()
    }


def _sums(name: str, lines: Sequence[Mapping[str, Any]]) -> dict[str, Any]:
    counts = {key: sum(line[key] for line in lines) for key in ("num_tokens", "num_bytes")}
    return {"domain": name, "set_apart": False, **counts}
