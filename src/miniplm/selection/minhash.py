"""MinHash signatures of rows, cut into bands: rows that agree in a band may be near-duplicates.

Two sets agree in each place of their signatures with a chance of their Jaccard similarity s
(Broder, 1997). A band is r places; of b bands, one at least agrees with a chance of
1 - (1 - s ** r) ** b (Leskovec, Rajaraman and Ullman, Mining of Massive Datasets, section 3.4).
"""

from dataclasses import dataclass
from typing import Self

import numpy as np
from numpy.typing import NDArray

from miniplm.selection.shingles import Shingles, mixed

_SEED = 1
_RECALL = 0.9


@dataclass(frozen=True)
class Bands:
    """How signatures are cut.

    Args:
        num_bands: Bands of a signature.
        num_rows: Places of the signature in a band.
    """

    num_bands: int
    num_rows: int

    @classmethod
    def for_similarity(cls, similarity: float, num_hashes: int) -> Self:
        """The longest bands that find nine of ten pairs of just this similarity.

        Longer bands bring fewer pairs that are not similar enough.

        Args:
            similarity: Jaccard similarity from which on rows are near-duplicates.
            num_hashes: Places of a signature.

        Example:
            >>> bands = Bands.for_similarity(0.8, 128)
            >>> bands.num_bands, bands.num_rows, round(bands.recall(0.8), 3)
            (16, 8, 0.947)
        """
        for num_rows in range(num_hashes, 1, -1):
            bands = cls(num_hashes // num_rows, num_rows)
            if bands.recall(similarity) >= _RECALL:
                return bands
        return cls(num_hashes, 1)

    @property
    def num_hashes(self) -> int:
        """Places of a signature that are used."""
        return self.num_bands * self.num_rows

    def recall(self, similarity: float) -> float:
        """Share of the pairs of this similarity that agree in at least one band."""
        return float(1 - (1 - similarity**self.num_rows) ** self.num_bands)


def band_hashes(rows: Shingles, bands: Bands) -> NDArray[np.uint64]:
    """A hash of each band of each row's signature, `[rows, bands]`."""
    parts = signatures(rows, bands.num_hashes).reshape(len(rows), bands.num_bands, bands.num_rows)
    hashes = np.zeros(parts.shape[:2], dtype=np.uint64)
    for place in range(bands.num_rows):
        hashes = mixed(hashes + parts[:, :, place].astype(np.uint64))
    return hashes


def signatures(rows: Shingles, num_hashes: int) -> NDArray[np.uint32]:
    """MinHash signatures, `[rows, num_hashes]`."""
    from rensa import RMinHash

    matrix = RMinHash.digest_matrix_from_flat_token_hashes(
        rows.hashes, rows.starts, num_hashes, _SEED
    )
    return np.array(matrix.to_rows(), dtype=np.uint32).reshape(len(rows), num_hashes)


def algorithm() -> str:
    """What made the signatures: those of another version are not to be compared with them."""
    from rensa import RMinHash

    return f"rensa R-MinHash {RMinHash.ALGORITHM_VERSION}"
