"""A run's scores as lazy Polars frames: both models' tables, the sidecars and a selection, by id.

Nothing but heads of files is read before a query is collected, and then one shard at a time: with
the streaming engine a query's memory does not grow with the number of shards, unless its result
or what it sorts does.

`scores` has a row for each candidate:
sequence_id; shard (`data_0`); domain; num_tokens and num_bytes of the row; `teacher` and
`reference`, the losses in nats per unit of the normalisation; `difference_score`, the reference's
loss less the teacher's; with a proxy scorer `predicted`, whether the teacher's loss is; and, where
there is a selection, `kept`. A score that is not there yet is null. `kept` has the columns of the
selection: sequence_id, difference_score, and any others.
"""

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Self

import polars as pl
from polars.io.plugins import register_io_source

from miniplm.data.parquet import ID_COLUMN, ColumnFile
from miniplm.data.shards import shard_info, shard_prefixes
from miniplm.errors import ArtefactError
from miniplm.scoring.tables import MEAN_COLUMN, PREDICTED_COLUMN, check_comparable, open_scores
from miniplm.selection.difference import Normalization
from miniplm.selection.scored_run import ScoredRun
from miniplm.selection.scores import ROLES, Role

_COLUMNS = (
    ID_COLUMN, "shard", "domain", "num_tokens", "num_bytes", *ROLES, "difference_score",
)  # fmt: skip


def frames(run: ScoredRun) -> dict[str, pl.LazyFrame]:
    """The frames by name: `scores`, and `kept` where there is a selection.

    Raises:
        ArtefactError: A file is damaged, or belongs to other shards, or the tables cannot be
            compared by the normalization.
    """
    predicted = any(
        PREDICTED_COLUMN in ColumnFile(path).names
        for path in sorted(run.score_folders["teacher"].glob("data_*.parquet"))[:1]
    )
    prefixes = shard_prefixes(run.shards_folder)
    shards = [_Shard.of(run, prefix, predicted=predicted) for prefix in prefixes]
    tables = {"scores": _one_by_one([shard.scores(run.normalization) for shard in shards])}
    if run.selection_folder is not None:
        paths = [shard.selection for shard in shards if shard.selection is not None]
        tables["kept"] = _kept(run.selection_folder, paths)
    return tables


def _kept(folder: Path, paths: Sequence[Path]) -> pl.LazyFrame:
    """The selections of all shards; those of nothing may lack columns that others have."""
    files = [ColumnFile(path) for path in paths]
    files = [file for file in files if file.num_rows] or files[:1]
    if len({tuple(file.names) for file in files}) > 1:
        raise ArtefactError(f"{folder}: the tables have unlike columns. Select again.")
    return pl.scan_parquet([file.path for file in files])


def _one_by_one(parts: Sequence[pl.LazyFrame]) -> pl.LazyFrame:
    """Frames of one schema as one, of which a single part is in memory at a time.

    `pl.concat` begins all parts at once, and each holds the smaller side of its join.
    """

    def batches(
        columns: list[str] | None,
        predicate: pl.Expr | None,
        num_rows: int | None,
        batch_size: int | None,  # noqa: ARG001  (a hint)
    ) -> Iterator[pl.DataFrame]:
        for part in parts:
            wanted = part if predicate is None else part.filter(predicate)
            wanted = wanted if columns is None else wanted.select(columns)
            batch = wanted.collect() if num_rows is None else wanted.head(num_rows).collect()
            yield batch
            if num_rows is not None:
                num_rows -= len(batch)
                if num_rows == 0:
                    return

    return register_io_source(batches, schema=parts[0].collect_schema())


@dataclass(frozen=True)
class _Shard:
    """Files of a shard that belong together.

    Args:
        sidecar: Of the token shard.
        tables: The score tables that are there.
        aligned: Whether all these say that they hold the same ids in the same order.
        selection: Path of its selection, if there is one.
        predicted: Whether the teacher's tables say which rows are predicted.
    """

    sidecar: Path
    tables: Mapping[Role, Path]
    aligned: bool
    selection: Path | None
    predicted: bool

    @property
    def _lacks_teacher(self) -> bool:
        return "teacher" not in self.tables

    @classmethod
    def of(cls, run: ScoredRun, prefix: Path, *, predicted: bool) -> Self:
        """Raises ArtefactError where a file is damaged, or belongs to another shard."""
        sidecar, name = ColumnFile(prefix.with_suffix(".parquet")), f"{prefix.name}.parquet"
        shard_hash = shard_info(sidecar).shard_hash
        paths = {role: folder / name for role, folder in run.score_folders.items()}
        tables = {role: path for role, path in paths.items() if path.exists()}
        opened = {role: open_scores(path, shard_hash) for role, path in tables.items()}
        check_comparable(opened, run.normalization)
        ranges = sidecar.id_ranges()
        aligned = ranges is not None and all(f.id_ranges() == ranges for f in opened.values())
        selection = None if run.selection_folder is None else run.selection_folder / name
        return cls(sidecar.path, tables, aligned, selection, predicted)

    def scores(self, normalization: Normalization) -> pl.LazyFrame:
        """The candidates of the shard."""
        rows = self._with_losses(_loss(normalization).fill_nan(None)).with_columns(
            pl.lit(None, pl.Float64).alias(role) for role in ROLES if role not in self.tables
        )
        predicted = (PREDICTED_COLUMN,) if self.predicted else ()
        rows = rows.with_columns(
            (pl.col("reference") - pl.col("teacher")).alias("difference_score"),
            pl.lit(self.sidecar.stem).alias("shard"),
            *(pl.lit(None, pl.Boolean).alias(name) for name in predicted if self._lacks_teacher),
        ).select(*_COLUMNS, *predicted)
        if self.selection is None:
            return rows
        kept = pl.scan_parquet(self.selection).select(ID_COLUMN, pl.lit(value=True).alias("kept"))
        rows = rows.join(kept, on=ID_COLUMN, how="left")
        return rows.with_columns(pl.col("kept").fill_null(value=False))

    def _with_losses(self, loss: pl.Expr) -> pl.LazyFrame:
        """Sidecar and losses; where all files hold the same ids in order, nothing is joined."""
        rows = pl.scan_parquet(self.sidecar).select(
            ID_COLUMN, pl.col("domain").cast(pl.String).fill_null(""), "num_tokens", "num_bytes"
        )
        losses = [
            pl.scan_parquet(path).select(
                ID_COLUMN,
                loss.alias(role),
                *([PREDICTED_COLUMN] if self.predicted and role == "teacher" else []),
            )
            for role, path in self.tables.items()
        ]
        if self.aligned:
            columns = [frame.drop(ID_COLUMN) for frame in losses]
            return pl.concat([rows, *columns], how="horizontal")
        for frame in losses:
            rows = rows.join(frame, on=ID_COLUMN, how="left")
        return rows


def _loss(normalization: Normalization) -> pl.Expr:
    if normalization == "per_token":
        return -pl.col(MEAN_COLUMN)
    if normalization == "per_byte":
        return pl.when(pl.col("num_bytes") > 0).then(-pl.col("log_prob") / pl.col("num_bytes"))
    return pl.when(pl.col("num_tokens") > 0).then(-pl.col("log_prob"))
