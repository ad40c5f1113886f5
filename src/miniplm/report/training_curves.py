"""The training curves of a run, smoothed for drawing."""

from collections.abc import Mapping, Set
from typing import Any

from miniplm.evaluation.averages import mean_over_domains
from miniplm.report.model_content import BITS, NATS, CurvePoint, Role, TrainingCurves, Unit
from miniplm.report.run_record import RunRecord
from miniplm.training.metrics import METRICS_NAME, read_metrics

Metrics = dict[str, Any]
_DRAWN_POINTS = 200


def training_curves(record: RunRecord) -> list[TrainingCurves]:
    """Of students, those that read the first one's tokens: losses of others do not compare."""
    run, apart = record.run, record.domains_apart
    drawn = run.tokenizers.get(next(iter(run.students), ""))
    logged: dict[str, list[Metrics]] = {}
    for name, role in record.roles.items():
        is_foreign = role == "student" and run.tokenizers.get(name) != drawn
        if not is_foreign and f"train/{name}" in record.manifests:
            logged[name] = read_metrics(run.run_dir / "train" / name / METRICS_NAME)
    roles = {name: (record.roles[name], metrics) for name, metrics in logged.items()}
    units = _units(roles, apart)
    return [
        TrainingCurves(
            model=name,
            role=record.roles[name],
            corpus=run.origins[name],
            train=_smoothed([_point(each, each["loss"]) for each in metrics if "loss" in each]),
            held_out=[
                _point(each, _held_out(each, units[name], apart))
                for each in metrics
                if "held_out_loss" in each
            ],
            unit=units[name],
        )
        for name, metrics in logged.items()
    ]


def _units(logged: Mapping[str, tuple[Role, list[Metrics]]], apart: Set[str]) -> dict[str, Unit]:
    """Bits per byte where all curves of a figure have them; students are drawn in one."""
    lacking = {
        role == "student"
        for role, metrics in logged.values()
        if any("held_out_loss" in each and not set(each.get("held_out", ())) - apart
               for each in metrics)
    }  # fmt: skip
    return {
        name: NATS if (role == "student") in lacking else BITS for name, (role, _) in logged.items()
    }


def _held_out(metrics: Metrics, unit: Unit, apart: Set[str]) -> float:
    """The figure of a held-out curve; nats per token are a mean over the tokens."""
    if unit == NATS:
        return float(metrics["held_out_loss"])
    return mean_over_domains(metrics["held_out"], apart)


def _point(metrics: Metrics, loss: float) -> CurvePoint:
    step, num_tokens, flops = (metrics[name] for name in ("step", "num_tokens", "flops"))
    return CurvePoint(step, num_tokens, flops, loss, metrics.get("lr", 1.0))


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
