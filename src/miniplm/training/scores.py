"""Scores of the sequences that a student is trained on, in its order, from score tables."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal, Self

import numpy as np
import pyarrow as pa
import torch
from numpy.typing import NDArray

from miniplm.data.loader import SequenceStore
from miniplm.data.parquet import ColumnFile, places_of
from miniplm.data.shards import Shard, scored_hash
from miniplm.errors import ArtefactError
from miniplm.scoring.tables import (
    TOKENS_COLUMN,
    ScoreInfo,
    check_comparable,
    open_scores,
    read_score_info,
)
from miniplm.selection.difference import Normalization, normalized_log_prob, score_columns

Role = Literal["teacher", "reference"]


@dataclass(frozen=True)
class ScoreTables:
    """Where the scores of a corpus are.

    Args:
        folders: Of the tables, by role.
        normalization: What log-probabilities are divided by.
    """

    folders: Mapping[Role, Path]
    normalization: Normalization = "per_token"

    def losses(self, store: SequenceStore, role: Role) -> NDArray[np.float64]:
        """A model's loss of every sequence of a store, nats per unit, `[M]`; NaN without target.

        The store may hold the candidates that were scored, or a refined corpus exported from them.

        Raises:
            ArtefactError: A table is missing or damaged, belongs to other shards, or lacks a row.
        """
        return -np.concatenate([self._log_probs(shard, role) for shard in store.shards])

    def differences(self, store: SequenceStore) -> NDArray[np.float64]:
        """Difference scores of every sequence, `[M]`. Raises what `losses` raises."""
        return self.losses(store, "reference") - self.losses(store, "teacher")

    def token_losses(self, store: SequenceStore) -> "TeacherTokenLosses":
        """The teacher's loss of every token. Raises what `losses` raises."""
        return TeacherTokenLosses(store, [self._tokens(shard) for shard in store.shards])

    def origin(self, store: SequenceStore, role: Role) -> "ScoreOrigin":
        """Where a model's scores of a store come from.

        Raises:
            ArtefactError: As `losses`, or the tables come from different models.
        """
        paths = [self._path(shard, role) for shard in store.shards]
        found = {ScoreOrigin.of(read_score_info(path)): path for path in paths}
        if len(found) > 1:
            one, other = list(found.values())[:2]
            raise ArtefactError(
                f"{one.parent}: {one.name} and {other.name} were scored by different models or in "
                "different dtypes. Score these shards again."
            )
        return next(iter(found))

    def refuse_predicted(self, store: SequenceStore, kind: str) -> None:
        """Refuse the teacher's scores where a proxy predicts most of them.

        Args:
            store: The sequences.
            kind: Of reweighting, for the message.

        Raises:
            ArtefactError: They are predicted, or missing or damaged.
        """
        for shard in store.shards:
            path = self._path(shard, "teacher")
            if read_score_info(path).proxy is not None:
                raise ArtefactError(
                    f"{path}: most of its scores are predicted by a proxy. {kind} compares the "
                    "student with the teacher's own losses; score everything "
                    "(scoring.proxy=null), or use static or repeats."
                )

    def _path(self, shard: Shard, role: Role) -> Path:
        return self.folders[role] / f"{shard.prefix.name}.parquet"

    def _tokens(self, shard: Shard) -> pa.LargeListArray:
        table, places = self._table(shard, "teacher")
        if TOKENS_COLUMN not in table.names:
            raise ArtefactError(
                f"{table.path}: has no scores of single tokens. Set scoring.per_token: true and "
                "score again."
            )
        return table.table([TOKENS_COLUMN])[TOKENS_COLUMN].combine_chunks().take(pa.array(places))

    def _log_probs(self, shard: Shard, role: Role) -> NDArray[np.float64]:
        check_comparable({role: self._table(shard, role)[0]}, self.normalization)
        columns = self._columns(shard, role, score_columns(self.normalization))
        return normalized_log_prob(columns, self.normalization)

    def _columns(self, shard: Shard, role: Role, names: Sequence[str]) -> list[NDArray[Any]]:
        """Columns of a shard's score table, in the order of its rows."""
        table, places = self._table(shard, role)
        return [table.array(name)[places] for name in names]

    def _table(self, shard: Shard, role: Role) -> tuple[ColumnFile, NDArray[np.int64]]:
        """A shard's score table, and where in it the rows of the shard are."""
        path = self._path(shard, role)
        table = open_scores(path, scored_hash(shard))
        places = places_of(shard.sequence_ids, table.sequence_ids())
        if places is None:
            raise ArtefactError(
                f"{path}: has no score for some sequences of {shard.prefix}. "
                "Score these shards again."
            )
        return table, places


@dataclass(frozen=True)
class ScoreOrigin:
    """What scores follow from, the shards aside; fields are those of `scoring.tables.ScoreInfo`."""

    model: str
    model_fingerprint: str
    dtype: str

    @classmethod
    def of(cls, info: ScoreInfo) -> Self:
        """That of one score table."""
        return cls(info.model, info.model_fingerprint, info.dtype)


class TeacherTokenLosses:
    """The teacher's losses of tokens, held in memory, two bytes each."""

    def __init__(self, store: SequenceStore, columns: Sequence[pa.LargeListArray]) -> None:
        lengths = [np.diff(column.offsets.to_numpy()) for column in columns]
        self._ends = np.cumsum([0, *np.concatenate(lengths)])
        self._log_probs = np.concatenate(
            [column.flatten().to_numpy(zero_copy_only=False) for column in columns]
        )
        if not np.array_equal(np.diff(self._ends), store.lengths - 1):
            raise ArtefactError(
                f"{store.shards[0].prefix.parent}: its rows are not as long as their scores of "
                "single tokens. Score these shards again."
            )

    def batch(self, indices: NDArray[np.int64], width: int) -> torch.Tensor:
        """Those of some sequences, `[B, width]` float32, nats."""
        losses_BT = np.zeros((len(indices), width), dtype=np.float32)
        for row, index in zip(losses_BT, indices.tolist(), strict=True):
            begin, end = self._ends[index], self._ends[index + 1]
            row[: end - begin] = -self._log_probs[begin:end]
        return torch.from_numpy(losses_BT)
