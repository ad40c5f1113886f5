import json

import numpy as np
import pyarrow as pa
import pytest

from conftest import write_rows
from miniplm.data.shards import Shard, make_sidecar, open_shards, write_parquet, write_shard
from miniplm.data.tokenizer import encode_batch, load_tokenizer, token_table, train_tokenizer
from miniplm.errors import ArtefactError
from miniplm.export.exporter import export_corpus
from miniplm.export.text import export_text, split_at_eos
from miniplm.runtime.executors import processes, serial

KEPT = [1, 2, 5, 9, 10, 11]


def write_selection(folder, ids, scores=None):
    table = pa.table(
        {
            "sequence_id": np.array(ids, dtype=np.int64),
            "difference_score": np.array(scores or [i / 10 for i in ids]),
            "weight": np.ones(len(ids)),
        }
    )
    write_parquet(folder / "selection.parquet", table, {})
    return folder


ROWS = [[index + 1, 50, index + 2, *range(60, 60 + index)] for index in range(12)]


def export(tmp_path, name, per_shard, executor=serial, ids=KEPT):
    shards = write_rows(tmp_path / f"{name}-shards", ROWS, per_shard=per_shard)
    selection = write_selection(tmp_path / f"{name}-selection", ids)
    outcome = export_corpus(shards, selection, tmp_path / name, executor)
    return outcome, open_shards(tmp_path / name / "shards")


@pytest.mark.parametrize("per_shard", [1000, 5, 3])
def test_kept_rows_keep_ids_order_and_scores(tmp_path, per_shard):
    outcome, shards = export(tmp_path, "refined", per_shard)
    rows = [shard.row(index).tolist() for shard in shards for index in range(len(shard))]
    assert rows == [ROWS[index] for index in KEPT]
    sidecar = pa.concat_tables([shard.sidecar.combine_chunks() for shard in shards])
    assert sidecar["sequence_id"].to_pylist() == KEPT
    assert sidecar["difference_score"].to_pylist() == [i / 10 for i in KEPT]
    assert sidecar["source_ids"].to_pylist() == [[f"source-{i}"] for i in KEPT]
    assert outcome.counts["sequences"] == 6
    assert outcome.num_tokens == sum(len(ROWS[i]) - 1 for i in KEPT)


def test_a_shard_of_which_nothing_is_kept_stays_as_an_empty_one(tmp_path):
    _, shards = export(tmp_path, "refined", 3, ids=[0, 11])
    assert [len(shard) for shard in shards] == [1, 0, 0, 1]


def test_workers_do_not_change_a_byte(tmp_path):
    export(tmp_path, "serial", 3, serial)
    export(tmp_path, "parallel", 3, processes)
    for path in sorted((tmp_path / "serial/shards").iterdir()):
        assert (tmp_path / "parallel/shards" / path.name).read_bytes() == path.read_bytes()


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
    with pytest.raises(ArtefactError, match=r"selects 2 sequences, .* hold 1 of them"):
        export(tmp_path, "refined", 3, ids=[3, 4000])


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
    a, b, c = encode_batch(tokenizer, texts)
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
    write_selection(tmp_path / "selection", [0, 1], [0.5, 0.25])
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
