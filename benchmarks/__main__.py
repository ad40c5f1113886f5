"""`python -m benchmarks`: run the comparisons, print one table, write JSON and a plot."""

import json
import sys
import tempfile
from dataclasses import asdict
from datetime import UTC, datetime
from pathlib import Path

import click

from benchmarks import (
    export,
    generation,
    machine,
    methods,
    on_policy,
    output_layer,
    scoring,
    selection,
    selection_policies,
    tokenization,
    training,
)
from benchmarks.harness import Result, measure
from benchmarks.plot import ratios_svg
from benchmarks.setting import Setting
from benchmarks.table import facts_about_machine, print_table

STAGES = {
    "machine": machine,
    "tokenize": tokenization,
    "score": scoring,
    "output-layer": output_layer,
    "select": selection,
    "select-policies": selection_policies,
    "export": export,
    "generate": generation,
    "train": training,
    "methods": methods,
    "minillm": on_policy,
}
_NAMED = ("select-policies", "generate", "train", "methods", "minillm")
"""Stages that the small size leaves out unless they are named: a quarter of an hour."""

_REPEATS = {"small": 2, "full": 3}


@click.command()
@click.option(
    "--data",
    type=click.Path(path_type=Path, exists=True, file_okay=False),
    help="Folder with corpus/ and tokenizers/; without it, the embedded text is used.",
)
@click.option(
    "--run",
    type=click.Path(path_type=Path, exists=True, file_okay=False),
    help="A finished run, such as runs/demo: its models show how bfloat16 agrees.",
)
@click.option(
    "--size",
    type=click.Choice(["small", "full"]),
    default="small",
    show_default=True,
    help="small: the data path, under ten minutes on two cores; policies, training and generating "
    "only if named. full: all of it, in the sizes docs/performance.md quotes.",
)
@click.option(
    "--repeats",
    type=int,
    help="Runs of each contender, in turn; 2 if small, 3 if full, by default.",
)
@click.option("--only", multiple=True, type=click.Choice(list(STAGES)), help="Only these stages.")
@click.option(
    "--out",
    type=click.Path(path_type=Path),
    default=Path("benchmarks/results"),
    show_default=True,
    help="Folder for results.json and ratios.svg.",
)
def main(
    data: Path | None,
    run: Path | None,
    size: str,
    repeats: int | None,
    only: tuple[str, ...],
    out: Path,
) -> None:
    """Measure each stage against the authors' way, or a library's, and the machine's limit.

    Contenders take turns, every run in a process of its own. Close everything else first.
    """
    results: list[Result] = []
    out.mkdir(parents=True, exist_ok=True)
    with tempfile.TemporaryDirectory(prefix="miniplm-bench-") as folder:
        setting = Setting(data, Path(folder), size, run)  # type: ignore[arg-type]
        for stage, module in STAGES.items():
            if not _is_wanted(stage, only, size):
                continue
            for bench in module.benches(setting):
                results.append(measure(bench, repeats or _REPEATS[size], _say))
                _write(results, out / "results.json", size)
    print_table(results)
    (out / "ratios.svg").write_text(ratios_svg(results), encoding="utf-8")
    click.echo(f"\n{out / 'results.json'}, {out / 'ratios.svg'}")


def _is_wanted(stage: str, only: tuple[str, ...], size: str) -> bool:
    if only:
        return stage in (*only, "machine")
    return size == "full" or stage not in _NAMED


def _say(message: str) -> None:
    click.echo(message, err=True)
    sys.stderr.flush()


def _write(results: list[Result], path: Path, size: str) -> None:
    """All figures so far, so that a run that is broken off loses nothing."""
    content = {
        "finished": datetime.now(UTC).isoformat(timespec="seconds"),
        "machine": facts_about_machine(),
        "size": size,
        "benches": [
            {
                "name": result.bench.name,
                "unit": result.bench.unit,
                "goal": result.bench.goal,
                "baseline": result.bench.baseline,
                "peer": result.bench.peer or result.bench.baseline,
                "contenders": {
                    name: {
                        "median_rate": result.rate(name),
                        "spread": result.spread(name),
                        "ratio": result.ratio(name),
                        "ratio_to_peer": result.ratio(name, result.bench.peer),
                        "peak_bytes": result.peak(name),
                        "device_peak_bytes": result.device_peak(name),
                        "runs": [asdict(one) for one in runs],
                    }
                    for name, runs in result.runs.items()
                },
            }
            for result in results
        ],
    }
    path.write_text(json.dumps(content, indent=1), encoding="utf-8")


if __name__ == "__main__":
    main()
