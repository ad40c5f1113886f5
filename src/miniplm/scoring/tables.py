"""Score tables: one Parquet file per token shard and model, joined by sequence id.

Columns: sequence_id; `log_prob`, the sum of the natural log-probabilities of the row's targets;
`num_tokens` and `num_bytes`, the targets counted in it and the bytes of text they stand for
(positions behind an end-of-text id are left out, so these are fewer than the row holds); and
`mean_log_prob`, log_prob / num_tokens or NaN, kept because it is all that selection ordinarily
reads. On request also `token_log_probs`: the log-probability of every predicted token of the row,
0 where it has no target; and `mean_states`: the last hidden states averaged over the row's targets.
With `segments`, the sums are there for each piece of a document in the row too.
Tables of a proxy have `predicted`: whether the row's `log_prob` is predicted or the model's own.

A model that reads the text in tokens of its own counts those. What it scores is the same text but
for the first token of a row and of a document, which has no target and may be longer or shorter;
such a table can be compared with others per byte only, and its metadata says so.
"""

from collections.abc import Mapping
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any, TypeVar

import numpy as np
import pyarrow as pa
from numpy.typing import NDArray

from miniplm.data.parquet import ColumnFile, write_parquet
from miniplm.errors import ArtefactError
from miniplm.manifest import how_to_remake

MEAN_COLUMN = "mean_log_prob"
SCORE_SCHEMA = pa.schema(
    [
        pa.field("sequence_id", pa.int64(), nullable=False),
        pa.field("log_prob", pa.float64(), nullable=False),
        pa.field("num_tokens", pa.int32(), nullable=False),
        pa.field("num_bytes", pa.int64(), nullable=False),
    ]
)
TOKENS_COLUMN = "token_log_probs"
TOKENS_FIELD = pa.field(TOKENS_COLUMN, pa.large_list(pa.float16()), nullable=False)

STATES_COLUMN = "mean_states"
STATES_FIELD = pa.field(STATES_COLUMN, pa.large_list(pa.float16()), nullable=False)
SEGMENT_FIELDS = [
    pa.field("segment_log_probs", pa.large_list(pa.float64()), nullable=False),
    pa.field("segment_num_tokens", pa.large_list(pa.int64()), nullable=False),
    pa.field("segment_num_bytes", pa.large_list(pa.int64()), nullable=False),
]
"""A list for every row, with a number for each piece of a document in it."""
SEGMENT_COLUMNS = [field.name for field in SEGMENT_FIELDS]
PREDICTED_COLUMN = "predicted"
PREDICTED_FIELD = pa.field(PREDICTED_COLUMN, pa.bool_(), nullable=False)
RUN_TOKENIZER = "run"
"""What a table names as its tokenizer where that is the one the shards are made with."""
PER_BYTE = "per_byte"
RoleT = TypeVar("RoleT", bound=str)


@dataclass(frozen=True)
class ScoreInfo:
    """Where the scores come from; part of the file.

    Args:
        model: Hub name, folder or stage that gave the model.
        model_fingerprint: Fingerprint of its weights' origin.
        dtype: Dtype the model ran in.
        shard_hash: Hash of the token shard that was scored.
        per_token: Whether the log-probability of every token is there too.
        states: Whether the averaged hidden states are there too.
        tokenizer: `run`, or the hash of the model's own, whose tokens are then counted.
        normalization: The only one that is allowed when tables are compared; None: any.
        proxy: What predicted the scores of most rows, and how well; None where all are the model's.
        segments: Whether the sums of each piece of a document in a row are there too.
    """

    model: str
    model_fingerprint: str
    dtype: str
    shard_hash: str
    per_token: bool = False
    states: bool = False
    tokenizer: str = RUN_TOKENIZER
    normalization: str | None = None
    proxy: Mapping[str, Any] | None = None
    segments: bool = False

    @property
    def counts_run_tokens(self) -> bool:
        """Whether `num_tokens` is of the run's tokens in every row.

        Where the other model of a proxy has a tokenizer of its own, predicted rows have its counts.
        """
        return self.tokenizer == RUN_TOKENIZER and self.normalization is None

    @property
    def schema(self) -> pa.Schema:
        """Of a table before its mean is added."""
        optional = [
            (self.per_token, TOKENS_FIELD),
            (self.states, STATES_FIELD),
            (self.proxy is not None, PREDICTED_FIELD),
            *((self.segments, field) for field in SEGMENT_FIELDS),
        ]
        return pa.schema([*SCORE_SCHEMA, *(field for there, field in optional if there)])


def write_scores(path: Path, table: pa.Table, info: ScoreInfo, counted: object = None) -> None:
    """Write a score table atomically; adds `mean_log_prob`.

    Args:
        path: Of the file.
        table: Of `info.schema`.
        info: Where it comes from.
        counted: What was counted while it was made, a JSON value.
    """
    table = table.cast(info.schema)
    num_tokens = table["num_tokens"].to_numpy()
    divisor = np.where(num_tokens > 0, num_tokens, np.nan)
    mean = pa.array(table["log_prob"].to_numpy() / divisor)
    write_parquet(path, table.append_column(MEAN_COLUMN, mean), asdict(info), origin=counted)


def read_score_info(path: Path) -> ScoreInfo:
    """The origin of a score table.

    Raises:
        ArtefactError: It is missing, damaged, or no score table.
    """
    return score_info(ColumnFile(path))


def is_scored(path: Path, info: ScoreInfo) -> bool:
    """Whether the table is there and was made from exactly this."""
    try:
        return path.exists() and read_score_info(path) == info
    except ArtefactError:
        return False


def check_comparable(files: Mapping[RoleT, ColumnFile], normalization: str) -> None:
    """Refuse to compare tables per token, or as sums, whose tokens are not the same.

    Args:
        files: Score tables of one shard, by role.
        normalization: What log-probabilities are to be divided by.

    Raises:
        ArtefactError: It is not the one that a table allows.
    """
    for role, file in files.items():
        allowed = score_info(file).normalization
        if allowed not in (None, normalization):
            raise ArtefactError(
                f"{file.path}: the {role} scored tokens of its own tokenizer, which are not those "
                f"of the other model, so normalization {normalization!r} would compare unlike "
                f"units. Set normalization: {allowed}."
            )


def open_scores(path: Path, shard_hash: str) -> ColumnFile:
    """The score table of a shard, opened; its columns are read when asked for.

    Raises:
        ArtefactError: It is missing or damaged, or belongs to another shard.
    """
    file = ColumnFile(path)
    info = score_info(file)
    if info.shard_hash != shard_hash:
        raise ArtefactError(
            f"{path}: holds scores of another token shard (hash {info.shard_hash[:12]}, expected "
            f"{shard_hash[:12]}). Score these shards again."
        )
    return file


def read_scores(path: Path, shard_hash: str) -> pa.Table:
    """The whole score table of a shard. Raises what `open_scores` raises."""
    return open_scores(path, shard_hash).table()


def score_info(file: ColumnFile) -> ScoreInfo:
    """The origin of an opened score table.

    Raises:
        ArtefactError: It is no score table.
    """
    try:
        return ScoreInfo(**file.metadata)
    except TypeError as error:
        raise ArtefactError(
            f"{file.path}: is not a score table. {how_to_remake(file.path)}"
        ) from error


def states_column(states_RD: NDArray[np.floating]) -> pa.LargeListArray:
    """Rows of numbers as a column of lists of halves."""
    ends = np.arange(len(states_RD) + 1, dtype=np.int64) * states_RD.shape[1]
    return pa.LargeListArray.from_arrays(
        pa.array(ends), pa.array(states_RD.astype(np.float16).ravel())
    )


def states_of(table: pa.Table) -> NDArray[np.float32]:
    """The averaged hidden states of a table's rows, `[R, D]`; no row gives `[0, 0]`."""
    if table.num_rows == 0:
        return np.empty((0, 0), np.float32)
    column = table[STATES_COLUMN].combine_chunks()
    values = column.flatten().to_numpy(zero_copy_only=False)
    states_RD: NDArray[np.float32] = values.reshape(table.num_rows, -1).astype(np.float32)
    return states_RD
