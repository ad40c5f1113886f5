"""A study's plan with the seeds of a student in one line."""

from collections.abc import Sequence
from dataclasses import replace
from typing import TYPE_CHECKING

from miniplm.recipe import Recipe

if TYPE_CHECKING:
    from miniplm.planning.plan import StepPlan


def gather_seeds(steps: "Sequence[StepPlan]", recipe: Recipe) -> "list[StepPlan]":
    """Steps in order, those of students that differ in their seeds as one.

    Args:
        steps: Of the plan.
        recipe: With the study, if there is one.

    Returns:
        A line for several has their sum of tokens, FLOPs, bytes and hours, the most memory, and is
        complete when all are.
    """
    members = recipe.study.members if recipe.study else []
    alike = {member.name: f"{member.method}-{member.size}" for member in members}
    groups: dict[tuple[str, bool], list[StepPlan]] = {}
    for step in steps:
        kind, _, instance = step.name.partition("/")
        is_member = instance in alike
        name = f"{kind}/{alike[instance]}" if is_member else step.name
        groups.setdefault((name, is_member), []).append(step)
    return [_together(name, group) for (name, _), group in groups.items()]


def _together(name: str, group: "Sequence[StepPlan]") -> "StepPlan":
    first = group[0]
    if len(group) == 1:
        return first
    complete = sum(step.state == "complete" for step in group)
    states = {step.state for step in group}
    mixed = f"{complete} of {len(group)}" if complete else "missing"
    return replace(
        first,
        name=f"{name} x{len(group)}",
        state=states.pop() if len(states) == 1 else mixed,
        num_tokens=_sum([step.num_tokens for step in group]),
        flops=_sum([step.flops for step in group]),
        num_bytes=_sum([step.num_bytes for step in group]),
        hours=sum(step.hours for step in group),
        memory=max((step.memory for step in group if step.memory is not None), default=None),
    )


def _sum(values: Sequence[float | None]) -> float | None:
    known = [value for value in values if value is not None]
    return sum(known) if known else None
