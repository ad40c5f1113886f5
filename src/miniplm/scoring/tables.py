"""Score tables: one Parquet file per token shard and model, joined by sequence id.

Columns: sequence_id; `log_prob`, the sum of the natural log-probabilities of the row's targets;
`num_tokens` and `num_bytes`, the targets counted in it and the bytes of text they stand for
(positions behind an end-of-text id are left out, so these are fewer than the row holds); and
`mean_log_prob`, log_prob / num_tokens or NaN, kept because it is all that selection ordinarily
reads. On request also `token_log_probs`: the log-probability of every predicted token of the row,
0 where it has no target.
"""

from dataclasses import asdict, dataclass
from pathlib import Path

import numpy as np
import pyarrow as pa

from miniplm.data.parquet import ColumnFile, write_parquet
from miniplm.errors import ArtefactError

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


@dataclass(frozen=True)
class ScoreInfo:
    """Where the scores come from; part of the file.

    Args:
        model: Hub name, folder or stage that gave the model.
        model_fingerprint: Fingerprint of its weights' origin.
        dtype: Dtype the model ran in.
        shard_hash: Hash of the token shard that was scored.
        per_token: Whether the log-probability of every token is there too.
    """

    model: str
    model_fingerprint: str
    dtype: str
    shard_hash: str
    per_token: bool = False


def write_scores(path: Path, table: pa.Table, info: ScoreInfo) -> None:
    """Write a score table atomically; adds `mean_log_prob`.

    Args:
        path: Of the file.
        table: Of `SCORE_SCHEMA`, and with `token_log_probs` if `info` says so.
        info: Where it comes from.
    """
    schema = SCORE_SCHEMA.append(TOKENS_FIELD) if info.per_token else SCORE_SCHEMA
    table = table.cast(schema)
    num_tokens = table["num_tokens"].to_numpy()
    divisor = np.where(num_tokens > 0, num_tokens, np.nan)
    mean = pa.array(table["log_prob"].to_numpy() / divisor)
    write_parquet(path, table.append_column(MEAN_COLUMN, mean), asdict(info))


def read_score_info(path: Path) -> ScoreInfo:
    """The origin of a score table.

    Raises:
        ArtefactError: It is missing, damaged, or no score table.
    """
    return _origin(ColumnFile(path))


def is_scored(path: Path, info: ScoreInfo) -> bool:
    """Whether the table is there and was made from exactly this."""
    try:
        return path.exists() and read_score_info(path) == info
    except ArtefactError:
        return False


def open_scores(path: Path, shard_hash: str) -> ColumnFile:
    """The score table of a shard, opened; its columns are read when asked for.

    Raises:
        ArtefactError: It is missing or damaged, or belongs to another shard.
    """
    file = ColumnFile(path)
    info = _origin(file)
    if info.shard_hash != shard_hash:
        raise ArtefactError(
            f"{path}: holds scores of another token shard (hash {info.shard_hash[:12]}, expected "
            f"{shard_hash[:12]}). Score these shards again."
        )
    return file


def read_scores(path: Path, shard_hash: str) -> pa.Table:
    """The whole score table of a shard. Raises what `open_scores` raises."""
    return open_scores(path, shard_hash).table()


def _origin(file: ColumnFile) -> ScoreInfo:
    try:
        return ScoreInfo(**file.metadata)
    except TypeError as error:
        raise ArtefactError(f"{file.path}: is not a score table") from error
