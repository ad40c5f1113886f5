"""The Parquet file of a task's items: what a model says of each.

Items of two models are joined by task and item, the item's place among the rows; the hash of what
it says tells whether both were asked the same.
"""

import json
from collections.abc import Sequence
from pathlib import Path

import polars as pl
import pyarrow as pa
import pyarrow.parquet as pq

from miniplm.data.parquet import ColumnFile
from miniplm.evaluation.config import TaskName
from miniplm.manifest import atomic_path

ITEMS_FOLDER = "items"
ITEM_SCHEMA = pa.schema(
    [
        pa.field("task", pa.string()),
        pa.field("item", pa.int64()),
        pa.field("item_hash", pa.string()),
        pa.field("gold", pa.int64()),
        pa.field("log_probs", pa.list_(pa.float64())),
        pa.field("is_greedy", pa.list_(pa.bool_())),
        pa.field("num_chars", pa.list_(pa.int64())),
        pa.field("num_bytes", pa.list_(pa.int64())),
        pa.field("acc", pa.float64()),
        pa.field("acc_norm", pa.float64()),
        pa.field("is_cut", pa.bool_()),
        pa.field("num_tokens", pa.int64()),
        pa.field("num_targets", pa.int64()),
    ]
)
"""Of the choices: log-probabilities in nats and lengths of their text. `acc_norm` is null where the
task has none. `is_cut`: the prompt did not fit. `num_tokens`: positions of all choices.
`num_targets`: tokens of all choices alone."""


def items_path(folder: Path, task: TaskName) -> Path:
    """Of a task's items in the folder of a model's results."""
    return folder / ITEMS_FOLDER / f"{task}.parquet"


def keep_items(folder: Path, tasks: Sequence[TaskName]) -> None:
    """Remove the items of other tasks than these."""
    kept = {items_path(folder, task) for task in tasks}
    for path in (folder / ITEMS_FOLDER).glob("*.parquet"):
        if path not in kept:
            path.unlink()


def write_items(path: Path, items: pa.Table, origin: object) -> None:
    """Write the items of a task atomically, with what they were made from."""
    path.parent.mkdir(parents=True, exist_ok=True)
    note = {b"miniplm": json.dumps(origin, sort_keys=True).encode()}
    with atomic_path(path) as temporary:
        pq.write_table(items.replace_schema_metadata(note), temporary, compression="zstd")


def read_items(path: Path) -> pl.DataFrame:
    """The items of a task; columns are those of `ITEM_SCHEMA`.

    Raises:
        ArtefactError: The file is missing, damaged or not ours.
    """
    frame = pl.from_arrow(ColumnFile(path).table())
    assert isinstance(frame, pl.DataFrame)
    return frame
