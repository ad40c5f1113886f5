"""Export: from token shards and a selection to the shards of the refined corpus."""

import os
import shutil
import struct
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import numpy as np

from benchmarks.harness import Bench, Clock, Contender
from benchmarks.setting import Setting

ROWS_PER_SHARD = 1 << 16  # as packing does
MEAN_LENGTH = 1000
_COMPLETE = "prepared"


def prepare(clock: Clock, folder: str, num_rows: int) -> float:
    """Write token shards of random ids and a selection of half of their rows, once for all runs."""
    root = Path(folder)
    if not (root / _COMPLETE).exists():
        with clock:
            for number, begin in enumerate(range(0, num_rows, ROWS_PER_SHARD)):
                _write_shard(root, number, begin, min(ROWS_PER_SHARD, num_rows - begin))
        (root / _COMPLETE).touch()
    return num_rows


def _write_shard(root: Path, number: int, begin: int, count: int) -> None:
    from miniplm.data.shards import make_sidecar, write_shard
    from miniplm.selection.tables import write_selection

    generator = np.random.default_rng([11, number])
    lengths = generator.integers(MEAN_LENGTH - 25, MEAN_LENGTH + 26, count).astype(np.int32)
    ids = generator.integers(1, 50_257, int(lengths.sum()), dtype=np.uint16)
    sequence_ids = np.arange(begin, begin + count, dtype=np.int64)
    sidecar = make_sidecar(
        sequence_ids,
        [f"domain-{index % 12}" for index in range(count)],
        lengths,
        4 * lengths.astype(np.int64),
        [[f"corpus/part-{index // 3:08d}"] for index in range(count)],
    )
    info = write_shard(
        root / f"shards/data_{number}", [ids], sidecar,
        vocab_size=50_257, eos_id=0, max_length=1024,
    )  # fmt: skip
    kept = sequence_ids[generator.random(count) < 0.5]
    scores = generator.standard_normal(len(kept)).astype(np.float32)
    weights = np.ones(len(kept), dtype=np.float32)
    origin = {"shard_hash": info.shard_hash}
    write_selection(root / f"selection/data_{number}.parquet", kept, scores, weights, origin)


def _warm(folder: Path) -> None:
    """Read files once, so that every contender finds its input in the page cache."""
    block = bytearray(1 << 22)
    for path in sorted(folder.iterdir()):
        with path.open("rb", buffering=0) as stream:
            while stream.readinto(block):
                pass


def _kept(root: Path) -> list[np.ndarray]:
    """Places of the kept rows in each shard."""
    from miniplm.data.parquet import ColumnFile

    paths = sorted((root / "selection").iterdir(), key=lambda path: int(path.stem[5:]))
    files = [ColumnFile(path) for path in paths]
    return [file.sequence_ids() - number * ROWS_PER_SHARD for number, file in enumerate(files)]


def _load_pyarrow() -> None:
    """Have pyarrow load what it loads at first use (pandas, if there), as torch is loaded too."""
    import pyarrow as pa
    import pyarrow.compute as _  # noqa: F401

    pa.array(np.zeros(1)).to_numpy()


def authors(clock: Clock, folder: str, **_: object) -> float:
    """What the authors' way costs: each kept row read, made a torch tensor and added on its own.

    Our own re-implementation of that cost: one memory-mapped index of rows, a slice a row, a
    tensor, its bytes appended to one file and its length to a list, the index written at the end.
    One process, as theirs. It keeps no sidecar and computes no hash.
    """
    import torch

    from miniplm.data.shards import Shard, shard_prefixes

    root = Path(folder)
    _warm(root / "shards")
    target = root / "authors"
    target.mkdir(exist_ok=True)
    kept, sizes = _kept(root), []
    torch.zeros(1).numpy()
    with clock:
        shards = [Shard(prefix) for prefix in shard_prefixes(root / "shards")]
        with (target / "data_0.bin").open("wb") as file:
            for shard, places in zip(shards, kept, strict=True):
                for place in places.tolist():
                    row = shard.ids[shard.starts[place] : shard.starts[place + 1]]
                    tensor = torch.from_numpy(row.astype(np.int32))
                    array = np.array(tensor.numpy(), dtype=np.uint16)
                    file.write(array.tobytes(order="C"))
                    sizes.append(array.size)
        lengths = np.array(sizes, dtype=np.int32)
        offsets = np.concatenate([[0], 2 * np.cumsum(lengths[:-1], dtype=np.int64)])
        with (target / "data_0.idx").open("wb") as file:
            head = struct.pack("<9sQBQQ", b"MMIDIDX\x00\x00", 1, 8, len(sizes), len(sizes) + 1)
            file.write(head + lengths.tobytes() + offsets.tobytes())
            file.write(np.arange(len(sizes) + 1, dtype=np.int64).tobytes())
    shutil.rmtree(target)
    return len(sizes)


def miniplm(clock: Clock, folder: str, **_: object) -> float:
    """The whole export stage: ids, index, hash and sidecar of every refined shard."""
    from miniplm.export.exporter import export_corpus

    root = Path(folder)
    _warm(root / "shards")
    target = root / "refined"
    shutil.rmtree(target, ignore_errors=True)
    _load_pyarrow()
    with clock:
        outcome = export_corpus(root / "shards", root / "selection", target)
    shutil.rmtree(target)
    return outcome.counts["sequences"]


def memory_copy(clock: Clock, num_rows: int, **_: object) -> float:
    """The same bytes copied in memory, by one thread per core, into a buffer used again."""
    kept = num_rows // 2
    return _in_threads(clock, kept, lambda block, buffer, _: np.copyto(buffer, block))


def plain_write(clock: Clock, folder: str, num_rows: int) -> float:
    """The same bytes written to new files of the same folder, by one thread per core."""
    target = Path(folder) / "plain"
    target.mkdir(exist_ok=True)

    def write(block: np.ndarray, _: np.ndarray, number: int) -> None:
        with (target / f"data_{number}").open("ab", buffering=0) as file:
            file.write(block)

    amount = _in_threads(clock, num_rows // 2, write)
    shutil.rmtree(target)
    return amount


def _in_threads(clock: Clock, num_rows: int, work) -> float:
    workers, size = os.cpu_count() or 1, 1 << 22
    blocks = [np.ones(size, np.uint8) for _ in range(2 * workers)]
    times = 2 * MEAN_LENGTH * num_rows // size // workers

    def run(number: int) -> None:
        for _ in range(times):
            work(blocks[number], blocks[workers + number], number)

    with clock, ThreadPoolExecutor(workers) as pool:
        list(pool.map(run, range(workers)))
    return times * workers * size / (2 * MEAN_LENGTH)


def benches(setting: Setting) -> list[Bench]:
    """Export of half of 100 or 400 thousand rows of about 1,000 ids; counts rows written."""
    num_rows = 100_000 if setting.size == "small" else 400_000
    return [
        Bench(
            name=f"export, {num_rows // 1000}k rows",
            unit="rows",
            baseline="authors",
            contenders={
                "authors": Contender("export:authors"),
                "miniplm": Contender("export:miniplm"),
                "limit: memory copy": Contender("export:memory_copy"),
                "limit: plain write": Contender("export:plain_write"),
            },
            arguments={"folder": str(setting.folder / f"export-{num_rows}"), "num_rows": num_rows},
            goal=">= 5x the authors' copy loop",
            prepare="export:prepare",
        )
    ]
