"""Several runs as one report: models are named by their run, and compared with the first's first.

Losses per token compare where the tokenizer is the same, so curves of others are left out; bits
per byte compare wherever the held-out text is the same.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path

from miniplm.evaluation.averages import AVERAGE, OVERALL
from miniplm.report.content import ReportContent
from miniplm.report.model_content import BITS, HeldOutRow, ModelRow, TrainingCurves
from miniplm.report.results import KeptShares, Results
from miniplm.report.task_content import TaskContent

_AVERAGES = (AVERAGE, OVERALL)


@dataclass(frozen=True)
class ComparedRun:
    """A run among others; `name` is told apart from theirs."""

    name: str
    results: Results

    def label(self, model: str) -> str:
        """What a model of this run is called among those of others."""
        return f"{self.name}: {model}"


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


def name_runs(folders: Sequence[Path]) -> list[str]:
    """A short name for each run: its folder's, or as much of the path as tells them apart.

    Example:
        >>> name_runs([Path("/a/runs/x"), Path("/b/runs/x")])
        ['a/runs/x', 'b/runs/x']
    """
    paths = [folder.absolute().parts[1:] for folder in folders]
    for length in range(1, max(map(len, paths)) + 1):
        names = ["/".join(parts[-length:]) for parts in paths]
        if len(set(names)) == len(names):
            break
    return names


def compare(runs: Sequence[ComparedRun], created: str) -> Comparison:
    """Put runs side by side.

    Args:
        runs: At least one; the first student of the first is the baseline of all.
        created: When, to be shown.
    """
    first = runs[0]
    alike = [run for run in runs if not _other_domains(first, run)]
    baseline = first.label(first.results.baseline) if first.results.baseline else None
    content = ReportContent(
        title="Runs side by side",
        created=created,
        verdict=[],
        regime=[],
        stages=[],
        models=_students(runs),
        selections=[],
        curves=_curves(runs),
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
        notes=[*_unlike_text(runs), *_left_out_curves(runs)],
    )


def _students(runs: Sequence[ComparedRun]) -> list[ModelRow]:
    return [
        replace(row, name=run.label(row.name))
        for run in runs
        for row in run.results.models
        if row.role == "student"
    ]


def _curves(runs: Sequence[ComparedRun]) -> list[TrainingCurves]:
    return [
        replace(curve, model=run.label(curve.model))
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


def _other_domains(first: ComparedRun, run: ComparedRun) -> list[str]:
    """Domains whose held-out text is not the same in two runs."""
    sizes, mine = (
        {row.domain: row.num_bytes for row in each.results.held_out if row.domain not in _AVERAGES}
        for each in (first, run)
    )
    return [name for name in {**sizes, **mine} if _far(sizes.get(name), mine.get(name))]


def _far(one: int | None, other: int | None) -> bool:
    """Whether two sizes are not of the same text; tokenizers change them by a few per cent."""
    if one is None or other is None:
        return True
    return abs(one - other) > 0.05 * max(one, other)


def _unlike_text(runs: Sequence[ComparedRun]) -> list[str]:
    """A warning for each run whose held-out text is not the first's."""
    notes = []
    for run in runs[1:]:
        if unlike := _other_domains(runs[0], run):
            named = ", ".join(unlike[:4]) + (", ..." if len(unlike) > 4 else "")
            notes.append(
                f"{run.name} was measured on other held-out text than {runs[0].name} "
                f"({named}): its figures do not compare, and no difference is drawn."
            )
    return notes


def _tasks(runs: Sequence[ComparedRun]) -> TaskContent | None:
    """Results of all runs; paired differences are those within a run."""
    known = [(run, run.results.tasks) for run in runs if run.results.tasks]
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
