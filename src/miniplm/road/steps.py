"""The steps of a run as they are added, each with what it depends on."""

from collections.abc import Callable
from pathlib import Path

from miniplm.manifest import Outcome, StageSpec
from miniplm.road.step import Step


class Steps:
    """All steps of a run so far, in an order in which each comes after what it needs."""

    def __init__(self, run_dir: Path) -> None:
        self.run_dir = run_dir
        self.all: list[Step] = []

    def add(
        self,
        name: str,
        config: dict[str, object],
        needs: dict[str, Step],
        work: Callable[[Path], Outcome],
        inputs: dict[str, str] | None = None,
        settle: Callable[[], None] = lambda: None,
        judged: tuple[str, ...] = (),
    ) -> Step:
        """Add a step; `inputs` are fingerprints besides, or instead of, those of `needs`."""
        chained = {role: step.spec.fingerprint for role, step in needs.items()}
        step = Step(
            folder=self.run_dir / name,
            spec=StageSpec(name, config, {**chained, **(inputs or {})}),
            needs=tuple(needs.values()),
            work=work,
            settle=settle,
            judged=judged,
        )
        self.all.append(step)
        return step
