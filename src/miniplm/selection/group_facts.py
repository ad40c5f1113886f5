"""What a person needs to name a group: its size and the n-grams that mark it."""

from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from miniplm.data.shards import ShardInfo
from miniplm.selection.shingles import Shingles

_TYPICAL = 8
_SIZES = (1, 3)
"""Ids in the n-grams shown: words, and phrases."""
_ROWS_PER_GROUP = 256


def group_facts(
    ids: NDArray[Any],
    lengths: NDArray[np.int64],
    groups: NDArray[np.int32],
    sizes: NDArray[np.int64],
    info: ShardInfo,
    tokenizer_folder: Path | None,
) -> list[dict[str, Any]]:
    """Size, share and typical n-grams of each group.

    Args:
        ids: Token ids of sampled rows, one row after another.
        lengths: Ids in each of these rows.
        groups: Their groups.
        sizes: Rows that each group has in all.
        info: Of a shard; its end-of-text id is in no n-gram shown.
        tokenizer_folder: To show n-grams as text too.
    """
    num_groups = len(sizes)
    typical: list[list[list[int]]] = [[] for _ in range(num_groups)]
    for size in _SIZES:
        for group, found in enumerate(
            typical_ngrams(ids, lengths, groups, num_groups, size, info.eos_id)
        ):
            typical[group] += found
    decode = _decoder(tokenizer_folder)
    return [
        {
            "group": group,
            "num_sequences": int(sizes[group]),
            "share": float(sizes[group] / max(1, sizes.sum())),
            "typical": ngrams,
            **({} if decode is None else {"text": [decode(ngram) for ngram in ngrams]}),
        }
        for group, ngrams in enumerate(typical)
    ]


def typical_ngrams(
    ids: NDArray[Any],
    lengths: NDArray[np.int64],
    groups: NDArray[np.int32],
    num_groups: int,
    size: int,
    eos_id: int,
) -> list[list[list[int]]]:
    """The n-grams that mark each group: many of its rows have them, and few of the others'.

    They are ranked by p * log(p / q), with p the share of the group's rows that have the n-gram
    and q that of all rows (a term of the Kullback-Leibler divergence), on some rows of each group.
    """
    chosen = _some_of_each(groups, num_groups)
    ids = ids[np.repeat(np.isin(np.arange(len(lengths)), chosen), lengths)]
    kinds_KN, rows, kinds = _occurrences(ids, lengths[chosen], size)
    if not len(kinds_KN):
        return [[] for _ in range(num_groups)]
    allowed_K = (kinds_KN != eos_id).all(axis=1)
    overall_K = np.bincount(kinds, minlength=len(kinds_KN)) / len(chosen)
    found = []
    for group in range(num_groups):
        having_K = np.bincount(kinds[groups[chosen][rows] == group], minlength=len(kinds_KN))
        share_K = having_K / max(1, int((groups[chosen] == group).sum()))
        marks_K = share_K * np.log(np.where(having_K > 0, share_K, 1) / overall_K) * allowed_K
        best = np.argsort(-marks_K, kind="stable")[:_TYPICAL]
        found.append([kinds_KN[kind].tolist() for kind in best if marks_K[kind] > 0])
    return found


def _some_of_each(groups: NDArray[np.int32], num_groups: int) -> NDArray[np.int64]:
    """Ascending places of the first rows of each group."""
    parts = [np.flatnonzero(groups == group)[:_ROWS_PER_GROUP] for group in range(num_groups)]
    return np.sort(np.concatenate(parts))


def _occurrences(
    ids: NDArray[Any], lengths: NDArray[np.int64], size: int
) -> tuple[NDArray[Any], NDArray[np.int64], NDArray[np.int64]]:
    """Different n-grams, `[K, size]`; and, once for each row that has one, the row and which."""
    ngrams = Shingles.of(ids, lengths, size)
    counts = np.diff(ngrams.starts)
    rows = np.repeat(np.arange(len(lengths)), counts)
    begins = np.cumsum(lengths) - lengths
    places = np.arange(len(rows)) + np.repeat(begins - ngrams.starts[:-1], counts)
    _, first, kinds = np.unique(ngrams.hashes, return_index=True, return_inverse=True)
    kinds_KN = ids[places[first][:, None] + np.arange(size)]
    rows, kinds = np.divmod(np.unique(rows * len(first) + kinds), max(1, len(first)))
    return kinds_KN, rows, kinds


def _decoder(tokenizer_folder: Path | None) -> Any:  # noqa: ANN401  (a function or None)
    if tokenizer_folder is None:
        return None
    from miniplm.data.tokenizer import load_tokenizer

    backend = load_tokenizer(tokenizer_folder).backend_tokenizer
    return lambda ids: backend.decode(ids, skip_special_tokens=False)
