"""The training curves of a run, smoothed for drawing."""

from typing import Any

from miniplm.report.model_content import CurvePoint, TrainingCurves
from miniplm.report.run_record import RunRecord
from miniplm.training.metrics import METRICS_NAME, read_metrics

_DRAWN_POINTS = 200


def training_curves(record: RunRecord) -> list[TrainingCurves]:
    """Of students, those that read the first one's tokens: losses of others do not compare."""
    curves, run = [], record.run
    drawn = run.tokenizers.get(next(iter(run.students), ""))
    for name, role in record.roles.items():
        is_foreign = role == "student" and run.tokenizers.get(name) != drawn
        if is_foreign or f"train/{name}" not in record.manifests:
            continue
        metrics = read_metrics(run.run_dir / "train" / name / METRICS_NAME)
        curves.append(
            TrainingCurves(
                model=name,
                role=role,
                corpus=run.origins[name],
                train=_smoothed([_point(each, "loss") for each in metrics if "loss" in each]),
                held_out=[
                    _point(each, "held_out_loss") for each in metrics if "held_out_loss" in each
                ],
            )
        )
    return curves


def _point(metrics: dict[str, Any], key: str) -> CurvePoint:
    return CurvePoint(metrics["step"], metrics["num_tokens"], metrics["flops"], metrics[key])


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
