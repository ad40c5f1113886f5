"""What a proxy is fit on and applied to: sampled rows, and blocks of all rows.

Axes: R rows, F features.
"""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace
from pathlib import Path

import numpy as np
import pyarrow as pa
from numpy.typing import NDArray

from miniplm.data.parquet import ColumnFile, places_of
from miniplm.data.shards import Shard
from miniplm.errors import ArtefactError
from miniplm.scoring.proxy_config import ProxyConfig
from miniplm.scoring.proxy_features import Matrix, features_of
from miniplm.scoring.proxy_sample import SampleChoice, read_sample
from miniplm.scoring.tables import (
    PER_BYTE,
    SCORE_SCHEMA,
    STATES_COLUMN,
    open_scores,
    score_info,
)

MOST_SAMPLED = 65_536
"""Sampled sequences that are held in memory; a linear head gains little from more."""
_BLOCK_ROWS = 8192


@dataclass(frozen=True)
class SampledRows:
    """Rows that the teacher scored: what a head sees of them, and what it is to predict.

    Args:
        sequence_ids: `[R]`.
        domains_R: Names.
        features_RF: What the head sees.
        difference_R: The true difference scores, nats per unit.
        reference_R: The reference's log-probabilities, nats per unit.
        num_tokens_R: Targets of each row that the reference scored.
        num_bytes_R: Bytes that they stand for.
    """

    sequence_ids: NDArray[np.int64]
    domains_R: NDArray[np.str_]
    features_RF: Matrix
    difference_R: NDArray[np.float64]
    reference_R: NDArray[np.float64]
    num_tokens_R: NDArray[np.int32]
    num_bytes_R: NDArray[np.int64]

    def take(self, rows: NDArray[np.int64]) -> "SampledRows":
        """Some of them, in that order."""
        return replace(self, **{name: column[rows] for name, column in vars(self).items()})

    @classmethod
    def joined(cls, parts: Sequence["SampledRows"]) -> "SampledRows":
        """The rows of all parts in order of their ids, so that shards have no say in a fit."""
        from scipy.sparse import csr_matrix, vstack

        parts = [part for part in parts if len(part.sequence_ids)] or parts[:1]
        columns = {
            name: np.concatenate([getattr(part, name) for part in parts])
            for name in vars(parts[0])
            if name != "features_RF"
        }
        features = [part.features_RF for part in parts]
        if isinstance(features[0], csr_matrix):
            together = vstack(features, format="csr")
        else:
            together = np.concatenate(features)
        whole = cls(features_RF=together, **columns)
        return whole.take(np.argsort(whole.sequence_ids, kind="stable"))


@dataclass(frozen=True)
class ProxyInputs:
    """Where a proxy finds what it needs.

    Args:
        config: Share and features.
        shards: Of the candidates.
        choice: Which of their rows are sampled.
        reference_folder: The reference's score tables.
        sample_folder: The teacher's, of the sampled rows.
    """

    config: ProxyConfig
    shards: Sequence[Shard]
    choice: SampleChoice
    reference_folder: Path
    sample_folder: Path

    def unit(self) -> str:
        """`token`, or `byte` where tokens of different tokenizers were counted.

        Raises:
            ArtefactError: A table is missing or damaged, or belongs to other shards.
        """
        infos = [score_info(self.sample(shard)) for shard in self.shards]
        infos += [score_info(self.reference(shard)) for shard in self.shards]
        return "byte" if any(info.normalization == PER_BYTE for info in infos) else "token"

    def sample(self, shard: Shard) -> ColumnFile:
        """The teacher's scores of a shard's sampled rows."""
        return open_scores(
            self.sample_folder / f"{shard.prefix.name}.parquet", shard.info.shard_hash
        )

    def reference(self, shard: Shard) -> ColumnFile:
        """The reference's scores of a shard.

        Raises:
            ArtefactError: There are none, or they have no hidden states where these are needed.
        """
        path = self.reference_folder / f"{shard.prefix.name}.parquet"
        file = open_scores(path, shard.info.shard_hash)
        if self.config.features == "hidden" and not score_info(file).states:
            raise ArtefactError(
                f"{path}: has no hidden states, which scoring.proxy.features=hidden needs. Score "
                "with the reference again, or choose scoring.proxy.features=ngrams."
            )
        return file

    def sampled(self, unit: str) -> SampledRows:
        """The sampled rows of all shards, or as many as are held in memory."""
        return SampledRows.joined([self._sampled(shard, unit) for shard in self.shards])

    def blocks(self, shard: Shard) -> Iterator[tuple[pa.Table, Matrix]]:
        """The reference's scores of a shard's rows and their features, in its order."""
        scores = self._reference_rows(shard, np.arange(len(shard)))
        for begin in range(0, len(shard), _BLOCK_ROWS):
            block = scores.slice(begin, _BLOCK_ROWS)
            places = np.arange(begin, begin + block.num_rows)
            yield block, features_of(self.config.features, shard, places, block)

    def true_scores(self, shard: Shard) -> tuple[pa.Table, NDArray[np.int64]]:
        """The teacher's scores of a shard's sampled rows, and their places in it."""
        return read_sample(self.sample(shard), shard, self.choice)

    def _reference_rows(self, shard: Shard, places: NDArray[np.int64]) -> pa.Table:
        file = self.reference(shard)
        there = places_of(shard.sequence_ids[places], file.sequence_ids())
        if there is None:
            raise ArtefactError(f"{file.path}: lacks sequences. Score these shards again.")
        states = [STATES_COLUMN] if self.config.features == "hidden" else []
        return file.table([*SCORE_SCHEMA.names, *states]).take(pa.array(there))

    def _sampled(self, shard: Shard, unit: str) -> SampledRows:
        true, places = self.true_scores(shard)
        expected = self.choice.share * sum(len(shard) for shard in self.shards)
        some = self.choice.sampled(shard.sequence_ids[places], min(1.0, MOST_SAMPLED / expected))
        reference = self._reference_rows(shard, places)
        for table in (true, reference):  # rows without a target are not comparable
            some &= table[f"num_{unit}s"].to_numpy() > 0
        places = places[some]
        true, reference = (table.filter(pa.array(some)) for table in (true, reference))
        domains = shard.sidecar["domain"].take(pa.array(places)).to_pylist()
        return SampledRows(
            shard.sequence_ids[places],
            np.array(domains, dtype=np.str_),
            features_of(self.config.features, shard, places, reference),
            _per_unit(true, unit) - _per_unit(reference, unit),
            _per_unit(reference, unit),
            reference["num_tokens"].to_numpy(),
            reference["num_bytes"].to_numpy(),
        )


def _per_unit(table: pa.Table, unit: str) -> NDArray[np.float64]:
    per_unit: NDArray[np.float64] = table["log_prob"].to_numpy() / table[f"num_{unit}s"].to_numpy()
    return per_unit
