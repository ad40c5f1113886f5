"""The forms of a refined corpus, read back by others' readers, and their cards."""

import re
import shutil
from itertools import pairwise

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
import yaml

from conftest import random_rows
from foreign_formats import AuthorsReader, MegatronReader, gpt_samples
from miniplm.data.parquet import ColumnFile, write_parquet
from miniplm.data.pieces import split_at_eos
from miniplm.data.shards import ShardInfo, make_sidecar, write_shard
from miniplm.errors import ArtefactError
from miniplm.export.card import corpus_card
from miniplm.export.corpus_history import CorpusHistory, OtherTokens
from miniplm.export.forms import export_form
from miniplm.export.input_ids import export_input_ids
from miniplm.export.megatron import BLEND_NAME, export_megatron, prefix_name
from miniplm.export.text import text_tables
from miniplm.export.token_form import export_tokens
from miniplm.manifest import Manifest, Outcome
from miniplm.runtime.executors import serial, threads
from miniplm.selection.tables import UNTIL_FIELD

EOS = 0
ROWS = random_rows(30, seed=3)
SIZES = [12, 0, 8, 10]
REPEATS = np.array([1 + (index % 3 == 0) * 2 for index in range(30)], np.int32)


def refined(folder, *, rows=ROWS, sizes=SIZES, repeats=None, vocab_size=128):
    """Token shards of a refined corpus; one of them is empty."""
    begin = 0
    for number, size in enumerate(sizes):
        part = [np.array(row, np.int32) for row in rows[begin : begin + size]]
        sidecar = make_sidecar(
            np.arange(begin, begin + size) * 2,
            ["prose" if index % 2 else "code" for index in range(size)],
            np.array([len(row) for row in part], np.int32),
            np.array([3 * len(row) for row in part], np.int64),
            [_sources(row) for row in part],
        )
        scores = pa.array(np.arange(begin, begin + size, dtype=np.float32) / 8)
        sidecar = sidecar.append_column("difference_score", scores)
        if repeats is not None:
            sidecar = sidecar.append_column("repeats", pa.array(repeats[begin : begin + size]))
        write_shard(
            folder / f"data_{number}", part, sidecar,
            vocab_size=vocab_size, eos_id=EOS, max_length=64,
        )  # fmt: skip
        begin += size
    return folder


def _sources(row):
    count = int((row == EOS).sum()) + int(row[-1] != EOS)
    return [f"document-{n}" for n in range(count)]


def closed(row):
    return row if row[-1] == EOS else [*row, EOS]


def repeated(rows):
    return [row for row, count in zip(rows, REPEATS, strict=True) for _ in range(count)]


# Token shards for other loaders


def test_the_authors_loader_opens_token_shards_of_which_one_was_empty(tmp_path):
    shards = refined(tmp_path / "shards")
    outcome = export_tokens(shards, tmp_path / "out")
    assert AuthorsReader(tmp_path / "out").rows() == ROWS
    assert outcome.counts == {"sequences": 30, "shards": 3}
    assert outcome.num_tokens == sum(len(row) - 1 for row in ROWS)
    sidecars = [pq.read_table(tmp_path / f"out/data_{n}.parquet") for n in range(3)]
    ids = pa.concat_tables(sidecars)["sequence_id"].to_pylist()
    assert ids == [2 * index for index in range(30)]


def test_token_shards_are_linked_and_made_again_without_harm(tmp_path):
    shards = refined(tmp_path / "shards")
    export_tokens(shards, tmp_path / "out")
    assert (tmp_path / "out/data_1.bin").samefile(shards / "data_2.bin")
    export_tokens(shards, tmp_path / "out", executor=serial)
    assert AuthorsReader(tmp_path / "out").rows() == ROWS
    assert len(list((tmp_path / "out").iterdir())) == 9  # nothing temporary is left


def test_where_the_disk_knows_no_links_files_are_copied(tmp_path, monkeypatch):
    def no_links(*_):
        raise OSError

    monkeypatch.setattr("os.link", no_links)
    shards = refined(tmp_path / "shards")
    export_tokens(shards, tmp_path / "out")
    assert AuthorsReader(tmp_path / "out").rows() == ROWS
    assert not (tmp_path / "out/data_0.bin").samefile(shards / "data_0.bin")


def test_token_shards_hold_rows_as_often_as_they_count_when_asked_to(tmp_path):
    shards = refined(tmp_path / "shards", repeats=REPEATS)
    outcome = export_tokens(shards, tmp_path / "often", materialize_repeats=True)
    assert AuthorsReader(tmp_path / "often").rows() == repeated(ROWS)
    assert outcome.counts["sequences"] == REPEATS.sum()
    assert "repeats" not in pq.read_table(tmp_path / "often/data_0.parquet").column_names
    export_tokens(shards, tmp_path / "once")
    assert AuthorsReader(tmp_path / "once").rows() == ROWS
    assert "repeats" in pq.read_table(tmp_path / "once/data_0.parquet").column_names


# Megatron-LM


def prefixes(folder, name="refined"):
    return [MegatronReader(folder / prefix_name(name, n)) for n in range(3)]


@pytest.mark.parametrize("rows_at_once", [1, 5, 512])
def test_megatron_items_are_the_rows_and_end_with_eos(tmp_path, monkeypatch, rows_at_once):
    monkeypatch.setattr("miniplm.export.megatron._ROWS_AT_ONCE", rows_at_once)
    shards = refined(tmp_path / "shards")
    outcome = export_megatron(shards, tmp_path / "out", "refined")
    readers = prefixes(tmp_path / "out")
    items = [item for reader in readers for item in reader]
    assert items == [closed(row) for row in ROWS]
    added = sum(row[-1] != EOS for row in ROWS)
    assert outcome.counts == {"sequences": 30, "shards": 3, "added_eos": added}
    assert outcome.num_tokens == sum(len(row) - 1 for row in ROWS)
    for reader in readers:  # each item a document, as preprocess_data.py writes them
        assert reader.index.documents.tolist() == list(range(len(reader) + 1))


def test_samples_of_gpt_dataset_never_join_two_texts(tmp_path):
    rows = [[5, 6, 7, 8], [9, 10, EOS, 11], [12, 13, EOS]]
    shards = refined(tmp_path / "shards", rows=rows, sizes=[3])
    export_megatron(shards, tmp_path / "out", "refined")
    reader = MegatronReader(tmp_path / "out" / prefix_name("refined", 0))
    inside = {pair for row in rows for pair in pairwise(row)}
    for sample in gpt_samples(reader, length=4):
        for before, after in pairwise(sample):
            assert EOS in (before, after) or (before, after) in inside


def test_the_blend_weighs_prefixes_by_their_ids(tmp_path):
    shards = refined(tmp_path / "shards")
    export_megatron(shards, tmp_path / "out", "r0.5")
    words = (tmp_path / "out" / BLEND_NAME).read_text().split()
    assert words[1::2] == [f"r0.5_{n}_text_document" for n in range(3)]
    sizes = [sum(map(len, reader)) for reader in prefixes(tmp_path / "out", "r0.5")]
    assert [int(weight) for weight in words[::2]] == sizes


def test_megatron_items_repeat_when_asked_to(tmp_path):
    shards = refined(tmp_path / "shards", repeats=REPEATS)
    export_megatron(shards, tmp_path / "out", "refined", materialize_repeats=True)
    items = [item for reader in prefixes(tmp_path / "out") for item in reader]
    assert items == [closed(row) for row in repeated(ROWS)]


def test_megatron_prefixes_that_are_there_are_kept(tmp_path):
    shards = refined(tmp_path / "shards")

    def dies_at_second(function, tasks):
        for count, task in enumerate(tasks):
            if count == 1:
                raise KeyboardInterrupt
            yield function(task)

    with pytest.raises(KeyboardInterrupt):
        export_megatron(shards, tmp_path / "out", "refined", executor=dies_at_second)
    first = tmp_path / "out/refined_0_text_document.bin"
    written = first.stat().st_mtime_ns
    export_megatron(shards, tmp_path / "out", "refined", executor=threads)
    export_megatron(shards, tmp_path / "straight", "refined", executor=serial)
    assert first.stat().st_mtime_ns == written
    for path in (tmp_path / "straight").iterdir():
        assert (tmp_path / "out" / path.name).read_bytes() == path.read_bytes()
    other = refined(tmp_path / "other", rows=ROWS[::-1])
    with pytest.raises(ArtefactError, match="is not of these shards"):
        export_megatron(other, tmp_path / "out", "refined")


# Columns


def load(folder, cache):
    from datasets import load_dataset

    return load_dataset(str(folder), split="train", cache_dir=str(cache))


@pytest.mark.parametrize(("vocab_size", "kind"), [(128, "uint16"), (70_000, "int32")])
def test_input_ids_load_with_datasets(tmp_path, vocab_size, kind):
    shards = refined(tmp_path / "shards", vocab_size=vocab_size)
    outcome = export_input_ids(shards, tmp_path / "out")
    loaded = load(tmp_path / "out", tmp_path / "cache")
    assert loaded["input_ids"][:] == ROWS
    assert loaded.features["input_ids"].feature.dtype == kind
    assert loaded["sequence_id"][:] == [2 * index for index in range(30)]
    assert loaded["difference_score"][:] == [index / 8 for index in range(30)]
    assert loaded["domain"][:3] == ["code", "prose", "code"]
    assert loaded["source_ids"][:] == [_sources(np.array(row)) for row in ROWS]
    assert loaded["repeats"][:] == [1] * 30
    assert outcome.counts == {"sequences": 30, "shards": 3}
    assert outcome.num_tokens == sum(len(row) - 1 for row in ROWS)


def test_repeats_stay_a_column_where_there_are_columns(tmp_path, monkeypatch):
    monkeypatch.setattr("miniplm.export.input_ids._ROWS_AT_ONCE", 5)
    shards = refined(tmp_path / "shards", repeats=REPEATS)
    export_input_ids(shards, tmp_path / "out")
    tables = [pq.read_table(tmp_path / f"out/data_{n}.parquet") for n in range(3)]
    assert pa.concat_tables(tables)["repeats"].to_pylist() == REPEATS.tolist()
    assert pa.concat_tables(tables)["input_ids"].to_pylist() == ROWS
    before = (tmp_path / "out/data_0.parquet").stat().st_mtime_ns
    export_input_ids(shards, tmp_path / "out")
    assert (tmp_path / "out/data_0.parquet").stat().st_mtime_ns == before


def words(row):
    """Stands in for a tokenizer: ids as words."""
    return [" ".join(map(str, piece)) for piece in split_at_eos(row, EOS)]


@pytest.mark.parametrize("repeats", [None, REPEATS])
def test_text_says_how_often_it_counts(tmp_path, repeats):
    from miniplm.data.shards import Shard

    shard = Shard(refined(tmp_path / "shards", repeats=repeats) / "data_0")
    for table in text_tables(shard, words):
        for record in table.to_pylist():
            counts = 1 if repeats is None else REPEATS[record["sequence_id"] // 2]
            assert record["repeats"] == counts


# Cards


def manifest(stage, *, config=None, counts=None, facts=None, num_tokens=0, fingerprint=""):
    return Manifest(
        stage,
        fingerprint,
        config or {},
        {},
        counts or {},
        num_tokens,
        0.0,
        facts or {},
        0.0,
        "",
        {},
    )


def history(**changed):
    domains = {
        "code": {"num_sequences": 40, "num_kept": 10, "num_tokens_kept": 640, "mean_score": 0.25},
        "a|b\nc": {"num_sequences": 20, "num_kept": 20, "num_tokens_kept": 999, "mean_score": 2.0},
    }
    stages = {
        "tokenize": manifest(
            "tokenize",
            config={
                "tokenizer": {"name": "Qwen/Qwen1.5-1.8B"},
                "packing": {"max_length": 64},
            },
            facts={
                "vocab_size": 151_646,
                "eos_id": 151_643,
                "corpus": {"source": "files", "paths": ["/home/someone/secret/pile.jsonl"]},
            },
        ),
        "select": manifest(
            "select/refined",
            config={"policy": "top_ratio", "ratio": 0.5, "normalization": "per_token", "seed": 1},
            counts={"sequences": 60, "kept": 30},
            facts={"threshold": 0.123456, "domains": domains},
        ),
        "export": manifest("export/refined", fingerprint="0123456789abcdef"),
        "scores": {
            "teacher": manifest(
                "score/teacher", config={"name": "Qwen/Qwen1.5-1.8B", "revision": "abc"}
            ),
            "reference": manifest("score/reference"),
        },
        "trainings": {
            "reference": manifest(
                "train/reference", facts={"num_params": 104_000_000}, num_tokens=5_000_000
            )
        },
    }
    return CorpusHistory(**{**stages, **changed})


def parts(card):
    _, header, body = card.split("---\n", 2)
    return yaml.safe_load(header), body


WRITTEN = Outcome(counts={"sequences": 1200, "shards": 3, "added_eos": 17}, num_tokens=123_456)


@pytest.mark.parametrize("form", ["tokens", "megatron", "input_ids", "jsonl", "parquet"])
def test_a_card_tells_what_the_manifests_say(form):
    header, body = parts(corpus_card("refined", form, WRITTEN, history()))
    assert header["license"] == "other"
    assert "miniplm" in header["tags"]
    for fact in (
        "30 of\n60 sequences", "files: `pile.jsonl`", "`Qwen/Qwen1.5-1.8B`, revision `abc`",
        "104,000,000 parameters, trained from scratch on 5,000,000 tokens", "`top_ratio`",
        "| selection ratio | 0.5 |", "per_token", "0.1235 nats", "1,200 of up to 64 predicted",
        "| tokens | 123,456 |", "(151,646 entries)",
        "| code | 40 | 10 | 25.0 % | 640 | 0.2500 |",
        "| a\\|b c | 20 | 20 | 100.0 % | 999 | 2.0000 |",
    ):  # fmt: skip
        assert fact in body, fact
    assert "someone" not in body
    settings = re.search(r"```yaml\n(.*?)```", body, re.DOTALL)[1]
    assert yaml.safe_load(settings) == history().select.config


def test_a_card_says_what_is_special_about_its_form():
    _, body = parts(corpus_card("refined", "megatron", WRITTEN, history()))
    assert "added to 17 sequences" in body
    assert "Each sequence is in it once" in body
    _, body = parts(corpus_card("refined", "megatron", WRITTEN, history(), materialized=True))
    assert "Sequences that count several times in an epoch are in it as often." in body


def test_a_card_of_a_retokenised_corpus_tells_both_tokenizers_and_what_was_cut():
    retokenize = manifest(
        "retokenize/new", counts={"cut_bytes": 5, "bytes_encoded": 1000}, fingerprint="f" * 32
    )
    info = ShardInfo("", 50_280, 0, 1280)
    for name, words in (("EleutherAI/gpt-neox-20b", "`EleutherAI/gpt-neox-20b` (50,280 entries)"),
                        (None, "a byte-level BPE of 50,280 entries")):  # fmt: skip
        other = OtherTokens(name, info, retokenize)
        card = corpus_card("new", "input_ids", WRITTEN, history(retokenized=other))
        header, body = parts(card)
        assert header["configs"][0]["config_name"] == "input_ids-ffffffffffff"
        for fact in (
            f"| tokenizer | {words}", "1,200 of up to 1,280 predicted", "end-of-text,\nid 0",
            "| selected in the tokens of | `Qwen/Qwen1.5-1.8B` (151,646 entries) |",
            "| text cut off by retokenising | 0.50 % |",
            "Tokens in this table are those of the tokenizer that the text was selected in.",
        ):  # fmt: skip
            assert fact in body, fact


def test_a_card_of_a_baseline_has_no_threshold():
    selection = manifest(
        "select/random",
        config={"policy": "random", "normalization": "sum"},
        counts={"sequences": 60, "kept": 30},
    )
    before = history().tokenize
    embedded = before.facts | {"corpus": {"source": "embedded"}}
    tokenize = manifest("tokenize", config=before.config, facts=embedded)
    card = corpus_card("random", "tokens", WRITTEN, history(select=selection, tokenize=tokenize))
    _, body = parts(card)
    assert "`random`" in body
    assert "threshold" not in body
    assert "text that Python itself carries" in body


@pytest.fixture
def real(tmp_path):
    """A refined corpus with a real tokenizer beside it."""
    from miniplm.data.tokenizer import train_tokenizer

    train_tokenizer(["A small sentence.\n"] * 9, 300, tmp_path / "tokenizer")
    return refined(tmp_path / "shards"), tmp_path / "tokenizer"


@pytest.mark.parametrize("form", ["tokens", "input_ids", "jsonl", "parquet"])
def test_the_lines_on_the_card_load_the_folder(tmp_path, real, form, monkeypatch):
    monkeypatch.setattr("datasets.config.HF_DATASETS_CACHE", tmp_path / "cache")
    folder = tmp_path / "out"
    export_form(form, "refined", *real, history(), folder)
    (folder / "manifest.json").write_text("{}")  # what the stage leaves there
    (code,) = re.findall(r"```python\n(.*?)```", (folder / "README.md").read_text(), re.DOTALL)
    names = {}
    exec(code.replace("path/to/this/folder", str(folder)), names)  # noqa: S102
    if form == "tokens":
        assert sum(len(shard) for shard in names["shards"]) == 30
    elif form == "input_ids":
        assert names["dataset"]["input_ids"][:] == ROWS
    else:
        assert len(names["dataset"]["text"]) > 30
    assert (folder / "tokenizer/tokenizer.json").exists() == (form in ("tokens", "input_ids"))


def test_corpora_of_one_name_are_not_taken_for_each_other(tmp_path, real):
    """`datasets` caches a folder under its name and that of its configuration."""
    _, tokenizer = real
    for number, rows in enumerate([ROWS, ROWS[::-1]]):
        shards = refined(tmp_path / f"{number}-shards", rows=rows)
        exported = manifest("export/refined", fingerprint=f"{number}" * 32)
        folder = tmp_path / f"{number}/refined"
        export_form("input_ids", "refined", shards, tokenizer, history(export=exported), folder)
        assert load(folder, tmp_path / "cache")["input_ids"][:] == rows


def test_a_form_is_made_whole_where_a_kill_left_half_of_it(tmp_path, real):
    export_form("megatron", "refined", *real, history(), tmp_path / "out")
    whole = {path.name for path in (tmp_path / "out").rglob("*")}
    (tmp_path / "out/tokenizer/tokenizer.json").unlink()
    (tmp_path / "out/README.md").unlink()
    shutil.rmtree(tmp_path / "out/tokenizer")
    (tmp_path / "out/tokenizer").mkdir()
    export_form("megatron", "refined", *real, history(), tmp_path / "out")
    assert {path.name for path in (tmp_path / "out").rglob("*")} == whole


# Schedules


ENDS = np.array([0.3 if index % 3 == 0 else 1.0 for index in range(30)], np.float32)


def scheduled(folder):
    """A refined corpus that narrows: a third of the rows takes part until 0.3 of training."""
    refined(folder)
    begin = 0
    for number, size in enumerate(SIZES):
        path = folder / f"data_{number}.parquet"
        file = ColumnFile(path)
        ends = pa.array(ENDS[begin : begin + size])
        table = file.table().append_column(UNTIL_FIELD, ends)
        write_parquet(path, table, file.metadata, origin=file.origin)
        begin += size
    return folder


@pytest.mark.parametrize("form", ["jsonl", "parquet", "input_ids"])
def test_forms_with_columns_say_until_when_a_sequence_takes_part(tmp_path, real, form):
    _, tokenizer = real
    shards = scheduled(tmp_path / "scheduled")
    export_form(form, "refined", shards, tokenizer, history(), tmp_path / "out")
    loaded = load(tmp_path / "out", tmp_path / "cache")
    assert set(loaded["sequence_id"]) == {2 * index for index in range(30)}
    for number, until in zip(loaded["sequence_id"], loaded["until"], strict=True):
        assert np.float32(until) == ENDS[number // 2]


@pytest.mark.parametrize("form", ["tokens", "megatron", "input_ids", "jsonl", "parquet"])
def test_the_card_of_a_scheduled_corpus_says_that_it_narrows(tmp_path, real, form, caplog):
    _, tokenizer = real
    shards = scheduled(tmp_path / "scheduled")
    export_form(form, "refined", shards, tokenizer, history(), tmp_path / "out")
    _, body = parts((tmp_path / "out/README.md").read_text())
    assert "60 sequences of text (20 of them to the end of training), selected" in body
    assert "Here 10 take part until 0.3, 20 take part to the end.\n" in body
    assert ("order is lost" in body) == (form == "megatron")
    assert ("order is lost" in caplog.text) == (form == "megatron")
    assert ("sidecars `data_N.parquet` have it" in body) == (form == "tokens")


def test_a_corpus_without_a_schedule_does_not_speak_of_one(tmp_path, real, caplog):
    export_form("parquet", "refined", *real, history(), tmp_path / "out")
    assert "until" not in (tmp_path / "out/README.md").read_text()
    assert "until" not in pq.read_schema(tmp_path / "out/data_0.parquet").names
    export_form("megatron", "refined", *real, history(), tmp_path / "megatron")
    assert caplog.text == ""
