import hashlib
import re
import shutil
import struct

import numpy as np
import pytest

from conftest import random_rows, write_rows
from miniplm.data.shards import Shard, ids_dtype, open_shards, shard_prefixes
from miniplm.errors import ArtefactError
from miniplm.manifest import Outcome, StageSpec
from miniplm.stage_runner import run_stage

ROWS = [[3, 1, 4, 1, 5], [9, 2], [6, 5, 3]]


@pytest.mark.parametrize(("vocab_size", "code", "letter"), [(128, 8, "H"), (70_000, 4, "i")])
def test_the_index_is_megatrons_byte_by_byte(tmp_path, vocab_size, code, letter):
    write_rows(tmp_path, ROWS, vocab_size=vocab_size)
    width = struct.calcsize(letter)
    expected = b"MMIDIDX\x00\x00" + struct.pack("<Q", 1) + struct.pack("<B", code)
    expected += struct.pack("<QQ", 3, 4)
    expected += struct.pack("<3i", 5, 2, 3)
    expected += struct.pack("<3q", 0, 5 * width, 7 * width)
    expected += struct.pack("<4q", 0, 1, 2, 3)
    assert (tmp_path / "data_0.idx").read_bytes() == expected
    flat = [token for row in ROWS for token in row]
    assert (tmp_path / "data_0.bin").read_bytes() == struct.pack(f"<{len(flat)}{letter}", *flat)


def test_rows_and_sidecar_are_read_back(tmp_path):
    write_rows(tmp_path, ROWS)
    shard = Shard(tmp_path / "data_0")
    assert [shard.row(index).tolist() for index in range(len(shard))] == ROWS
    assert shard.sidecar["num_tokens"].to_pylist() == [5, 2, 3]
    assert shard.sidecar["domain"].to_pylist() == ["even", "odd", "even"]
    assert shard.sidecar["source_ids"].to_pylist() == [["source-0"], ["source-1"], ["source-2"]]
    assert (shard.info.vocab_size, shard.info.eos_id, shard.info.max_length) == (128, 0, 64)


def test_the_hash_follows_content_only(tmp_path):
    for name, rows in {"a": ROWS, "b": ROWS, "c": ROWS[::-1]}.items():
        write_rows(tmp_path / name, rows)
    hashes = {name: Shard(tmp_path / name / "data_0").info.shard_hash for name in "abc"}
    assert hashes["a"] == hashes["b"] != hashes["c"]


def test_ids_are_small_where_they_fit():
    assert ids_dtype(65_499) == np.uint16
    assert ids_dtype(65_500) == np.int32


def test_shards_come_in_the_order_of_their_numbers(tmp_path):
    write_rows(tmp_path, random_rows(24), per_shard=2)
    assert [prefix.name for prefix in shard_prefixes(tmp_path)] == [f"data_{n}" for n in range(12)]
    assert sum(len(shard) for shard in open_shards(tmp_path)) == 24


def damaged(path, change):
    path.write_bytes(change(path.read_bytes()))


@pytest.mark.parametrize(
    ("suffix", "change", "message"),
    [
        (".idx", lambda data: data[:-8], "where 3 rows take 102; it is damaged"),
        (".idx", lambda data: b"XX" + data[2:], "not a Megatron index"),
        (".idx", lambda data: b"", "not a Megatron index"),
        (".idx", lambda data: data[:9] + b"\x02" + data[10:], "version 2"),
        (".bin", lambda data: data[:-2], r"has 18 bytes; its index speaks of 20"),
        (".parquet", lambda data: data[:-10], "damaged"),
    ],
)
def test_damage_is_named(tmp_path, suffix, change, message):
    write_rows(tmp_path, ROWS)
    damaged(tmp_path / f"data_0{suffix}", change)
    with pytest.raises(ArtefactError, match=message):
        _ = Shard(tmp_path / "data_0").info


@pytest.mark.parametrize(
    ("name", "change"),
    [
        ("data_0.idx", lambda path: path.write_bytes(path.read_bytes()[:-8])),
        ("data_0.bin", lambda path: path.write_bytes(path.read_bytes()[:-2])),
        ("data_0.parquet", lambda path: path.write_bytes(path.read_bytes()[:-10])),
        ("data_0.parquet", lambda path: path.unlink()),
        ("data_0.bin", lambda path: path.unlink()),
        ("data_0.idx", lambda path: path.unlink()),
    ],
)
def test_what_a_stage_wrote_is_made_again_by_it(tmp_path, name, change):
    """A complete stage is skipped, so that running again alone would not do."""

    def work(folder):
        write_rows(folder / "shards", ROWS + ROWS, per_shard=len(ROWS))
        return Outcome()

    spec, folder = StageSpec("export/refined", {}), tmp_path / "run/export/refined"
    run_stage(folder, spec, work)
    change(folder / "shards" / name)
    remedy = re.escape(f"Delete the folder {folder} and run export/refined again.")
    with pytest.raises(ArtefactError, match=remedy):
        _ = [shard.info for shard in open_shards(folder / "shards")]
    shutil.rmtree(folder)
    run_stage(folder, spec, work)
    assert len([shard.info for shard in open_shards(folder / "shards")]) == 2


def test_a_folder_above_with_another_manifest_is_not_to_be_deleted(tmp_path):
    write_rows(tmp_path / "shards", ROWS)
    (tmp_path / "manifest.json").write_text('{"name": "a web page"}')
    (tmp_path / "shards/data_0.parquet").write_bytes(b"")
    with pytest.raises(ArtefactError, match=r"is damaged .*Make it again, or copy") as found:
        _ = Shard(tmp_path / "shards/data_0").info
    assert "Delete" not in str(found.value)


def test_the_hash_is_that_of_index_and_ids_and_is_not_worked_out_again(tmp_path):
    """As docs/architecture.md says."""
    write_rows(tmp_path, ROWS)
    index, ids = (tmp_path / f"data_0{suffix}" for suffix in (".idx", ".bin"))
    recorded = hashlib.sha256(index.read_bytes() + ids.read_bytes()).hexdigest()
    assert Shard(tmp_path / "data_0").info.shard_hash == recorded
    ids.write_bytes(bytes([ids.read_bytes()[0] ^ 1]) + ids.read_bytes()[1:])
    changed = Shard(tmp_path / "data_0")
    assert changed.row(0)[0] == ROWS[0][0] ^ 1
    assert changed.info.shard_hash == recorded


def test_a_missing_shard_is_named(tmp_path):
    write_rows(tmp_path, random_rows(6), per_shard=2)
    for suffix in (".idx", ".bin", ".parquet"):
        (tmp_path / f"data_1{suffix}").unlink()
    with pytest.raises(ArtefactError, match="data_1 is missing"):
        open_shards(tmp_path)
    with pytest.raises(ArtefactError, match="nothing: there is no such folder"):
        open_shards(tmp_path / "nothing")


def test_a_sidecar_of_other_rows_is_refused(tmp_path):
    write_rows(tmp_path / "a", ROWS)
    write_rows(tmp_path / "b", ROWS[:2])
    (tmp_path / "b/data_0.parquet").replace(tmp_path / "a/data_0.parquet")
    with pytest.raises(ArtefactError, match="do not belong together"):
        _ = Shard(tmp_path / "a/data_0").sidecar
