"""Selection: from two score tables on disk to the kept sequences on disk."""

import os
from collections.abc import Mapping
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import numpy as np

from benchmarks.harness import Bench, Clock, Contender
from benchmarks.setting import Setting

RATIO = 0.5
DOMAINS = 12
ROWS_PER_SHARD = 1 << 20
_COMPLETE = "prepared"
_WARM_UP = "warm-up"


def prepare(clock: Clock, folder: str, num_rows: int) -> float:
    """Write both score tables in our format and the authors' score files, once for all runs.

    A few more to warm up with: imports are nobody's cost.
    """
    root = Path(folder)
    if not (root / _COMPLETE).exists():
        with clock:
            _prepare(root / _WARM_UP, 1000)
            _prepare(root, num_rows)
    return num_rows


def _prepare(root: Path, num_rows: int) -> None:
    root.mkdir(parents=True, exist_ok=True)
    begins = range(0, num_rows, ROWS_PER_SHARD)
    scores = {
        role: np.lib.format.open_memmap(
            root / f"{role}.npy", mode="w+", dtype=np.float32, shape=(num_rows,)
        )
        for role in ("teacher", "reference")
    }

    def write(number: int) -> None:
        begin = number * ROWS_PER_SHARD
        count = min(ROWS_PER_SHARD, num_rows - begin)
        losses = _write_shard(root, number, begin, count)
        for role, values in scores.items():
            values[begin : begin + count] = losses[role]

    with ThreadPoolExecutor(os.cpu_count()) as pool:
        list(pool.map(write, range(len(begins))))
    _write_authors_files(root, scores)
    (root / _COMPLETE).touch()


def _write_shard(root: Path, number: int, begin: int, count: int) -> dict[str, np.ndarray]:
    """One shard's index, sidecar and score tables; returns the mean losses of its rows."""
    import pyarrow as pa

    from miniplm.data.parquet import write_parquet
    from miniplm.data.shards import index_bytes
    from miniplm.scoring.tables import ScoreInfo, write_scores

    generator = np.random.default_rng([7, number])
    ids = np.arange(begin, begin + count, dtype=np.int64)
    domains = generator.integers(0, DOMAINS, count).astype(np.int32)
    num_tokens = generator.integers(700, 1025, count).astype(np.int32)
    difficulty = 2.5 + 0.1 * domains + 0.4 * generator.standard_normal(count)
    losses = {
        "teacher": difficulty,
        "reference": difficulty + 0.5 + 0.3 * generator.standard_normal(count),
    }
    name = f"data_{number}"
    hashed = f"{number:064x}"
    names = pa.array([f"domain-{index}" for index in range(DOMAINS)])
    shards = root / "shards"
    shards.mkdir(exist_ok=True)
    (shards / f"{name}.idx").write_bytes(
        index_bytes(np.zeros(0, np.int32), np.dtype(np.uint16))[:18]
        + np.array([count, count + 1], dtype="<i8").tobytes()
    )
    info = {"shard_hash": hashed, "vocab_size": 50257, "eos_id": 0, "max_length": 1024}
    sidecar = pa.table(
        {"sequence_id": ids, "domain": pa.DictionaryArray.from_arrays(domains, names)}
    )
    write_parquet(shards / f"{name}.parquet", sidecar, info)
    for role, loss in losses.items():
        table = pa.table(
            {
                "sequence_id": ids,
                "log_prob": -loss * num_tokens,
                "num_tokens": num_tokens,
                "num_bytes": 4 * num_tokens.astype(np.int64),
            }
        )
        info_of_scores = ScoreInfo(role, role, "bfloat16", hashed)
        write_scores(root / role / f"{name}.parquet", table, info_of_scores)
    return losses


def _write_authors_files(root: Path, scores: dict[str, np.ndarray]) -> None:
    import torch

    for role, values in scores.items():
        torch.save(torch.from_numpy(np.asarray(values)), root / f"{role}.pt")


def _warm(*paths: Path) -> None:
    """Read files once, so that every contender finds its input in the page cache."""
    block = bytearray(1 << 22)
    for path in paths:
        for file in sorted(path.rglob("*")) if path.is_dir() else [path]:
            if file.is_file():
                with file.open("rb", buffering=0) as stream:
                    while stream.readinto(block):
                        pass


def authors(clock: Clock, folder: str, num_rows: int) -> float:
    """What the authors' way costs: all scores in memory, all of them sorted, indices written.

    Our own re-implementation of that cost: mean losses per row as two float32 tensor files, their
    difference sorted by `torch.sort`, the indices of the upper half saved. On all cores that torch
    takes.
    """
    import torch

    root = Path(folder)
    torch.sort(torch.randn(1000), descending=True)
    _warm(root / "teacher.pt", root / "reference.pt")
    with clock:
        teacher = torch.load(root / "teacher.pt", weights_only=True)
        reference = torch.load(root / "reference.pt", weights_only=True)
        difference = reference - teacher
        _, order = torch.sort(difference, descending=True)
        kept = order[: int(RATIO * num_rows)].clone()
        torch.save(kept, root / "authors-kept.pt")
    return num_rows


def numpy_partition(clock: Clock, folder: str, num_rows: int) -> float:
    """A peer: numpy's selection algorithm on the authors' files, indices written."""
    root = Path(folder)
    _warm(root / "teacher.npy", root / "reference.npy")
    with clock:
        difference = np.load(root / "reference.npy")
        difference -= np.load(root / "teacher.npy")
        kept = num_rows - int(RATIO * num_rows)
        threshold = np.partition(difference, kept)[kept]
        np.save(root / "numpy-kept.npy", np.flatnonzero(difference >= threshold))
    return num_rows


def miniplm(
    clock: Clock, folder: str, num_rows: int, selection: Mapping[str, Any] | None = None
) -> float:
    """The whole select stage: join, threshold, facts for the manifest, kept rows as Parquet.

    Args:
        clock: Times it.
        folder: With the shards and the score tables.
        num_rows: In all tables together.
        selection: Fields of the `SelectionConfig`; the upper half by the difference if not given.
    """
    import shutil

    from miniplm.manifest import Outcome
    from miniplm.selection.config import SelectionConfig
    from miniplm.selection.selector import select_sequences

    config = SelectionConfig(**(selection or {"ratio": RATIO}))

    def select(root: Path) -> Outcome:
        shutil.rmtree(root / "selection", ignore_errors=True)
        return select_sequences(
            root / "shards", root / "teacher", root / "reference", config, 1, root / "selection"
        )

    root = Path(folder)
    select(root / _WARM_UP)
    shutil.rmtree(root / "selection", ignore_errors=True)
    _warm(root / "shards", root / "teacher", root / "reference")
    with clock:
        outcome = select(root)
    assert 0 < outcome.counts["kept"] < num_rows
    assert selection or outcome.counts["kept"] == int(RATIO * num_rows)
    return num_rows


def limit(clock: Clock, folder: str, num_rows: int) -> float:
    """The bytes alone: both columns of means read from memory that the system keeps, one thread a
    core, and as many bytes written as the selection takes.
    """
    root = Path(folder)
    _warm(root / "teacher.npy", root / "reference.npy")
    written = bytes(12 * int(RATIO * num_rows))

    def read(begin: int) -> None:
        block = bytearray(1 << 23)
        for role in ("teacher", "reference"):  # twice: our columns have eight bytes, these four
            with (root / f"{role}.npy").open("rb", buffering=0) as stream:
                for _ in range(2):
                    stream.seek(4 * begin)
                    stream.readinto(memoryview(block)[: 4 * ROWS_PER_SHARD])

    with clock:
        with ThreadPoolExecutor(os.cpu_count()) as pool:
            list(pool.map(read, range(0, num_rows, ROWS_PER_SHARD)))
        (root / "limit.bin").write_bytes(written)
    return num_rows


def rows(setting: Setting) -> int:
    """How many rows are selected from."""
    return 100_000_000 if setting.size == "full" else 10_000_000


def benches(setting: Setting) -> list[Bench]:
    """Half of the rows by their difference scores."""
    num_rows = rows(setting)
    return [
        Bench(
            name=f"select, {num_rows / 1e6:.0f}M rows",
            unit="rows",
            baseline="authors",
            contenders={
                "authors": Contender("selection:authors"),
                "numpy partition": Contender("selection:numpy_partition"),
                "miniplm": Contender("selection:miniplm"),
                "limit: read and write": Contender("selection:limit"),
            },
            arguments={"folder": str(setting.folder / "select"), "num_rows": num_rows},
            goal=">= 10x, <= 2 GB",
            prepare="selection:prepare",
            peer="numpy partition",
        )
    ]
