import json

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from conftest import random_rows, write_rows
from made_up_tokenizers import sentencepiece_like
from miniplm.data.encoders import TokenizersEncoder
from miniplm.data.pieces import split_at_eos
from miniplm.data.shards import Shard, make_sidecar, open_shards, write_shard
from miniplm.data.tokenizer import load_tokenizer, token_bytes, token_table, train_tokenizer
from miniplm.errors import ArtefactError
from miniplm.export.exporter import export_corpus
from miniplm.export.row_text import piece_texts
from miniplm.export.text import export_text, text_tables
from miniplm.runtime.executors import processes, serial, threads
from miniplm.selection.tables import write_selection

KEPT = [1, 2, 5, 9, 10, 11]


def write_selections(shards, folder, ids, scores=None):
    """The kept rows of each shard of a folder, in its order."""
    scores = dict(zip(ids, scores or [i / 8 for i in ids], strict=True))
    for shard in open_shards(shards):
        kept = np.array([i for i in shard.sequence_ids if i in scores], dtype=np.int64)
        write_selection(
            folder / f"{shard.prefix.name}.parquet",
            kept,
            np.array([scores[i] for i in kept], dtype=np.float32),
            {},
            {"shard_hash": shard.info.shard_hash},
        )
    return folder


ROWS = [[index + 1, 50, index + 2, *range(60, 60 + index)] for index in range(12)]


def export(tmp_path, name, per_shard, executor=serial, ids=KEPT):
    shards = write_rows(tmp_path / f"{name}-shards", ROWS, per_shard=per_shard)
    selection = write_selections(shards, tmp_path / f"{name}-selection", ids)
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
    for executor in (threads, processes):
        name = executor.__name__
        export(tmp_path, name, 3, executor)
        for path in sorted((tmp_path / "serial/shards").iterdir()):
            assert (tmp_path / name / "shards" / path.name).read_bytes() == path.read_bytes()


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
    export(tmp_path, "refined", 3)
    shards = write_rows(tmp_path / "others", [[1, *row] for row in ROWS], per_shard=3)
    with pytest.raises(ArtefactError, match="selects from another token shard"):
        export_corpus(shards, tmp_path / "refined-selection", tmp_path / "out", serial)
    fewer = write_rows(tmp_path / "fewer", ROWS[:6], per_shard=3)
    with pytest.raises(ArtefactError, match=r"selects from data_2, which .* does not hold"):
        export_corpus(fewer, tmp_path / "refined-selection", tmp_path / "out", serial)


def test_a_selection_of_rows_that_are_not_there_is_refused(tmp_path):
    shards = write_rows(tmp_path / "shards", ROWS)
    write_selection(
        tmp_path / "selection/data_0.parquet",
        np.array([3, 4000]),
        np.zeros(2, np.float32),
        {},
        {"shard_hash": Shard(shards / "data_0").info.shard_hash},
    )
    with pytest.raises(ArtefactError, match=r"selects sequences that .* does not hold"):
        export_corpus(shards, tmp_path / "selection", tmp_path / "out", serial)


def test_what_another_selection_left_is_made_again(tmp_path):
    export(tmp_path, "refined", 3)
    _, shards = export(tmp_path, "refined", 3, ids=[0, 1])
    assert [shard.sequence_ids.tolist() for shard in shards] == [[0, 1], [], [], []]


@pytest.mark.parametrize("block_ids", [1, 40, 10**6])
def test_shards_are_those_of_a_row_by_row_copy(tmp_path, monkeypatch, block_ids):
    monkeypatch.setattr("miniplm.export.exporter._BLOCK_IDS", block_ids)
    rows = random_rows(200, seed=9)
    kept = np.flatnonzero(np.random.default_rng(1).random(200) < 0.5).tolist()
    shards = write_rows(tmp_path / "shards", rows)
    selection = write_selections(shards, tmp_path / "selection", kept)
    export_corpus(shards, selection, tmp_path / "refined")
    simple = write_rows(tmp_path / "simple", [rows[index] for index in kept])
    for suffix in (".bin", ".idx"):
        there = (tmp_path / "refined/shards/data_0").with_suffix(suffix).read_bytes()
        assert there == (simple / "data_0").with_suffix(suffix).read_bytes()


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
    write_selections(tmp_path / "shards", tmp_path / "selection", [0, 1], [0.5, 0.25])
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


@pytest.mark.parametrize("form", ["jsonl", "parquet"])
def test_text_does_not_depend_on_workers_or_batches(text_shards, form, monkeypatch):
    root, _ = text_shards
    export_corpus(root / "shards", root / "selection", root / "refined", serial)
    export_text(root / "refined/shards", root / "tokenizer", form, root / "straight", serial)
    monkeypatch.setattr("miniplm.export.text._ROWS_AT_ONCE", 1)
    export_text(root / "refined/shards", root / "tokenizer", form, root / "text", threads)
    (written,) = (root / "text").iterdir()
    if form == "parquet":
        assert pq.read_table(written).equals(pq.read_table(root / "straight" / written.name))
    else:
        assert written.read_bytes() == (root / "straight" / written.name).read_bytes()
    before = written.stat().st_mtime_ns
    export_text(root / "refined/shards", root / "tokenizer", form, root / "text")
    assert written.stat().st_mtime_ns == before


def test_text_keeps_the_spaces_and_characters_that_a_decoder_changes(tmp_path):
    """SentencePiece: a space that begins a row is the text's, a broken character stays alone."""
    tokenizer = load_tokenizer(sentencepiece_like(tmp_path / "pieces", "first"))
    encode, eos_id = TokenizersEncoder(tokenizer), tokenizer.eos_token_id
    ids = encode(["one 漢 two", "next"]).split()
    row = np.concatenate([ids[0][4:], [eos_id], ids[1]]).astype(np.int64)
    begun = token_bytes(tokenizer)
    spelt = b"".join(begun[token] for token in row[: len(ids[0]) - 4])
    assert spelt.decode() == " 漢 two"
    assert piece_texts(tokenizer)(row) == [" 漢 two", "next"]
    broken = row[2:]  # begins with the second byte of the ideograph
    assert piece_texts(tokenizer)(broken) == ["\ufffd\ufffd two", "next"]


def test_text_of_word_pieces_is_what_the_tokenizer_decodes():
    from tokenizers import Tokenizer, models
    from transformers import PreTrainedTokenizerFast

    words = Tokenizer(models.WordLevel({"a": 0, "b": 1, "</s>": 2}, unk_token="a"))
    tokenizer = PreTrainedTokenizerFast(tokenizer_object=words, eos_token="</s>")
    assert piece_texts(tokenizer)(np.array([0, 1, 2, 1])) == ["a b", "b"]


def test_text_is_what_the_tokenizer_decodes(text_shards):
    root, _ = text_shards
    shard = Shard(root / "shards/data_0")
    tokenizer = load_tokenizer(root / "tokenizer")
    pieces = [
        piece for row in range(2) for piece in split_at_eos(shard.row(row), shard.info.eos_id)
    ]
    export_corpus(root / "shards", root / "selection", root / "refined", serial)
    tables = list(text_tables(Shard(root / "refined/shards/data_0"), piece_texts(tokenizer)))
    assert [text for table in tables for text in table["text"].to_pylist()] == [
        tokenizer.decode(piece, clean_up_tokenization_spaces=False) for piece in pieces
    ]


def test_the_shard_says_which_tokenizer_it_fits(tmp_path):
    _, shards = export(tmp_path, "refined", 1000)
    original = Shard(tmp_path / "refined-shards/data_0").info
    assert shards[0].info.vocab_size == original.vocab_size
    assert shards[0].info.shard_hash != original.shard_hash
