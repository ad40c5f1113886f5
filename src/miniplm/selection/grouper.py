"""What tells groups of similar rows apart.

Rows are bags of hashed n-grams of token ids, weighted by tf-idf. On a sample, a truncated singular
value decomposition and k-means find directions of the groups (latent semantic analysis); each row
goes to the group whose direction has the smallest angle to it.

Axes: R rows, F features, C components, G groups.
"""

import hashlib
import json
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Self

import numpy as np
from numpy.typing import NDArray
from safetensors import SafetensorError, safe_open
from safetensors.numpy import save

from miniplm.manifest import write_atomically
from miniplm.selection.grouping_config import GroupingConfig
from miniplm.selection.ngram_counts import Weighting, ngram_counts

_ORIGIN, _RARITY, _DIRECTIONS, _LONGEST = "origin", "rarity", "directions", "longest_ngram"


@dataclass(frozen=True)
class Grouper:
    """What tells a row's group.

    Args:
        weighting: Of n-grams.
        directions_FG: Of each group, among the features.
        longest_ngram: Ids in the longest n-grams.
    """

    weighting: Weighting
    directions_FG: NDArray[np.float32]
    longest_ngram: int

    def assign(self, ids: NDArray[Any], lengths: NDArray[np.int64]) -> NDArray[np.int32]:
        """The group of each row."""
        features_RF = self.weighting.apply(ngram_counts(ids, lengths, self.longest_ngram))
        # row by row, in one order: the same for any block that a row is in
        closeness_RG: NDArray[np.float32] = features_RF @ self.directions_FG
        groups: NDArray[np.int32] = closeness_RG.argmax(axis=1).astype(np.int32)
        return groups

    @property
    def digest(self) -> str:
        """SHA-256 of the file it is written as but for the origin, hexadecimal."""
        return hashlib.sha256(save(self._tensors)).hexdigest()

    def write(self, path: Path, origin: dict[str, Any]) -> None:
        """Write it atomically, as safetensors; `origin` is what it was found in."""
        path.parent.mkdir(parents=True, exist_ok=True)
        note = {_ORIGIN: json.dumps(origin, sort_keys=True)}
        write_atomically(path, save(self._tensors, metadata=note))

    @classmethod
    def read(cls, path: Path, origin: dict[str, Any]) -> Self | None:
        """Read it again; None where the file is missing, damaged, or of another origin."""
        try:
            with safe_open(path, framework="numpy") as file:
                if json.loads((file.metadata() or {}).get(_ORIGIN, "null")) != origin:
                    return None
                rarity, directions, longest = map(file.get_tensor, (_RARITY, _DIRECTIONS, _LONGEST))
        except (OSError, SafetensorError):
            return None
        return cls(Weighting(rarity), directions, int(longest[0]))

    @property
    def _tensors(self) -> dict[str, NDArray[Any]]:
        return {
            _RARITY: self.weighting.rarity_F,
            _DIRECTIONS: self.directions_FG,
            _LONGEST: np.array([self.longest_ngram]),
        }


def fit_groups(
    ids: NDArray[Any], lengths: NDArray[np.int64], config: GroupingConfig, seed: int
) -> Grouper:
    """Find groups among some rows.

    Args:
        ids: Token ids of the rows, one row after another.
        lengths: Ids in each.
        config: How.
        seed: Of the decomposition and the clustering.
    """
    from sklearn.cluster import MiniBatchKMeans
    from sklearn.decomposition import TruncatedSVD
    from threadpoolctl import threadpool_limits

    counts_RF = ngram_counts(ids, lengths, config.longest_ngram)
    weighting = Weighting.fit(counts_RF)
    features_RF = weighting.apply(counts_RF)
    with threadpool_limits(1):  # sums of floats in one order, whatever the machine
        components = min(config.num_components, len(lengths) - 1)
        svd = TruncatedSVD(components, n_iter=4, random_state=seed)
        reduced_RC = _unit(svd.fit_transform(features_RF))
        kmeans = MiniBatchKMeans(config.num_groups, batch_size=4096, n_init=5, random_state=seed)
        members = kmeans.fit_predict(reduced_RC)
        centres_GC = _unit(kmeans.cluster_centers_)[_largest_first(members, config.num_groups)]
        directions_FG = np.ascontiguousarray(svd.components_.T @ centres_GC.T, dtype=np.float32)
    return Grouper(weighting, directions_FG, config.longest_ngram)


def _unit(rows: NDArray[Any]) -> NDArray[Any]:
    lengths = np.linalg.norm(rows, axis=1, keepdims=True)
    scaled: NDArray[Any] = rows / np.where(lengths > 0, lengths, 1)
    return scaled


def _largest_first(members: NDArray[Any], num_groups: int) -> NDArray[np.int64]:
    sizes = np.bincount(members, minlength=num_groups)
    return np.argsort(-sizes, kind="stable")
