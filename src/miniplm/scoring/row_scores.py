"""The scores of rows under one model or several, as tables.

Axes: B sequences, T positions, D hidden width, V vocabulary.
"""

from collections.abc import Sequence
from typing import TYPE_CHECKING

import numpy as np
import pyarrow as pa
import torch
from numpy.typing import NDArray

from miniplm.data.shards import Shard
from miniplm.errors import ModelError
from miniplm.runtime.ahead import ahead
from miniplm.runtime.progress import Advance
from miniplm.scoring.batches import ScoringBatch, length_buckets, scoring_batches
from miniplm.scoring.forward import log_probs_and_states, token_log_probs
from miniplm.scoring.rows import Rows
from miniplm.scoring.segments import SegmentSums
from miniplm.scoring.tables import SCORE_SCHEMA, SEGMENT_FIELDS, STATES_FIELD, TOKENS_FIELD
from miniplm.scoring.tuning import Tuning

if TYPE_CHECKING:
    from transformers import PreTrainedModel

_LARGEST_HALF = float(np.finfo(np.float16).max)


@torch.inference_mode()
def score_rows(
    models: Sequence["PreTrainedModel"],
    shard: Shard | Rows,
    token_num_bytes_V: NDArray[np.int64],
    tuning: Tuning,
    advance: Advance,
    *,
    per_token: bool = False,
    states: bool = False,
    segments: bool = False,
) -> list[pa.Table]:
    """The score table of some rows for each model, in the order of the rows.

    Args:
        models: On the devices they are to run on.
        shard: The rows.
        token_num_bytes_V: Bytes of text that each id stands for, `[V]`.
        tuning: Size of batches, and whether the models were compiled.
        advance: Is told of positions as they are done.
        per_token: With the column `token_log_probs`.
        states: With the column `mean_states`.
        segments: With the columns of `scoring.segments`.

    Raises:
        ModelError: A score is not finite.
        torch.OutOfMemoryError: A batch does not fit on the device.
    """
    rows = Rows.of(shard) if isinstance(shard, Shard) else shard
    num_tokens = np.zeros(len(rows), dtype=np.int32)
    num_bytes = np.zeros(len(rows), dtype=np.int64)
    columns = [
        _Columns(
            model,
            rows,
            compiled=tuning.compiled,
            per_token=per_token,
            states=states,
            segments=segments,
        )
        for model in models
    ]
    buckets = length_buckets(rows.lengths, tuning.batch_tokens, rows.info.max_length)
    with ahead(scoring_batches(rows, buckets, token_num_bytes_V), depth=2) as batches:
        for batch in batches:
            num_tokens[batch.places] = batch.num_tokens_B
            num_bytes[batch.places] = batch.num_bytes_B
            for column in columns:
                column.add(batch)
            advance(batch.num_positions)
    return [column.table(num_tokens, num_bytes) for column in columns]


class _Columns:
    """What one model says of the rows, gathered batch by batch.

    Sums stay on the device until the end, so that no batch waits for the one before it.
    """

    def __init__(
        self,
        model: "PreTrainedModel",
        rows: Rows,
        *,
        compiled: bool,
        per_token: bool,
        states: bool,
        segments: bool,
    ) -> None:
        self.model, self.rows, self.compiled = model, rows, compiled
        self.places: list[NDArray[np.int64]] = [np.empty(0, np.int64)]
        self.sums: list[torch.Tensor] = [torch.empty(0, dtype=torch.float64)]
        self.tokens: dict[int, NDArray[np.float16]] | None = {} if per_token else None
        self.states: dict[int, NDArray[np.float16]] | None = {} if states else None
        self.segments = SegmentSums(rows.info.eos_id, rows.lengths) if segments else None

    def add(self, batch: ScoringBatch) -> None:
        self.places.append(batch.places)
        log_probs_BT = self._score(batch)
        self.sums.append(log_probs_BT.sum(dim=1, dtype=torch.float64))
        if self.tokens is not None:
            lengths_B = self.rows.lengths[batch.places] - 1
            self.tokens |= _by_place(batch.places, log_probs_BT, lengths_B)
        if self.segments is not None:
            self.segments.add(batch, log_probs_BT)

    def _score(self, batch: ScoringBatch) -> torch.Tensor:
        given = (self.model, batch.input_ids_BT, batch.targets_BT)
        if self.states is None:
            return token_log_probs(*given, compiled=self.compiled)
        log_probs_BT, states_BD = log_probs_and_states(*given, compiled=self.compiled)
        widths_B = np.full(len(states_BD), states_BD.shape[1])
        states_BD = states_BD.clamp(-_LARGEST_HALF, _LARGEST_HALF)
        self.states |= _by_place(batch.places, states_BD, widths_B)
        return log_probs_BT

    def table(self, num_tokens: NDArray[np.int32], num_bytes: NDArray[np.int64]) -> pa.Table:
        log_probs = np.empty(len(self.rows))
        log_probs[np.concatenate(self.places)] = torch.cat([part.cpu() for part in self.sums])
        _check_finite(self.rows, log_probs)
        columns = [self.rows.sequence_ids, log_probs, num_tokens, num_bytes]
        table = pa.Table.from_arrays([pa.array(column) for column in columns], schema=SCORE_SCHEMA)
        if self.tokens is not None:
            table = table.append_column(TOKENS_FIELD, _list_column(self.tokens))
        if self.states is not None:
            table = table.append_column(STATES_FIELD, _list_column(self.states))
        if self.segments is not None:
            for field, column in zip(SEGMENT_FIELDS, self.segments.columns(), strict=True):
                table = table.append_column(field, column)
        return table


def _check_finite(rows: Rows, log_probs: NDArray[np.float64]) -> None:
    finite = np.isfinite(log_probs)
    if not finite.all():
        bad = rows.sequence_ids[~finite]
        raise ModelError(
            f"{rows.prefix}: {len(bad)} sequences have no finite log-probability (ids "
            f"{bad[:5].tolist()}). The model's weights are damaged, or its numbers leave the range "
            "of scoring.dtype; try scoring.dtype=float32."
        )


def _by_place(
    places_B: NDArray[np.int64], values_BN: torch.Tensor, lengths_B: NDArray[np.integer]
) -> dict[int, NDArray[np.float16]]:
    """The first numbers of each row, so many as it has, by its place among the rows."""
    rows = values_BN.half().cpu().numpy()
    return {
        place: row[:length].copy()
        for place, row, length in zip(places_B.tolist(), rows, lengths_B.tolist(), strict=True)
    }


def _list_column(rows: dict[int, NDArray[np.float16]]) -> pa.LargeListArray:
    """Lists of numbers in the order of places."""
    ordered = [rows[place] for place in range(len(rows))]
    ends = np.cumsum([0, *map(len, ordered)])
    values = np.concatenate([np.empty(0, np.float16), *ordered])
    return pa.LargeListArray.from_arrays(pa.array(ends), pa.array(values))
