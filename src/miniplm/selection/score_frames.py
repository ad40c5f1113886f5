"""A run's scores as lazy Polars frames: both models' tables, the sidecars and a selection, by id.

Nothing is read before a query is collected, and then shard by shard: with the streaming engine a
query's memory does not grow with the number of rows, unless its result does.

`scores` has a row for each candidate:
sequence_id; shard (`data_0`); domain; num_tokens and num_bytes of the row; `teacher` and
`reference`, the losses in nats per unit of the normalisation; `difference_score`, the reference's
loss less the teacher's; and, where there is a selection, `kept`. A score that is not there yet is
null. `kept` has the columns of the selection: sequence_id, difference_score and weight.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

import polars as pl

from miniplm.data.parquet import ID_COLUMN, ColumnFile
from miniplm.data.shards import shard_info, shard_prefixes
from miniplm.errors import ArtefactError, ConfigError, StageNotReadyError
from miniplm.manifest import Manifest, read_manifest
from miniplm.scoring.tables import MEAN_COLUMN, open_scores
from miniplm.selection.difference import Normalization
from miniplm.selection.scores import ROLES, Role


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
    run = ScoredRun(
        run_dir / "tokenize" / "candidates", {role: run_dir / "score" / role for role in ROLES}
    )
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


def _complete_selections(run_dir: Path) -> list[str]:
    return sorted(path.parent.name for path in run_dir.glob("select/*/manifest.json"))


def frames(run: ScoredRun) -> dict[str, pl.LazyFrame]:
    """The frames by name: `scores`, and `kept` where there is a selection.

    Raises:
        ArtefactError: A file is damaged, or belongs to other shards.
    """
    prefixes = shard_prefixes(run.shards_folder)
    tables = {"scores": pl.concat([_scores(run, prefix) for prefix in prefixes])}
    if run.selection_folder is not None:
        tables["kept"] = pl.concat([_kept(run, prefix) for prefix in prefixes])
    return tables


def _scores(run: ScoredRun, prefix: Path) -> pl.LazyFrame:
    """The candidates of one shard."""
    sidecar = ColumnFile(prefix.with_suffix(".parquet"))
    shard_hash = shard_info(sidecar).shard_hash
    rows = pl.scan_parquet(sidecar.path).select(
        ID_COLUMN, pl.col("domain").cast(pl.String).fill_null(""), "num_tokens", "num_bytes"
    )
    paths = {role: folder / f"{prefix.name}.parquet" for role, folder in run.score_folders.items()}
    there = {role: path for role, path in paths.items() if path.exists()}
    opened = [open_scores(path, shard_hash) for path in there.values()]
    loss = _loss(run.normalization).fill_nan(None)
    losses = {
        role: pl.scan_parquet(path).select(ID_COLUMN, loss.alias(role))
        for role, path in there.items()
    }
    rows = _beside(rows, losses, aligned=_aligned([sidecar, *opened])).with_columns(
        pl.lit(None, pl.Float64).alias(role) for role in paths if role not in there
    )
    rows = rows.with_columns(
        (pl.col("reference") - pl.col("teacher")).alias("difference_score"),
        pl.lit(prefix.name).alias("shard"),
    )
    columns = [ID_COLUMN, "shard", "domain", "num_tokens", "num_bytes", *ROLES, "difference_score"]
    if run.selection_folder is None:
        return rows.select(columns)
    kept = _kept(run, prefix).select(ID_COLUMN, pl.lit(value=True).alias("kept"))
    return rows.join(kept, on=ID_COLUMN, how="left").select(
        *columns, pl.col("kept").fill_null(value=False)
    )


def _aligned(files: Sequence[ColumnFile]) -> bool:
    """Whether all files say that they hold the same ids in the same order."""
    ranges = files[0].id_ranges()
    return ranges is not None and all(file.id_ranges() == ranges for file in files)


def _beside(
    rows: pl.LazyFrame, losses: Mapping[Role, pl.LazyFrame], *, aligned: bool
) -> pl.LazyFrame:
    """Rows with their losses; where all files hold the same ids in order, nothing is joined."""
    if aligned:
        columns = [loss.drop(ID_COLUMN) for loss in losses.values()]
        return pl.concat([rows, *columns], how="horizontal")
    for loss in losses.values():
        rows = rows.join(loss, on=ID_COLUMN, how="left")
    return rows


def _loss(normalization: Normalization) -> pl.Expr:
    if normalization == "per_token":
        return -pl.col(MEAN_COLUMN)
    if normalization == "per_byte":
        return pl.when(pl.col("num_bytes") > 0).then(-pl.col("log_prob") / pl.col("num_bytes"))
    return pl.when(pl.col("num_tokens") > 0).then(-pl.col("log_prob"))


def _kept(run: ScoredRun, prefix: Path) -> pl.LazyFrame:
    """The selection of one shard."""
    assert run.selection_folder is not None
    file = ColumnFile(run.selection_folder / f"{prefix.name}.parquet")
    expected = shard_info(ColumnFile(prefix.with_suffix(".parquet"))).shard_hash
    if file.metadata.get("shard_hash") != expected:
        raise ArtefactError(
            f"{file.path}: selects from another token shard. Select from these shards again."
        )
    return pl.scan_parquet(file.path).select(ID_COLUMN, "difference_score", "weight")
