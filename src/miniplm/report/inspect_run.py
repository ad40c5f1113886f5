"""The work of `miniplm inspect`: look into a run's folder and print."""

import json
import math
from collections.abc import Iterable
from dataclasses import dataclass
from pathlib import Path

from rich.console import Console

from miniplm.data.tokenization import TOKENIZER_FOLDER
from miniplm.errors import ConfigError
from miniplm.report import inspection_text as texts
from miniplm.report.row_examples import RowExample, read_examples
from miniplm.selection.inspection import Inspection, inspect_scores, nearest, only_domain
from miniplm.selection.score_frames import frames
from miniplm.selection.score_query import query
from miniplm.selection.scored_run import ScoredRun, find_scored_run

_SHOWN_ROWS = 50
_TEXT_LINES = 8
_TEXT_WIDTH = 110
_EXAMPLES = 3


@dataclass(frozen=True)
class Question:
    """What is asked of a run.

    Args:
        selection: Name of the selection to look at; None: the first that is complete and fits.
        domain: Only rows of this domain.
        near: Show rows with a difference score near this.
        examples: How many of them; without `near`, near the threshold or the median.
        sql: A query to be answered instead.
        as_json: Print JSON.
    """

    selection: str | None = None
    domain: str | None = None
    near: float | None = None
    examples: int | None = None
    sql: str | None = None
    as_json: bool = False


def inspect_run(run_dir: Path, question: Question, console: Console) -> None:
    """Print what is asked of the run in a folder.

    Raises:
        StageNotReadyError: It holds no scores yet.
        ConfigError: There is no such selection or domain, the query cannot be answered, or
            questions do not go together.
        ArtefactError: A file is damaged, or what is asked for belongs to other shards.
    """
    _check(question)
    run = find_scored_run(run_dir, question.selection)
    if question.sql is not None:
        _answer(run, question.sql, question.as_json, console)
        return
    scores = frames(run)["scores"]
    if question.domain is not None:
        scores = only_domain(scores, question.domain)
    found = inspect_scores(scores)
    rows = []
    if question.near is not None or question.examples is not None:
        near = _centre(run, found) if question.near is None else question.near
        count = _EXAMPLES if question.examples is None else question.examples
        rows = nearest(scores, near, count) if near is not None else []
    tokenizer_folder = run_dir / "tokenize" / TOKENIZER_FOLDER
    examples = read_examples(rows, run.shards_folder, tokenizer_folder) if rows else []
    if question.as_json:
        _print_json(texts.as_json(run, found, examples), console)
    else:
        _print(run, found, examples, console)


def _print_lines(lines: Iterable[str], console: Console) -> None:
    for line in lines:
        console.print(line, markup=False, highlight=False)


def _check(question: Question) -> None:
    others = {
        "--domain": question.domain, "--near": question.near, "--examples": question.examples,
    }  # fmt: skip
    given = [name for name, value in others.items() if value is not None]
    if question.sql is not None and given:
        raise ConfigError(
            "--sql",
            [f"is a question of its own; say it in SQL (WHERE domain = ...) without {given[0]}"],
        )
    if question.near is not None and not math.isfinite(question.near):
        raise ConfigError("--near", [f"takes a score, such as 0.25; given: {question.near}"])


def _centre(run: ScoredRun, found: Inspection) -> float | None:
    """Where a little decides: the threshold, or the median of the scores."""
    threshold = run.manifest.facts.get("threshold") if run.manifest else None
    return found.median if threshold is None else float(threshold)


def _print(run: ScoredRun, found: Inspection, examples: list[RowExample], console: Console) -> None:
    _print_lines(texts.left_out_lines(run), console)
    _print_lines(texts.summary_lines(run, found), console)
    console.print(texts.quantile_table(run, found))
    console.print(texts.domain_table(found))
    width = min(console.width, _TEXT_WIDTH)
    for example in examples:
        console.print(texts.example_text(example, width, _TEXT_LINES), soft_wrap=True)


def _answer(run: ScoredRun, sql: str, as_json: bool, console: Console) -> None:
    answer = query(frames(run), sql, None if as_json else _SHOWN_ROWS + 1)
    if as_json:
        _print_json(texts.answer_json(answer), console)
    else:
        _print_lines(texts.left_out_lines(run), console)
        console.print(texts.answer_table(answer.head(_SHOWN_ROWS)))
        if len(answer) > _SHOWN_ROWS:
            console.print(f"the first {_SHOWN_ROWS} rows; add LIMIT, or --json for all")


def _print_json(content: object, console: Console) -> None:
    console.out(json.dumps(content, indent=2, ensure_ascii=False, default=str), highlight=False)
