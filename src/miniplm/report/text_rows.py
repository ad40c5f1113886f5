"""What models make of further texts, with differences on the same documents."""

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from miniplm.errors import ArtefactError
from miniplm.evaluation.averages import AVERAGES
from miniplm.evaluation.difference import Difference
from miniplm.evaluation.documents import DOCUMENTS_NAME, read_documents
from miniplm.evaluation.paired import paired_documents
from miniplm.report.run_record import RunRecord
from miniplm.report.text_content import TextContent, TextDifference, TextResult

FOLDER = "texts"
Lines = Mapping[str, Sequence[Mapping[str, Any]]]
"""By model: the lines of a text in the manifest."""


def read_texts(record: RunRecord, groups: Sequence[Sequence[str]]) -> list[TextContent]:
    """The further texts of a run, in its order; empty where there are none.

    Args:
        record: Of the run.
        groups: Students that are compared, the baseline first.

    Raises:
        ArtefactError: A file is missing or damaged.
    """
    measured = {
        model: record.manifests[stage].facts["texts"]
        for model in record.roles
        if (stage := f"{FOLDER}/{model}") in record.manifests
    }
    names = dict.fromkeys(name for texts in measured.values() for name in texts)
    return [
        _text(record, name, {model: texts[name] for model, texts in measured.items()}, groups)
        for name in names
    ]


def _text(
    record: RunRecord, name: str, lines: Lines, groups: Sequence[Sequence[str]]
) -> TextContent:
    differences: list[TextDifference] = []
    reasons: dict[str, None] = {}
    for group in groups:
        for student in group[1:]:
            try:
                found = _paired(record, name, lines, (student, group[0]))
            except ArtefactError as error:
                reasons[f"{student} and {group[0]}: {error}"] = None
                continue
            differences += [
                TextDifference(student, group[0], domain, each.value, *each.interval)
                for domain, each in found.items()
                if each.interval is not None
            ]
    results = [_result(model, line) for model, own in lines.items() for line in own]
    return TextContent(
        name=name,
        results=results,
        differences=differences,
        averages=[each for each in AVERAGES if any(each == result.domain for result in results)],
        not_compared=list(reasons),
    )


def _result(model: str, line: Mapping[str, Any]) -> TextResult:
    return TextResult(
        model=model,
        domain=line["domain"],
        bits_per_byte=line["bits_per_byte"],
        low=line["low"],
        high=line["high"],
        perplexity=line["perplexity"],
        num_documents=line["num_documents"],
    )


def _paired(
    record: RunRecord, name: str, lines: Lines, pair: tuple[str, str]
) -> Mapping[str, Difference]:
    first, baseline = (read_documents(_documents(record, model, name)) for model in pair)
    apart = [line["domain"] for line in lines[pair[0]] if line["set_apart"]]
    return paired_documents([(first, baseline)], apart)


def _documents(record: RunRecord, model: str, name: str) -> Path:
    return record.run.run_dir / FOLDER / model / name / DOCUMENTS_NAME
