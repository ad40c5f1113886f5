"""What a run's candidates are ranked by, under each calibration and for comparison.

Axes: R rows.
"""

from dataclasses import dataclass
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from benchmarks.calibration_figures import Scores
from miniplm.selection.calibration import Calibration, Rows, fit_calibration
from miniplm.selection.sample import in_sample
from miniplm.selection.scores import Block, scored_shards

CALIBRATIONS: tuple[Calibration, ...] = ("none", "residual", "zscore")
_SLOPES = (0.0, 0.5, 1.0, 2.0, 3.0)


@dataclass(frozen=True)
class Table:
    """The scored candidates of a run, in the order of their ids.

    Args:
        sequence_ids: `[R]`.
        rows: With domains and numbers of tokens; every row has a score.
    """

    sequence_ids: NDArray[np.int64]
    rows: Rows


def read_table(run_dir: Path) -> Table:
    """Candidates with both models' scores per token; rows without one are left out.

    Raises:
        ArtefactError: Tables are missing, damaged, or of other shards.
    """
    folders = (run_dir / "score" / role for role in ("teacher", "reference"))
    shards = scored_shards(run_dir / "tokenize/candidates", *folders, "per_token")
    parts = [_copied(block) for shard in shards for block in shard.open().blocks(described=True)]
    ids = np.concatenate([ids for ids, _ in parts])
    rows = Rows.joined([rows for _, rows in parts])
    order = np.argsort(ids)
    order = order[np.isfinite(rows.teacher - rows.reference)[order]]
    return Table(ids[order], rows.take(order))


def _copied(block: Block) -> tuple[NDArray[np.int64], Rows]:
    """Ids and rows of a block; its own arrays last until the next is read."""
    rows = Rows(
        block.teacher.copy(),
        block.reference.copy(),
        block.num_tokens.copy(),
        tuple(block.domains),
        block.domain_numbers.copy(),
    )
    return block.sequence_ids.copy(), rows


def calibrated_rankings(table: Table) -> dict[str, Scores]:
    """What rows are ranked by under each calibration, `[R]`, fitted as the select stage does."""
    rows = table.rows
    sample = rows.take(in_sample(table.sequence_ids, len(table.sequence_ids)))
    rankings: dict[str, Scores] = {}
    for kind in CALIBRATIONS:
        fitted = fit_calibration(kind, sample)
        rankings[kind] = rows.teacher - rows.reference if fitted is None else fitted.scores(rows)
    return rankings


def sloped_rankings(rows: Rows) -> dict[str, Scores]:
    """Rankings by slope * reference's loss - teacher's loss, `[R]`, from the teacher alone on.

    `residual` is one of them and so is the plain difference, at 1. The slope at which both terms
    vary alike, the ratio of the losses' deviations, is among them.
    """
    alike = float(rows.teacher.std() / rows.reference.std())
    named = {f"slope {slope:g}": slope for slope in _SLOPES}
    named[f"slope {alike:.2f}, equal deviations"] = alike
    ordered = sorted(named.items(), key=lambda item: item[1])
    rankings = {name: rows.teacher - slope * rows.reference for name, slope in ordered}
    return rankings | {"reference alone": -rows.reference}
