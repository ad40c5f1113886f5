"""A run's scores as lazy Polars frames: both models' tables, the sidecars and a selection, by id.

Nothing but heads of files is read before a query is collected, and then one shard at a time: with
the streaming engine a query's memory does not grow with the number of shards, unless its result
or what it sorts does.

`scores` has a row for each candidate:
sequence_id; shard (`data_0`); domain; num_tokens and num_bytes of the row; `teacher` and
`reference`, the losses in nats per unit of the normalisation; `difference_score`, the reference's
loss less the teacher's; and, where there is a selection, `kept`. A score that is not there yet is
null. `kept` has the columns of the selection: sequence_id, difference_score, and any others.
"""

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Self

import polars as pl
from polars.io.plugins import register_io_source

from miniplm.data.parquet import ID_COLUMN, ColumnFile
from miniplm.data.shards import shard_info, shard_prefixes
from miniplm.errors import ArtefactError, ConfigError, StageNotReadyError
from miniplm.manifest import Manifest, read_manifest
from miniplm.scoring.tables import MEAN_COLUMN, open_scores, score_info
from miniplm.selection.difference import Normalization
from miniplm.selection.scores import ROLES, Role

_COLUMNS = (
    ID_COLUMN, "shard", "domain", "num_tokens", "num_bytes", *ROLES, "difference_score",
)  # fmt: skip


@dataclass(frozen=True)
class ScoredRun:
    """Where a run's scores are.

    Args:
        shards_folder: The candidates' token shards.
        score_folders: The score tables of each role.
        selection: Name of the selection that is looked at, if there is one.
        selection_folder: Its folder.
        manifest: Of the selection.
    """

    shards_folder: Path
    score_folders: Mapping[Role, Path]
    selection: str | None = None
    selection_folder: Path | None = None
    manifest: Manifest | None = None

    @property
    def normalization(self) -> Normalization:
        """That of the selection, or the default."""
        config = self.manifest.config if self.manifest else {}
        found: Normalization = config.get("normalization", "per_token")
        return found


def find_scored_run(run_dir: Path, selection: str | None = None) -> ScoredRun:
    """What there is to see in a run's folder.

    Args:
        run_dir: The folder.
        selection: Name of a selection; by default the first that is complete.

    Raises:
        StageNotReadyError: There are no scores yet.
        ConfigError: There is no such selection.
    """
    run = ScoredRun(_scored_shards(run_dir), {role: run_dir / "score" / role for role in ROLES})
    if not any(run_dir.glob("score/*/data_*.parquet")):
        raise StageNotReadyError(
            f"{run_dir}: holds no scores; expected tables in {run_dir / 'score'}. Run "
            "`miniplm score RECIPE` first, or name the folder of another run."
        )
    names = _complete_selections(run_dir)
    if selection is not None and selection not in names:
        there = f"complete are {', '.join(names)}" if names else "none is complete"
        raise ConfigError("--selection", [f"there is no {selection!r} in {run_dir}; {there}"])
    if not names:
        return run
    name = selection or names[0]
    folder = run_dir / "select" / name
    return ScoredRun(run.shards_folder, run.score_folders, name, folder, read_manifest(folder))


def _scored_shards(run_dir: Path) -> Path:
    """The candidates' token shards: those that near-duplicates were left out of, if they were."""
    folders = [run_dir / "distinct" / "shards", run_dir / "tokenize" / "candidates"]
    scored = {
        score_info(ColumnFile(path)).shard_hash for path in run_dir.glob("score/*/data_0.parquet")
    }
    for folder in folders[:-1]:
        sidecar = folder / "data_0.parquet"
        if sidecar.exists() and shard_info(ColumnFile(sidecar)).shard_hash in scored:
            return folder
    return folders[-1]


def _complete_selections(run_dir: Path) -> list[str]:
    return sorted(path.parent.name for path in run_dir.glob("select/*/manifest.json"))


def frames(run: ScoredRun) -> dict[str, pl.LazyFrame]:
    """The frames by name: `scores`, and `kept` where there is a selection.

    Raises:
        ArtefactError: A file is damaged, or belongs to other shards.
    """
    shards = [_Shard.of(run, prefix) for prefix in shard_prefixes(run.shards_folder)]
    tables = {"scores": _one_by_one([shard.scores(run.normalization) for shard in shards])}
    if run.selection_folder is not None:
        paths = [shard.selection for shard in shards if shard.selection is not None]
        tables["kept"] = pl.scan_parquet(paths)
    return tables


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
    """

    sidecar: Path
    tables: Mapping[Role, Path]
    aligned: bool
    selection: Path | None

    @classmethod
    def of(cls, run: ScoredRun, prefix: Path) -> Self:
        """Raises ArtefactError where a file is damaged, or belongs to another shard."""
        sidecar, name = ColumnFile(prefix.with_suffix(".parquet")), f"{prefix.name}.parquet"
        shard_hash = shard_info(sidecar).shard_hash
        paths = {role: folder / name for role, folder in run.score_folders.items()}
        tables = {role: path for role, path in paths.items() if path.exists()}
        opened = [open_scores(path, shard_hash) for path in tables.values()]
        ranges = sidecar.id_ranges()
        aligned = ranges is not None and all(file.id_ranges() == ranges for file in opened)
        selection = None if run.selection_folder is None else run.selection_folder / name
        if selection is not None and ColumnFile(selection).metadata["shard_hash"] != shard_hash:
            raise ArtefactError(
                f"{selection}: selects from another token shard. Select from these shards again."
            )
        return cls(sidecar.path, tables, aligned, selection)

    def scores(self, normalization: Normalization) -> pl.LazyFrame:
        """The candidates of the shard."""
        rows = self._with_losses(_loss(normalization).fill_nan(None)).with_columns(
            pl.lit(None, pl.Float64).alias(role) for role in ROLES if role not in self.tables
        )
        rows = rows.with_columns(
            (pl.col("reference") - pl.col("teacher")).alias("difference_score"),
            pl.lit(self.sidecar.stem).alias("shard"),
        ).select(_COLUMNS)
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
            pl.scan_parquet(path).select(ID_COLUMN, loss.alias(role))
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
