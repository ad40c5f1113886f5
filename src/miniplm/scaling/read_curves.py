"""The curves of the students of runs, finished or not, from their folders."""

from collections.abc import Collection, Iterable, Sequence
from dataclasses import dataclass
from itertools import combinations
from pathlib import Path

from miniplm.errors import ConfigError, StageNotReadyError
from miniplm.manifest import read_manifest
from miniplm.scaling.curves import CurvePoint, LossCurve
from miniplm.scaling.held_out_values import BITS_PER_BYTE, LossKind
from miniplm.scaling.measured_on import HeldOutText, held_out_text, used_recipe
from miniplm.training.metrics import METRICS_NAME, read_metrics

_SCORERS = ("teacher", "reference")


@dataclass(frozen=True)
class RunCurves:
    """What was found in the folders of runs.

    Args:
        curves: Of the students, in the recipes' order.
        texts: What each was measured on; None where it is not known.
        left_out: Students without a curve, with the reason, in sentences.
    """

    curves: tuple[LossCurve, ...]
    texts: tuple[HeldOutText | None, ...]
    left_out: tuple[str, ...]


def read_curves(run_dirs: Sequence[Path], kind: LossKind) -> RunCurves:
    """Read the curves of all students.

    Args:
        run_dirs: Folders of runs.
        kind: The loss to read.

    Raises:
        StageNotReadyError: A folder holds no run, or no student has a curve.
        ArtefactError: A file is damaged.
    """
    found, texts, left_out = [], [], []
    for run, run_dir in _names(run_dirs).items():
        for student in _students(run_dir):
            curve, text = _read_curve(run, run_dir, student, kind)
            if curve is None:
                left_out.append(f"{run}/{student} has no {kind.name} along the way yet.")
            elif text is None and kind.is_per_token:
                left_out.append(
                    f"{run}/{student} is not finished, and which tokenizer it reads is known only "
                    "then."
                )
            else:
                found.append(curve)
                texts.append(text)
    if not found:
        raise StageNotReadyError(_nothing(run_dirs, kind, left_out))
    return RunCurves(tuple(found), tuple(texts), tuple(left_out))


def _names(run_dirs: Sequence[Path]) -> dict[str, Path]:
    """A name for each run: that of its folder, or its path where several are called the same."""
    folders = list(dict.fromkeys(run_dir.expanduser().resolve() for run_dir in run_dirs))
    names = [folder.name for folder in folders]
    return {
        folder.name if names.count(folder.name) == 1 else str(folder): folder for folder in folders
    }


def _students(run_dir: Path) -> list[str]:
    """Students that have begun, in the recipe's order."""
    train = run_dir / "train"
    if not train.is_dir():
        raise StageNotReadyError(
            f"{run_dir} holds no training: there is no folder {train}. Give the folder of a run "
            "(run_dir of its recipe)."
        )
    begun = {path.parent.name for path in train.glob(f"*/{METRICS_NAME}")} - {*_SCORERS}
    named = [name for name in used_recipe(run_dir).get("students", {}) if name in begun]
    return [*named, *sorted(begun - {*named})]


def _nothing(run_dirs: Sequence[Path], kind: LossKind, left_out: Sequence[str]) -> str:
    where = " and ".join(str(run_dir) for run_dir in run_dirs)
    if left_out and kind.name.startswith(BITS_PER_BYTE):
        return (
            f"no student in {where} has {kind.name} in its {METRICS_NAME}: it was trained before "
            "these were logged, or there is no such domain. Use --loss held_out_loss."
        )
    return (
        f"no student in {where} has a held-out loss along the way yet. Run `miniplm train` first; "
        "the recipe needs held-out text (splits.held_out or held_out_corpus)."
    )


def _read_curve(
    run: str, run_dir: Path, student: str, kind: LossKind
) -> tuple[LossCurve | None, HeldOutText | None]:
    folder = run_dir / "train" / student
    manifest = read_manifest(folder)
    points: list[CurvePoint] = []
    for line in read_metrics(folder / METRICS_NAME):
        value, flops = kind.value(line), line.get("flops", 0.0)
        if value is not None and flops > (points[-1].flops if points else 0.0):
            points.append(CurvePoint(line["num_tokens"], flops, value, line.get("lr", 1.0)))
    if not points:
        return None, None
    curve = LossCurve(
        student=student,
        run=run,
        points=tuple(points),
        num_params=manifest.facts.get("num_params") if manifest else None,
        finished=manifest is not None,
    )
    return curve, held_out_text(run_dir, manifest, student)


def check_comparable(
    found: RunCurves, compared: Collection[LossCurve], kind: LossKind
) -> list[str]:
    """Refuse losses per token that do not compare.

    Args:
        found: All that was read.
        compared: The curves that are looked at.
        kind: Of their losses.

    Returns:
        Cautions.

    Raises:
        ConfigError: Two curves were measured on other tokens or other text.
    """
    known = [
        (curve, text)
        for curve, text in zip(found.curves, found.texts, strict=True)
        if text and curve in compared
    ]
    for (curve, text), (other, other_text) in _pairs(known):
        if text.is_same_as(other_text):
            continue
        names = f"{curve.run}/{curve.student} and {other.run}/{other.student}"
        if not kind.is_per_token:
            return [
                f"{names} were measured on text that was made apart; that it is the same is not "
                "known here."
            ]
        raise ConfigError("--loss", [_why_not(names, text, other_text)])
    return []


def _pairs(
    known: Sequence[tuple[LossCurve, HeldOutText]],
) -> Iterable[tuple[tuple[LossCurve, HeldOutText], tuple[LossCurve, HeldOutText]]]:
    """One curve of each text with each other one."""
    return combinations({text: (curve, text) for curve, text in reversed(known)}.values(), 2)


def _why_not(names: str, text: HeldOutText, other: HeldOutText) -> str:
    if text.is_retokenized or other.is_retokenized:
        return (
            f"{names} read different tokenizers, and losses per token of these do not compare; use "
            "--loss bits_per_byte, or leave some out with --method"
        )
    return (
        f"{names} were not measured on the same held-out tokens (another tokenizer, text or number "
        "of sequences), so their losses per token do not compare; give these runs one by one, or "
        "use --loss bits_per_byte"
    )
