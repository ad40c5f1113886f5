"""Selections: one Parquet file per token shard, with the rows to keep in the shard's order.

Columns: sequence_id; `difference_score`, nats per unit of the normalisation; where rows are drawn
with replacement, `repeats`, how often a row comes in an epoch; where the share kept narrows in
training, `until`, the share of training at which a row stops to take part. Scores are ranked in
double precision and stored in single, which is finer than the models that gave them.
"""

import hashlib
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
from numpy.typing import NDArray

from miniplm.data.parquet import write_parquet
from miniplm.data.shards import open_table_of

SELECTION_SCHEMA = pa.schema(
    [
        pa.field("sequence_id", pa.int64(), nullable=False),
        pa.field("difference_score", pa.float32(), nullable=False),
    ]
)
REPEATS_FIELD = pa.field("repeats", pa.int32(), nullable=False)
UNTIL_FIELD = pa.field("until", pa.float32(), nullable=False)
EXTRA_FIELDS = (REPEATS_FIELD, UNTIL_FIELD)
"""Columns that only some selections have; a refined corpus keeps them in its sidecar."""


@dataclass(frozen=True)
class Selected:
    """The kept rows of a shard.

    Args:
        sequence_ids: `[rows]` int64, in the shard's order.
        scores: Difference scores, `[rows]` float32.
        extra: Those of `EXTRA_FIELDS` that the selection has, by name.
        digest: SHA-256 of the file they come from, hexadecimal.
    """

    sequence_ids: NDArray[np.int64]
    scores: NDArray[np.float32]
    extra: Mapping[str, NDArray[Any]]
    digest: str


def write_selection(
    path: Path,
    sequence_ids: NDArray[np.int64],
    scores: NDArray[np.float32],
    extra: Mapping[str, NDArray[Any]],
    origin: dict[str, Any],
) -> None:
    """Write the selection of one shard atomically.

    Args:
        path: Of the file.
        sequence_ids: Of the kept rows.
        scores: Their difference scores.
        extra: Columns of `EXTRA_FIELDS`, by name.
        origin: What it follows from; `shard_hash` names the token shard.
    """
    columns = [pa.array(column) for column in (sequence_ids, scores)]
    table = pa.Table.from_arrays(columns, schema=SELECTION_SCHEMA)
    for field in EXTRA_FIELDS:
        if field.name in extra:
            table = table.append_column(field, pa.array(extra[field.name], field.type))
    write_parquet(path, table, origin, repetitive=list(extra))


def read_selection(path: Path, shard_hash: str) -> Selected:
    """The kept rows of a shard.

    Raises:
        ArtefactError: The file is missing or damaged, or belongs to another shard.
    """
    file = open_table_of(path, shard_hash, "selects from", "Select from these shards again.")
    with path.open("rb") as content:
        digest = hashlib.file_digest(content, "sha256").hexdigest()
    names = [field.name for field in EXTRA_FIELDS if field.name in file.names]
    extra = {name: file.array(name) for name in names}
    return Selected(file.sequence_ids(), file.array("difference_score"), extra, digest)
