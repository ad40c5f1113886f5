"""A few rows from all over the candidates, for the report: their ids and both models' scores."""

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Self

import numpy as np
import pyarrow as pa
from numpy.typing import NDArray

from miniplm.data.chance import GOLDEN_RATIO_64
from miniplm.data.parquet import ColumnFile, write_parquet
from miniplm.runtime.buffers import Buffers
from miniplm.selection.scores import Block

SAMPLE_NAME = "sample.parquet"
SAMPLE_ROWS = 1 << 16
_BUFFERS = Buffers()


def in_sample(sequence_ids: NDArray[np.int64], num_rows: int) -> NDArray[np.int64]:
    """Places of those rows that belong to the sample; all of them up to `SAMPLE_ROWS`.

    It follows from the id alone (Fibonacci hashing, which spreads neighbouring ids evenly).

    Args:
        sequence_ids: Of some rows.
        num_rows: Rows there are in all.
    """
    if num_rows <= SAMPLE_ROWS:
        return np.arange(len(sequence_ids))
    limit = np.uint64((SAMPLE_ROWS << 64) // num_rows)
    hashed = _BUFFERS.get("hashed", len(sequence_ids), np.uint64)
    np.multiply(sequence_ids.view(np.uint64), GOLDEN_RATIO_64, out=hashed)
    return np.flatnonzero(hashed < limit)


@dataclass(frozen=True)
class SampledRows:
    """Rows of one shard that belong to the sample, with normalised log-probabilities."""

    shard: str
    sequence_ids: NDArray[np.int64]
    teacher: NDArray[np.float64]
    reference: NDArray[np.float64]

    @classmethod
    def of(cls, block: Block, shard: str, num_rows: int) -> Self:
        """Those of a block."""
        places = in_sample(block.sequence_ids, num_rows)
        return cls(
            shard, block.sequence_ids[places], block.teacher[places], block.reference[places]
        )


def write_sample(folder: Path, rows: Sequence[SampledRows]) -> None:
    """Write `folder/sample.parquet`, in the order of ids."""
    table = pa.table(
        {
            "sequence_id": np.concatenate([part.sequence_ids for part in rows]),
            "shard": np.repeat(
                [part.shard for part in rows], [len(part.sequence_ids) for part in rows]
            ),
            "teacher": np.concatenate([part.teacher for part in rows]),
            "reference": np.concatenate([part.reference for part in rows]),
        }
    )
    write_parquet(folder / SAMPLE_NAME, table.sort_by("sequence_id"), {"rows": table.num_rows})


def read_sample(folder: Path) -> pa.Table:
    """Columns sequence_id, shard (`data_0`), teacher and reference (normalised log-probabilities).

    Raises:
        ArtefactError: It is missing or damaged.
    """
    return ColumnFile(folder / SAMPLE_NAME).table()
