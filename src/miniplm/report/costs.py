"""What students of a run cost, from what its stages left."""

from collections.abc import Sequence

from miniplm.report.cost_content import CostContent, StudentCost
from miniplm.report.model_content import ModelRow
from miniplm.report.run_record import RunRecord


def read_costs(record: RunRecord, models: Sequence[ModelRow]) -> CostContent | None:
    """A student of each size and budget that learns from text alone; None where there is none."""
    teacher, reference = (record.manifests[f"score/{role}"] for role in ("teacher", "reference"))
    if not teacher.num_tokens:
        return None
    of_proxy = teacher.facts.get("proxy", {}).get("flops", {})
    per_token = of_proxy.get("teacher", teacher.flops) / teacher.num_tokens
    once = teacher.flops + reference.flops + _training_flops(record, "reference")
    students: dict[tuple[int | None, str], StudentCost] = {}
    for model in models:
        if _learns_from_text(model, record):
            training = model.training_flops or 0.0
            cost = StudentCost(
                student=model.name,
                training=training,
                once=once,
                teacher_beside=per_token * (model.num_tokens_trained or 0),
                teacher_training=_training_flops(record, "teacher"),
            )
            students.setdefault((model.num_params, f"{training:.1e}"), cost)
    return CostContent(list(students.values())) if students else None


def _training_flops(record: RunRecord, role: str) -> float:
    """FLOPs of a teacher's or reference's training; 0 for a released one."""
    manifest = record.manifests.get(f"train/{role}")
    return manifest.flops if manifest else 0.0


def _learns_from_text(model: ModelRow, record: RunRecord) -> bool:
    """Whether it is a student whose training FLOPs hold nobody else's."""
    if model.role != "student":
        return False
    method: str = record.manifests[f"train/{model.name}"].config["training"]["method"]
    return method == "plain"
