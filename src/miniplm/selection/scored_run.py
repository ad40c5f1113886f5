"""Where a run's scores are, and which selection is made from them."""

from collections.abc import Mapping
from dataclasses import dataclass, replace
from pathlib import Path

from miniplm.data.parquet import ColumnFile
from miniplm.data.shards import shard_info, shard_prefixes
from miniplm.errors import ArtefactError, ConfigError, StageNotReadyError
from miniplm.manifest import Manifest, read_manifest
from miniplm.scoring.tables import PER_BYTE, score_info
from miniplm.selection.difference import Normalization
from miniplm.selection.scores import ROLES, Role


@dataclass(frozen=True)
class ScoredRun:
    """Where a run's scores are.

    Args:
        shards_folder: The candidates' token shards.
        score_folders: The score tables of each role that has some of these shards.
        normalization: That of the selection; without one, what the tables allow.
        selection: Name of the selection that is looked at, if there is one.
        selection_folder: Its folder.
        manifest: Of the selection.
        left_out: What there is beside, made from other shards or scores, in words.
    """

    shards_folder: Path
    score_folders: Mapping[Role, Path]
    normalization: Normalization = "per_token"
    selection: str | None = None
    selection_folder: Path | None = None
    manifest: Manifest | None = None
    left_out: tuple[str, ...] = ()


def find_scored_run(run_dir: Path, selection: str | None = None) -> ScoredRun:
    """What there is to see in a run's folder.

    While a run that was changed scores its new shards, older scores and selections may still be
    there; they are left out.

    Args:
        run_dir: The folder.
        selection: Name of a selection; by default the first that is complete and of these scores.

    Raises:
        StageNotReadyError: There are no scores yet.
        ConfigError: There is no such selection.
        ArtefactError: The selection that is asked for is of other shards or scores, or a file is
            damaged.
    """
    run = _scores(run_dir)
    names = sorted(path.parent.name for path in run_dir.glob("select/*/manifest.json"))
    if selection is not None and selection not in names:
        there = f"complete are {', '.join(names)}" if names else "none is complete"
        raise ConfigError("--selection", [f"there is no {selection!r} in {run_dir}; {there}"])
    for name in names if selection is None else [selection]:
        folder = run_dir / "select" / name
        if _selects_from(run, folder):
            return _with_selection(run, name, folder)
        if selection is not None:
            raise ArtefactError(
                f"{folder}: selects from other token shards or scores than those of "
                f"{run_dir / 'score'}. Select from these again, or leave out --selection."
            )
        run = replace(run, left_out=(*run.left_out, f"selection {name!r}"))
    return run


def _scores(run_dir: Path) -> ScoredRun:
    """The run without its selections."""
    folders = {role: run_dir / "score" / role for role in ROLES}
    tables: dict[Role, Path] = {
        role: min(folder.glob("data_*.parquet"))
        for role, folder in folders.items()
        if any(folder.glob("data_*.parquet"))
    }
    if not tables:
        raise StageNotReadyError(
            f"{run_dir}: holds no scores; expected tables in {run_dir / 'score'}. Run "
            "`miniplm score RECIPE` first, or name the folder of another run."
        )
    shards_folder = _scored_shards(run_dir, tables)
    of_these = {role: path for role, path in tables.items() if _is_of(path, shards_folder)}
    of_these = of_these or tables  # all are of other shards, which is told where they are opened
    allowed = {score_info(ColumnFile(path)).normalization for path in of_these.values()}
    return ScoredRun(
        shards_folder,
        {role: path.parent for role, path in of_these.items()},
        "per_byte" if PER_BYTE in allowed else "per_token",
        left_out=tuple(f"the {role}'s scores" for role in tables if role not in of_these),
    )


def _scored_shards(run_dir: Path, tables: Mapping[Role, Path]) -> Path:
    """The candidates' token shards: those that near-duplicates were left out of, if they were."""
    without, whole = run_dir / "distinct" / "shards", run_dir / "tokenize" / "candidates"
    return without if any(_is_of(path, without) for path in tables.values()) else whole


def _is_of(table: Path, shards_folder: Path) -> bool:
    """Whether a score table is of the shard of its name in a folder."""
    sidecar = shards_folder / table.name
    if not sidecar.exists():
        return False
    return shard_info(ColumnFile(sidecar)).shard_hash == score_info(ColumnFile(table)).shard_hash


def _selects_from(run: ScoredRun, folder: Path) -> bool:
    """Whether a selection is of these shards and of the scores that are there."""
    for prefix in shard_prefixes(run.shards_folder):
        name = f"{prefix.name}.parquet"
        selected = ColumnFile(folder / name).metadata
        sidecar = ColumnFile(prefix.with_suffix(".parquet"))
        if selected["shard_hash"] != shard_info(sidecar).shard_hash:
            return False
        for role, scores in run.score_folders.items():
            table = scores / name
            if table.exists() and ColumnFile(table).metadata != selected["scores"][role]:
                return False
    return True


def _with_selection(run: ScoredRun, name: str, folder: Path) -> ScoredRun:
    manifest = read_manifest(folder)
    config = manifest.config if manifest else {}
    return replace(
        run,
        normalization=config.get("normalization", "per_token"),
        selection=name,
        selection_folder=folder,
        manifest=manifest,
    )
