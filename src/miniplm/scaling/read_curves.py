"""The curves of the students of runs, finished or not, from their folders."""

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from miniplm.errors import StageNotReadyError
from miniplm.manifest import read_manifest
from miniplm.scaling.curves import CurvePoint, LossCurve
from miniplm.scaling.held_out_values import BITS_PER_BYTE, LossKind
from miniplm.scaling.measured_on import HeldOutText, held_out_text, used_recipe
from miniplm.training.config import HELD_APART
from miniplm.training.metrics import METRICS_NAME, read_metrics

_SCORERS = ("teacher", "reference", *HELD_APART)
"""Models that are trained and not compared."""


@dataclass(frozen=True)
class StudentCurve:
    """A curve, and what it was measured on.

    Args:
        curve: The student's.
        text: None where it is not known.
        domains: That a loss is a mean over; none for losses per token.
    """

    curve: LossCurve
    text: HeldOutText | None
    domains: frozenset[str]


@dataclass(frozen=True)
class RunCurves:
    """What was found in the folders of runs.

    Args:
        students: With a curve, in the recipes' order.
        left_out: Students without one, with the reason, in sentences.
    """

    students: tuple[StudentCurve, ...]
    left_out: tuple[str, ...]

    @property
    def curves(self) -> list[LossCurve]:
        """Of the students."""
        return [student.curve for student in self.students]


def read_curves(run_dirs: Sequence[Path], kind: LossKind) -> RunCurves:
    """Read the curves of all students.

    Args:
        run_dirs: Folders of runs.
        kind: The loss to read.

    Raises:
        StageNotReadyError: A folder holds no run, or no student has a curve.
        ArtefactError: A file is damaged.
    """
    found, left_out = [], []
    for run, run_dir in _names(run_dirs).items():
        for name in _students(run_dir):
            student = _read_student(run, run_dir, name, kind)
            if student is None:
                left_out.append(f"{run}/{name} has no {kind.name} along the way yet.")
            elif student.text is None and kind.is_per_token:
                left_out.append(
                    f"{run}/{name} is not finished, and which tokenizer it reads is known only "
                    "then."
                )
            else:
                found.append(student)
    if not found:
        raise StageNotReadyError(_nothing(run_dirs, kind, left_out))
    return RunCurves(tuple(found), tuple(left_out))


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
    named = [name for name in used_recipe(run_dir).get("students") or {} if name in begun]
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


def _read_student(run: str, run_dir: Path, name: str, kind: LossKind) -> StudentCurve | None:
    folder = run_dir / "train" / name
    manifest = read_manifest(folder)
    points: list[CurvePoint] = []
    domains: frozenset[str] = frozenset()
    for line in read_metrics(folder / METRICS_NAME):
        value, flops = kind.value(line), line.get("flops", 0.0)
        if value is not None and flops > (points[-1].flops if points else 0.0):
            points.append(CurvePoint(line["num_tokens"], flops, value, line.get("lr", 1.0)))
            domains = frozenset(kind.domains(line))
    if not points:
        return None
    curve = LossCurve(
        student=name,
        run=run,
        points=tuple(points),
        num_params=manifest.facts.get("num_params") if manifest else None,
        finished=manifest is not None,
    )
    return StudentCurve(curve, held_out_text(run_dir, manifest, name), domains)
