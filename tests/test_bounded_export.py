"""The export stage in less memory than its corpus takes."""

import json
import subprocess
import sys

import numpy as np
import pyarrow as pa
import pytest

from miniplm.data.parquet import write_parquet
from miniplm.data.shards import make_sidecar, open_shards, write_shard

pytestmark = pytest.mark.skipif(
    sys.platform != "linux", reason="the limit counts what Linux counts: written private memory"
)

LIMIT = 96 << 20
ROWS_PER_SHARD, ROW_IDS, NUM_SHARDS = 10_000, 1000, 16

# After imports, and after the threads' stacks, allow so much more.
STAGE = """
import json, resource, sys
from pathlib import Path
import pyarrow.compute
import miniplm.scoring.tables
from miniplm.export.exporter import export_corpus

folder, limit = Path(sys.argv[1]), int(sys.argv[2])
status = Path("/proc/self/status").read_text().splitlines()
used = next(int(line.split()[1]) * 1024 for line in status if line.startswith("VmData"))
resource.setrlimit(resource.RLIMIT_DATA, (used + limit, used + limit))
outcome = export_corpus(folder / "shards", folder / "selection", folder / "refined")
print(json.dumps(outcome.counts))
"""


@pytest.fixture
def folder(tmp_path):
    ids = np.random.default_rng(0).integers(1, 128, ROWS_PER_SHARD * ROW_IDS).astype(np.uint16)
    for number in range(NUM_SHARDS):
        sequence_ids = np.arange(ROWS_PER_SHARD, dtype=np.int64) + number * ROWS_PER_SHARD
        lengths = np.full(ROWS_PER_SHARD, ROW_IDS, np.int32)
        sidecar = make_sidecar(
            sequence_ids, ["text"] * ROWS_PER_SHARD, lengths, lengths.astype(np.int64),
            [["document"]] * ROWS_PER_SHARD,
        )  # fmt: skip
        info = write_shard(
            tmp_path / "shards" / f"data_{number}", [ids], sidecar,
            vocab_size=128, eos_id=0, max_length=ROW_IDS,
        )  # fmt: skip
        kept = sequence_ids[number % 2 :: 3]
        table = pa.table({"sequence_id": kept, "difference_score": np.ones(len(kept), np.float32)})
        path = tmp_path / "selection" / f"data_{number}.parquet"
        write_parquet(path, table, {"shard_hash": info.shard_hash})
    return tmp_path


def test_a_corpus_larger_than_the_limit(folder):
    assert ROWS_PER_SHARD * ROW_IDS * NUM_SHARDS * 2 > 3 * LIMIT
    command = [sys.executable, "-c", STAGE, str(folder), str(LIMIT)]
    environment = {
        "PYTHONPATH": ":".join(sys.path), "OMP_NUM_THREADS": "1", "MALLOC_ARENA_MAX": "2",
        "ARROW_DEFAULT_MEMORY_POOL": "system",
    }  # fmt: skip
    done = subprocess.run(command, capture_output=True, text=True, env=environment, check=False)
    assert done.returncode == 0, done.stderr[-2000:]
    kept = json.loads(done.stdout.splitlines()[-1])["sequences"]
    shards = open_shards(folder / "refined/shards")
    assert sum(map(len, shards)) == kept
    assert kept == sum(len(range(number % 2, ROWS_PER_SHARD, 3)) for number in range(NUM_SHARDS))
    original = open_shards(folder / "shards")
    for shard, source in zip(shards, original, strict=True):
        place = int(shard.sequence_ids[7] - source.sequence_ids[0])
        assert np.array_equal(shard.row(7), source.row(place))
