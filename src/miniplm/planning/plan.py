"""The plan: every step of a recipe with its state and cost, and what to know beforehand."""

from collections.abc import Callable, Mapping
from dataclasses import dataclass, replace

from miniplm.manifest import read_manifest
from miniplm.planning.basis import Basis
from miniplm.planning.candidates import distinct_cost, duplicates_cost, group_cost
from miniplm.planning.cost import Cost, Load
from miniplm.planning.forward import capture_cost, evaluation_cost, generate_cost, texts_cost
from miniplm.planning.remarks import training_remarks
from miniplm.planning.scoring import diagnosis_cost, scoring_cost
from miniplm.planning.selection import description_cost, export_cost, selection_cost
from miniplm.planning.tasks import tasks_cost
from miniplm.planning.text import retokenization_cost, retokenized_held_out_cost, tokenize_cost
from miniplm.planning.training import training_cost
from miniplm.recipe import Recipe
from miniplm.road.road import Road
from miniplm.road.step import HELD_OUT, TASKS, TEXTS, Step
from miniplm.runtime.memory import resident_bytes

_STAGE_SECONDS = 0.5
"""Opening, checking and closing a stage."""

_COSTS: Mapping[str, Callable[[Basis, str], Cost]] = {
    "tokenize": tokenize_cost,
    "duplicates": duplicates_cost,
    "distinct": distinct_cost,
    "group": group_cost,
    "train": training_cost,
    "score": scoring_cost,
    "diagnose": diagnosis_cost,
    "evaluate": evaluation_cost,
    "select": selection_cost,
    "describe": description_cost,
    "export": export_cost,
    "generate": generate_cost,
    "retokenize": retokenization_cost,
    HELD_OUT: retokenized_held_out_cost,
    "capture": capture_cost,
    TASKS: tasks_cost,
    TEXTS: texts_cost,
}
"""By the first part of a step's name, or else by its kind, of its instance."""


@dataclass(frozen=True)
class StepPlan:
    """A step's state and cost; figures that are not known are None.

    Args:
        name: Of the step.
        state: `complete`, `missing`, or `again` where the output is of another recipe.
        num_tokens: Tokens it goes through.
        flops: FLOPs, counted from the shapes.
        num_bytes: Bytes it leaves on disk, roughly.
        hours: On this machine; what it took, if it is complete.
        memory: Bytes that the process holds at the most, roughly, models included wherever they
            are; None if the step is complete.
        note: Such as the tokens per parameter.
    """

    name: str
    state: str
    num_tokens: float | None
    flops: float | None
    num_bytes: float | None
    hours: float
    memory: float | None
    note: str


@dataclass(frozen=True)
class Plan:
    """Steps in order, what to know about them, and what was assumed."""

    steps: list[StepPlan]
    warnings: list[str]
    assumptions: list[str]


def make_plan(recipe: Recipe) -> Plan:
    """Plan a recipe. Raises what reading the corpus's size and the models' shapes raises."""
    road = Road(recipe)
    basis = Basis(recipe, road)
    steps = [_plan_step(basis, step) for step in road.steps]
    # libraries, and what the allocator keeps: a run comes to hold as much as this process now
    held = resident_bytes()
    return Plan(
        steps=[
            step if step.memory is None else replace(step, memory=held + step.memory)
            for step in steps
        ],
        warnings=[
            remark
            for step in road.steps
            if step.kind == "train" and step.instance in _remarked(recipe)
            for remark in training_remarks(basis, step.instance)
        ],
        assumptions=_assumptions(basis),
    )


def _remarked(recipe: Recipe) -> tuple[str, ...]:
    """Models whose training is worth a remark; seeds of one student once."""
    return ("teacher", "reference", *recipe.unlike_students)


def _plan_step(basis: Basis, step: Step) -> StepPlan:
    first = step.name.partition("/")[0]
    kind = first if first in _COSTS else step.kind
    cost = _COSTS[kind](basis, step.instance) if kind in _COSTS else Cost()
    manifest = read_manifest(step.folder) if step.is_complete else None
    load = cost.load() if manifest is None else Load()
    return StepPlan(
        name=step.name,
        state=_state(step),
        num_tokens=cost.num_tokens,
        flops=cost.flops,
        num_bytes=cost.num_bytes,
        hours=(manifest.seconds if manifest else load.seconds + _STAGE_SECONDS) / 3600,
        memory=None if manifest else load.memory,
        note=cost.note,
    )


def _state(step: Step) -> str:
    if step.is_complete:
        return "complete"
    return "again" if read_manifest(step.folder) else "missing"


def _assumptions(basis: Basis) -> list[str]:
    assumptions = [
        "times are those of a moment of each kind of work on this machine, with nothing else "
        f"running (a bfloat16 matrix product: {basis.calibration.rate / 1e12:.2f} TFLOP/s)",
    ]
    if basis.corpora.are_counted:
        return assumptions
    if basis.corpora.from_shards:
        assumptions.append("tokens are counted in the token shards; splits get their shares, about")
    else:
        assumptions.append("tokens are estimated from the corpus's bytes; tokenise to know")
    return assumptions
