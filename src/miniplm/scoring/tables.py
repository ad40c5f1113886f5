"""Score tables: one Parquet file per token shard and model, joined by sequence id.

Columns: sequence_id; `log_prob`, the sum of the natural log-probabilities of the row's targets;
`num_tokens` and `num_bytes`, the targets counted in it and the bytes of text they stand for
(positions behind an end-of-text id are left out, so these are fewer than the row holds).
"""

from dataclasses import asdict, dataclass
from pathlib import Path

import pyarrow as pa
import pyarrow.parquet as pq

from miniplm.data.shards import read_parquet_metadata, write_parquet
from miniplm.errors import ArtefactError

SCORE_SCHEMA = pa.schema(
    [
        ("sequence_id", pa.int64()),
        ("log_prob", pa.float64()),
        ("num_tokens", pa.int32()),
        ("num_bytes", pa.int64()),
    ]
)


@dataclass(frozen=True)
class ScoreInfo:
    """Where the scores come from; part of the file.

    Args:
        model: Hub name, folder or stage that gave the model.
        model_fingerprint: Fingerprint of its weights' origin.
        dtype: Dtype the model ran in.
        shard_hash: Hash of the token shard that was scored.
    """

    model: str
    model_fingerprint: str
    dtype: str
    shard_hash: str


def write_scores(path: Path, table: pa.Table, info: ScoreInfo) -> None:
    """Write a score table atomically."""
    write_parquet(path, table.cast(SCORE_SCHEMA), asdict(info))


def read_score_info(path: Path) -> ScoreInfo:
    """The origin of a score table.

    Raises:
        ArtefactError: It is missing, damaged, or no score table.
    """
    try:
        return ScoreInfo(**read_parquet_metadata(path))  # type: ignore[arg-type]
    except TypeError as error:
        raise ArtefactError(f"{path}: is not a score table") from error


def is_scored(path: Path, info: ScoreInfo) -> bool:
    """Whether the table is there and was made from exactly this."""
    try:
        return path.exists() and read_score_info(path) == info
    except ArtefactError:
        return False


def read_scores(path: Path, shard_hash: str) -> pa.Table:
    """The score table of a shard.

    Raises:
        ArtefactError: It is missing or damaged, or belongs to another shard.
    """
    info = read_score_info(path)
    if info.shard_hash != shard_hash:
        raise ArtefactError(
            f"{path}: holds scores of another token shard (hash {info.shard_hash[:12]}, expected "
            f"{shard_hash[:12]}). Score these shards again."
        )
    return pq.read_table(path)
