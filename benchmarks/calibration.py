"""`python -m benchmarks.calibration RUN_DIR`: what calibrations change in a run's ranking.

The run needs the candidates' score tables of teacher and reference, and a student trained on all
candidates, such as `plain`. The student scores a sample of the rows, so that rankings can be
compared with its own difference, log p_teacher - log p_student, and, where
`training.keep_every_steps` kept checkpoints, with what it gained on a row since the first of them.
Nothing is written into the run. Losses and gains are in nats per token.

Axes: R rows, D domains.
"""

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

import click
import numpy as np
from numpy.typing import NDArray

from benchmarks.calibration_figures import (
    Correlation,
    Scores,
    domains_to_show,
    kept_by_domain,
    share_between,
    slopes_by_reference_loss,
)
from benchmarks.student_losses import first_checkpoint, student_losses
from miniplm.scoring.agreement import selection_agreement
from miniplm.selection.calibration import Calibration, Residual, Rows, fit_calibration
from miniplm.selection.sample import in_sample
from miniplm.selection.scores import Block, scored_shards

CALIBRATIONS: tuple[Calibration, ...] = ("none", "residual", "zscore")
_PARTS = 3


@dataclass(frozen=True)
class Table:
    """The scored candidates of a run, in the order of their ids.

    Args:
        sequence_ids: `[R]`.
        rows: With domains and numbers of tokens; every row has a score.
    """

    sequence_ids: NDArray[np.int64]
    rows: Rows


@click.command()
@click.argument("run_dir", type=click.Path(path_type=Path, exists=True, file_okay=False))
@click.option("--student", default="plain", show_default=True, help="Trained on all candidates.")
@click.option("--rows", "num_rows", default=20_000, show_default=True, help="That it scores.")
@click.option("--ratio", default=0.5, show_default=True, help="Share of the rows that is kept.")
@click.option(
    "--changed", default=5, show_default=True, help="Domains shown that change most under each."
)
def main(run_dir: Path, student: str, num_rows: int, ratio: float, changed: int) -> None:
    """Compare the calibrations on the score tables of a finished run."""
    table = read_table(run_dir)
    rows = table.rows
    compared = {"reference's loss": -rows.reference, "teacher's loss": -rows.teacher}
    compared |= _of_the_student(run_dir, student, num_rows, table)
    _say_pair(rows)
    rankings = rankings_of(table)
    _say_rankings(rankings, compared, rows.domain_numbers, ratio)
    _say_domains(rankings, rows, ratio, changed)


def read_table(run_dir: Path) -> Table:
    """Candidates with both models' scores; rows without one are left out.

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


def rankings_of(table: Table) -> dict[str, Scores]:
    """What rows are ranked by under each calibration, and by the baselines, `[R]` each."""
    rows = table.rows
    sample = rows.take(in_sample(table.sequence_ids, len(table.sequence_ids)))
    rankings: dict[str, Scores] = {}
    for kind in CALIBRATIONS:
        fitted = fit_calibration(kind, sample)
        rankings[kind] = rows.teacher - rows.reference if fitted is None else fitted.scores(rows)
    return rankings | {"teacher_only": rows.teacher, "reference_only": -rows.reference}


def _of_the_student(run_dir: Path, student: str, num_rows: int, table: Table) -> dict[str, Scores]:
    """The student's own difference, and its gain where there is an early checkpoint, `[R]`."""
    checkpoint = first_checkpoint(run_dir, student)
    losses_R = student_losses(run_dir, student, table.sequence_ids, num_rows)
    known = np.isfinite(losses_R)
    click.echo(
        f"{len(known):,} rows in {len(table.rows.domains)} domains, {np.count_nonzero(known):,} of "
        f"them scored by {student}: {losses_R[known].mean():.3f} nats per token"
    )
    found = {"student's difference": table.rows.teacher + losses_R}
    if checkpoint is None:
        click.echo(f"{student} has kept no checkpoint: nothing is said about its gain")
        return found
    early_R = student_losses(run_dir, student, table.sequence_ids, num_rows, checkpoint)
    click.echo(f"{student} at {checkpoint.name}: {early_R[known].mean():.3f} nats per token")
    return found | {"student's gain": early_R - losses_R}


def _say_pair(rows: Rows) -> None:
    line = Residual.fit(rows)
    slopes = ", ".join(f"{slope:.2f}" for slope in slopes_by_reference_loss(rows, _PARTS))
    for name, loss_R in (("teacher", -rows.teacher), ("reference", -rows.reference)):
        click.echo(f"{name}: loss {loss_R.mean():.3f}, deviation {loss_R.std():.3f}")
    click.echo(
        f"teacher's loss = {line.intercept:.3f} + {line.slope:.3f} * reference's loss; slopes in "
        f"the thirds of rows from easy to hard for the reference: {slopes}"
    )


def _say_rankings(
    rankings: Mapping[str, Scores],
    compared: Mapping[str, Scores],
    domains_R: NDArray[np.integer],
    ratio: float,
) -> None:
    click.echo("\nSpearman correlations, in brackets their means within domains\n")
    _say_line(["ranking", *compared, "variance between domains", f"overlap at {ratio:g}"])
    _say_line(["---"] * (3 + len(compared)))
    for name, scores_R in rankings.items():
        correlations = [Correlation.of(scores_R, other, domains_R) for other in compared.values()]
        _say_line(
            [
                name,
                *(f"{found.overall:.2f} ({found.within:.2f})" for found in correlations),
                f"{share_between(scores_R, domains_R):.0%}",
                f"{selection_agreement(rankings['none'], scores_R, ratio):.0%}",
            ]
        )


def _say_domains(rankings: Mapping[str, Scores], rows: Rows, ratio: float, changed: int) -> None:
    numbers_R, names = rows.domain_numbers, rows.domains
    before_D, *after = (
        kept_by_domain(rankings[name], numbers_R, len(names), ratio) for name in CALIBRATIONS
    )
    counts_D = np.bincount(numbers_R, minlength=len(names))
    click.echo(f"\nKept share of domains: the {changed} that change most under each, and noise\n")
    _say_line(["domain", "rows", *CALIBRATIONS])
    _say_line(["---"] * (2 + len(CALIBRATIONS)))
    for number in domains_to_show(names, before_D, after, changed):
        shares = [f"{shares_D[number]:.0%}" for shares_D in (before_D, *after)]
        _say_line([names[number], f"{counts_D[number]:,}", *shares])


def _say_line(cells: list[str]) -> None:
    click.echo(f"| {' | '.join(cells)} |")


if __name__ == "__main__":
    main()
