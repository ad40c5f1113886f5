"""Students at the same time, each in a process of its own.

A small student cannot use many cores, nor a large GPU, by itself. Each process has its share of the
cores (`OMP_NUM_THREADS`, unless that is set), and one GPU, where there are several in turn.
"""

import logging
import os
import signal
import subprocess
import sys
import time
from collections import deque
from collections.abc import Mapping, Sequence
from pathlib import Path

from miniplm.errors import StoppedError, TrainingError
from miniplm.runtime.log import logger
from miniplm.runtime.signals import stop_requests

COMMAND = "finish-student"
"""Hidden subcommand of the processes."""
_LOOK_SECONDS = 0.2


def finish_students(run_dir: Path, students: Sequence[str], at_once: int) -> None:
    """Train and evaluate students of a run, several at the same time.

    Where one cannot be finished, or this process is told to stop, the others are told to stop, too:
    they write a checkpoint, and nothing is lost.

    Args:
        run_dir: Folder of the run, with its recipe; what students build on is complete.
        students: Their names, in the order in which they are begun.
        at_once: How many at the same time.

    Raises:
        TrainingError: A student could not be finished.
        StoppedError: SIGTERM came.
    """
    todo, slots = deque(students), deque(range(at_once))
    running: dict[str, tuple[int, subprocess.Popen[bytes]]] = {}
    logger.info("%d students, %d at once", len(todo), min(at_once, len(todo)))
    gpus = _gpus()
    try:
        with stop_requests() as stopping:
            while todo or running:
                while todo and slots:
                    student, slot = todo.popleft(), slots.popleft()
                    running[student] = slot, _start(run_dir, student, _share(slot, at_once, gpus))
                time.sleep(_LOOK_SECONDS)
                if stopping():
                    raise StoppedError(
                        f"stopped with {len(todo) + len(running)} students to go; "
                        "the same command goes on from there"
                    )
                ended = [
                    name for name, (_, process) in running.items() if process.poll() is not None
                ]
                for student in ended:
                    slot, process = running.pop(student)
                    slots.append(slot)
                    _require_success(student, process.returncode)
    finally:
        _stop([process for _, process in running.values()])


def _start(run_dir: Path, student: str, environment: Mapping[str, str]) -> subprocess.Popen[bytes]:
    loud = ["-v"] if logger.getEffectiveLevel() <= logging.DEBUG else []
    words = [COMMAND, str(run_dir), student, str(os.getpid())]
    # In a session of its own: an interrupt from the keyboard comes to this process alone, which
    # then tells the others in good order.
    return subprocess.Popen(
        [sys.executable, "-m", "miniplm", *loud, *words],
        env=dict(environment),
        start_new_session=True,
    )


def _share(slot: int, at_once: int, gpus: Sequence[str]) -> dict[str, str]:
    """The environment of a process, with its share of the machine and no bars of progress."""
    environment = {**os.environ, "TTY_COMPATIBLE": "0"}
    environment.setdefault("OMP_NUM_THREADS", str(max(1, _num_cores() // at_once)))
    if gpus:
        environment["CUDA_VISIBLE_DEVICES"] = gpus[slot % len(gpus)]
    return environment


def _num_cores() -> int:
    if hasattr(os, "sched_getaffinity"):
        return len(os.sched_getaffinity(0))
    return os.cpu_count() or 1


def _gpus() -> list[str]:
    """The GPUs of this process by their names for CUDA, their unused memory given back."""
    import torch

    if not torch.cuda.is_available():
        return []
    torch.cuda.empty_cache()
    chosen = os.environ.get("CUDA_VISIBLE_DEVICES")
    return chosen.split(",") if chosen else [str(n) for n in range(torch.cuda.device_count())]


def _require_success(student: str, code: int) -> None:
    if code == 0:
        return
    reason = "what went wrong stands above"
    if code < 0:
        name = signal.Signals(-code).name
        reason = f"its process was ended by {name}"
        if name == "SIGKILL":
            reason += "; if memory ran out, give a smaller --at-once"
    raise TrainingError(
        f"{student} could not be finished: {reason}. What is done is kept; run again to go on."
    )


def _stop(processes: Sequence[subprocess.Popen[bytes]]) -> None:
    """Tell processes to stop, and wait until they have written what they have."""
    for process in processes:
        process.terminate()
    for process in processes:
        process.wait()
