"""Select and export go through more data than they are given memory for.

The limit is on the memory that a process may write to (RLIMIT_DATA: heap and private mappings, not
the address space that libraries reserve and not mapped files), counted from what it holds once the
libraries are loaded.
"""

import os
import subprocess
import sys
import textwrap

import numpy as np
import pyarrow as pa
import pytest

from miniplm.data.parquet import write_parquet
from miniplm.data.shards import index_bytes, make_sidecar, write_shard
from miniplm.scoring.tables import ScoreInfo, write_scores
from miniplm.selection.tables import write_selection

MEGABYTE = 1 << 20

PREAMBLE = """
    import resource, sys
    from pathlib import Path
    from miniplm.data.shards import open_shards
    from miniplm.export.exporter import export_corpus
    from miniplm.runtime.executors import serial
    from miniplm.scoring.tables import read_scores
    from miniplm.selection.config import SelectionConfig
    from miniplm.selection.selector import select_sequences

    root, limit = Path(sys.argv[1]), int(sys.argv[2])
    status = Path("/proc/self/status").read_text().splitlines()
    held = 1024 * next(int(line.split()[1]) for line in status if line.startswith("VmData"))
    resource.setrlimit(resource.RLIMIT_DATA, (held + limit, held + limit))
"""


def run_limited(root, limit, code):
    program = textwrap.dedent(PREAMBLE) + textwrap.dedent(code)
    environment = {**os.environ, "ARROW_DEFAULT_MEMORY_POOL": "system"}  # others reserve gigabytes
    return subprocess.run(
        [sys.executable, "-c", program, str(root), str(limit)],
        env=environment,
        capture_output=True, text=True, check=False,
    )  # fmt: skip


needs_limit = pytest.mark.skipif(
    not sys.platform.startswith("linux"), reason="RLIMIT_DATA counts mappings on Linux only"
)


@pytest.fixture(scope="module")
def scores(tmp_path_factory):
    """Six million rows: 240 MB in the columns that selection reads."""
    root = tmp_path_factory.mktemp("scores")
    per_shard = 500_000
    generator = np.random.default_rng(0)
    names = pa.array(["a", "b"])
    for number in range(12):
        ids = np.arange(number * per_shard, (number + 1) * per_shard)
        name, shard_hash = f"data_{number}", f"{number:064x}"
        codes = pa.array(generator.integers(0, 2, per_shard).astype(np.int32))
        sidecar = pa.table(
            {"sequence_id": ids, "domain": pa.DictionaryArray.from_arrays(codes, names)}
        )
        info = {"shard_hash": shard_hash, "vocab_size": 9, "eos_id": 0, "max_length": 9}
        write_parquet(root / f"shards/{name}.parquet", sidecar, info)
        lengths = np.ones(per_shard, dtype=np.int32)
        (root / f"shards/{name}.idx").write_bytes(index_bytes(lengths, np.dtype(np.uint16)))
        for role in ("teacher", "reference"):
            table = pa.table(
                {
                    "sequence_id": ids,
                    "log_prob": -generator.random(per_shard),
                    "num_tokens": lengths,
                    "num_bytes": lengths.astype(np.int64),
                }
            )
            write_scores(
                root / role / f"{name}.parquet", table, ScoreInfo("m", "f", "d", shard_hash)
            )
    return root


@needs_limit
def test_select_holds_a_part_of_the_scores_only(scores):
    done = run_limited(
        scores, 128 * MEGABYTE,
        """
        outcome = select_sequences(
            root / "shards", root / "teacher", root / "reference", SelectionConfig(), 1,
            root / "selection", serial,
        )
        print(outcome.counts)
        """,
    )  # fmt: skip
    assert done.stdout == "{'sequences': 6000000, 'kept': 3000000, 'not_comparable': 0}\n", done


@needs_limit
def test_the_limit_is_one_that_reading_all_scores_breaks(scores):
    done = run_limited(
        scores, 128 * MEGABYTE,
        """
        tables = [
            read_scores(path, f"{int(path.stem[5:]):064x}")
            for role in ("teacher", "reference") for path in (root / role).iterdir()
        ]
        """,
    )  # fmt: skip
    assert done.returncode != 0
    assert "malloc" in done.stderr or "MemoryError" in done.stderr


@pytest.fixture(scope="module")
def corpus(tmp_path_factory):
    """240 MB of ids in six shards, every third row of which is to be kept."""
    root = tmp_path_factory.mktemp("corpus")
    rows, length = 20_000, 1000
    ids = np.random.default_rng(0).integers(1, 60_000, rows * length).astype(np.uint16)
    for number in range(6):
        sequence_ids = np.arange(number * rows, (number + 1) * rows)
        sidecar = make_sidecar(
            sequence_ids, ["a"] * rows, np.full(rows, length, np.int32),
            np.full(rows, length, np.int64), [["source"]] * rows,
        )  # fmt: skip
        info = write_shard(
            root / f"shards/data_{number}", [ids], sidecar,
            vocab_size=60_000, eos_id=0, max_length=length - 1,
        )  # fmt: skip
        kept = sequence_ids[::3]
        ones = np.ones(len(kept), dtype=np.float32)
        origin = {"shard_hash": info.shard_hash}
        write_selection(root / f"selection/data_{number}.parquet", kept, ones, {}, origin)
    return root


@needs_limit
def test_export_holds_a_part_of_the_corpus_only(corpus):
    done = run_limited(
        corpus, 96 * MEGABYTE,
        """
        outcome = export_corpus(root / "shards", root / "selection", root / "refined", serial)
        print(outcome.counts, outcome.num_tokens)
        """,
    )  # fmt: skip
    assert done.stdout == f"{{'sequences': 40002}} {40002 * 999}\n", done


@needs_limit
def test_the_limit_is_one_that_reading_all_ids_breaks(corpus):
    done = run_limited(
        corpus, 96 * MEGABYTE, "rows = [shard.ids.copy() for shard in open_shards(root / 'shards')]"
    )
    assert done.returncode != 0
    assert "MemoryError" in done.stderr
