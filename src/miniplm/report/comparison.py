"""Several runs as one report: models are named by their run, and compared with the first's first.

Losses per token compare where the tokenizer is the same, so curves of others are left out; bits
per byte compare wherever the held-out text is the same.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace

from miniplm.report.compared_runs import (
    ComparedRun,
    asked_alike,
    compares,
    left_out_tasks,
    unlike_text,
)
from miniplm.report.content import ReportContent
from miniplm.report.model_content import BITS, HeldOutRow, ModelRow, TrainingCurves
from miniplm.report.results import KeptShares, Results
from miniplm.report.task_content import TaskContent


@dataclass(frozen=True)
class ComparedModel:
    """A row of the table of models."""

    run: str
    name: str
    row: ModelRow


@dataclass(frozen=True)
class Comparison:
    """All that the page of a comparison says.

    `content` holds the students of all runs as if they were of one; `kept` the selections by run.
    """

    runs: Sequence[ComparedRun]
    models: Sequence[ComparedModel]
    content: ReportContent
    kept: Sequence[tuple[str, KeptShares]]
    domains: Sequence[str]
    """Domains of all selections, in order of appearance."""
    notes: Sequence[str]


def compare(runs: Sequence[ComparedRun], created: str) -> Comparison:
    """Put runs side by side.

    Args:
        runs: At least one; the first student of the first is the baseline of all.
        created: When, to be shown.
    """
    first = runs[0]
    alike = [run for run in runs if compares(first, run)]
    baseline = first.label(first.results.baseline) if first.results.baseline else None
    content = ReportContent(
        title="Runs side by side",
        created=created,
        verdict=[],
        regime=[],
        stages=[],
        models=_students(runs),
        selections=[],
        curves=_curves(runs, alike),
        baseline=baseline,
        baselines={row.name: None for run in runs if run not in alike for row in _students([run])},
        held_out=_held_out(alike),
        held_out_models=[row.name for row in _students(alike)],
        equal_loss=[],
        flops_by_share={},
        dropped={},
        recipe_yaml="",
        versions={},
        tokenizers={
            run.label(name): said for run in runs for name, said in run.results.tokenizers.items()
        },
        tasks=_tasks(runs),
    )
    kept = [(run.name, selection) for run in runs for selection in run.results.selections]
    return Comparison(
        runs=runs,
        models=[
            ComparedModel(run.name, row.name, row) for run in runs for row in run.results.models
        ],
        content=content,
        kept=kept,
        domains=list(dict.fromkeys(row.domain for _, each in kept for row in each.domains)),
        notes=[*unlike_text(runs), *_left_out_curves(runs), *left_out_tasks(runs)],
    )


def _students(runs: Sequence[ComparedRun]) -> list[ModelRow]:
    return [
        replace(row, name=run.label(row.name))
        for run in runs
        for row in run.results.models
        if row.role == "student"
    ]


def _curves(runs: Sequence[ComparedRun], alike: Sequence[ComparedRun]) -> list[TrainingCurves]:
    """Those of held-out text only of runs that were measured on the same."""
    return [
        replace(
            curve,
            model=run.label(curve.model),
            held_out=curve.held_out if run in alike else [],
        )
        for run in runs
        for curve in run.results.curves
        if curve.role == "student" and _is_drawn(runs[0].results, run.results, curve)
    ]


def _is_drawn(first: Results, results: Results, curve: TrainingCurves) -> bool:
    """Whether a curve compares with the baseline's: in bits per byte, or of the same tokens."""
    drawn = next((each for each in first.curves if each.model == first.baseline), None)
    if drawn is None or curve.unit != drawn.unit:
        return False
    own = results.tokenizers.get(curve.model)
    return curve.unit == BITS or own == first.tokenizers.get(drawn.model)


def _left_out_curves(runs: Sequence[ComparedRun]) -> list[str]:
    left = [
        run.label(curve.model)
        for run in runs
        for curve in run.results.curves
        if curve.role == "student" and not _is_drawn(runs[0].results, run.results, curve)
    ]
    if not left:
        return []
    return [
        f"No curves are drawn of {', '.join(left)}: losses per token compare for models of the "
        "baseline's tokenizer only, and not with bits per byte."
    ]


def _held_out(runs: Sequence[ComparedRun]) -> list[HeldOutRow]:
    """Domains that all runs measured, then the averages; figures of students by their labels."""
    tables = [{row.domain: row for row in run.results.held_out} for run in runs]
    common = [name for name in tables[0] if all(name in table for table in tables)]
    return [
        HeldOutRow(
            domain=domain,
            num_bytes=tables[0][domain].num_bytes,
            loss=_figures(runs, [table[domain].loss for table in tables]),
            bits_per_byte=_figures(runs, [table[domain].bits_per_byte for table in tables]),
            set_apart=tables[0][domain].set_apart,
            documents_digest=tables[0][domain].documents_digest,
        )
        for domain in common
    ]


def _figures(
    runs: Sequence[ComparedRun], values: Sequence[Mapping[str, float]]
) -> dict[str, float]:
    return {
        run.label(name): figure
        for run, mine in zip(runs, values, strict=True)
        for name, figure in mine.items()
    }


def _tasks(runs: Sequence[ComparedRun]) -> TaskContent | None:
    """Results of all runs; paired differences are those within a run."""
    known = asked_alike(runs)
    if not known:
        return None
    return TaskContent(
        results=[
            replace(each, model=run.label(each.model))
            for run, tasks in known
            for each in tasks.results
        ],
        num_fewshot=known[0][1].num_fewshot,
        average=known[0][1].average,
    )
