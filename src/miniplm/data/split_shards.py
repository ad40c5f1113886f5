"""The shards of a split: its packed rows, shuffled by seed, so many to a shard."""

import os
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import numpy as np

from miniplm.data.packing import PackingConfig
from miniplm.data.shards import write_shard
from miniplm.data.spill import Spill
from miniplm.data.splits import SPLITS, Split
from miniplm.data.tokenizer import TokenTable

_MOST_THREADS = 4
"""Writing soon waits for the disk, and each shard in the making takes memory."""


def write_split(
    spill: Spill, folder: Path, split: Split, seed: int, packing: PackingConfig, table: TokenTable
) -> None:
    """Shuffle a split's rows and write `folder/<split>/data_*`.

    A sequence's id is its place in the shuffled split, whatever the number of shards.
    """
    generator = np.random.Generator(
        np.random.PCG64(np.random.SeedSequence([seed, SPLITS.index(split)]))
    )
    order = generator.permutation(spill.num_rows)
    step = packing.sequences_per_shard
    rows = spill.finish()

    def write(number: int) -> None:
        part = order[number * step : (number + 1) * step]
        write_shard(
            folder / split / f"data_{number}",
            rows.ids(part),
            rows.sidecar(part, number * step),
            vocab_size=table.vocab_size,
            eos_id=table.eos_id,
            max_length=packing.max_length,
        )

    num_shards = -(-len(order) // step)
    with ThreadPoolExecutor(min(_MOST_THREADS, os.cpu_count() or 1)) as pool:
        for _ in pool.map(write, range(num_shards)):
            pass
