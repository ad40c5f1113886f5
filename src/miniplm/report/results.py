"""The figures of a report as a file, to be read by other programs and put beside other runs."""

from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass, field
from pathlib import Path

from pydantic import TypeAdapter, ValidationError

from miniplm.errors import ArtefactError, StageNotReadyError
from miniplm.evaluation.difference import Difference
from miniplm.manifest import write_json
from miniplm.report.content import ReportContent
from miniplm.report.embedded_json import all_readable
from miniplm.report.model_content import EqualLossRow, HeldOutRow, ModelRow, TrainingCurves
from miniplm.report.selection_content import DomainRow
from miniplm.report.side_by_side import made_in_words
from miniplm.report.task_content import TaskContent
from miniplm.report.text_content import TextContent

RESULTS_NAME = "results.json"


@dataclass(frozen=True)
class KeptShares:
    """What a selection kept, overall and of each domain; `made` is its policy in words."""

    name: str
    made: str
    num_candidates: int
    num_kept: int
    domains: Sequence[DomainRow]


@dataclass(frozen=True)
class Results:
    """What a report says in figures.

    `tokenizers` names what each model reads, the same for models of all runs whose losses per
    token compare.
    """

    title: str
    baseline: str | None
    models: Sequence[ModelRow]
    held_out: Sequence[HeldOutRow]
    curves: Sequence[TrainingCurves]
    selections: Sequence[KeptShares]
    equal_loss: Sequence[EqualLossRow]
    tokenizers: Mapping[str, str] = field(default_factory=dict)
    tasks: TaskContent | None = None
    differences: Mapping[str, Difference] = field(default_factory=dict)
    texts: Sequence[TextContent] = field(default_factory=tuple)


def write_results(content: ReportContent, tokenizer: str, folder: Path) -> None:
    """Write `folder/results.json`.

    Args:
        content: The report.
        tokenizer: What identifies the run's own tokenizer among those of other runs.
        folder: Of the report.
    """
    results = Results(
        title=content.title,
        baseline=content.baseline,
        models=content.models,
        held_out=content.held_out,
        curves=content.curves,
        selections=[
            KeptShares(
                each.name, made_in_words(each), each.num_candidates, each.num_kept, each.domains
            )
            for each in content.selections
        ],
        equal_loss=content.equal_loss,
        tokenizers={name: words or tokenizer for name, words in content.tokenizers.items()},
        tasks=content.tasks,
        differences=content.differences,
        texts=content.texts,
    )
    write_json(folder / RESULTS_NAME, all_readable(asdict(results)))


def read_results(run_dir: Path) -> Results:
    """The results of a run whose report is made.

    Raises:
        StageNotReadyError: There is no report.
        ArtefactError: It cannot be understood.
    """
    path = run_dir / "report" / RESULTS_NAME
    try:
        return TypeAdapter(Results).validate_json(path.read_bytes())
    except (FileNotFoundError, NotADirectoryError):
        raise StageNotReadyError(
            f"{path} is not there; run `miniplm report RECIPE` with the recipe of that run first "
            f"(a run has its recipe in {run_dir / 'used_recipe.yaml'})."
        ) from None
    except (ValidationError, OSError) as error:
        raise ArtefactError(
            f"{path} cannot be read, or is of another version of miniplm "
            f"({_first_line(error)}). Run `miniplm report RECIPE` again."
        ) from error


def _first_line(error: Exception) -> str:
    if isinstance(error, ValidationError):
        fault = error.errors()[0]
        return f"{'.'.join(str(part) for part in fault['loc'])}: {fault['msg']}"
    return str(error)
