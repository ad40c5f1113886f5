"""Corpora that are tokenised already, as the MiniPLM authors release theirs."""

import json

import numpy as np
import pytest

from conftest import tiny_recipe, write_rows
from foreign_formats import AuthorsReader, MegatronReader, write_like_authors
from miniplm.corpus_sizes import CorpusSizes
from miniplm.data.chance import uniform_by_id
from miniplm.data.documents import CorpusConfig, corpus_fingerprint, read_documents
from miniplm.data.packing import PackingConfig
from miniplm.data.pieces import split_at_eos
from miniplm.data.records import DocumentTally
from miniplm.data.shards import Shard, open_shards
from miniplm.data.splits import SPLITS, SplitsConfig
from miniplm.data.token_corpus import Views, adopt_shards, find_token_shards, write_views
from miniplm.data.tokenization import TOO_SHORT, TokenizationConfig, tokenize_corpus
from miniplm.data.tokenizer import TokenizerConfig, load_tokenizer, token_table, train_tokenizer
from miniplm.errors import ArtefactError, ConfigError, DocumentError
from miniplm.export.exporter import kept_blocks
from miniplm.pipeline import run
from miniplm.planning import make_plan
from miniplm.publishing.parcel import corpus_parcel, student_parcel
from miniplm.recipe import make_recipe
from miniplm.road.road import Road
from miniplm.runtime.executors import serial
from miniplm.selection import effects

LENGTH = 32


@pytest.fixture(scope="module")
def tokenizer(tmp_path_factory):
    folder = tmp_path_factory.mktemp("tokenizer")
    train_tokenizer(["A small sentence about cats, dogs. Sätze 🙂 too!\n"] * 9, 300, folder)
    return folder


@pytest.fixture(scope="module")
def table(tokenizer):
    return token_table(load_tokenizer(tokenizer))


def made_up_rows(count, eos_id, seed=0):
    generator = np.random.default_rng(seed)
    rows = [generator.integers(1, 280, generator.integers(2, LENGTH + 2)) for _ in range(count)]
    for row in rows:
        row[generator.random(len(row)) < 0.08] = eos_id
    return [row.tolist() for row in rows]


@pytest.fixture
def rows(table):
    return made_up_rows(90, table.eos_id)


def all_rows(shards):
    return [shard.row(index).tolist() for shard in shards for index in range(len(shard))]


@pytest.mark.parametrize("dtype", ["<i4", "<u2"])
def test_their_folder_opens_and_nothing_is_written_there(tmp_path, rows, table, tokenizer, dtype):
    theirs = write_like_authors(tmp_path / "qwen-1025", rows, per_shard=40, dtype=dtype)
    before = {path.name: path.stat().st_mtime_ns for path in theirs.iterdir()}
    shards = adopt_shards(theirs, tmp_path / "ours", tokenizer)
    assert all_rows(shards) == rows
    ids = np.concatenate([shard.sequence_ids for shard in shards])
    assert ids.tolist() == list(range(90))
    assert {path.name: path.stat().st_mtime_ns for path in theirs.iterdir()} == before
    assert all((tmp_path / f"ours/data_{n}.bin").is_symlink() for n in range(3))
    info = shards[0].info
    longest = max(map(len, rows)) - 1
    assert (info.vocab_size, info.eos_id) == (table.vocab_size, table.eos_id)
    assert info.max_length == longest


def test_what_they_do_not_say_comes_from_the_tokenizer(tmp_path, rows, table, tokenizer):
    theirs = write_like_authors(tmp_path / "pile", rows, per_shard=40)
    shards = adopt_shards(theirs, tmp_path / "ours", tokenizer)
    facts = [record for shard in shards for record in shard.sidecar.to_pylist()]
    for number, (row, fact) in enumerate(zip(rows, facts, strict=True)):
        assert fact["domain"] == "pile"
        assert fact["num_tokens"] == len(row)
        assert fact["num_bytes"] == sum(table.num_bytes_V[token] for token in row)
        pieces = split_at_eos(np.array(row), table.eos_id)
        shard, place = divmod(number, 40)
        expected = [f"pile/data_{shard}:{place}#{piece}" for piece in range(len(pieces))]
        assert fact["source_ids"] == expected


@pytest.mark.parametrize("block_ids", [1, 40])
def test_facts_do_not_depend_on_how_the_ids_are_read(
    tmp_path, rows, tokenizer, monkeypatch, block_ids
):
    theirs = write_like_authors(tmp_path / "pile", rows, per_shard=40)
    whole = adopt_shards(theirs, tmp_path / "whole", tokenizer)
    monkeypatch.setattr("miniplm.data.shard_views._BLOCK_IDS", block_ids)
    pieces = adopt_shards(theirs, tmp_path / "pieces", tokenizer)
    for one, other in zip(whole, pieces, strict=True):
        assert one.sidecar.equals(other.sidecar)
        assert one.info == other.info


def test_their_ids_are_read_once_and_again_when_they_change(tmp_path, rows, tokenizer, monkeypatch):
    theirs = write_like_authors(tmp_path / "pile", rows, per_shard=40)
    first = adopt_shards(theirs, tmp_path / "ours", tokenizer)
    read = []
    from miniplm.data import token_corpus

    original = token_corpus.read_facts
    monkeypatch.setattr(
        token_corpus, "read_facts", lambda source, *rest: read.append(1) or original(source, *rest)
    )
    again = adopt_shards(theirs, tmp_path / "ours", tokenizer)
    assert read == []
    assert [shard.info for shard in again] == [shard.info for shard in first]
    write_like_authors(theirs, [rows[0], *rows[:39]], per_shard=40)
    changed = adopt_shards(theirs, tmp_path / "ours", tokenizer)
    assert len(read) == 1
    assert [a.info == b.info for a, b in zip(changed, first, strict=True)] == [False, True, True]


def test_both_readers_of_others_open_our_views(tmp_path, rows, tokenizer):
    theirs = write_like_authors(tmp_path / "pile", rows, per_shard=40)
    adopt_shards(theirs, tmp_path / "ours", tokenizer)
    assert AuthorsReader(tmp_path / "ours").rows() == rows
    assert [*MegatronReader(tmp_path / "ours/data_1")] == rows[40:80]


@pytest.mark.parametrize("given", [{}, {"domain_from": "constant", "domain": "pile"}])
def test_a_folder_in_which_only_some_shards_have_a_sidecar_is_refused(tmp_path, given):
    ours = write_rows(tmp_path / "ours", made_up_rows(30, 0), per_shard=10, vocab_size=300)
    config = CorpusConfig(source="tokens", paths=(str(ours),), **given)
    corpus_fingerprint(config)
    for number in (0, 2):
        (ours / f"data_{number}.parquet").unlink()
    with pytest.raises(DocumentError, match=r"2 of 3 token shards have no .*: data_0, data_2"):
        corpus_fingerprint(config)
    (ours / "data_1.parquet").unlink()  # as another program leaves them
    corpus_fingerprint(config)


def test_both_readers_of_others_open_our_shards(tmp_path):
    rows = made_up_rows(30, 0)
    write_rows(tmp_path, rows, per_shard=12, vocab_size=300)
    assert AuthorsReader(tmp_path).rows() == rows
    assert [*MegatronReader(tmp_path / "data_0")] == rows[:12]


def test_a_shard_without_a_sidecar_says_what_to_do(tmp_path, rows):
    theirs = write_like_authors(tmp_path / "pile", rows, per_shard=40)
    assert Shard(theirs / "data_0").row(3).tolist() == rows[3]
    with pytest.raises(ArtefactError, match=r"opened by adopt_shards, or by a recipe"):
        _ = Shard(theirs / "data_0").info


@pytest.mark.parametrize(
    ("row", "message"),
    [([5] * 40, r"rows of up to 40 ids; packing.max_length 32"), ([5, 300], "holds the id 300")],
)
def test_rows_that_do_not_fit_are_refused(tmp_path, rows, tokenizer, row, message):
    theirs = write_like_authors(tmp_path / "pile", [*rows, row], per_shard=40)
    with pytest.raises(ArtefactError, match=message):
        adopt_shards(theirs, tmp_path / "ours", tokenizer, max_length=LENGTH)


@pytest.mark.parametrize(
    ("place", "value", "message"),
    [
        (0, b"PAR1", "it starts with b'PAR1.*Make the shard again, or copy it again"),
        (17, b"\x06", "dtype code 6"),
        (34, b"\xff\xff\xff\xff", "cannot be"),
        (34 + 4 * 90 + 8, b"\x03", "cannot be"),
        (34 + 12 * 90 - 1, b"\x01", "its index speaks of"),
    ],
)
def test_a_damaged_index_is_named(tmp_path, rows, tokenizer, place, value, message):
    theirs = write_like_authors(tmp_path / "pile", rows, per_shard=90)
    data = bytearray((theirs / "data_0.idx").read_bytes())
    data[place : place + len(value)] = value
    (theirs / "data_0.idx").write_bytes(data)
    with pytest.raises((ArtefactError, DocumentError), match=message):
        adopt_shards(theirs, tmp_path / "ours", tokenizer)


@pytest.mark.parametrize(
    ("length", "message"),
    [
        (10, "has 10 bytes, where its head takes 34"),
        (500, "has 500 bytes, where 90 rows take 1122"),
    ],
)
def test_an_index_that_is_cut_off_is_named(tmp_path, rows, tokenizer, length, message):
    theirs = write_like_authors(tmp_path / "pile", rows, per_shard=90)
    data = (theirs / "data_0.idx").read_bytes()
    (theirs / "data_0.idx").write_bytes(data[:length])
    with pytest.raises((ArtefactError, DocumentError), match=message):
        adopt_shards(theirs, tmp_path / "ours", tokenizer)


def test_a_path_that_is_no_folder_of_shards_says_what_to_give(tmp_path, rows, tokenizer):
    theirs = write_like_authors(tmp_path / "pile/qwen-1025", rows, per_shard=90)
    for given, message in {
        tmp_path / "pil": "there is no such folder",
        theirs / "data_0.idx": "is a file; give the folder with",
        tmp_path / "pile": "qwen-1025 in it does: give that folder",
    }.items():
        with pytest.raises(DocumentError, match=message):
            adopt_shards(given, tmp_path / "ours", tokenizer)


def test_a_link_to_ids_that_are_gone_is_named(tmp_path, rows, tokenizer):
    theirs = write_like_authors(tmp_path / "pile", rows, per_shard=90)
    adopt_shards(theirs, tmp_path / "ours", tokenizer)
    (theirs / "data_0.bin").unlink()
    with pytest.raises(ArtefactError, match="is missing"):
        open_shards(tmp_path / "ours")


def test_another_tokenizer_is_suspected_where_no_document_ends(tmp_path, tokenizer, caplog):
    theirs = write_like_authors(tmp_path / "pile", [[5, 6, 7]] * 100, per_shard=100)
    adopt_shards(theirs, tmp_path / "ours", tokenizer)
    assert "is this the tokenizer they were cut with?" in caplog.text


# As the corpus of a run


def stage_config(paths, tokenizer, *, splits=None, seed=7, held_out=None, **corpus):
    return TokenizationConfig(
        corpus=CorpusConfig(source="tokens", paths=tuple(map(str, paths)), **corpus),
        splits=splits or SplitsConfig(reference=0.2, teacher=0.1, held_out=0.1),
        tokenizer=TokenizerConfig(name=str(tokenizer)),
        packing=PackingConfig(max_length=LENGTH),
        seed=seed,
        held_out_corpus=held_out,
    )


def rows_by_split(folder):
    return {
        split: {
            int(index): shard.row(place).tolist()
            for shard in open_shards(folder / split)
            for place, index in enumerate(shard.sequence_ids)
        }
        for split in SPLITS
        if (folder / split).exists()
    }


def test_each_row_goes_to_one_split_whatever_the_shards(tmp_path, table, tokenizer):
    rows = made_up_rows(600, table.eos_id)
    dealt = []
    for per_shard in (600, 130):
        theirs = write_like_authors(tmp_path / f"{per_shard}", rows, per_shard=per_shard)
        outcome = tokenize_corpus(stage_config([theirs], tokenizer), tmp_path / f"out-{per_shard}")
        dealt.append(rows_by_split(tmp_path / f"out-{per_shard}"))
    assert dealt[0] == dealt[1]
    together = {index: row for split in dealt[0].values() for index, row in split.items()}
    assert [together[index] for index in range(600)] == rows
    assert sum(map(len, dealt[0].values())) == 600
    for split, share in {"candidates": 0.6, "reference": 0.2, "teacher": 0.1}.items():
        assert len(dealt[0][split]) / 600 == pytest.approx(share, abs=0.06)
        counts = outcome.facts["splits"][split]
        assert counts["num_sequences"] == len(dealt[0][split])
        assert counts["num_tokens"] == sum(len(row) - 1 for row in dealt[0][split].values())
        expected = sum(table.num_bytes_V[row].sum() for row in dealt[0][split].values())
        assert counts["num_bytes"] == expected


def test_chance_is_not_used_up_by_dealing(tmp_path, table, tokenizer, monkeypatch):
    """What draws rows of a split by id and the run's seed finds numbers all over [0, 1)."""
    theirs = write_like_authors(tmp_path / "pile", made_up_rows(1200, table.eos_id), per_shard=400)
    splits = SplitsConfig(reference=0.25, teacher=0.25, held_out=0.25)
    tokenize_corpus(stage_config([theirs], tokenizer, splits=splits), tmp_path / "out")
    for split, rows in rows_by_split(tmp_path / "out").items():
        chances = uniform_by_id(np.array(list(rows)), 7)
        tenths, _ = np.histogram(chances, bins=10, range=(0, 1))
        assert (tenths > 0.4 * len(rows) / 10).all(), split
    monkeypatch.setattr(effects, "MODEL_TOKENS", 2000)
    assert effects.count_apart(tmp_path / "out/held_out", 7) is not None


def test_another_way_of_dealing_is_another_run(tmp_path, rows, tokenizer, monkeypatch):
    theirs = write_like_authors(tmp_path / "pile", rows, per_shard=40)
    recipe = tiny_recipe(theirs, tmp_path / "run")
    text = dict(recipe)
    recipe |= {
        "corpus": {"source": "tokens", "paths": [str(theirs)]},
        "tokenizer": {"name": str(tokenizer)},
    }
    (tmp_path / "pile/a.txt").write_text("Some text.")

    def fingerprints(content):
        return {s.name: s.spec.fingerprint for s in Road(make_recipe(content, "here")).steps}

    before = fingerprints(recipe), fingerprints(text)
    monkeypatch.setattr("miniplm.road.tokenized.DEALING_FORMAT", 99)
    after = fingerprints(recipe), fingerprints(text)
    assert not set(before[0].values()) & set(after[0].values())
    assert before[1] == after[1]


def test_the_seed_deals_anew_and_no_id_is_copied(tmp_path, rows, tokenizer):
    theirs = write_like_authors(tmp_path / "pile", rows, per_shard=40)
    for seed in (1, 2):
        tokenize_corpus(stage_config([theirs], tokenizer, seed=seed), tmp_path / f"{seed}")
    assert rows_by_split(tmp_path / "1") != rows_by_split(tmp_path / "2")
    assert all(path.is_symlink() for path in tmp_path.glob("[12]/*/data_*.bin"))


def test_a_smaller_share_lies_in_a_larger(tmp_path, rows, tokenizer):
    theirs = write_like_authors(tmp_path / "pile", rows, per_shard=40)
    taken = []
    for share in (0.4, 0.8, 1.0):
        folder = tmp_path / f"{share}"
        tokenize_corpus(stage_config([theirs], tokenizer, share=share), folder)
        taken.append({index for split in rows_by_split(folder).values() for index in split})
    assert taken[0] < taken[1] < taken[2]
    assert len(taken[2]) == 90


def test_rows_that_predict_nothing_are_left_out_and_counted(tmp_path, rows, tokenizer):
    theirs = write_like_authors(tmp_path / "pile", [[5], *rows, []], per_shard=50)
    outcome = tokenize_corpus(stage_config([theirs], tokenizer), tmp_path / "out")
    assert outcome.counts["dropped"] == {TOO_SHORT: 2}
    kept = {index for split in rows_by_split(tmp_path / "out").values() for index in split}
    assert kept == set(range(1, 91))


def test_several_folders_are_several_domains(tmp_path, rows, tokenizer):
    folders = [
        write_like_authors(tmp_path / name, part, per_shard=20)
        for name, part in {"news": rows[:50], "code": rows[50:]}.items()
    ]
    for number, (given, expected) in enumerate(
        [({}, ["code", "news"]), ({"domain_from": "constant", "domain": "pile"}, ["pile"])]
    ):
        tokenize_corpus(stage_config(folders, tokenizer, **given), tmp_path / f"{number}")
        shards = open_shards(tmp_path / f"{number}/candidates")
        found = {domain for shard in shards for domain in shard.sidecar["domain"].to_pylist()}
        assert sorted(found) == expected


def test_our_own_shards_keep_domains_and_sources(tmp_path, tokenizer, table):
    rows = made_up_rows(40, table.eos_id)
    ours = write_rows(
        tmp_path / "ours", rows, per_shard=15, vocab_size=table.vocab_size,
        eos_id=table.eos_id, max_length=LENGTH,
    )  # fmt: skip
    tokenize_corpus(stage_config([ours], tokenizer), tmp_path / "out")
    for shard in open_shards(tmp_path / "out/candidates"):
        for record in shard.sidecar.to_pylist():
            index = record["sequence_id"]
            assert record["source_ids"] == [f"source-{index}"]
            assert record["domain"] == ("even" if index % 2 == 0 else "odd")
    other = write_rows(tmp_path / "other", rows, vocab_size=301, eos_id=0, max_length=LENGTH)
    with pytest.raises(ArtefactError, match="was made with a tokenizer of 301 entries"):
        tokenize_corpus(stage_config([other], tokenizer), tmp_path / "refused")


def test_held_out_text_beside_token_shards_and_the_other_way(tmp_path, rows, tokenizer):
    theirs = write_like_authors(tmp_path / "pile", rows, per_shard=40)
    lines = [json.dumps({"text": f"Sentence number {n}. " * 4, "id": str(n)}) for n in range(60)]
    (tmp_path / "text.jsonl").write_text("\n".join(lines))
    text = CorpusConfig(paths=(str(tmp_path / "text.jsonl"),))
    splits = SplitsConfig(reference=0.3, held_out=0)
    config = stage_config([theirs], tokenizer, splits=splits, held_out=text)
    tokenize_corpus(config, tmp_path / "a")
    dealt = rows_by_split(tmp_path / "a")
    assert len(dealt["candidates"]) + len(dealt["reference"]) == 90
    assert len(dealt["held_out"]) > 10
    swapped = TokenizationConfig(text, splits, config.tokenizer, config.packing, 7, config.corpus)
    outcome = tokenize_corpus(swapped, tmp_path / "b")
    assert list(rows_by_split(tmp_path / "b")["held_out"].values()) == rows
    assert outcome.counts["documents"] == 60


def test_a_split_without_rows_is_refused(tmp_path, rows, tokenizer):
    theirs = write_like_authors(tmp_path / "pile", rows[:2], per_shard=40)
    splits = SplitsConfig(reference=0.01, held_out=0.01)
    with pytest.raises(DocumentError, match="no sequence is left for the split 'reference'"):
        tokenize_corpus(stage_config([theirs], tokenizer, splits=splits), tmp_path / "out")


def test_dealing_goes_on_after_a_kill(tmp_path, rows, table):
    theirs = write_like_authors(tmp_path / "pile", rows, per_shard=20)
    sources = find_token_shards([str(theirs)], None)

    def dies_at_third(function, tasks):
        for count, task in enumerate(tasks):
            if count == 2:
                raise KeyboardInterrupt
            yield function(task)

    def views(name):
        return Views([tmp_path / name], np.zeros_like, "all", table, LENGTH)

    with pytest.raises(KeyboardInterrupt):
        write_views(sources, views("out"), dies_at_third)
    done = {path: path.lstat().st_mtime_ns for path in (tmp_path / "out").iterdir()}
    assert len(done) == 6
    counts = write_views(sources, views("out"), serial)
    assert counts == write_views(sources, views("straight"), serial)
    assert {path: path.lstat().st_mtime_ns for path in done} == done
    for one, other in zip(
        open_shards(tmp_path / "out"), open_shards(tmp_path / "straight"), strict=True
    ):
        assert one.info == other.info


def test_rows_of_a_view_are_copied_as_those_of_a_shard(tmp_path, rows, tokenizer):
    theirs = write_like_authors(tmp_path / "pile", rows, per_shard=90)
    tokenize_corpus(stage_config([theirs], tokenizer), tmp_path / "out")
    (shard,) = open_shards(tmp_path / "out/candidates")
    places = np.arange(0, len(shard), 2)
    copied = np.concatenate([block.copy() for block in kept_blocks(shard, places)])
    assert copied.tolist() == [token for place in places for token in shard.row(place).tolist()]
    assert shard.num_ids == sum(len(shard.row(place)) for place in range(len(shard)))


def test_the_corpus_is_known_by_its_files(tmp_path, rows):
    theirs = write_like_authors(tmp_path / "pile", rows, per_shard=40)
    config = CorpusConfig(source="tokens", paths=(str(theirs),))
    before = corpus_fingerprint(config)
    assert corpus_fingerprint(config) == before
    write_like_authors(theirs, rows[::-1], per_shard=40)
    assert corpus_fingerprint(config) != before


def test_text_is_not_found_in_token_shards(tmp_path, rows):
    theirs = write_like_authors(tmp_path / "pile", rows, per_shard=40)
    with pytest.raises(DocumentError, match="holds token shards, not text"):
        read_documents(CorpusConfig(source="tokens", paths=(str(theirs),)), DocumentTally())
    (tmp_path / "empty").mkdir()
    with pytest.raises(DocumentError, match="holds no token shards"):
        corpus_fingerprint(CorpusConfig(source="tokens", paths=(str(tmp_path / "empty"),)))


def test_a_recipe_over_token_shards_names_their_tokenizer(tmp_path):
    shape = {"family": "qwen2", "hidden_size": 16, "num_layers": 1, "num_heads": 2}
    recipe = {
        "corpus": {"source": "tokens", "paths": [str(tmp_path)]},
        "splits": {"teacher": 0.1},
        "teacher": {"shape": shape, "training": {"budget": {"steps": 1}}},
        "reference": {"shape": shape, "training": {"budget": {"steps": 1}}},
    }
    with pytest.raises(ConfigError, match=r"tokenizer.name: source: tokens is read with"):
        make_recipe(recipe, "here")
    with pytest.raises(ConfigError, match="needs folders of token shards"):
        make_recipe({**recipe, "corpus": {"source": "tokens"}}, "here")


def test_a_run_starts_from_their_corpus_and_ends_in_their_form(tmp_path, table, tokenizer):
    rows = made_up_rows(120, table.eos_id)
    theirs = write_like_authors(tmp_path / "pile", rows, per_shard=9)
    recipe = tiny_recipe(theirs, tmp_path / "run")
    recipe |= {
        "corpus": {"source": "tokens", "paths": [str(theirs)]},
        "tokenizer": {"name": str(tokenizer)},
        "packing": {"max_length": LENGTH},
        "export": {"forms": ["tokens", "megatron", "input_ids", "jsonl"]},
    }
    for training in (recipe["training"], recipe["teacher"]["training"]):
        training["budget"] = {"steps": 2}
    recipe["students"] = {"miniplm": recipe["students"]["miniplm"]}
    made = make_recipe(recipe, "here")
    estimated = CorpusSizes(made, Road(made)).splits  # the plan's tokens, before anything is done
    assert sum(estimated.values()) == sum(len(row) - 1 for row in rows)
    assumptions = " ".join(make_plan(made).assumptions)
    assert "tokens are counted in the token shards" in assumptions
    assert "estimated" not in assumptions
    run(made)
    root = tmp_path / "run"
    refined = AuthorsReader(root / "export-tokens/refined").rows()
    ids = [i for shard in open_shards(root / "export/refined/shards") for i in shard.sequence_ids]
    assert refined == [rows[index] for index in ids]
    candidates = rows_by_split(root / "tokenize")["candidates"]
    assert len(refined) == len(candidates) // 2
    card = (root / "export-jsonl/refined/README.md").read_text()
    assert "token shards: `pile`" in card
    for form, place in {"tokens": 3, "megatron": 2, "input_ids": 1, "jsonl": 1}.items():
        parcel = corpus_parcel(root, "refined", form)
        assert len([name for name in parcel.names if "/" not in name]) > place
    assert student_parcel(root, "miniplm").sizes["model.safetensors"] > 1000
