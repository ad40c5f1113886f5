"""A plan as a table on a terminal."""

from collections.abc import Sequence

import click
from rich.table import Table

from miniplm.planning.plan import Plan, StepPlan
from miniplm.terminal import console, short_number


def print_plan(made: Plan, steps: Sequence[StepPlan]) -> None:
    """Print a plan, what is left to do, and what it warns of and assumes.

    Args:
        made: The plan.
        steps: Its steps as they are to be shown.
    """
    table = Table(title="Plan", title_justify="left")
    for heading in ("stage", "state", "tokens", "FLOPs", "on disk", "memory", "time", "note"):
        numeric = heading not in ("stage", "state", "note")
        table.add_column(heading, justify="right" if numeric else "left")
    for step in steps:
        table.add_row(
            step.name, step.state, short_number(step.num_tokens), short_number(step.flops),
            short_number(step.num_bytes, "B"), short_number(step.memory, "B"),
            _hours(step.hours), step.note,
        )  # fmt: skip
    todo = [step for step in made.steps if step.state != "complete"]
    flops = sum(step.flops or 0 for step in todo)
    hours = sum(step.hours for step in todo)
    memory = max((step.memory or 0 for step in todo), default=0.0)
    size = sum(step.num_bytes or 0 for step in todo)
    table.add_section()
    table.add_row(
        "to do", f"{len(todo)} of {len(made.steps)}", "",
        short_number(flops), short_number(size, "B"), short_number(memory, "B"), _hours(hours), "",
    )  # fmt: skip
    console().print(table)
    for sentence in made.warnings:
        click.echo(f"warning: {sentence}")
    for sentence in made.assumptions:
        click.echo(f"assumed: {sentence}")


def _hours(hours: float) -> str:
    if hours >= 1:
        return f"{hours:,.1f} h"
    minutes = hours * 60
    return f"{minutes:.1f} min" if minutes >= 1 else f"{minutes * 60:.0f} s"
