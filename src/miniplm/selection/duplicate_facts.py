"""What a search for near-duplicates found, for the manifest and for people."""

from collections import Counter
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from miniplm.data.parquet import ColumnFile
from miniplm.selection.clustering import Clustering
from miniplm.selection.row_text import row_text
from miniplm.selection.token_rows import TokenRows

_LARGEST = 10
_SHOWN_CHARACTERS = 200


def duplicate_facts(
    rows: TokenRows, found: Clustering, tokenizer_folder: Path | None
) -> dict[str, Any]:
    """Number and sizes of clusters, what each domain has of them, and the largest ones.

    Args:
        rows: All rows.
        found: Their clusters.
        tokenizer_folder: For an example of each of the largest clusters, else it has none.
    """
    clusters, sizes = np.unique(found.clusters, return_counts=True)
    largest = np.lexsort((clusters, -sizes))[:_LARGEST]
    domains, inside = _by_domain(rows, found, clusters[largest])
    return {
        "num_clusters": len(clusters),
        "share_in_clusters": len(found.places) / max(1, len(rows)),
        "domains": domains,
        "largest": [
            {
                "cluster": int(clusters[place]),
                "size": int(sizes[place]),
                "domains": dict(inside[int(clusters[place])].most_common()),
                **_example(rows, found, int(clusters[place]), tokenizer_folder),
            }
            for place in largest
        ],
    }


def _by_domain(
    rows: TokenRows, found: Clustering, largest: NDArray[np.int64]
) -> tuple[dict[str, dict[str, int]], dict[int, Counter[str]]]:
    """Rows of each domain, those in clusters and those that are not the first of their cluster."""
    counts: dict[str, Counter[str]] = {}
    inside: dict[int, Counter[str]] = {int(cluster): Counter() for cluster in largest}
    bounds = np.searchsorted(found.places, rows.offsets)
    for number, shard in enumerate(rows.shards):
        part = slice(bounds[number], bounds[number + 1])
        names, row_domains = ColumnFile(shard.prefix.with_suffix(".parquet")).categories("domain")
        members = found.places[part] - rows.offsets[number]
        clusters, ids = found.clusters[part], rows.sequence_ids(found.places[part])
        for what, of in (
            ("num_sequences", row_domains),
            ("in_clusters", row_domains[members]),
            ("redundant", row_domains[members[clusters != ids]]),
        ):
            for name, count in zip(names, np.bincount(of, minlength=len(names)), strict=True):
                counts.setdefault(name, Counter())[what] += int(count)
        for place in np.flatnonzero(np.isin(clusters, largest)):
            inside[int(clusters[place])][names[row_domains[members[place]]]] += 1
    kinds = ("num_sequences", "in_clusters", "redundant")
    by_name = sorted((name, c) for name, c in counts.items() if c["num_sequences"])
    return {name: {kind: c[kind] for kind in kinds} for name, c in by_name}, inside


def _example(
    rows: TokenRows, found: Clustering, cluster: int, tokenizer_folder: Path | None
) -> dict[str, str]:
    """The beginning of the first row of a cluster."""
    if tokenizer_folder is None:
        return {}
    from miniplm.data.tokenizer import load_tokenizer

    members = found.places[found.clusters == cluster]
    first = members[rows.sequence_ids(members) == cluster]
    ids, _ = rows.ids(first)
    text = row_text(ids, rows.shards[0].info.eos_id, load_tokenizer(tokenizer_folder))
    return {"example": text[:_SHOWN_CHARACTERS]}
