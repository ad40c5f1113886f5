"""`metrics.jsonl`: a JSON line for every logged step."""

import contextlib
import errno
import json
import os
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

from miniplm.manifest import write_atomically
from miniplm.training.writing import writing

METRICS_NAME = "metrics.jsonl"


@contextlib.contextmanager
def appending(path: Path, *, enabled: bool) -> Iterator[Callable[[dict[str, Any]], None]]:
    """A function that appends a JSON line to a file at once; it raises what `writing` raises."""
    if not enabled:
        yield lambda record: None
        return
    with writing("the metrics", path):
        path.parent.mkdir(parents=True, exist_ok=True)
        file = path.open("ab", buffering=0)  # or closing it would try again on a full disk
    with file:

        def write(record: dict[str, Any]) -> None:
            line = json.dumps(record).encode() + b"\n"
            with writing("the metrics", path):
                if file.write(line) < len(line):
                    raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))

        yield write


def read_metrics(path: Path) -> list[dict[str, Any]]:
    """The lines of a `metrics.jsonl`; a line cut off by a kill is left out."""
    records = []
    for line in path.read_text(encoding="utf-8").splitlines() if path.exists() else []:
        with contextlib.suppress(json.JSONDecodeError):
            records.append(json.loads(line))
    return records


def drop_metrics_after(path: Path, step: int) -> None:
    """Forget what was logged after the checkpoint that training goes on from.

    Raises:
        TrainingError: The file cannot be written; it stays as it was.
    """
    if not path.exists():
        return
    kept = [r for r in read_metrics(path) if r["step"] <= step] if step else []
    with writing("the metrics", path):
        write_atomically(path, "".join(json.dumps(record) + "\n" for record in kept))
