"""What a study's stages say, as the report shows it."""

from collections.abc import Mapping
from typing import Any

from miniplm.report.run_record import RunRecord
from miniplm.report.study_content import LeadContent, LeadRow, StudyContent, StudyRow
from miniplm.study.config import StudyConfig
from miniplm.study.summary import MethodSummary
from miniplm.study.verdict import study_sentences
from miniplm.study.writer import StudyOutcome, study_outcome

MEASURE = "bits per byte of held-out text, mean over domains"
_MOST = 4
"""Methods and sizes that have a sentence each; of more the drawings and the table tell."""


def read_study(record: RunRecord) -> StudyContent | None:
    """The study of a run; None where there is none.

    Raises:
        StageNotReadyError: A student is not finished.
        ArtefactError: A file is damaged.
    """
    study = record.run.study
    if study is None:
        return None
    names = [member.name for member in study.members]
    outcome = study_outcome(record.run.run_dir, study, names)
    return _content(study, outcome, record.manifests["diagnose"].facts)


def _content(
    study: StudyConfig, outcome: StudyOutcome, diagnosis: Mapping[str, Any]
) -> StudyContent:
    compared = [summary for summary in outcome.summaries if summary.difference]
    return StudyContent(
        measure=MEASURE,
        baseline=study.baseline,
        rows=[_row(summary, study) for summary in outcome.summaries],
        findings=study_sentences(outcome.summaries, study.baseline, each=len(compared) <= _MOST),
        lead=_lead(diagnosis),
    )


def _row(summary: MethodSummary, study: StudyConfig) -> StudyRow:
    difference = summary.difference
    interval = difference.interval if difference else None
    return StudyRow(
        method=summary.method,
        size=summary.size,
        mean=summary.bits_per_byte.mean,
        standard_deviation=summary.bits_per_byte.deviation,
        values=dict(zip(study.seeds, summary.bits_per_byte.values, strict=True)),
        difference=difference.mean if difference else None,
        low=interval[0] if interval else None,
        high=interval[1] if interval else None,
        compute_saved=summary.compute_saved.geometric_mean if summary.compute_saved else None,
        compute_saved_by_seed=summary.compute_saved.values if summary.compute_saved else (),
        is_at_equal_compute=summary.at_equal_compute,
        relative_compute=summary.relative_compute,
        num_params=summary.num_params,
        seeds_better=summary.seeds_better if difference else None,
    )


def _lead(diagnosis: Mapping[str, Any]) -> LeadContent:
    gain = diagnosis["gain"] or {"mean_gain": {}, "by_domain": {}}
    rows = [
        LeadRow(
            **line,
            gain=gain["mean_gain"].get(line["domain"]),
            rank=gain["by_domain"].get(line["domain"]),
        )
        for line in sorted(diagnosis["domains"], key=lambda line: -line["ahead"])
    ]
    unit = f"nats per {diagnosis['normalization'].removeprefix('per_')}"
    return LeadContent(rows, unit, diagnosis["sentences"])
