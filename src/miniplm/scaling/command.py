"""The work of `miniplm scaling`: read runs, find, print."""

import json
import math
from collections.abc import Iterable, Sequence
from dataclasses import asdict, dataclass, replace
from pathlib import Path

from rich.console import Console

from miniplm.errors import ConfigError
from miniplm.manifest import write_json
from miniplm.scaling.comparable import check_comparable
from miniplm.scaling.content import ScalingFindings
from miniplm.scaling.findings import scaling_findings
from miniplm.scaling.held_out_values import HELD_OUT_LOSS, LossKind
from miniplm.scaling.methods import curves_by_method, parse_methods
from miniplm.scaling.printing import refusal_lines, tables
from miniplm.scaling.read_curves import read_curves
from miniplm.scaling.series import FitSettings


@dataclass(frozen=True)
class ScalingQuestion:
    """What is asked of runs.

    Args:
        methods: `NAME=GLOB` over names of students; none: each name is a method.
        loss: Kind of the losses.
        baseline: The method that others are compared with; None: the first.
        budgets: Tokens to extrapolate to.
        settings: How laws are fitted.
        as_json: Print JSON.
        out: A file that gets the same JSON.
    """

    methods: Sequence[str] = ()
    loss: str = HELD_OUT_LOSS
    baseline: str | None = None
    budgets: Sequence[float] = ()
    settings: FitSettings = FitSettings()  # noqa: RUF009  (frozen)
    as_json: bool = False
    out: Path | None = None


def find_scaling(run_dirs: Sequence[Path], question: ScalingQuestion) -> ScalingFindings:
    """What the curves of runs say.

    Raises:
        StageNotReadyError: A folder holds no run, or no student has a curve.
        ConfigError: There is no such loss or method, or losses do not compare.
        ArtefactError: A file is damaged.
    """
    kind = LossKind(question.loss)
    if not all(0 < budget < math.inf for budget in question.budgets):
        raise ConfigError("--budget-tokens", ["takes a number of tokens, such as 1e12"])
    found = read_curves(run_dirs, kind)
    methods = curves_by_method(found.curves, parse_methods(question.methods))
    if question.baseline is not None and question.baseline not in methods:
        names = ", ".join(methods)
        raise ConfigError(
            "--baseline", [f"there is no method {question.baseline!r}; there are {names}"]
        )
    compared = {curve for curves in methods.values() for curve in curves}
    students = [student for student in found.students if student.curve in compared]
    cautions = check_comparable(students, kind)
    findings = scaling_findings(
        methods,
        kind,
        baseline=question.baseline,
        budgets=question.budgets,
        settings=question.settings,
    )
    return replace(findings, cautions=(*findings.cautions, *cautions, *found.left_out))


def print_scaling(run_dirs: Sequence[Path], question: ScalingQuestion, console: Console) -> None:
    """Print what the curves of runs say; a file is written only where one is asked for.

    Raises:
        MiniPLMError: What `find_scaling` raises.
    """
    findings = find_scaling(run_dirs, question)
    content = asdict(findings)
    if question.out is not None:
        _write(question.out, content)
    if question.as_json:
        console.out(json.dumps(content, indent=2, ensure_ascii=False), highlight=False)
        return
    for table in tables(findings):
        console.print(table)
    _print_lines(refusal_lines(findings), console)
    _print_lines([f"caution: {sentence}" for sentence in findings.cautions], console)
    if question.out is not None:
        _print_lines([f"wrote {question.out}"], console)


def _write(path: Path, content: object) -> None:
    try:
        write_json(path, content)
    except OSError as error:
        raise ConfigError("--out", [f"{path} cannot be written ({error.strerror})"]) from None


def _print_lines(lines: Iterable[str], console: Console) -> None:
    for line in lines:
        console.print(line, markup=False, highlight=False)
