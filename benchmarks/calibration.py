"""`python -m benchmarks.calibration RUN_DIR`: what calibrations change in a run's ranking.

The run needs the candidates' score tables of teacher and reference, and a student that is neither,
such as `plain`. The student scores a sample of the rows, so that rankings can be compared with its
own difference, log p_teacher - log p_student, and, where `training.keep_every_steps` kept
checkpoints, with that of the first of them and with what it gained on a row from there to the end.
Nothing is written into the run. Losses and gains are in nats per token.

Axes: R rows, D domains.
"""

from collections.abc import Mapping
from pathlib import Path

import click
import numpy as np
from numpy.typing import NDArray

from benchmarks.calibration_figures import (
    Correlation,
    Scores,
    domains_to_show,
    is_noise,
    kept_by_domain,
    share_between,
    slopes_by_reference_loss,
)
from benchmarks.calibration_rankings import (
    CALIBRATIONS,
    Table,
    calibrated_rankings,
    read_table,
    sloped_rankings,
)
from benchmarks.student_losses import first_checkpoint, student_losses
from miniplm.scoring.agreement import selection_agreement
from miniplm.selection.calibration import Residual, Rows

_PARTS = 3


@click.command()
@click.argument("run_dir", type=click.Path(path_type=Path, exists=True, file_okay=False))
@click.option("--student", default="plain", show_default=True, help="Neither of the pair.")
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
    click.echo("\nSpearman correlations, in brackets their means within domains")
    calibrated = calibrated_rankings(table)
    for rankings in (calibrated, sloped_rankings(rows)):
        _say_rankings(rankings, compared, calibrated["none"], rows.domain_numbers, ratio)
    _say_domains(calibrated, rows, ratio, changed)


def _of_the_student(run_dir: Path, student: str, num_rows: int, table: Table) -> dict[str, Scores]:
    """The student's own difference, and what an early checkpoint of it tells, `[R]` each."""
    losses_R = student_losses(run_dir, student, table.sequence_ids, num_rows)
    known, teacher_R = np.isfinite(losses_R), table.rows.teacher
    click.echo(
        f"{len(known):,} rows in {len(table.rows.domains)} domains, {np.count_nonzero(known):,} of "
        f"them scored by {student}: loss {losses_R[known].mean():.3f}, the teacher is better on "
        f"{np.mean(teacher_R[known] > -losses_R[known]):.0%}"
    )
    found = {"student's difference": teacher_R + losses_R}
    checkpoint = first_checkpoint(run_dir, student)
    if checkpoint is None:
        click.echo(f"{student} has kept no checkpoint: nothing is said about its gain")
        return found
    early_R = student_losses(run_dir, student, table.sequence_ids, num_rows, checkpoint)
    click.echo(f"{student} at {checkpoint.name}: loss {early_R[known].mean():.3f}")
    return found | {"early difference": teacher_R + early_R, "student's gain": early_R - losses_R}


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
    uncalibrated_R: Scores,
    domains_R: NDArray[np.integer],
    ratio: float,
) -> None:
    _say_headings(["ranking", *compared, "variance between domains", f"overlap at {ratio:g}"])
    for name, scores_R in rankings.items():
        correlations = [Correlation.of(scores_R, other, domains_R) for other in compared.values()]
        _say_line(
            [
                name,
                *(f"{found.overall:.2f} ({found.within:.2f})" for found in correlations),
                f"{share_between(scores_R, domains_R):.0%}",
                f"{selection_agreement(uncalibrated_R, scores_R, ratio):.0%}",
            ]
        )


def _say_domains(rankings: Mapping[str, Scores], rows: Rows, ratio: float, changed: int) -> None:
    numbers_R, names = rows.domain_numbers, rows.domains
    before_D, *after = (
        kept_by_domain(scores_R, numbers_R, len(names), ratio) for scores_R in rankings.values()
    )
    counts_D = np.bincount(numbers_R, minlength=len(names))
    click.echo(f"\nKept share of domains: the {changed} that change most under each, and noise")
    _say_headings(["domain", "rows", *CALIBRATIONS])
    for number in domains_to_show(names, before_D, after, changed):
        shares = [f"{shares_D[number]:.0%}" for shares_D in (before_D, *after)]
        _say_line([names[number], f"{counts_D[number]:,}", *shares])
    noise_D = counts_D * is_noise(names)
    if noise_D.any():
        shares = [f"{np.nansum(s_D * noise_D) / noise_D.sum():.0%}" for s_D in (before_D, *after)]
        _say_line(["all noise", f"{noise_D.sum():,}", *shares])


def _say_headings(cells: list[str]) -> None:
    click.echo()
    _say_line(cells)
    _say_line(["---"] * len(cells))


def _say_line(cells: list[str]) -> None:
    click.echo(f"| {' | '.join(cells)} |")


if __name__ == "__main__":
    main()
