"""Rows whose text is looked at: for each domain and for all, before and after selection.

A row is drawn by a hash of its id, so a sample is the same for any number of shards and workers.
Samples are of a fixed number of tokens, whatever the size of the corpus. One hash serves all
groups: what is drawn of the kept rows was, as far as it goes, drawn of the candidates too, so that
two samples differ by what selection did and little by chance.
"""

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from miniplm.data.chance import seed_of, uniform_by_id
from miniplm.data.shards import Shard
from miniplm.selection.compression import compressed_sizes
from miniplm.selection.kept_rows import KeptRows
from miniplm.selection.mix import PARTS, Mix, Part
from miniplm.selection.ngram_model import NgramModel, Trigrams

SAMPLE_TOKENS = 1 << 20
"""Tokens drawn from all rows, before and after."""
DOMAIN_TOKENS = 1 << 16
"""Tokens drawn from a domain, before and after."""
MOST_DOMAINS = 64
"""Domains whose text is looked at: those with the most candidate tokens."""
_SEED_OF_SAMPLE = 0x5A3B1E
"""Keeps these draws apart from those that select rows with the same seed."""

Group = tuple[str | None, Part]
"""Rows of a domain (None: of all) before or after selection."""
Limits = Mapping[Group, float]
"""Share of each group that is drawn."""


def sample_limits(mixes: Mapping[str, Mix]) -> dict[Group, float]:
    """What share of each group to draw, so that about its budget of tokens comes out."""
    limits: dict[Group, float] = {}
    for part in PARTS:
        total = sum(mix.part(part).num_tokens for mix in mixes.values())
        limits[None, part] = min(1.0, SAMPLE_TOKENS / max(1, total))
    largest = sorted(mixes, key=lambda domain: -mixes[domain].candidates.num_tokens)
    for domain in largest[:MOST_DOMAINS]:
        for part in PARTS:
            num_tokens = mixes[domain].part(part).num_tokens
            limits[domain, part] = min(1.0, DOMAIN_TOKENS / max(1, num_tokens))
    return limits


@dataclass(frozen=True)
class SampledRow:
    """A copy of a row that was drawn.

    Args:
        chance: Its hash in [0, 1): it is in the sample of a group if this is below the limit.
        sequence_id: Of the row.
        copy: Number of the copy, from 0.
        domain: Of the row.
        is_kept: Whether the refined corpus has this copy; candidates have copy 0 only.
        ids: Its tokens.
        text: Their bytes.
        num_compressed: Bytes of the text compressed by itself.
        loss: Nats under the n-gram model, a sum; 0 without one.
        num_targets: Tokens in that sum.
    """

    chance: float
    sequence_id: int
    copy: int
    domain: str
    is_kept: bool
    ids: NDArray[Any]
    text: bytes
    num_compressed: int
    loss: float
    num_targets: int


def group_rows(rows: Iterable[SampledRow], group: Group, limits: Limits) -> list[SampledRow]:
    """The sample of a group, in an order of chance that depends on the ids only."""
    domain, part = group
    drawn = [
        row
        for row in rows
        if row.chance < limits[group]
        and (domain is None or row.domain == domain)
        and (row.is_kept if part == "kept" else row.copy == 0)
    ]
    return sorted(drawn, key=lambda row: (row.chance, row.sequence_id, row.copy))


def draw_rows(
    prefix: Path,
    rows: KeptRows,
    limits: Limits,
    seed: int,
    token_texts: Sequence[bytes],
    model: NgramModel | None,
) -> list[SampledRow]:
    """The rows of a shard that are in any group's sample.

    Args:
        prefix: Of the token shard.
        rows: What became of its rows.
        limits: Share to draw of each group.
        seed: Of the draw.
        token_texts: Bytes that each id stands for.
        model: Judges the rows.
    """
    shard, sampled = Shard(prefix), []
    for copy in range(max(1, int(rows.copies.max(initial=0)))):
        chances = uniform_by_id(rows.sequence_ids, seed_of(seed ^ _SEED_OF_SAMPLE, copy))
        places = np.flatnonzero(chances < _bounds(rows, limits, copy))
        ids = [shard.row(place) for place in places.tolist()]
        texts = [b"".join(map(token_texts.__getitem__, row.tolist())) for row in ids]
        facts = zip(
            places.tolist(), ids, texts, compressed_sizes(texts), _judged(ids, shard, model),
            strict=True,
        )  # fmt: skip
        sampled += [
            SampledRow(
                chance=float(chances[place]),
                sequence_id=int(rows.sequence_ids[place]),
                copy=copy,
                domain=rows.domains[rows.domain_numbers[place]],
                is_kept=bool(rows.copies[place] > copy),
                ids=row.astype(shard.dtype),
                text=text,
                num_compressed=num_compressed,
                loss=loss,
                num_targets=num_targets,
            )
            for place, row, text, num_compressed, (loss, num_targets) in facts
        ]
    return sampled


def _bounds(rows: KeptRows, limits: Limits, copy: int) -> NDArray[np.float64]:
    """Below which chance each row is in the sample of some group, `[rows]`."""
    bounds = np.zeros(len(rows.copies))
    for part in PARTS:
        by_domain = [
            max(limits[None, part], limits.get((domain, part), 0.0)) for domain in rows.domains
        ]
        there = rows.copies > copy if part == "kept" else np.full(len(rows.copies), copy == 0)
        bounds = np.maximum(bounds, np.where(there, np.array(by_domain)[rows.domain_numbers], 0.0))
    return bounds


def _judged(
    rows: Sequence[NDArray[Any]], shard: Shard, model: NgramModel | None
) -> list[tuple[float, int]]:
    """Nats of each row under the model, and the targets in it."""
    if model is None or not rows:
        return [(0.0, 0)] * len(rows)
    targets = Trigrams.of(rows, shard.info.vocab_size, shard.info.eos_id)
    losses = np.bincount(targets.rows_N, weights=model.losses(targets), minlength=len(rows))
    counts = np.bincount(targets.rows_N, minlength=len(rows))
    return list(zip(losses.tolist(), counts.tolist(), strict=True))
