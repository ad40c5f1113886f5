"""Which of several runs compare, and in what: the same held-out text, averages and tasks."""

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from miniplm.evaluation.averages import AVERAGES
from miniplm.report.model_content import HeldOutRow
from miniplm.report.results import Results
from miniplm.report.task_content import TaskContent


@dataclass(frozen=True)
class ComparedRun:
    """A run among others; `name` is told apart from theirs."""

    name: str
    results: Results

    def label(self, model: str) -> str:
        """What a model of this run is called among those of others."""
        return f"{self.name}: {model}"


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


def compares(first: ComparedRun, run: ComparedRun) -> bool:
    """Whether figures on held-out text, and averages of them, compare with the first run's."""
    return not _other_domains(first, run) and _apart(first) == _apart(run)


def _apart(run: ComparedRun) -> set[str]:
    """Domains that a run's averages leave out."""
    rows = run.results.held_out
    return {row.domain for row in rows if row.set_apart and row.domain not in AVERAGES}


def _other_domains(first: ComparedRun, run: ComparedRun) -> list[str]:
    """Domains whose held-out text is not the same in two runs."""
    rows, mine = (
        {row.domain: row for row in each.results.held_out if row.domain not in AVERAGES}
        for each in (first, run)
    )
    return [name for name in {**rows, **mine} if not _is_same(rows.get(name), mine.get(name))]


def _is_same(one: HeldOutRow | None, other: HeldOutRow | None) -> bool:
    """Whether two rows are of the same text: the names of its documents, if known, and its size.

    Tokenizers change the size by a few per cent, since the first token of a row counts nowhere.
    """
    if one is None or other is None:
        return False
    if (
        one.documents_digest
        and other.documents_digest
        and one.documents_digest != other.documents_digest
    ):
        return False
    largest = max(one.num_bytes, other.num_bytes)
    return abs(one.num_bytes - other.num_bytes) <= 0.05 * largest


def unlike_text(runs: Sequence[ComparedRun]) -> list[str]:
    """A warning for each run whose held-out text is not the first's."""
    notes = []
    for run in runs[1:]:
        if unlike := _other_domains(runs[0], run):
            named = ", ".join(unlike[:4]) + (", ..." if len(unlike) > 4 else "")
            notes.append(
                f"{run.name} was measured on other held-out documents than {runs[0].name}, by "
                f"names or sizes ({named}): its figures do not compare, and no difference is drawn."
            )
        elif not compares(runs[0], run):
            named = ", ".join(sorted(_apart(runs[0]) ^ _apart(run))[:4])
            notes.append(
                f"{run.name} and {runs[0].name} do not set the same domains apart ({named}): their "
                "averages do not compare, and no difference is drawn."
            )
    return notes


def asked_alike(runs: Sequence[ComparedRun]) -> list[tuple[ComparedRun, TaskContent]]:
    """Runs with tasks that were asked as the first of them was: as many examples and items."""
    known = [(run, run.results.tasks) for run in runs if run.results.tasks]
    return [
        (run, tasks)
        for run, tasks in known
        if tasks.num_fewshot == known[0][1].num_fewshot
        and all(
            count == _num_items(known[0][1]).get(task, count)
            for task, count in _num_items(tasks).items()
        )
    ]


def _num_items(tasks: TaskContent) -> dict[str, int | None]:
    return {each.task: each.num_items for each in tasks.results}


def left_out_tasks(runs: Sequence[ComparedRun]) -> list[str]:
    """A warning where the tasks of runs are left out."""
    asked = [run for run, _ in asked_alike(runs)]
    left = [run.name for run in runs if run.results.tasks and run not in asked]
    if not left:
        return []
    return [
        f"The tasks of {', '.join(left)} are not shown: they were asked with another number of "
        f"solved examples or of items than those of {asked[0].name}."
    ]
