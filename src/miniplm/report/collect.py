"""Gather what the report says from the artefacts of a run, and write the page."""

import time
from collections import Counter, defaultdict
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass, field, replace
from pathlib import Path
from typing import Any

from miniplm.data.tokenization import TOKENIZER_FOLDER
from miniplm.evaluation.held_out import AVERAGE
from miniplm.manifest import (
    Manifest,
    Outcome,
    require_manifest,
    versions,
    write_atomically,
    write_json,
)
from miniplm.report.candidate_tables import candidate_tables
from miniplm.report.content import (
    CurvePoint,
    EqualLossRow,
    HeldOutRow,
    ModelRow,
    ReportContent,
    Role,
    SelectionSummary,
    StageRow,
    TrainingCurves,
)
from miniplm.report.effects_content import read_effects
from miniplm.report.findings import equal_loss_rows, regime_sentences, verdict_sentences
from miniplm.report.page import render_page
from miniplm.report.selection_summary import summarise_selection
from miniplm.selection.config import SelectionConfig
from miniplm.training.metrics import METRICS_NAME, read_metrics

PAGE_NAME = "index.html"
_SCORERS: Mapping[str, Role] = {"teacher": "teacher", "reference": "reference"}
_DRAWN_POINTS = 200


@dataclass(frozen=True)
class RunFiles:
    """A run as the report sees it: a folder, and what is in it.

    Args:
        run_dir: The run's folder; a stage's output is in the folder of its name.
        candidates: Folder of the token shards that are scored.
        title: Of the page.
        stages: Names of all stages but the report, in order.
        origins: Where each model comes from, in a few words: teacher, reference, then students.
        selections: Refined corpora by name.
        foundations: For each student, the stages whose compute its training builds on.
        recipe_yaml: The recipe, to be shown.
        groups: Students that are compared with each other, the baseline first; if it is empty, all
            are.
        tokenizers: The tokenizer that each model reads, by any name; losses of a token compare
            where it is the same.
    """

    run_dir: Path
    candidates: Path
    title: str
    stages: Sequence[str]
    origins: Mapping[str, str]
    selections: Mapping[str, SelectionConfig]
    recipe_yaml: str
    foundations: Mapping[str, Sequence[str]] = field(default_factory=dict)
    groups: Sequence[Sequence[str]] = ()
    tokenizers: Mapping[str, str] = field(default_factory=dict)

    @property
    def students(self) -> list[str]:
        """Names of the students, in order; the first is the baseline."""
        return [name for name in self.origins if name not in _SCORERS]


def write_report(run: RunFiles, folder: Path) -> Outcome:
    """Write `folder/index.html`, and its tables of models and of held-out text as `results.json`.

    Raises:
        StageNotReadyError: A stage has not finished.
    """
    collector = _Collector(run)
    content = collector.content()
    folder.mkdir(parents=True, exist_ok=True)
    write_atomically(folder / PAGE_NAME, render_page(content))
    tables: dict[str, Sequence[ModelRow] | Sequence[HeldOutRow]] = {
        "models": content.models,
        "held_out": content.held_out,
    }
    write_json(
        folder / "results.json",
        {name: [asdict(row) for row in rows] for name, rows in tables.items()},
    )
    return Outcome(
        counts={"models": len(content.models)},
        facts={"verdict": list(content.verdict), "models": model_lines(content.models)},
    )


def collect(run: RunFiles) -> ReportContent:
    """Everything the page says about a run whose other stages are complete."""
    return _Collector(run).content()


def model_lines(models: Sequence[ModelRow]) -> list[list[str]]:
    """The table of models for the terminal: a heading, then a line for each model."""
    heading = [
        "model", "trained on", "tokens", "per parameter", "training FLOPs", "total FLOPs", "time",
        "loss", "bits per byte",
    ]  # fmt: skip
    return [heading, *(_line(row) for row in models)]


def _line(row: ModelRow) -> list[str]:
    def shown(value: float | None, form: str) -> str:
        return "" if value is None else format(value, form)

    return [
        row.name,
        row.origin,
        shown(row.num_tokens_trained, ","),
        shown(row.tokens_per_param, ".1f"),
        shown(row.training_flops, ".3g"),
        shown(row.total_flops, ".3g"),
        "" if row.training_seconds is None else f"{row.training_seconds:,.0f} s",
        shown(row.held_out_loss, ".4f"),
        shown(row.bits_per_byte, ".4f"),
    ]


_SHARES = {
    "score": "scoring",
    "capture": "capturing",
    "generate": "generating",
    "evaluate": "evaluation",
}
"""What the FLOPs of a stage are shown under; training goes by the model's role."""


class _Collector:
    def __init__(self, run: RunFiles) -> None:
        self.run = run
        self.manifests: dict[str, Manifest] = {
            name: require_manifest(run.run_dir / name, f"Run `miniplm {_kind(name)}` first.")
            for name in run.stages
        }
        self.roles: dict[str, Role] = {name: _SCORERS.get(name, "student") for name in run.origins}

    def content(self) -> ReportContent:
        models, curves = self.models(), self._curves()
        baseline = next(iter(self.run.students), None)
        held_out = self._held_out()
        equal_loss = self._equal_loss(curves)
        return ReportContent(
            title=self.run.title,
            created=time.strftime("%Y-%m-%d %H:%M"),
            verdict=self._verdict(models, held_out, equal_loss),
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
            recipe_yaml=self.run.recipe_yaml,
            versions=versions(),
            candidates=candidate_tables(self.manifests, list(self.run.selections)),
        )

    def _groups(self) -> Sequence[Sequence[str]]:
        return self.run.groups or [self.run.students]

    def _equal_loss(self, curves: Sequence[TrainingCurves]) -> list[EqualLossRow]:
        """Each student against the first of its group."""
        return [
            row
            for group in self._groups()
            for row in equal_loss_rows(
                [c for c in curves if c.model in group], next(iter(group), None)
            )
        ]

    def _verdict(
        self,
        models: Sequence[ModelRow],
        held_out: Sequence[HeldOutRow],
        equal_loss: Sequence[EqualLossRow],
    ) -> list[str]:
        """The outcome of each group; what is true of all of them is said once, at the end."""
        sentences: dict[str, None] = {}
        for group in self._groups():
            rows = [row for row in equal_loss if row.student in group]
            compared = [model for model in models if model.name in group]
            for sentence in verdict_sentences(compared, held_out, rows, next(iter(group), None)):
                sentences.pop(sentence, None)
                sentences[sentence] = None
        return list(sentences)

    def models(self) -> list[ModelRow]:
        """One row per model: teacher, reference, students."""
        return [self._model(name, role) for name, role in self.roles.items()]

    def _model(self, name: str, role: Role) -> ModelRow:
        trained = self.manifests.get(f"train/{name}")
        average = next(line for line in self._held_out_lines(name) if line["domain"] == AVERAGE)
        return ModelRow(
            name=name,
            role=role,
            origin=self.run.origins[name],
            num_params=trained.facts["num_params"] if trained else None,
            num_tokens_trained=trained.num_tokens if trained else None,
            tokens_per_param=trained.facts["tokens_per_param"] if trained else None,
            held_out_loss=average["loss"],
            bits_per_byte=average["bits_per_byte"],
            training_flops=trained.flops if trained else None,
            preparation_flops=self._preparation_flops(name) if trained else None,
            shared_preparation_flops=self._preparation_flops(name, shared=True)
            if trained
            else None,
            training_seconds=trained.seconds if trained else None,
        )

    def _preparation_flops(self, name: str, *, shared: bool = False) -> float:
        """FLOPs of the stages that a student builds on, or its part of them."""
        users = Counter(stage for stages in self.run.foundations.values() for stage in stages)
        return sum(
            (self.manifests[stage].flops or 0.0) / (users[stage] if shared else 1)
            for stage in self.run.foundations.get(name, ())
        )

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
                name=name,
                kind=_kind(name),
                seconds=manifest.seconds,
                num_tokens=manifest.num_tokens,
                flops=manifest.flops,
                summary=_summary(manifest),
            )
            for name, manifest in self.manifests.items()
        ]

    def _selections(self) -> list[SelectionSummary]:
        return [self._selection(name, config) for name, config in self.run.selections.items()]

    def _selection(self, name: str, config: SelectionConfig) -> SelectionSummary:
        folder = self.run.run_dir
        summary = summarise_selection(
            name,
            config,
            self.manifests[f"select/{name}"],
            shards_folder=self.run.candidates,
            tokenizer_folder=folder / "tokenize" / TOKENIZER_FOLDER,
            selection_folder=folder / "select" / name,
        )
        facts = self.manifests[f"describe/{name}"].facts
        warnings = [*summary.warnings, *facts["warnings"]]
        return replace(summary, warnings=warnings, effects=read_effects(facts))

    def _curves(self) -> list[TrainingCurves]:
        """Of students, those that read the first one's tokens: losses of others do not compare."""
        curves = []
        drawn = self.run.tokenizers.get(next(iter(self.run.students), ""))
        for name, role in self.roles.items():
            is_foreign = role == "student" and self.run.tokenizers.get(name) != drawn
            if is_foreign or f"train/{name}" not in self.manifests:
                continue
            records = read_metrics(self.run.run_dir / "train" / name / METRICS_NAME)
            train = [record for record in records if "loss" in record]
            curves.append(
                TrainingCurves(
                    model=name,
                    role=role,
                    corpus=self.run.origins[name],
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
            elif kind in _SHARES:
                shares[_SHARES[kind]] += manifest.flops
        return dict(shares)

    def _dropped(self) -> dict[str, int]:
        tokenize = self.manifests["tokenize"].counts
        dropped = {f"documents: {why}": count for why, count in tokenize["dropped"].items()}
        if tokenize["dropped_ids"]:
            dropped["tokens: too short a rest at the end of a domain"] = tokenize["dropped_ids"]
        for name in self.run.selections:
            counts = self.manifests[f"select/{name}"].counts
            if counts["not_comparable"]:
                dropped[f"sequences: nothing to compare ({name})"] = counts["not_comparable"]
        for name, manifest in self.manifests.items():
            if _kind(name) == "retokenize" and (cut := manifest.counts.get("cut_ids")):
                dropped[f"tokens: rows that became too long ({name})"] = cut
        return dropped


def _kind(stage: str) -> str:
    return stage.partition("/")[0].partition("-")[0]


def _summary(manifest: Manifest) -> str:
    kind, counts = _kind(manifest.stage), manifest.counts
    if kind == "tokenize":
        splits = manifest.facts["splits"]
        parts = [f"{split} {values['num_sequences']:,}" for split, values in splits.items()]
        read = f"{counts['documents']:,} documents" if counts["documents"] else "token shards"
        return f"{read} to sequences: {', '.join(parts)}"
    if kind == "train":
        return f"{counts['steps']:,} steps, {manifest.facts['epochs']:.2f} epochs"
    if kind == "select":
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
