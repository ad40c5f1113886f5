"""The table that a run of the benchmarks ends with."""

import os
import platform
from collections.abc import Sequence
from typing import Any

import torch
from rich.console import Console
from rich.table import Table

from benchmarks.harness import Result


def facts_about_machine() -> dict[str, Any]:
    """What the figures depend on."""
    gpu = torch.cuda.get_device_name() if torch.cuda.is_available() else None
    return {
        "processor": _processor(),
        "cores": os.cpu_count(),
        "gpu": gpu,
        "torch": torch.__version__,
        "python": platform.python_version(),
    }


def _processor() -> str:
    try:
        with open("/proc/cpuinfo", encoding="ascii") as file:  # noqa: PTH123  (no path of ours)
            lines = [line for line in file if line.startswith("model name")]
    except OSError:
        return platform.processor() or platform.machine()
    return lines[0].partition(":")[2].strip() if lines else platform.machine()


def print_table(results: Sequence[Result]) -> None:
    """One line a contender: median rate, spread, ratios, share of peak, memory."""
    facts = facts_about_machine()
    device = facts["gpu"] or facts["processor"]
    title = f"{device}, {facts['cores']} cores, torch {facts['torch']}"
    table = Table(title=title, title_justify="left")
    headings = ["bench", "way", "rate", "spread", "ratio", "to peer", "of peak", "memory", "goal"]
    if facts["gpu"]:
        headings.insert(-1, "GPU memory")
    for heading in headings:
        right = heading not in ("bench", "way", "goal")
        table.add_column(heading, justify="right" if right else "left")
    peak = _matrix_product_peak(results)
    for result in results:
        for index, name in enumerate(result.runs):
            peer = result.bench.peer
            cells = [
                result.bench.name if index == 0 else "",
                name,
                f"{_short(result.rate(name))} {result.bench.unit}/s",
                f"{result.spread(name):.0%}",
                f"{result.ratio(name):.2f}x",
                f"{result.ratio(name, peer):.2f}x" if peer else "",
                _share_of_peak(result, name, peak),
                f"{result.peak(name) / 1e9:.2f} GB",
                result.bench.goal if index == 0 else "",
            ]
            if facts["gpu"]:
                cells.insert(-1, f"{result.device_peak(name) / 1e9:.2f} GB")
            table.add_row(*cells)
        table.add_section()
    console = Console()
    (console if console.is_terminal else Console(width=180)).print(table)
    for result in results:
        for name in result.runs:
            shown = {
                key: value
                for key, value in result.runs[name][-1].facts.items()
                if key != "flops_per_second"
            }
            if shown:
                print(f"{result.bench.name}, {name}: {_words(shown)}")


def _matrix_product_peak(results: Sequence[Result]) -> float | None:
    """The best bfloat16 matrix product of this run, FLOP/s."""
    for result in results:
        if "bfloat16" in result.runs:
            return max(run.rate for run in result.runs["bfloat16"])
    return None


def _share_of_peak(result: Result, name: str, peak: float | None) -> str:
    rates = [run.facts.get("flops_per_second") for run in result.runs[name]]
    if peak is None or None in rates:
        return ""
    return f"{sorted(rates)[len(rates) // 2] / peak:.0%}"


def _words(facts: dict[str, Any]) -> str:
    return ", ".join(
        f"{key.replace('_', ' ')} {value:.4g}" if isinstance(value, float) else
        f"{key.replace('_', ' ')} {value}"
        for key, value in facts.items()
    )  # fmt: skip


def _short(number: float) -> str:
    for limit, suffix in ((1e12, "T"), (1e9, "G"), (1e6, "M"), (1e3, "k")):
        if number >= limit:
            return f"{number / limit:.3g} {suffix}"
    return f"{number:.3g}"
