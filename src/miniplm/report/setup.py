"""What was compared, in two sentences: who scored, what was kept, which students were trained."""

from collections.abc import Sequence

from miniplm.report import formats
from miniplm.report.content import ReportContent
from miniplm.report.model_content import ModelRow
from miniplm.report.selection_content import SelectionSummary
from miniplm.report.study_content import StudyContent

_FEW = 4
"""Students and selections that are named; of more it is said how many."""


def setup_sentences(content: ReportContent) -> list[str]:
    """What a reader has to know before the outcome; nothing of what is not known.

    Args:
        content: The report.
    """
    by_role = {model.role: model for model in reversed(content.models)}
    sentences = []
    if {"teacher", "reference"} <= set(by_role):
        who = f"{_scorer(by_role['teacher'])} and {_scorer(by_role['reference'])}"
        sentences.append(f"{who[0].upper()}{who[1:]} scored {_scored(content.selections)}.")
    students = [model for model in content.models if model.role == "student"]
    if content.study is not None:
        sentences.append(_studied(content.study, students))
    elif students:
        sentences.append(_trained(students))
    return sentences


def _scorer(model: ModelRow) -> str:
    if model.num_params is None:
        return f"the {model.role} {model.origin}"
    return f"a {model.role} of {formats.short(model.num_params)} parameters"


def _scored(selections: Sequence[SelectionSummary]) -> str:
    if not selections:
        return "the candidates"
    number = f"{formats.count(selections[0].num_candidates)} candidate sequences"
    kept = [each.num_kept / max(1, each.num_candidates) for each in selections]
    if len(selections) <= _FEW:
        parts = [
            f"selection {each.name} keeps {formats.percent(share)}"
            for each, share in zip(selections, kept, strict=True)
        ]
        return f"{number}; {', '.join(parts)}"
    ends = dict.fromkeys(map(formats.percent, (min(kept), max(kept))))
    return f"{number}; {len(selections)} selections keep {' to '.join(ends)}"


def _trained(students: Sequence[ModelRow]) -> str:
    one = len(students) == 1
    what = "One student" if one else f"{len(students)} students"
    was = f"{what}{_range(' of', ' parameters', [each.num_params for each in students])} "
    was += "was trained" if one else "were trained"
    was += _range(" on", " tokens" if one else " tokens each",
                  [each.num_tokens_trained for each in students])  # fmt: skip
    if len(students) > _FEW:
        return f"{was}."
    return f"{was}: {', '.join(f'{each.name} ({each.origin})' for each in students)}."


def _studied(study: StudyContent, students: Sequence[ModelRow]) -> str:
    methods = dict.fromkeys(row.method for row in study.rows)
    sizes = dict.fromkeys(row.size for row in study.rows)
    seeds = max((row.num_seeds for row in study.rows), default=0)
    return (
        f"{len(students)} students were trained: {_several(len(methods), 'method')} "
        f"({', '.join(methods)}) at {_several(len(sizes), 'size')} with {_several(seeds, 'seed')}, "
        f"each compared with {study.baseline} of its size and seed."
    )


def _several(number: int, word: str) -> str:
    return f"{number} {word}{'' if number == 1 else 's'}"


def _range(before: str, after: str, values: Sequence[int | None]) -> str:
    """Such as `` of 154k to 530k parameters``; nothing where a value is not known."""
    known = [value for value in values if value is not None]
    if not known or len(known) < len(values):
        return ""
    least, most = formats.short(min(known)), formats.short(max(known))
    return f"{before} {least if least == most else f'{least} to {most}'}{after}"
