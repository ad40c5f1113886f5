"""Loss, perplexity and bits per byte from the sums of documents, per domain and averaged.

- loss: nats per token, a mean over the domain's targets;
- perplexity: exp(loss);
- bits_per_byte: bits to encode a byte of text, comparable across tokenizers.

Each comes from sums over documents, with the interval that resampling these gives
(`evaluation.bootstrap`).

Averages: `average of domains` counts each domain once, `all text` each token (or byte) once.
Domains that are set apart have an average of their own, `average of domains set apart`.

Axes: N documents, R resamples, K sums.
"""

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace

import numpy as np
import polars as pl
from numpy.typing import NDArray

from miniplm.errors import ArtefactError
from miniplm.evaluation.averages import (
    APART,
    AVERAGE,
    OVERALL,
    domains_apart,
    mean_over_domains,
)
from miniplm.evaluation.bootstrap import are_enough, interval, resampled_domains
from miniplm.evaluation.documents import SUMS

Sums = Mapping[str, NDArray[np.float64]]
"""By domain: log_prob, num_tokens, num_bytes of documents `[N, 3]`, or of resamples `[R, 3]`."""
_LARGEST_LOSS = 700.0  # a larger one has no perplexity that is a number


@dataclass(frozen=True)
class HeldOutScore:
    """One line of the table; see the module for the units.

    Args:
        domain: Its name, or what is averaged over.
        num_tokens: Targets that count.
        num_bytes: Bytes of text that they stand for.
        loss: Nats per token.
        perplexity: exp(loss).
        bits_per_byte: Bits per byte.
        set_apart: Whether `average of domains` is without it.
        num_documents: How many it is of.
        low: Of bits_per_byte, the lower end of its 95 % interval; None of too few documents.
        high: The upper end.
        loss_low: Of loss, the same.
        loss_high: The upper end.
    """

    domain: str
    num_tokens: int
    num_bytes: int
    loss: float
    perplexity: float
    bits_per_byte: float
    set_apart: bool = False
    num_documents: int = 0
    low: float | None = None
    high: float | None = None
    loss_low: float | None = None
    loss_high: float | None = None


def summarise(documents: pl.DataFrame, set_apart: Sequence[str] = ()) -> list[HeldOutScore]:
    """The table: one line per domain in order of name, then the averages.

    Args:
        documents: domain, log_prob, num_tokens and num_bytes of documents.
        set_apart: Globs of domains that `average of domains` leaves out.

    Raises:
        ArtefactError: Not a single target was scored, or all domains are set apart.
    """
    sums = domain_sums(documents)
    if not sums:
        raise ArtefactError("the held-out sequences hold no token that can be predicted")
    apart = domains_apart(sums, set_apart)
    drawn = resampled_domains(sums)
    kept = [name for name in sums if name not in apart]
    lines = [replace(_pooled(name, [name], sums, drawn), set_apart=name in apart) for name in sums]
    lines.append(_average(AVERAGE, kept, sums, drawn))
    if apart:
        lines.append(replace(_average(APART, sorted(apart), sums, drawn), set_apart=True))
    return [*lines, _pooled(OVERALL, list(sums), sums, drawn)]


def domain_sums(documents: pl.DataFrame) -> Sums:
    """log_prob, num_tokens and num_bytes of each document, `[N, 3]`, by domain in order of name.

    Domains without any text that is predicted are left out.
    """
    return {
        str(name): frame.select(SUMS).to_numpy().astype(np.float64)
        for (name,), frame in documents.sort("domain", maintain_order=True).group_by(
            "domain", maintain_order=True
        )
        if frame["num_tokens"].sum() > 0 and frame["num_bytes"].sum() > 0
    }


def bits_per_byte(sums_RK: NDArray[np.float64]) -> NDArray[np.float64]:
    """Of sums as those of `domain_sums`, `[R, 3]`; not a number where there is no byte."""
    nats_R, num_bytes_R = -sums_RK[..., 0], sums_RK[..., 2]
    return nats_R / (np.where(num_bytes_R > 0, num_bytes_R, np.nan) * math.log(2))


def nats_per_token(sums_RK: NDArray[np.float64]) -> NDArray[np.float64]:
    """Of sums as those of `domain_sums`, `[R, 3]`; not a number where there is no token."""
    return -sums_RK[..., 0] / np.where(sums_RK[..., 1] > 0, sums_RK[..., 1], np.nan)


def _pooled(name: str, domains: Sequence[str], sums: Sums, drawn: Sums) -> HeldOutScore:
    """Of all text of some domains."""
    together_K = sum((sums[domain].sum(axis=0) for domain in domains), np.zeros(3))
    drawn_RK = sum((drawn[domain] for domain in domains), np.zeros(3))
    figures = float(nats_per_token(together_K)), float(bits_per_byte(together_K))
    resampled = nats_per_token(drawn_RK), bits_per_byte(drawn_RK)
    return _line(name, domains, sums, figures, resampled)


def _average(name: str, domains: Sequence[str], sums: Sums, drawn: Sums) -> HeldOutScore:
    """Of some domains, each counted once."""
    figures, resampled = [], []
    for figure in (nats_per_token, bits_per_byte):
        figures.append(
            mean_over_domains({each: float(figure(sums[each].sum(axis=0))) for each in domains})
        )
        resampled.append(np.mean([figure(drawn[each]) for each in domains], axis=0))
    return _line(name, domains, sums, (figures[0], figures[1]), (resampled[0], resampled[1]))


def _line(
    name: str,
    domains: Sequence[str],
    sums: Sums,
    figures: tuple[float, float],
    resampled: tuple[NDArray[np.float64], NDArray[np.float64]],
) -> HeldOutScore:
    """A line from loss and bits per byte, and what these are when documents are resampled."""
    counts = [len(sums[domain]) for domain in domains]
    ends = [interval(values_R) if are_enough(counts) else (None, None) for values_R in resampled]
    (loss_low, loss_high), (low, high) = ends
    return HeldOutScore(
        domain=name,
        num_tokens=sum(int(sums[domain][:, 1].sum()) for domain in domains),
        num_bytes=sum(int(sums[domain][:, 2].sum()) for domain in domains),
        loss=figures[0],
        perplexity=math.exp(min(figures[0], _LARGEST_LOSS)),
        bits_per_byte=figures[1],
        num_documents=sum(counts),
        low=low,
        high=high,
        loss_low=loss_low,
        loss_high=loss_high,
    )
