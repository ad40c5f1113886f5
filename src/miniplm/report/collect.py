"""Gather what the report says from the artefacts of a run, and write the page."""

import time
from collections.abc import Mapping, Sequence
from dataclasses import replace
from pathlib import Path

from miniplm.data.tokenization import TOKENIZER_FOLDER
from miniplm.evaluation.difference import Difference
from miniplm.manifest import Outcome, require_manifest, versions, write_atomically
from miniplm.report.candidate_tables import candidate_tables
from miniplm.report.choice_words import kept_range
from miniplm.report.content import ReportContent
from miniplm.report.costs import read_costs
from miniplm.report.differences import differences_of
from miniplm.report.effects_content import read_effects
from miniplm.report.equal_loss import equal_loss_rows
from miniplm.report.findings import regime_sentences, verdict_sentences
from miniplm.report.model_content import EqualLossRow, HeldOutRow, ModelRow, TrainingCurves
from miniplm.report.model_lines import model_lines
from miniplm.report.model_rows import held_out_rows, model_rows
from miniplm.report.page import render_page
from miniplm.report.proxy_content import PredictedScores, read_predicted, selection_warnings
from miniplm.report.results import write_results
from miniplm.report.rows_content import SampledRows
from miniplm.report.run_record import RunFiles, RunRecord
from miniplm.report.sampled_rows import DrawnFrom, draw_rows
from miniplm.report.scaling_rows import read_scaling
from miniplm.report.selection_content import SelectionSummary
from miniplm.report.selection_summary import summarise_selection
from miniplm.report.stage_rows import flops_by_share, left_out, stage_rows
from miniplm.report.study_rows import read_study
from miniplm.report.task_rows import read_tasks
from miniplm.report.text_rows import read_texts
from miniplm.report.training_curves import training_curves

PAGE_NAME = "index.html"


def write_report(run: RunFiles, folder: Path) -> Outcome:
    """Write `folder/index.html`, and its figures as `results.json`.

    Raises:
        StageNotReadyError: A stage has not finished.
    """
    content = collect(run)
    folder.mkdir(parents=True, exist_ok=True)
    write_atomically(folder / PAGE_NAME, render_page(content))
    tokenized = require_manifest(run.run_dir / "tokenize", "Run `miniplm tokenize` first.")
    write_results(content, tokenized.fingerprint, folder)
    return Outcome(
        counts={"models": len(content.models)},
        facts={"verdict": list(content.verdict), "models": model_lines(content.models)},
    )


def collect(run: RunFiles) -> ReportContent:
    """Everything the page says about a run whose other stages are complete.

    Raises:
        StageNotReadyError: A stage has not finished.
    """
    record = RunRecord(run)
    models, held_out, curves = model_rows(record), held_out_rows(record), training_curves(record)
    groups, predicted = run.groups or [run.students], _predicted(record)
    equal_loss, study = _equal_loss(groups, curves), read_study(record)
    differences = {} if study else differences_of(record, groups)
    baseline = next(iter(run.students), None)
    return ReportContent(
        title=run.title,
        created=time.strftime("%Y-%m-%d %H:%M"),
        verdict=study.findings
        if study
        else _verdict(groups, models, held_out, equal_loss, differences),
        regime=regime_sentences(models, run.tokenizers),
        stages=stage_rows(record),
        models=models,
        selections=[_selection(record, name, predicted) for name in run.selections],
        curves=curves,
        baseline=baseline,
        baselines={name: group[0] for group in run.groups for name in group},
        held_out=held_out,
        held_out_models=list(record.roles),
        equal_loss=equal_loss,
        flops_by_share=flops_by_share(record),
        dropped=left_out(record),
        recipe_yaml=run.recipe_yaml,
        versions=versions(),
        predicted=predicted,
        rows=_rows(record),
        cost=read_costs(record, models),
        tokenizers=run.tokenizers,
        candidates=candidate_tables(record.manifests, list(run.selections)),
        differences=differences,
        texts=read_texts(record, groups),
        tasks=read_tasks(record, groups),
        scaling=read_scaling(record, curves),
        study=study,
    )


def _rows(record: RunRecord) -> SampledRows | None:
    run = record.run
    if not run.selections:
        return None
    manifests = {name: record.manifests[f"select/{name}"] for name in run.selections}
    first = next(iter(run.selections))
    unit = run.selections[first].normalization
    thresholds = {
        name: kept_range(config, manifests[name].counts, manifests[name].facts.get("threshold"))
        for name, config in run.selections.items()
        if config.normalization == unit
    }
    return draw_rows(
        DrawnFrom(
            shards=run.candidates,
            tokenizer=run.run_dir / "tokenize" / TOKENIZER_FOLDER,
            selections={name: run.run_dir / "select" / name for name in run.selections},
            normalization=unit,
            num_candidates=manifests[first].counts["sequences"],
            thresholds={
                name: low
                for name, (low, high) in thresholds.items()
                if low is not None and high is None
            },
        )
    )


def _predicted(record: RunRecord) -> PredictedScores | None:
    run = record.run
    if run.proxy is None:
        return None
    scores = record.manifests["score/teacher"]
    folder = run.run_dir
    return read_predicted(
        scores, folder / "score/teacher", run.proxy, run.selections, folder / "group"
    )


def _equal_loss(
    groups: Sequence[Sequence[str]], curves: Sequence[TrainingCurves]
) -> list[EqualLossRow]:
    """Each student against the first of its group."""
    return [
        row
        for group in groups
        for row in equal_loss_rows([c for c in curves if c.model in group], next(iter(group), None))
    ]


def _verdict(
    groups: Sequence[Sequence[str]],
    models: Sequence[ModelRow],
    held_out: Sequence[HeldOutRow],
    equal_loss: Sequence[EqualLossRow],
    differences: Mapping[str, Difference],
) -> list[str]:
    """The outcome of each group; what is true of all of them is said once, at the end."""
    sentences: dict[str, None] = {}
    for group in groups:
        rows = [row for row in equal_loss if row.student in group]
        compared = [model for model in models if model.name in group]
        baseline = next(iter(group), None)
        for sentence in verdict_sentences(compared, held_out, rows, baseline, differences):
            sentences.pop(sentence, None)
            sentences[sentence] = None
    return list(sentences)


def _selection(record: RunRecord, name: str, predicted: PredictedScores | None) -> SelectionSummary:
    folder = record.run.run_dir
    summary = summarise_selection(
        name,
        record.run.selections[name],
        record.manifests[f"select/{name}"],
        shards_folder=record.run.candidates,
        tokenizer_folder=folder / "tokenize" / TOKENIZER_FOLDER,
        selection_folder=folder / "select" / name,
    )
    facts = record.manifests[f"describe/{name}"].facts
    warnings = [*summary.warnings, *facts["warnings"]]
    if predicted is not None:
        warnings += selection_warnings(predicted.selections[name])
    return replace(summary, warnings=warnings, effects=read_effects(facts))
