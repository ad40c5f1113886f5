"""How a comparison is measured: fresh processes, interleaved, medians and spreads.

A contender is a function in one of the modules here. It gets a `Clock` and the bench's arguments,
makes its own preparations and warm-up, runs what is compared inside `with clock:` and returns how
much work that was. Every run is a process of its own, so that peak memory is its own and nobody
inherits another's warm allocator; contenders take turns, so that a machine that slows down slows
all of them.
"""

import importlib
import json
import os
import resource
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Mapping
from dataclasses import asdict, dataclass, field
from pathlib import Path
from types import TracebackType
from typing import Any, Self

KEEP_MEMORY = {
    "MALLOC_MMAP_THRESHOLD_": str(1 << 32),
    "MALLOC_TRIM_THRESHOLD_": str(1 << 34),
    "MALLOC_TOP_PAD_": str(1 << 26),
}
"""Environment in which glibc gives no memory back to the system between steps."""


class Clock:
    """Times the block it is given, and finds the most memory that was resident in it."""

    def __init__(self) -> None:
        self.seconds = 0.0
        self.memory_before = 0
        self.memory_peak = 0
        self.device_peak = 0
        self.facts: dict[str, Any] = {}

    def __enter__(self) -> Self:
        os.sync()  # or the disk would still be busy with what the one before has written
        self.memory_before = _resident("VmRSS")
        _reset_peak()
        if (torch := _torch_with_gpu()) is not None:
            torch.cuda.synchronize()
            torch.cuda.reset_peak_memory_stats()
        self._started = time.perf_counter()
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        if (torch := _torch_with_gpu()) is not None:
            torch.cuda.synchronize()
            self.device_peak = max(self.device_peak, torch.cuda.max_memory_allocated())
        self.seconds += time.perf_counter() - self._started
        self.memory_peak = max(self.memory_peak, _resident("VmHWM"))


@dataclass(frozen=True)
class Contender:
    """One way to do the work.

    Args:
        function: `module:name` below this package, called with a `Clock` and the arguments.
        arguments: Added to those of the bench.
        environment: Variables set for its process.
    """

    function: str
    arguments: Mapping[str, Any] = field(default_factory=dict)
    environment: Mapping[str, str] = field(default_factory=dict)


@dataclass(frozen=True)
class Bench:
    """Ways to do the same work, side by side.

    Args:
        name: Of the stage and the size, such as `select, 100M rows`.
        unit: What the functions count, in the plural: `tokens`, `rows`, `bytes`.
        baseline: The contender that ratios are against.
        contenders: By name; ours is called `miniplm`.
        arguments: Keyword arguments of every contender's function; have to fit in JSON.
        goal: What the project set out to reach, in words, for the table.
        prepare: `module:name` called once with the arguments before the first run.
        peer: Another contender to show ratios against, a stronger one than the baseline.
        once: It is not timed but checked: one run is enough.
    """

    name: str
    unit: str
    baseline: str
    contenders: Mapping[str, Contender]
    arguments: Mapping[str, Any] = field(default_factory=dict)
    goal: str = ""
    prepare: str | None = None
    peer: str | None = None
    once: bool = False


@dataclass(frozen=True)
class Run:
    """One measured run; memory in bytes, `memory_before` what was held when the clock started.

    `memory_peak` is the most that the process held, `device_peak` the most that a GPU did.
    """

    amount: float
    seconds: float
    memory_before: int
    memory_peak: int
    children_peak: int
    facts: dict[str, Any]
    device_peak: int = 0

    @property
    def rate(self) -> float:
        """Units a second."""
        return self.amount / self.seconds


@dataclass(frozen=True)
class Result:
    """All runs of a bench, by contender."""

    bench: Bench
    runs: dict[str, list[Run]]

    def rate(self, name: str) -> float:
        """Median units a second."""
        return statistics.median(run.rate for run in self.runs[name])

    def spread(self, name: str) -> float:
        """(largest - smallest) / median of the rates."""
        rates = [run.rate for run in self.runs[name]]
        return (max(rates) - min(rates)) / statistics.median(rates)

    def ratio(self, name: str, to: str | None = None) -> float:
        """Median over the rounds of the rate against another's in the same round.

        Args:
            name: Of a contender.
            to: Of the other; the baseline if not given.
        """
        pairs = zip(self.runs[name], self.runs[to or self.bench.baseline], strict=True)
        return statistics.median(ours.rate / theirs.rate for ours, theirs in pairs)

    def peak(self, name: str) -> int:
        """Most memory resident in any run, of the process or the largest of its children."""
        return max(max(run.memory_peak, run.children_peak) for run in self.runs[name])

    def device_peak(self, name: str) -> int:
        """Most memory of a GPU in any run."""
        return max(run.device_peak for run in self.runs[name])


def measure(bench: Bench, repeats: int, say: Callable[[str], None]) -> Result:
    """Run all contenders in turn, `repeats` times over (or once, where that is enough).

    Raises:
        RuntimeError: A contender failed; the message ends with what it printed.
    """
    if bench.prepare is not None:
        say(f"{bench.name}: preparing")
        _in_process(Contender(bench.prepare), dict(bench.arguments))
    runs: dict[str, list[Run]] = {name: [] for name in bench.contenders}
    repeats = 1 if bench.once else repeats
    for turn in range(repeats):
        for name, contender in bench.contenders.items():
            run = _in_process(contender, {**bench.arguments, **contender.arguments})
            runs[name].append(run)
            say(f"{bench.name}: {name} {turn + 1}/{repeats}: {run.rate:,.0f} {bench.unit}/s")
    return Result(bench, runs)


def _in_process(contender: Contender, arguments: dict[str, Any]) -> Run:
    with tempfile.TemporaryDirectory() as folder:
        answer = Path(folder) / "run.json"
        task = json.dumps([contender.function, arguments, str(answer)])
        done = subprocess.run(
            [sys.executable, "-m", "benchmarks.harness", task],
            cwd=Path(__file__).resolve().parents[1],
            env={**os.environ, **contender.environment},
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            text=True,
            check=False,
        )
        if done.returncode != 0:
            raise RuntimeError(f"{contender.function}({arguments}) failed:\n{done.stdout[-4000:]}")
        return Run(**json.loads(answer.read_text(encoding="utf-8")))


def _work(task: str) -> None:
    """What the child process does."""
    name, arguments, answer = json.loads(task)
    module, _, function = name.partition(":")
    clock = Clock()
    amount = getattr(importlib.import_module(f"benchmarks.{module}"), function)(clock, **arguments)
    children = resource.getrusage(resource.RUSAGE_CHILDREN).ru_maxrss * 1024
    run = Run(
        amount=float(amount or 0),
        seconds=clock.seconds or float("nan"),
        memory_before=clock.memory_before,
        memory_peak=clock.memory_peak,
        children_peak=children,
        facts=clock.facts,
        device_peak=clock.device_peak,
    )
    Path(answer).write_text(json.dumps(asdict(run)), encoding="utf-8")


def _resident(key: str) -> int:
    """`VmRSS` or `VmHWM` of this process in bytes; where there is no /proc, the most so far."""
    try:
        lines = Path("/proc/self/status").read_text(encoding="ascii").splitlines()
    except OSError:
        scale = 1 if sys.platform == "darwin" else 1024
        return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * scale
    line = next(line for line in lines if line.startswith(key))
    return int(line.split()[1]) * 1024


def _torch_with_gpu() -> Any:
    """torch, if the contender has used it on a GPU."""
    torch = sys.modules.get("torch")
    return torch if torch is not None and torch.cuda.is_initialized() else None


def _reset_peak() -> None:
    try:
        Path("/proc/self/clear_refs").write_text("5", encoding="ascii")
    except OSError:
        return  # the peak then counts from the start of the process


if __name__ == "__main__":
    _work(sys.argv[1])
