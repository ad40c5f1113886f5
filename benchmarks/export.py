"""Exporting the refined corpus: kept rows out of token shards into new ones."""

import struct
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import torch

from benchmarks.harness import Bench, Clock, Contender
from benchmarks.setting import Setting
from miniplm.data.parquet import write_parquet
from miniplm.data.shards import Shard, make_sidecar, open_shards, write_shard
from miniplm.export.exporter import export_corpus

_ROWS_PER_SHARD = 25_000
_VOCAB_SIZE = 50_257
_KEPT = 0.5


def prepare(_: Clock, *, folder: str, num_rows: int) -> None:
    """Rows of 900 to 1,025 ids, uint16, and a selection of half of them at random.

    A few more to warm up with: imports are nobody's cost.
    """
    _prepare(folder, num_rows)
    _prepare(f"{folder}/warm-up", 100)


def _prepare(folder: str, num_rows: int) -> None:
    generator = np.random.default_rng(0)
    for number, first in enumerate(range(0, num_rows, _ROWS_PER_SHARD)):
        count = min(_ROWS_PER_SHARD, num_rows - first)
        lengths = generator.integers(900, 1026, count).astype(np.int32)
        ids = generator.integers(1, _VOCAB_SIZE, int(lengths.sum()), dtype=np.uint16)
        sequence_ids = np.arange(first, first + count, dtype=np.int64)
        info = write_shard(
            Path(folder) / "shards" / f"data_{number}", [ids],
            make_sidecar(
                sequence_ids, ["text"] * count, lengths, 4 * lengths.astype(np.int64),
                [[f"document-{i}"] for i in sequence_ids],
            ),
            vocab_size=_VOCAB_SIZE, eos_id=0, max_length=1024,
        )  # fmt: skip
        kept = sequence_ids[generator.random(count) < _KEPT]
        table = pa.table({
            "sequence_id": kept,
            "difference_score": generator.random(len(kept), dtype=np.float32),
            "weight": np.ones(len(kept), np.float32),
        })  # fmt: skip
        path = Path(folder) / "selection" / f"data_{number}.parquet"
        write_parquet(path, table, {"shard_hash": info.shard_hash})


def authors(clock: Clock, *, folder: str, num_rows: int) -> float:
    """The authors' loop by its cost: each kept row becomes a tensor and is added to an indexed
    data set by itself, which writes its bytes and notes its size; the index is written last.
    """
    _authors(Clock(), f"{folder}/warm-up")
    num_kept = _authors(clock, folder)
    assert num_kept <= num_rows
    return float(num_kept)


def _authors(clock: Clock, folder: str) -> int:
    shards = open_shards(Path(folder) / "shards")
    kept = _kept(shards, folder)
    target = Path(folder) / "authors"
    _remove(target)
    target.mkdir()
    sizes: list[int] = []
    with clock:
        with (target / "data.bin").open("wb") as file:
            for shard, places in zip(shards, kept, strict=True):
                for place in places.tolist():
                    row = torch.tensor(shard.row(place))
                    array = np.array(row.numpy(), dtype=np.uint16)
                    file.write(array.tobytes(order="C"))
                    sizes.append(array.size)
        pointers, total = [], 0
        for size in sizes:
            pointers.append(total)
            total += 2 * size
        with (target / "data.idx").open("wb") as file:
            file.write(struct.pack("<9sQBQQ", b"MMIDIDX\0\0", 1, 8, len(sizes), len(sizes) + 1))
            file.write(np.array(sizes, np.int32).tobytes())
            file.write(np.array(pointers, np.int64).tobytes())
            file.write(np.arange(len(sizes) + 1, dtype=np.int64).tobytes())
    return len(sizes)


def miniplm(clock: Clock, *, folder: str, num_rows: int) -> float:
    """The export stage: rows, index, sidecar with scores and sources, and the hash of it all."""
    target, warm_up = Path(folder) / f"miniplm-{num_rows}", Path(folder) / "warm-up"
    _remove(target)
    _remove(warm_up / "miniplm")
    export_corpus(warm_up / "shards", warm_up / "selection", warm_up / "miniplm")
    with clock:
        outcome = export_corpus(Path(folder) / "shards", Path(folder) / "selection", target)
    clock.facts["written_bytes"] = sum(path.stat().st_size for path in target.rglob("*.*"))
    return float(outcome.counts["sequences"])


def limit(clock: Clock, *, folder: str, num_rows: int) -> float:
    """The same bytes, already in memory, written to the same folder and nothing else."""
    shards = open_shards(Path(folder) / "shards")
    kept = _kept(shards, folder)
    sizes = [int(s.lengths[p].sum()) for s, p in zip(shards, kept, strict=True)]
    blocks = [np.ones(size, np.uint16) for size in sizes]
    target = Path(folder) / f"limit-{num_rows}"
    _remove(target)
    target.mkdir()
    with clock:
        for number, block in enumerate(blocks):
            with (target / f"data_{number}.bin").open("wb") as file:
                file.write(memoryview(block).cast("B"))
    return float(sum(len(places) for places in kept))


def _kept(shards: list[Shard], folder: str) -> list[Any]:
    from miniplm.data.parquet import ColumnFile, places_of

    return [
        places_of(
            ColumnFile(Path(folder) / "selection" / f"{shard.prefix.name}.parquet").sequence_ids(),
            shard.sequence_ids,
        )
        for shard in shards
    ]


def _remove(folder: Path) -> None:
    import shutil

    shutil.rmtree(folder, ignore_errors=True)


def benches(setting: Setting) -> list[Bench]:
    """Half of the rows, kept at random."""
    num_rows = 400_000 if setting.size == "full" else 100_000
    return [
        Bench(
            name=f"export, {num_rows / 1e3:.0f}k rows, half kept",
            unit="rows",
            baseline="authors",
            contenders={
                "authors": Contender("export:authors"),
                "miniplm": Contender("export:miniplm"),
                "limit: write alone": Contender("export:limit"),
            },
            arguments={"folder": str(setting.folder / "export"), "num_rows": num_rows},
            goal=">= 5x, near the disk's or memory's bandwidth",
            prepare="export:prepare",
        )
    ]
