"""One model over some rows of shards, in the shards' ids or in tokens of its own.

Axes: R rows, W windows.
"""

from collections.abc import Sequence
from typing import Any

import numpy as np
import pyarrow as pa
from numpy.typing import NDArray

from miniplm.data.shards import Shard
from miniplm.model_checks import check_causal_head, check_vocabulary
from miniplm.model_size import size_of
from miniplm.scoring.config import ScoringConfig
from miniplm.scoring.preparation import check_and_count, compile_models, prepare_model
from miniplm.scoring.reencoding import OwnTokens
from miniplm.scoring.row_scores import score_rows
from miniplm.scoring.rows import Rows
from miniplm.scoring.scoring_model import ScoringModel
from miniplm.scoring.segments import segments_of_rows
from miniplm.scoring.tables import (
    PER_BYTE,
    RUN_TOKENIZER,
    SCORE_SCHEMA,
    SEGMENT_FIELDS,
    STATES_COLUMN,
    STATES_FIELD,
    ScoreInfo,
    states_column,
    states_of,
)
from miniplm.scoring.tuning import Tuning, halving_batches, tune

REENCODED_ROWS = 4096
"""Rows whose text is held in memory at a time."""


class ShardScorer:
    """One model over some rows of shards.

    Args:
        scorer: The model, on the device it is to run on.
        shards: What is scored.
        token_num_bytes_V: Bytes of text that each id of the shards stands for, `[V]`.
        config: Limits.
        share: Of the rows, how many are ahead, for choosing whether to compile.

    Attributes:
        flops_per_token: Of a forward pass.

    Raises:
        ModelError: The model does not fit the shards, or its logits are not those of its output
            layer.
    """

    def __init__(
        self,
        scorer: ScoringModel,
        shards: Sequence[Shard],
        token_num_bytes_V: NDArray[np.int64],
        config: ScoringConfig,
        share: float = 1.0,
    ) -> None:
        self.scorer, self._token_num_bytes_V = scorer, token_num_bytes_V
        self.flops_per_token = self._check(shards)
        prepare_model(scorer.model)
        total = share * sum(shard.num_ids for shard in shards)
        self._tuning = tune(scorer.model, total * self.flops_per_token, config.memory_gb)
        self._to_compile = self._tuning.compiled

    def _check(self, shards: Sequence[Shard]) -> float:
        """Refuse a model that does not fit; returns its forward FLOPs for a token."""
        own, model = self.scorer.own, self.scorer.model
        if own is None:
            return check_and_count(model, self.scorer.name, shards)
        check_vocabulary(model, own.table.vocab_size, self.scorer.name)
        check_causal_head(model)
        length = sum(shard.num_ids for shard in shards) // max(1, sum(map(len, shards)))
        return size_of(model, length).forward_flops_per_token

    def info(self, shard: Shard, **others: Any) -> ScoreInfo:  # noqa: ANN401
        """What a table of this model and shard says of itself; `others` are further fields."""
        own = self.scorer.own
        return ScoreInfo(
            self.scorer.name,
            self.scorer.fingerprint,
            self.scorer.dtype,
            shard.info.shard_hash,
            tokenizer=own.fingerprint if own else RUN_TOKENIZER,
            normalization=PER_BYTE if own else None,
            **others,
        )

    def score(
        self,
        shard: Shard,
        places: NDArray[np.int64],
        *,
        states: bool = False,
        segments: bool = False,
    ) -> tuple[pa.Table, dict[str, int]]:
        """The score table of the rows at some places of a shard, and what was counted.

        Counted are `positions` that the model went through, and in tokens of its own also rows
        `in_windows` and rows `with_replaced_characters`.

        Raises:
            ModelError: A score is not finite, or the device has no memory for a row.
        """
        if self.scorer.own is None:
            rows = Rows.of(shard).take(places)
            table = self._score(rows, self._token_num_bytes_V, states, segments)
            return table, {"positions": _positions(rows)}
        starts = range(0, max(1, len(places)), REENCODED_ROWS)
        groups = [places[begin : begin + REENCODED_ROWS] for begin in starts]
        blocks = [
            self._score_block(self.scorer.own, shard, group, states, segments) for group in groups
        ]
        counted = {name: sum(block[1][name] for block in blocks) for name in blocks[0][1]}
        return pa.concat_tables([block[0] for block in blocks]), counted

    def _score_block(
        self,
        own: OwnTokens,
        shard: Shard,
        places: NDArray[np.int64],
        states: bool,
        segments: bool,
    ) -> tuple[pa.Table, dict[str, int]]:
        found = own.reencode(shard, places)
        windows = self._score(found.windows, own.table.num_bytes_V, states, segments)
        counted = {
            "positions": _positions(found.windows),
            "in_windows": found.num_cut,
            "with_replaced_characters": found.num_replaced,
        }
        table = whole_rows(windows, found.parents_W, shard.sequence_ids[places])
        if segments:
            columns = segments_of_rows(
                windows, found.parents_W, found.first_segments_W, len(places)
            )
            for field, column in zip(SEGMENT_FIELDS, columns, strict=True):
                table = table.append_column(field, column)
        return table, counted

    def _score(
        self, rows: Rows, token_num_bytes_V: NDArray[np.int64], states: bool, segments: bool
    ) -> pa.Table:
        model = self.scorer.model

        def work(tuned: Tuning) -> pa.Table:
            scored = score_rows(
                [model], rows, token_num_bytes_V, tuned, lambda _: None, states=states,
                segments=segments,
            )  # fmt: skip
            return scored[0]

        if self._to_compile and len(rows):
            first = rows.take(np.array([np.argmax(rows.lengths)]))
            compiled = self._tuning
            self._tuning, _ = compile_models(
                [model],
                compiled,
                lambda: score_rows([model], first, token_num_bytes_V, compiled, lambda _: None),
            )
            self._to_compile = False
        table, self._tuning = halving_batches(work, rows, self._tuning)
        return table


def _positions(rows: Rows) -> int:
    return int((rows.lengths - 1).sum())


def whole_rows(
    table: pa.Table, parents_W: NDArray[np.int64], sequence_ids: NDArray[np.int64]
) -> pa.Table:
    """Scores of windows as those of the rows they are of: sums, and states averaged by target.

    Args:
        table: Scores of windows.
        parents_W: Which row each window is of.
        sequence_ids: Of the rows, `[R]`.
    """
    size = len(sequence_ids)

    def total(name: str) -> NDArray[np.float64]:
        weights = table[name].to_numpy().astype(np.float64)
        return np.bincount(parents_W, weights, minlength=size).astype(np.float64)

    columns = [pa.array(sequence_ids)] + [
        pa.array(total(field.name)).cast(field.type) for field in list(SCORE_SCHEMA)[1:]
    ]
    whole = pa.Table.from_arrays(columns, schema=SCORE_SCHEMA)
    if STATES_COLUMN not in table.column_names or size == 0:
        return whole
    weights_W = np.maximum(table["num_tokens"].to_numpy(), 1e-9)
    states_RD = np.zeros((size, len(states_of(table)[0])))
    np.add.at(states_RD, parents_W, states_of(table) * weights_W[:, None])
    states_RD /= np.bincount(parents_W, weights_W, minlength=size)[:, None]
    return whole.append_column(STATES_FIELD, states_column(states_RD))
