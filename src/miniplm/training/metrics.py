"""`metrics.jsonl`: a JSON line for every logged step."""

import contextlib
import json
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

from miniplm.manifest import write_atomically

METRICS_NAME = "metrics.jsonl"


@contextlib.contextmanager
def appending(path: Path, *, enabled: bool) -> Iterator[Callable[[dict[str, Any]], None]]:
    """A function that appends a JSON line to a file and flushes it."""
    if not enabled:
        yield lambda record: None
        return
    path.parent.mkdir(parents=True, exist_ok=True)
    with path.open("a", encoding="utf-8") as file:

        def write(record: dict[str, Any]) -> None:
            file.write(json.dumps(record) + "\n")
            file.flush()

        yield write


def read_metrics(path: Path) -> list[dict[str, Any]]:
    """The lines of a `metrics.jsonl`; a line cut off by a kill is left out."""
    records = []
    for line in path.read_text(encoding="utf-8").splitlines() if path.exists() else []:
        with contextlib.suppress(json.JSONDecodeError):
            records.append(json.loads(line))
    return records


def drop_metrics_after(path: Path, step: int) -> None:
    """Forget what was logged after the checkpoint that training goes on from."""
    if not path.exists():
        return
    kept = [r for r in read_metrics(path) if r["step"] <= step] if step else []
    write_atomically(path, "".join(json.dumps(record) + "\n" for record in kept))
