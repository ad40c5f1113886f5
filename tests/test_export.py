import json

import numpy as np
import pyarrow as pa
import pytest

from conftest import write_rows
from miniplm.data.encoders import TokenizersEncoder
from miniplm.data.parquet import write_parquet
from miniplm.data.shards import Shard, make_sidecar, open_shards, write_shard
from miniplm.data.tokenizer import load_tokenizer, token_table, train_tokenizer
from miniplm.errors import ArtefactError
from miniplm.export.exporter import export_corpus, kept_blocks
from miniplm.export.text import export_text, split_at_eos
from miniplm.runtime.executors import processes, serial, threads

KEPT = [1, 2, 5, 9, 10, 11]


def write_selection(folder, shards, ids, scores=None):
    """A selection of these sequences, as the select stage writes it: a file for each shard."""
    scores = dict(zip(ids, scores or [i / 8 for i in ids], strict=True))
    for shard in open_shards(shards):
        kept = [i for i in shard.sequence_ids.tolist() if i in scores]
        table = pa.table(
            {
                "sequence_id": np.array(kept, dtype=np.int64),
                "difference_score": np.array([scores[i] for i in kept], dtype=np.float32),
                "weight": np.ones(len(kept), dtype=np.float32),
            }
        )
        note = {"shard_hash": shard.info.shard_hash}
        write_parquet(folder / f"{shard.prefix.name}.parquet", table, note)
    return folder


ROWS = [[index + 1, 50, index + 2, *range(60, 60 + index)] for index in range(12)]


def export(tmp_path, name, per_shard, executor=serial, ids=KEPT):
    shards = write_rows(tmp_path / f"{name}-shards", ROWS, per_shard=per_shard)
    selection = write_selection(tmp_path / f"{name}-selection", shards, ids)
    outcome = export_corpus(shards, selection, tmp_path / name, executor)
    return outcome, open_shards(tmp_path / name / "shards")


@pytest.mark.parametrize("per_shard", [1000, 5, 3])
def test_kept_rows_keep_ids_order_and_scores(tmp_path, per_shard):
    outcome, shards = export(tmp_path, "refined", per_shard)
    rows = [shard.row(index).tolist() for shard in shards for index in range(len(shard))]
    assert rows == [ROWS[index] for index in KEPT]
    sidecar = pa.concat_tables([shard.sidecar.combine_chunks() for shard in shards])
    assert sidecar["sequence_id"].to_pylist() == KEPT
    assert sidecar["difference_score"].to_pylist() == [i / 8 for i in KEPT]
    assert sidecar["source_ids"].to_pylist() == [[f"source-{i}"] for i in KEPT]
    assert outcome.counts["sequences"] == 6
    assert outcome.num_tokens == sum(len(ROWS[i]) - 1 for i in KEPT)


def test_a_shard_of_which_nothing_is_kept_stays_as_an_empty_one(tmp_path):
    _, shards = export(tmp_path, "refined", 3, ids=[0, 11])
    assert [len(shard) for shard in shards] == [1, 0, 0, 1]


def test_workers_do_not_change_a_byte(tmp_path):
    export(tmp_path, "serial", 3, serial)
    for executor in (processes, threads):
        export(tmp_path, executor.__name__, 3, executor)
        for path in sorted((tmp_path / "serial/shards").iterdir()):
            again = tmp_path / executor.__name__ / "shards" / path.name
            assert again.read_bytes() == path.read_bytes()


def test_export_resumes_between_shards(tmp_path):
    def dies_at_third(function, tasks):
        for count, task in enumerate(tasks):
            if count == 2:
                raise KeyboardInterrupt
            yield function(task)

    with pytest.raises(KeyboardInterrupt):
        export(tmp_path, "refined", 3, dies_at_third)
    done = {p.name: p.stat().st_mtime_ns for p in (tmp_path / "refined/shards").iterdir()}
    assert len(done) == 6
    export(tmp_path, "refined", 3)
    export(tmp_path, "straight", 3)
    for path in (tmp_path / "straight/shards").iterdir():
        again = tmp_path / "refined/shards" / path.name
        assert again.read_bytes() == path.read_bytes()
        assert done.get(path.name) in (None, again.stat().st_mtime_ns)


def test_a_selection_of_other_shards_is_refused(tmp_path):
    export(tmp_path, "one", 3)
    export(tmp_path, "two", 4)
    with pytest.raises(ArtefactError, match=r"was not made from .* Select from these shards again"):
        export_corpus(tmp_path / "one-shards", tmp_path / "two-selection", tmp_path / "x", serial)


def test_a_selection_of_sequences_that_are_not_there_is_refused(tmp_path):
    export(tmp_path, "refined", 1000)
    path = tmp_path / "refined-selection/data_0.parquet"
    note = {"shard_hash": Shard(tmp_path / "refined-shards/data_0").info.shard_hash}
    table = pa.table({"sequence_id": [3, 4000], "difference_score": np.ones(2, np.float32)})
    write_parquet(path, table, note)
    with pytest.raises(ArtefactError, match=r"selects sequences that .* does not hold"):
        export_corpus(
            tmp_path / "refined-shards", tmp_path / "refined-selection", tmp_path / "x", serial
        )


def test_rows_are_joined_by_id_whatever_the_order_of_the_selection(tmp_path):
    export(tmp_path, "refined", 1000)
    path = tmp_path / "refined-selection/data_0.parquet"
    note = {"shard_hash": Shard(tmp_path / "refined-shards/data_0").info.shard_hash}
    table = pa.table({"sequence_id": KEPT, "difference_score": np.array(KEPT, np.float32)})
    write_parquet(path, table.take(np.array([3, 0, 5, 1, 4, 2])), note)
    export_corpus(
        tmp_path / "refined-shards", tmp_path / "refined-selection", tmp_path / "again", serial
    )
    sidecar = Shard(tmp_path / "again/shards/data_0").sidecar
    assert sidecar["difference_score"].to_pylist() == sidecar["sequence_id"].to_pylist() == KEPT


@pytest.mark.parametrize("block", [1, 100, 1 << 22])
def test_blocks_hold_the_kept_rows_back_to_back(block, tmp_path, monkeypatch):
    monkeypatch.setattr("miniplm.export.exporter._BLOCK_IDS", block)
    write_rows(tmp_path, ROWS)
    shard = Shard(tmp_path / "data_0")
    for kept in ([], [0], [11], KEPT, list(range(12))):
        blocks = [block.copy() for block in kept_blocks(shard, np.array(kept, dtype=np.int64))]
        ids = np.concatenate([*blocks, np.empty(0, np.uint16)])
        assert ids.tolist() == [id_ for index in kept for id_ in ROWS[index]]
        longest = sum(map(len, ROWS))  # a run of neighbours is not divided
        assert all(len(part) <= max(block, longest) for part in blocks)


def test_pieces_between_eos():
    assert [p.tolist() for p in split_at_eos(np.array([0, 5, 0, 0, 6]), 0)] == [[], [5], [], [6]]
    assert [p.tolist() for p in split_at_eos(np.array([5, 6]), 0)] == [[5, 6]]


@pytest.fixture
def text_shards(tmp_path):
    """Two rows over three documents, with a real tokenizer."""
    texts = ["One little sentence.", "Zwei kleine Sätze. 🙂", "Third <b>document</b>."]
    train_tokenizer(texts * 9, 320, tmp_path / "tokenizer")
    tokenizer = load_tokenizer(tmp_path / "tokenizer")
    table = token_table(tokenizer)
    a, b, c = TokenizersEncoder(tokenizer)(texts).split()
    eos = np.array([table.eos_id], dtype=np.int32)
    rows = [np.concatenate([a, eos, b, eos]), np.concatenate([c, eos])]
    sidecar = make_sidecar(
        np.arange(2), ["x", "y"], np.array([len(r) for r in rows], np.int32),
        np.array([1, 1]), [["a", "b"], ["c"]],
    )  # fmt: skip
    write_shard(
        tmp_path / "shards/data_0", rows, sidecar,
        vocab_size=table.vocab_size, eos_id=table.eos_id, max_length=64,
    )  # fmt: skip
    write_selection(tmp_path / "selection", tmp_path / "shards", [0, 1], [0.5, 0.25])
    return tmp_path, texts


@pytest.mark.parametrize("form", ["jsonl", "parquet"])
def test_text_opens_with_datasets_and_equals_the_documents(text_shards, form, tmp_path):
    root, texts = text_shards
    export_corpus(root / "shards", root / "selection", root / "refined", serial)
    export_text(root / "refined/shards", root / "tokenizer", form, root / "text")
    from datasets import load_dataset

    loaded = load_dataset(str(root / "text"), split="train", cache_dir=str(tmp_path / "cache"))
    assert loaded["text"][:] == texts
    assert loaded["domain"][:] == ["x", "x", "y"]
    assert loaded["source_id"][:] == ["a", "b", "c"]
    assert loaded["difference_score"][:] == [0.5, 0.5, 0.25]
    assert "<|endoftext|>" not in json.dumps(loaded[:])


def test_the_shard_says_which_tokenizer_it_fits(tmp_path):
    _, shards = export(tmp_path, "refined", 1000)
    original = Shard(tmp_path / "refined-shards/data_0").info
    assert shards[0].info.vocab_size == original.vocab_size
    assert shards[0].info.shard_hash != original.shard_hash
