"""Gather what the report says from the artefacts of a run, and write the page."""

import time
from collections import defaultdict
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import yaml

from miniplm.evaluation.held_out import AVERAGE
from miniplm.manifest import (
    Manifest,
    Outcome,
    require_manifest,
    versions,
    write_json,
)
from miniplm.pipeline import Road, Step
from miniplm.recipe import CANDIDATES, Recipe
from miniplm.report.content import (
    CurvePoint,
    HeldOutRow,
    ModelRow,
    ReportContent,
    Role,
    StageRow,
    TrainingCurves,
)
from miniplm.report.findings import equal_loss_rows, regime_sentences, verdict_sentences
from miniplm.report.page import render_page
from miniplm.report.selection_summary import summarise_selection
from miniplm.training.trainer import METRICS_NAME, read_metrics

PAGE_NAME = "index.html"
_DRAWN_POINTS = 200


def write_report(recipe: Recipe, folder: Path) -> Outcome:
    """Write `folder/index.html` and `folder/results.json`.

    Raises:
        StageNotReadyError: A stage has not finished.
    """
    content = collect(recipe)
    folder.mkdir(parents=True, exist_ok=True)
    (folder / PAGE_NAME).write_text(render_page(content), encoding="utf-8")
    results = [
        {"domain": row.domain, "loss": row.loss, "bits_per_byte": row.bits_per_byte}
        for row in content.held_out
    ]
    write_json(folder / "results.json", results)
    return Outcome(
        counts={"models": len(content.models)},
        facts={"verdict": list(content.verdict), "students": student_lines(recipe)},
    )


def collect(recipe: Recipe) -> ReportContent:
    """Everything the page says about a run whose other stages are complete."""
    return _Collector(recipe).content()


def verdict_of(recipe: Recipe) -> Sequence[str]:
    """The verdict on a run, from its report's manifest."""
    manifest = require_manifest(Path(recipe.run_dir) / "report", "Run `miniplm report` first.")
    verdict: Sequence[str] = manifest.facts["verdict"]
    return verdict


def student_lines(recipe: Recipe) -> list[list[str]]:
    """The table of models for the terminal: a heading, then a line for each model."""
    heading = ["model", "trained on", "tokens", "per parameter", "loss", "bits per byte"]
    return [heading, *(_line(row) for row in _Collector(recipe).models())]


def _line(row: ModelRow) -> list[str]:
    def shown(value: float | None, form: str) -> str:
        return "" if value is None else format(value, form)

    return [
        row.name,
        row.origin,
        shown(row.num_tokens_trained, ","),
        shown(row.tokens_per_param, ".1f"),
        shown(row.held_out_loss, ".4f"),
        shown(row.bits_per_byte, ".4f"),
    ]


class _Collector:
    def __init__(self, recipe: Recipe) -> None:
        self.recipe = recipe
        self.road = Road(recipe)
        self.manifests: dict[str, Manifest] = {
            step.name: require_manifest(step.folder, f"Run `miniplm {step.kind}` first.")
            for step in self.road.steps
            if step.kind != "report"
        }
        self.roles: dict[str, Role] = {"teacher": "teacher", "reference": "reference"}
        self.roles |= dict.fromkeys(recipe.students, "student")

    def content(self) -> ReportContent:
        models, curves = self.models(), self._curves()
        baseline = next(iter(self.recipe.students), None)
        held_out = self._held_out()
        equal_loss = equal_loss_rows(curves, baseline)
        return ReportContent(
            title=self.recipe.name,
            created=time.strftime("%Y-%m-%d %H:%M"),
            verdict=verdict_sentences(models, held_out, equal_loss, baseline),
            regime=regime_sentences(models),
            stages=self._stages(),
            models=models,
            selections=self._selections(),
            curves=curves,
            baseline=baseline,
            held_out=held_out,
            held_out_models=list(self.roles),
            equal_loss=equal_loss,
            flops_by_share=self._flops_by_share(),
            dropped=self._dropped(),
            recipe_yaml=yaml.safe_dump(
                self.recipe.model_dump(mode="json", exclude_unset=True),
                sort_keys=False,
                allow_unicode=True,
            ),
            versions=versions(),
        )

    def models(self) -> list[ModelRow]:
        """One row per model: teacher, reference, students."""
        return [self._model(name, role) for name, role in self.roles.items()]

    def _model(self, name: str, role: Role) -> ModelRow:
        trained = self.manifests.get(f"train/{name}")
        average = next(line for line in self._held_out_lines(name) if line["domain"] == AVERAGE)
        return ModelRow(
            name=name,
            role=role,
            origin=self._origin(name, role),
            num_params=trained.facts["num_params"] if trained else None,
            num_tokens_trained=trained.num_tokens if trained else None,
            tokens_per_param=trained.facts["tokens_per_param"] if trained else None,
            held_out_loss=average["loss"],
            bits_per_byte=average["bits_per_byte"],
        )

    def _origin(self, name: str, role: Role) -> str:
        if role != "student":
            config = getattr(self.recipe, role)
            return config.name or f"{role} split, from scratch"
        corpus = self.recipe.students[name].corpus
        return "all candidates" if corpus == CANDIDATES else f"selection {corpus!r}"

    def _held_out_lines(self, name: str) -> list[dict[str, Any]]:
        lines: list[dict[str, Any]] = self.manifests[f"evaluate/{name}"].facts["held_out"]
        return lines

    def _held_out(self) -> list[HeldOutRow]:
        by_model = {
            name: {line["domain"]: line for line in self._held_out_lines(name)}
            for name in self.roles
        }
        first = next(iter(by_model.values()))
        return [
            HeldOutRow(
                domain=domain,
                num_bytes=first[domain]["num_bytes"],
                loss={name: lines[domain]["loss"] for name, lines in by_model.items()},
                bits_per_byte={
                    name: lines[domain]["bits_per_byte"] for name, lines in by_model.items()
                },
            )
            for domain in first
        ]

    def _stages(self) -> list[StageRow]:
        return [
            StageRow(
                name=step.name,
                kind=step.kind,
                seconds=self.manifests[step.name].seconds,
                num_tokens=self.manifests[step.name].num_tokens,
                flops=self.manifests[step.name].flops,
                summary=_summary(step, self.manifests[step.name]),
            )
            for step in self.road.steps
            if step.kind != "report"
        ]

    def _selections(self) -> list[Any]:
        tokenize = self.road.step("tokenize").folder
        return [
            summarise_selection(
                name,
                config,
                self.manifests[f"select/{name}"],
                shards_folder=tokenize / CANDIDATES,
                tokenizer_folder=tokenize / "tokenizer",
                teacher_folder=self.road.step("score/teacher").folder,
                reference_folder=self.road.step("score/reference").folder,
                selection_folder=self.road.step(f"select/{name}").folder,
            )
            for name, config in self.recipe.selections.items()
        ]

    def _curves(self) -> list[TrainingCurves]:
        curves = []
        for name, role in self.roles.items():
            if f"train/{name}" not in self.manifests:
                continue
            records = read_metrics(self.road.step(f"train/{name}").folder / METRICS_NAME)
            train = [record for record in records if "loss" in record]
            curves.append(
                TrainingCurves(
                    model=name,
                    role=role,
                    corpus=self._origin(name, role),
                    train=_smoothed([_point(record, "loss") for record in train]),
                    held_out=[_point(r, "held_out_loss") for r in records if "held_out_loss" in r],
                )
            )
        return curves

    def _flops_by_share(self) -> dict[str, float]:
        shares: defaultdict[str, float] = defaultdict(float)
        for name, manifest in self.manifests.items():
            kind, _, instance = name.partition("/")
            if kind == "train":
                role = self.roles[instance]
                shares["students" if role == "student" else role] += manifest.flops
            elif kind == "score":
                shares["scoring"] += manifest.flops
            elif kind == "evaluate":
                shares["evaluation"] += manifest.flops
        return dict(shares)

    def _dropped(self) -> dict[str, int]:
        tokenize = self.manifests["tokenize"].counts
        dropped = {f"documents: {why}": count for why, count in tokenize["dropped"].items()}
        if tokenize["dropped_ids"]:
            dropped["tokens: too short a rest at the end of a domain"] = tokenize["dropped_ids"]
        for name in self.recipe.selections:
            counts = self.manifests[f"select/{name}"].counts
            if counts["not_comparable"]:
                dropped[f"sequences: nothing to compare ({name})"] = counts["not_comparable"]
        return dropped


def _summary(step: Step, manifest: Manifest) -> str:
    counts = manifest.counts
    if step.kind == "tokenize":
        splits = manifest.facts["splits"]
        parts = [f"{split} {values['num_sequences']:,}" for split, values in splits.items()]
        return f"{counts['documents']:,} documents to sequences: {', '.join(parts)}"
    if step.kind == "train":
        return f"{counts['steps']:,} steps, {manifest.facts['epochs']:.2f} epochs"
    if step.kind == "select":
        return f"kept {counts['kept']:,} of {counts['sequences']:,} sequences"
    return f"{counts['sequences']:,} sequences"


def _point(record: dict[str, Any], key: str) -> CurvePoint:
    return CurvePoint(record["step"], record["num_tokens"], record["flops"], record[key])


def _smoothed(points: list[CurvePoint]) -> list[CurvePoint]:
    """At most `_DRAWN_POINTS` points, each the mean loss of a stretch of the curve."""
    width = max(1, -(-len(points) // _DRAWN_POINTS), len(points) // 40)
    stretches = [points[begin : begin + width] for begin in range(0, len(points), width)]
    return [
        CurvePoint(
            step=stretch[-1].step,
            num_tokens=stretch[-1].num_tokens,
            flops=stretch[-1].flops,
            loss=sum(point.loss for point in stretch) / len(stretch),
        )
        for stretch in stretches
    ]
