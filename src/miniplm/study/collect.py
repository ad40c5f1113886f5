"""Read what the students of a study came to from the folders of its run."""

import math
from collections.abc import Iterable
from pathlib import Path
from typing import Any

from miniplm.errors import ArtefactError
from miniplm.evaluation.averages import APART, AVERAGE, AVERAGES, OVERALL, mean_over_domains
from miniplm.evaluation.documents import DOCUMENTS_NAME, read_documents
from miniplm.manifest import Manifest, require_manifest
from miniplm.scaling.curves import CurvePoint, LossCurve
from miniplm.study.config import Member
from miniplm.study.halves import ScoreHalves
from miniplm.study.results import StudentResult
from miniplm.training.metrics import METRICS_NAME, read_metrics


def read_results(run_dir: Path, members: Iterable[Member]) -> list[StudentResult]:
    """The results of students that are trained and evaluated.

    Args:
        run_dir: Folder of the run.
        members: Of the study, those that are finished.

    Raises:
        StageNotReadyError: One is not finished.
        ArtefactError: A file is damaged.
    """
    return [_read(run_dir, member) for member in members]


def read_halves(run_dir: Path) -> ScoreHalves:
    """The held-out documents by their own score, from the evaluations of teacher and reference.

    Raises:
        ArtefactError: One is missing or damaged.
    """
    teacher, reference = (
        read_documents(run_dir / "evaluate" / name / DOCUMENTS_NAME)
        for name in ("teacher", "reference")
    )
    return ScoreHalves.of(teacher, reference)


def _read(run_dir: Path, member: Member) -> StudentResult:
    trained = require_manifest(run_dir / "train" / member.name, "Run `miniplm train` first.")
    evaluated = require_manifest(run_dir / "evaluate" / member.name, "Run `miniplm evaluate`.")
    lines = {line["domain"]: line for line in evaluated.facts["held_out"]}
    domains = {name: line for name, line in lines.items() if name not in AVERAGES}
    apart = frozenset(name for name, line in domains.items() if line["set_apart"])
    return StudentResult(
        member=member,
        num_params=trained.facts["num_params"],
        num_tokens=trained.num_tokens,
        flops=trained.flops,
        seconds=trained.seconds,
        loss=lines[AVERAGE]["loss"],
        bits_per_byte=lines[AVERAGE]["bits_per_byte"],
        all_text=lines[OVERALL]["bits_per_byte"],
        set_apart=lines[APART]["bits_per_byte"] if APART in lines else None,
        by_domain={name: line["bits_per_byte"] for name, line in domains.items()},
        apart=apart,
        curve=_curve(run_dir / "train" / member.name, member, apart, trained),
        documents=read_documents(run_dir / "evaluate" / member.name / DOCUMENTS_NAME),
    )


def _curve(folder: Path, member: Member, apart: frozenset[str], trained: Manifest) -> LossCurve:
    points = [
        point
        for line in read_metrics(folder / METRICS_NAME)
        if line["flops"] > 0
        and set(line.get("held_out", ())) - apart
        and math.isfinite((point := _point(line, apart)).loss)
    ]
    if not points:
        raise ArtefactError(
            f"{folder / METRICS_NAME}: no line has losses on held-out text of a domain that is not "
            "set apart. If there are lines with held_out, give a larger "
            "evaluation.held_out_sequences_while_training, or set fewer domains apart; if there "
            f"are none, delete the folder {folder} and run {trained.stage} again."
        )
    run = str(folder.parent.parent)
    return LossCurve(member.name, run, tuple(points), trained.facts["num_params"])


def _point(line: dict[str, Any], apart: frozenset[str]) -> CurvePoint:
    loss = mean_over_domains(line["held_out"], apart)
    return CurvePoint(line["num_tokens"], line["flops"], loss, line.get("lr", 1.0))
