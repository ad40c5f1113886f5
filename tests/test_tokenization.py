import json

import numpy as np
import pytest

from miniplm.data.documents import CorpusConfig, DocumentTally, read_documents
from miniplm.data.packing import PackingConfig
from miniplm.data.pieces import split_at_eos
from miniplm.data.shards import open_shards
from miniplm.data.splits import SplitAssigner, SplitsConfig
from miniplm.data.tokenization import TokenizationConfig, tokenize_corpus
from miniplm.data.tokenizer import TokenizerConfig, load_tokenizer
from miniplm.errors import DocumentError

SPLITS = SplitsConfig(reference=0.2, teacher=0.2, held_out=0.2)


def config(folder, **changes):
    settings = {
        "corpus": CorpusConfig(source="files", paths=(str(folder),)),
        "splits": SPLITS,
        "tokenizer": TokenizerConfig(vocab_size=320),
        "packing": PackingConfig(max_length=64, sequences_per_shard=20),
        "seed": 3,
    }
    return TokenizationConfig(**{**settings, **changes})


def content(folder):
    return {
        str(path.relative_to(folder)): path.read_bytes()
        for path in sorted(folder.rglob("*"))
        if path.is_file()
    }


@pytest.fixture(scope="module")
def tokenized(corpus_folder, tmp_path_factory):
    folder = tmp_path_factory.mktemp("tokenized")
    return folder, tokenize_corpus(config(corpus_folder), folder)


def pieces(folder, split):
    """Text of each document of a split, put together from its rows, by document id."""
    tokenizer = load_tokenizer(folder / "tokenizer")
    found = {}
    for shard in open_shards(folder / split):
        for index in range(len(shard)):
            sources = shard.sidecar["source_ids"][index].as_py()
            parts = split_at_eos(shard.row(index), shard.info.eos_id)
            for source, part in zip(sources, parts, strict=True):
                found.setdefault(source, []).append(tokenizer.decode(part))
    return found


def test_documents_stay_whole_in_one_split_and_none_is_lost(tokenized, corpus_folder):
    folder, outcome = tokenized
    documents = list(
        read_documents(CorpusConfig(source="files", paths=(str(corpus_folder),)), DocumentTally())
    )
    assigner = SplitAssigner(SPLITS, 3)
    dealt = {d.id: assigner.assign(d.id, d.domain, len(d.text.encode())) for d in documents}
    seen = set()
    for split, counts in outcome.facts["splits"].items():
        found = pieces(folder, split)
        expected = {d.id: d for d in documents if dealt[d.id] == split}
        assert set(found) == set(expected)
        assert counts["num_documents"] == len(expected)
        for name, parts in found.items():  # rows are shuffled, so parts come in any order
            assert sorted("".join(parts)) == sorted(expected[name].text)
        assert not seen & set(found)
        seen |= set(found)
    assert len(seen) == len(documents) == 240


def test_the_sidecar_says_what_rows_hold(tokenized):
    folder, outcome = tokenized
    counts = outcome.facts["splits"]["candidates"]
    shards = open_shards(folder / "candidates")
    assert len(shards) > 1
    ids = np.concatenate([shard.sequence_ids for shard in shards])
    assert ids.tolist() == list(range(counts["num_sequences"]))
    tokenizer = load_tokenizer(folder / "tokenizer")
    domains = set()
    for shard in shards:
        assert shard.lengths.max() <= 65
        assert shard.sidecar["num_tokens"].to_pylist() == shard.lengths.tolist()
        for index in range(len(shard)):
            text = "".join(
                tokenizer.decode(p) for p in split_at_eos(shard.row(index), shard.info.eos_id)
            )
            assert shard.sidecar["num_bytes"][index].as_py() == len(text.encode())
            sources = shard.sidecar["source_ids"][index].as_py()
            domain = shard.sidecar["domain"][index].as_py()
            assert all(source.startswith(domain) for source in sources)
            domains.add(domain)
    assert domains == {"prose", "tables"}
    assert counts["num_tokens"] == sum(shard.num_ids - len(shard) for shard in shards)


def test_rows_end_with_a_sentence_where_they_can(tokenized):
    folder, _ = tokenized
    tokenizer = load_tokenizer(folder / "tokenizer")
    full = ended = 0
    for shard in open_shards(folder / "candidates"):
        for index in range(len(shard)):
            row = shard.row(index)
            if shard.sidecar["domain"][index].as_py() == "prose" and len(row) > 40:
                full += 1
                ended += row[-1] == shard.info.eos_id or tokenizer.decode(row)[-1] in ".!?\n"
    assert full > 20
    assert ended == full


def test_the_same_corpus_gives_the_same_bytes(tokenized, corpus_folder, tmp_path):
    folder, _ = tokenized
    tokenize_corpus(config(corpus_folder), tmp_path)
    assert content(tmp_path) == content(folder)


def test_sequences_do_not_depend_on_the_number_of_shards(tokenized, corpus_folder, tmp_path):
    folder, _ = tokenized
    tokenize_corpus(
        config(corpus_folder, packing=PackingConfig(max_length=64, sequences_per_shard=10**6)),
        tmp_path,
    )
    many, one = open_shards(folder / "candidates"), open_shards(tmp_path / "candidates")
    assert len(one) == 1
    rows = [shard.row(i).tolist() for shard in many for i in range(len(shard))]
    assert rows == [one[0].row(i).tolist() for i in range(len(one[0]))]


def test_batches_of_documents_do_not_change_a_byte(tokenized, corpus_folder, tmp_path, monkeypatch):
    folder, _ = tokenized
    monkeypatch.setattr("miniplm.data.corpus_packing._BATCH_DOCUMENTS", 3)
    tokenize_corpus(config(corpus_folder), tmp_path)
    assert content(tmp_path) == content(folder)


def test_nothing_is_left_beside_the_artefacts_and_what_a_kill_leaves_is_swept(
    tokenized, corpus_folder, tmp_path, monkeypatch
):
    folder, _ = tokenized
    assert {path.name for path in folder.iterdir()} == {"tokenizer", *vars(SPLITS), "candidates"}
    monkeypatch.setattr("miniplm.data.spill._Column.close", lambda column: column._file.close())
    tokenize_corpus(config(corpus_folder), tmp_path)
    left = {path for path in tmp_path.iterdir() if path.is_file()}
    assert len(left) == 20
    assert left == set(tmp_path.rglob(".*.tmp"))


def test_the_encoder_is_named(tokenized):
    assert tokenized[1].facts["encoder"].startswith("gigatoken ")


def test_another_seed_shuffles_otherwise(tokenized, corpus_folder, tmp_path):
    folder, _ = tokenized
    tokenize_corpus(config(corpus_folder, seed=4), tmp_path)
    assert content(tmp_path)["candidates/data_0.bin"] != content(folder)["candidates/data_0.bin"]


def test_a_held_out_corpus_is_used_whole(corpus_folder, tmp_path):
    (tmp_path / "held.jsonl").write_text(
        "".join(json.dumps({"text": f"Held out {i}. " * 9, "id": f"h{i}"}) + "\n" for i in range(9))
    )
    splits = SplitsConfig(reference=0.2, teacher=0.0, held_out=0.0)
    held_out = CorpusConfig(source="files", paths=(str(tmp_path / "held.jsonl"),))
    outcome = tokenize_corpus(
        config(corpus_folder, splits=splits, held_out_corpus=held_out), tmp_path / "out"
    )
    assert set(pieces(tmp_path / "out", "held_out")) == {f"h{i}" for i in range(9)}
    assert outcome.facts["splits"]["held_out"]["num_documents"] == 9
    assert outcome.facts["splits"]["teacher"]["num_documents"] == 0
    assert outcome.counts["documents"] == 249


def test_bad_documents_are_counted_by_reason(tmp_path):
    good = [json.dumps({"text": "A fine sentence. " * 20, "id": str(i)}) for i in range(50)]
    bad = ["{not json", json.dumps({"text": 3}), json.dumps({"text": "  \n"})]
    path = tmp_path / "some.jsonl"
    path.write_text("\n".join([*good, *bad]) + "\n")
    corpus = CorpusConfig(source="files", paths=(str(path),), max_bad_share=0.2)
    outcome = tokenize_corpus(config(tmp_path, corpus=corpus), tmp_path / "out")
    assert outcome.counts["documents"] == 50
    assert sum(outcome.counts["dropped"].values()) == 3
    assert len(outcome.counts["dropped"]) == 3
    strict = CorpusConfig(source="files", paths=(str(path),))
    with pytest.raises(DocumentError, match=r"some\.jsonl:51"):
        tokenize_corpus(config(tmp_path, corpus=strict), tmp_path / "again")


def test_a_split_without_text_is_refused(tmp_path):
    (tmp_path / "one.jsonl").write_text(json.dumps({"text": "One. " * 50, "id": "x"}) + "\n")
    splits = SplitsConfig(reference=0.4, teacher=0.3, held_out=0.2)
    corpus = CorpusConfig(source="files", paths=(str(tmp_path / "one.jsonl"),))
    with pytest.raises(DocumentError, match="no sequence is left for the split"):
        tokenize_corpus(config(tmp_path, corpus=corpus, splits=splits), tmp_path / "out")
