"""Clusters of near-duplicates, from the bands in which rows agree.

Rows that agree in a band are candidates; pairs of them are confirmed by the exact similarity of
their shingles, and what pairs connect is a cluster. Bands are gone through one after another, so
that 8 bytes a row are held. Pairs are chosen by ids, never by places: how rows are spread over
shards has no say.
"""

from collections.abc import Callable, Iterator
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from miniplm.selection.connected import ConnectedRows
from miniplm.selection.shingles import MOST_PAIRS, Shingles, jaccard
from miniplm.selection.token_rows import TokenRows

_IDS_AT_ONCE = 1 << 21
_CENTRES = 8
"""Rows of a bucket that the others are compared with, at most: first the one of the smallest id,
then the smallest that was not like it, and so on. It bounds the work where thousands of rows agree
in a band without being near-duplicates, as those that fill in one template."""

BandReader = Callable[[int, int], NDArray[np.uint64]]
"""`read(band, shard)`: hashes of a band for each row of a shard, by their numbers."""


@dataclass(frozen=True)
class Clustering:
    """What was found.

    Args:
        places: Ascending places of the rows that are in a cluster of two or more.
        clusters: The smallest sequence_id of each one's cluster.
        num_compared: Pairs that were compared.
        num_confirmed: Those similar enough.
    """

    places: NDArray[np.int64]
    clusters: NDArray[np.int64]
    num_compared: int
    num_confirmed: int


@dataclass(frozen=True)
class _Buckets:
    """Rows that agree in a band: bucket by bucket, in each by ascending id.

    Args:
        places: Of the rows.
        starts: Whether a row is the first of its bucket.
    """

    places: NDArray[np.int64]
    starts: NDArray[np.bool_]

    def pairs(self) -> tuple[NDArray[np.int64], NDArray[np.int64]]:
        """The first row of its bucket for each other row, and that row."""
        firsts = self.places[self.starts][np.cumsum(self.starts) - 1]
        return firsts[~self.starts], self.places[~self.starts]

    def without_firsts(self, keep: NDArray[np.bool_]) -> "_Buckets":
        """The other rows, as far as they are to be kept."""
        numbers = np.cumsum(self.starts)[~self.starts][keep]
        return _Buckets(self.places[~self.starts][keep], np.diff(numbers, prepend=0) != 0)


def find_clusters(
    rows: TokenRows,
    read: BandReader,
    num_bands: int,
    ngram: int,
    similarity: float,
    advance: Callable[[float], None] = lambda _: None,
) -> Clustering:
    """Clusters of rows that are similar to one another, directly or over others.

    Args:
        rows: All of them.
        read: Gives the bands' hashes.
        num_bands: Bands there are.
        ngram: Ids in a shingle; shorter rows are alone.
        similarity: Jaccard similarity from which on a pair counts.
        advance: Told 1 when a band is done.
    """
    search = _Search(rows, read, ngram, similarity)
    for band in range(num_bands):
        search.go_through(band)
        advance(1)
    return search.result()


class _Search:
    def __init__(self, rows: TokenRows, read: BandReader, ngram: int, similarity: float) -> None:
        self.rows, self.read, self.ngram, self.similarity = rows, read, ngram, similarity
        self.connected = ConnectedRows()
        self.num_compared = 0
        longest = max((shard.info.max_length for shard in rows.shards), default=0) + 1
        self.pairs_at_once = min(MOST_PAIRS, max(1, _IDS_AT_ONCE // (2 * longest)))

    def go_through(self, band: int) -> None:
        """Compare the rows that agree in a band."""
        self.connected.connect()
        buckets = self._buckets(band)
        for _ in range(_CENTRES):
            first, second = buckets.pairs()
            if not len(first):
                return
            open_ = ~self.connected.together(first, second)
            similar = self._similar(first[open_], second[open_])
            self.connected.add(first[open_][similar], second[open_][similar])
            open_[open_] = ~similar
            buckets = buckets.without_firsts(open_)

    def result(self) -> Clustering:
        """The clusters, named by their smallest id."""
        self.connected.connect()
        places, numbers = self.connected.places, self.connected.numbers
        ids = self.rows.sequence_ids(places)
        smallest = np.full(numbers.max(initial=-1) + 1, np.iinfo(np.int64).max)
        np.minimum.at(smallest, numbers, ids)
        return Clustering(places, smallest[numbers], self.num_compared, self.connected.num_pairs)

    def _buckets(self, band: int) -> _Buckets:
        """Rows that share a band's hash with another; the band is read twice."""
        hashes = np.empty(len(self.rows), np.uint64)
        filled = 0
        for _, column in self._columns(band):
            hashes[filled : filled + len(column)] = column
            filled += len(column)
        hashes = hashes[:filled]
        hashes.sort()
        repeated = np.unique(hashes[1:][hashes[1:] == hashes[:-1]])
        del hashes
        members = [np.empty((2, 0), np.uint64)]
        for places, column in self._columns(band) if len(repeated) else ():
            found = np.searchsorted(repeated, column)
            inside = repeated[np.minimum(found, len(repeated) - 1)] == column
            members.append(np.stack([places[inside].astype(np.uint64), column[inside]]))
        places, column = np.concatenate(members, axis=1)
        places = places.astype(np.int64)
        order = np.lexsort((self.rows.sequence_ids(places), column))
        return _Buckets(places[order], np.diff(column[order], prepend=~column[order][:1]) != 0)

    def _columns(self, band: int) -> Iterator[tuple[NDArray[np.int64], NDArray[np.uint64]]]:
        """Places and hashes of the rows that have a shingle, shard by shard."""
        for number, shard in enumerate(self.rows.shards):
            there = np.flatnonzero(shard.lengths >= self.ngram)
            yield there + self.rows.offsets[number], self.read(band, number)[there]

    def _similar(self, first: NDArray[np.int64], second: NDArray[np.int64]) -> NDArray[np.bool_]:
        """Which pairs of places are near-duplicates."""
        self.num_compared += len(first)
        parts = [np.empty(0, np.bool_)]
        for begin in range(0, len(first), self.pairs_at_once):
            pairs = slice(begin, begin + self.pairs_at_once)
            places, ends = np.unique(
                np.concatenate([first[pairs], second[pairs]]), return_inverse=True
            )
            shingles = Shingles.of(*self.rows.ids(places), self.ngram)
            one, other = np.split(ends, 2)
            parts.append(jaccard(shingles.take(one), shingles.take(other)) >= self.similarity)
        return np.concatenate(parts)
