"""The study stage: tables of all students, and the page of text that they make."""

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import polars as pl

from miniplm.manifest import Outcome, atomic_path, versions, write_atomically
from miniplm.study.collect import read_halves, read_results
from miniplm.study.config import StudyConfig
from miniplm.study.halves import ScoreHalves
from miniplm.study.results import Comparison, StudentResult, compare
from miniplm.study.summary import MethodSummary, summarise
from miniplm.study.tables import (
    curves_table,
    domain_lines,
    domains_table,
    halves_lines,
    markdown_table,
    students_table,
    summary_lines,
)
from miniplm.study.verdict import study_sentences

MARKDOWN_NAME = "results.md"


@dataclass(frozen=True)
class StudyOutcome:
    """A study, or as much of it as is finished.

    Args:
        results: Of each student.
        comparisons: Of each student of another method with its baseline.
        summaries: Over the seeds.
        sentences: What they say.
    """

    results: Sequence[StudentResult]
    comparisons: Sequence[Comparison]
    summaries: Sequence[MethodSummary]
    sentences: Sequence[str]


def study_outcome(
    run_dir: Path,
    study: StudyConfig,
    finished: Sequence[str],
    halves: ScoreHalves | None = None,
) -> StudyOutcome:
    """What there is to say of the students that are finished.

    Args:
        run_dir: Folder of the run.
        study: Its methods, sizes and seeds.
        finished: Names of students that are trained and evaluated.
        halves: The held-out documents by their own score, where that is to be said.

    Raises:
        ArtefactError: A file is damaged.
    """
    members = [member for member in study.members if member.name in set(finished)]
    results = read_results(run_dir, members)
    comparisons = compare(results, study.baseline)
    summaries = summarise(results, comparisons, halves)
    sentences = study_sentences(summaries, study.baseline)
    return StudyOutcome(results, comparisons, summaries, sentences)


def write_study(
    run_dir: Path, study: StudyConfig, title: str, diagnosis: Sequence[str], folder: Path
) -> Outcome:
    """Write `students`, `domains` and `curves` as Parquet, and `results.md`.

    Args:
        run_dir: Folder of the run; all students are trained and evaluated.
        study: Its methods, sizes and seeds.
        title: Of the page.
        diagnosis: What was said of the teacher before students were trained.
        folder: Where they go.

    Raises:
        StageNotReadyError: A student is not finished.
        ArtefactError: A file is damaged.
    """
    names = [member.name for member in study.members]
    outcome = study_outcome(run_dir, study, names, read_halves(run_dir))
    folder.mkdir(parents=True, exist_ok=True)
    _write(students_table(outcome.results, outcome.comparisons), folder / "students.parquet")
    _write(domains_table(outcome.results), folder / "domains.parquet")
    _write(curves_table(outcome.results), folder / "curves.parquet")
    write_atomically(folder / MARKDOWN_NAME, study_markdown(outcome, title, diagnosis))
    lines = summary_lines(outcome.summaries)
    return Outcome(
        counts={"students": len(outcome.results)},
        facts={"sentences": list(outcome.sentences), "summary": lines},
    )


def _write(table: pl.DataFrame, path: Path) -> None:
    with atomic_path(path) as temporary:
        table.write_parquet(temporary)


def study_markdown(outcome: StudyOutcome, title: str, diagnosis: Sequence[str]) -> str:
    """The outcome as Markdown: sentences, the table over seeds, every student, every domain."""
    students = students_table(outcome.results, outcome.comparisons)
    used = ", ".join(f"{name} {version}" for name, version in versions().items())
    parts = [
        f"# {title}",
        "\n\n".join(outcome.sentences),
        markdown_table(summary_lines(outcome.summaries)),
        *_halves_parts(outcome.summaries),
        "## The teacher, before students were trained" if diagnosis else "",
        "\n\n".join(diagnosis),
        "## Every student",
        markdown_table([students.columns, *_cells(students)]),
        "## Bits per byte by domain, means over seeds",
        markdown_table(domain_lines(outcome.results)),
        f"Made with {used}.",
    ]
    return "\n\n".join(part for part in parts if part) + "\n"


def _halves_parts(summaries: Sequence[MethodSummary]) -> list[str]:
    """Where methods gain, if it is known."""
    lines = halves_lines(summaries)
    if len(lines) == 1:
        return []
    note = (
        "Differences from the baseline in bits per byte, means over seeds, on the held-out text of "
        "each domain that scores lower and on that which scores higher (the teacher's lead over "
        "the reference, per byte). Students lean to what their text is like; a control with rows "
        "by chance tells how much of that is the score's doing."
    )
    return ["## Held-out text by its own score", markdown_table(lines), note]


def _cells(table: pl.DataFrame) -> list[list[str]]:
    return [[_cell(value) for value in row] for row in table.iter_rows()]


def _cell(value: object) -> str:
    if value is None:
        return ""
    if isinstance(value, float):
        return f"{value:.3e}" if abs(value) >= 1e6 else f"{value:.4f}"
    return f"{value:,}" if isinstance(value, int) and not isinstance(value, bool) else str(value)
