import json
import pickle
import re

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from made_up_tokenizers import SPACE, TEXTS, byte_level, pack, sentencepiece_like, write_packed
from miniplm.data.encoders import TokenizersEncoder
from miniplm.data.packing import Rows
from miniplm.data.pieces import split_at_eos
from miniplm.data.shards import open_shards, scored_hash
from miniplm.data.tokenizer import load_tokenizer, token_table
from miniplm.errors import ArtefactError, ModelError
from miniplm.export.corpus_tokenizer import corpus_texts, make_tokenizer
from miniplm.export.retokenize import retokenize_corpus
from miniplm.export.row_text import RowText
from miniplm.runtime.executors import threads

LONG = 10_000
KINDS = {
    "bytes 300": lambda folder: byte_level(folder, 300),
    "bytes 420": lambda folder: byte_level(folder, 420),
    "pieces, space always": lambda folder: sentencepiece_like(folder, "always"),
    "pieces, space first": lambda folder: sentencepiece_like(folder, "first"),
    "pieces, no space": lambda folder: sentencepiece_like(folder, "never"),
}
SPACED = ("pieces, space always", "pieces, space first")


@pytest.fixture(scope="module")
def tokenizers(tmp_path_factory):
    root = tmp_path_factory.mktemp("tokenizers")
    return {kind: make(root / kind.replace(" ", "-")) for kind, make in KINDS.items()}


def retokenize(tmp_path, tokenizers, old, new, name="new", max_length=LONG, **options):
    shards = tmp_path / "old"
    if not shards.exists():
        pack(shards, tokenizers[old], scores=True)
    outcome = retokenize_corpus(
        shards, tokenizers[old], tokenizers[new], max_length, tmp_path / name, **options
    )
    return outcome, open_shards(shards), open_shards(tmp_path / name / "shards")


def decoded(tokenizer, row):
    """Each piece of a row as `transformers` decodes it."""
    pieces = split_at_eos(row, tokenizer.eos_token_id)
    options = {"skip_special_tokens": False, "clean_up_tokenization_spaces": False}
    return [tokenizer.decode(piece.tolist(), **options) for piece in pieces]


def rows(shards):
    return [shard.row(place) for shard in shards for place in range(len(shard))]


@pytest.mark.parametrize("old", [kind for kind in KINDS if "pieces" not in kind])
@pytest.mark.parametrize("new", KINDS)
def test_text_is_the_same_whatever_the_tokenizer(tmp_path, tokenizers, old, new):
    outcome, before, after = retokenize(tmp_path, tokenizers, old, new)
    assert not [name for name in outcome.counts if name.startswith("different")]
    one, other = load_tokenizer(tokenizers[old]), load_tokenizer(tokenizers[new])
    for row, changed in zip(rows(before), rows(after), strict=True):
        (first, *texts), (new_first, *new_texts) = decoded(one, row), decoded(other, changed)
        assert new_texts == texts  # each begins a document
        # a space that begins a row may be the text's, and then it is not doubled
        assert new_first == (first.removeprefix(" ") if new in SPACED else first)
        assert (row[-1] == one.eos_token_id) == (changed[-1] == other.eos_token_id)


@pytest.mark.parametrize("old", [kind for kind in KINDS if "pieces" in kind])
@pytest.mark.parametrize("new", KINDS)
def test_spaces_in_front_neither_come_nor_go(tmp_path, tokenizers, old, new):
    outcome, before, after = retokenize(tmp_path, tokenizers, old, new)
    assert not [name for name in outcome.counts if name.startswith("different")]
    one, other = (RowText(load_tokenizer(tokenizers[kind])) for kind in (old, new))
    for row, changed in zip(rows(before), rows(after), strict=True):
        texts, new_texts = one.decode(row).pieces, other.decode(changed).pieces
        assert new_texts[1:] == texts[1:]
        assert new_texts[0].removeprefix(" ") == texts[0].removeprefix(" ")
        # whether a space there was the tokenizer's own is not known, so it stays; and a row
        # without one gets the tokenizer's own, as a document does
        if texts[0].startswith(" ") or new not in SPACED:
            assert new_texts[0] == texts[0]


@pytest.mark.parametrize("new", KINDS)
def test_rows_are_those_of_tokenising_the_documents(tmp_path, tokenizers, new):
    """Where every row is one whole document, there is nothing that a row would not know."""
    texts = [text for text in TEXTS if not text.startswith(" ")]
    table = token_table(load_tokenizer(tokenizers["bytes 300"]))
    encoded = TokenizersEncoder(load_tokenizer(tokenizers["bytes 300"]))(texts).split()
    documents = [np.append(ids, table.eos_id) for ids in encoded]
    numbers = np.arange(len(texts))
    packed = Rows(
        np.concatenate(documents), np.array([len(ids) for ids in documents]),
        np.ones(len(texts), np.int64), numbers,
    )  # fmt: skip
    write_packed(tmp_path / "old", packed, table, LONG)
    _, _, after = retokenize(tmp_path, tokenizers, "bytes 300", new)
    tokenizer = load_tokenizer(tokenizers[new])
    afresh = TokenizersEncoder(tokenizer)(texts).split()
    for row, ids in zip(rows(after), afresh, strict=True):
        assert row.tolist() == [*ids.tolist(), tokenizer.eos_token_id]


def test_families_with_a_mark_in_front_get_rows_without_it(tmp_path, tokenizers):
    marked = sentencepiece_like(tmp_path / "marked", "first", bos=True)
    tokenizer = load_tokenizer(marked)
    assert tokenizer("the cat")["input_ids"][0] == tokenizer.bos_token_id
    with_marks = {**tokenizers, "marked": marked}
    _, _, after = retokenize(tmp_path, with_marks, "bytes 300", "marked")
    _, _, without = retokenize(tmp_path, with_marks, "bytes 300", "pieces, space first", "without")
    assert [row.tolist() for row in rows(after)] == [row.tolist() for row in rows(without)]
    assert tokenizer.bos_token_id not in np.concatenate(rows(after))


def test_marks_in_rows_of_others_are_left_out_and_counted(tmp_path, tokenizers):
    """Behind a mark a document begins, so that the space there is the tokenizer's own."""
    from miniplm.data.shards import make_sidecar, write_shard

    old = load_tokenizer(tokenizers["pieces, space first"])
    encode, table = TokenizersEncoder(old), token_table(old)
    bos, eos = old.bos_token_id, old.eos_token_id
    begun = [
        part for text in ("The cat", "sat on") for part in ([bos], *encode([text]).split(), [eos])
    ]
    inside = [encode(["a dog"]).ids_N]
    parts = [np.concatenate(begun).astype(np.int32), np.concatenate(inside)]
    sidecar = make_sidecar(
        np.arange(2), ["x", "x"], np.array([len(part) for part in parts], np.int32),
        np.array([13, 6]), [["a", "b"], ["c"]],
    )  # fmt: skip
    write_shard(
        tmp_path / "old/data_0", parts, sidecar,
        vocab_size=table.vocab_size, eos_id=eos, max_length=64,
    )  # fmt: skip
    outcome, _, after = retokenize(tmp_path, tokenizers, "pieces, space first", "bytes 300")
    new = load_tokenizer(tokenizers["bytes 300"])
    assert [decoded(new, row) for row in rows(after)] == [["The cat", "sat on"], [" a dog"]]
    assert outcome.counts["special_ids"] == 2


def test_what_describes_a_row_stays(tmp_path, tokenizers):
    _, (before,), (after,) = retokenize(tmp_path, tokenizers, "bytes 300", "pieces, space first")
    for column in ("sequence_id", "domain", "source_ids", "difference_score"):
        assert after.sidecar[column].to_pylist() == before.sidecar[column].to_pylist()
    table = token_table(load_tokenizer(tokenizers["pieces, space first"]))
    found = rows([after])
    assert after.sidecar["num_tokens"].to_pylist() == [len(row) for row in found]
    assert after.sidecar["num_bytes"].to_pylist() == [table.num_bytes_V[row].sum() for row in found]
    assert (after.info.vocab_size, after.info.eos_id) == (table.vocab_size, table.eos_id)
    assert scored_hash(after) == before.info.shard_hash  # by which its scores are found


def test_what_is_generated_is_no_longer_counted(tmp_path, tokenizers):
    shards = pack(tmp_path / "old", tokenizers["bytes 300"])
    (shard,) = open_shards(shards)
    from miniplm.data.shards import write_shard

    sidecar = shard.sidecar.append_column("num_generated", [np.ones(len(shard), np.int32)])
    info = shard.info
    write_shard(
        shards / "data_0", rows([shard]), sidecar,
        vocab_size=info.vocab_size, eos_id=info.eos_id, max_length=info.max_length,
    )  # fmt: skip
    _, _, (after,) = retokenize(tmp_path, tokenizers, "bytes 300", "bytes 420")
    assert "num_generated" not in after.sidecar.column_names


def test_characters_cut_in_two_become_one_mark_each(tmp_path, tokenizers):
    """A window of an unbroken run is kept whole, so rows begin and end inside characters."""
    pack(tmp_path / "old", tokenizers["bytes 300"], ["漢字仮名" * 40], max_length=9)
    outcome, before, after = retokenize(tmp_path, tokenizers, "bytes 300", "bytes 420")
    one, other = (load_tokenizer(tokenizers[kind]) for kind in ("bytes 300", "bytes 420"))
    texts = [decoded(one, row) for row in rows(before)]
    assert texts == [decoded(other, row) for row in rows(after)]
    marks = sum(text.count("\ufffd") for pieces in texts for text in pieces)
    assert outcome.counts["replaced_characters"] == marks > 10


def test_rows_that_become_too_long_are_cut_and_counted(tmp_path, tokenizers, caplog):
    limit = 20
    outcome, _, whole = retokenize(
        tmp_path, tokenizers, "bytes 300", "pieces, space first", name="whole"
    )
    cut, before, after = retokenize(
        tmp_path, tokenizers, "bytes 300", "pieces, space first", name="cut", max_length=limit
    )
    table = token_table(load_tokenizer(tokenizers["pieces, space first"]))
    lost = [row[limit + 1 :] for row in rows(whole)]
    assert [row.tolist() for row in rows(after)] == [r[: limit + 1].tolist() for r in rows(whole)]
    counts = cut.counts
    assert counts["cut_ids"] == sum(map(len, lost)) > 0
    assert counts["cut_bytes"] == sum(table.num_bytes_V[row].sum() for row in lost)
    assert counts["cut_sequences"] == sum(len(row) > 0 for row in lost)
    assert counts["ids"] + counts["cut_ids"] == counts["ids_encoded"] == outcome.counts["ids"]
    assert cut.num_tokens == counts["ids"] - counts["sequences"]
    assert "of the text of cut was cut off" in caplog.text
    assert not any(":" in name for name in counts)  # what stands where is for the warning only
    assert after[0].info.max_length == limit
    names, kept = before[0].sidecar["source_ids"].to_pylist(), after[0].sidecar["source_ids"]
    for row, were, are in zip(rows(after), names, kept.to_pylist(), strict=True):
        assert are == were[: len(split_at_eos(row, table.eos_id))]


def test_the_warning_names_lengths_that_would_do(tmp_path, tokenizers, caplog):
    args = (tmp_path, tokenizers, "bytes 300", "pieces, space first")
    retokenize(*args, name="mine", max_length=20)
    field = r"retokenizations\.mine\.max_length"
    words = rf"Set {field} to (\d+) to cut nothing, or to (\d+) to cut at most 1% of it"
    whole, nearly = map(int, re.search(words, caplog.text).groups())

    def cut(length, unit):
        counts = retokenize(*args, name=f"{length}", max_length=length)[0].counts
        return counts[f"cut_{unit}"] / counts[f"{unit}_encoded"]

    assert cut(whole, "ids") == 0 < cut(whole - 1, "ids")
    assert 0 < cut(nearly, "bytes") <= 0.01 < cut(nearly - 1, "bytes")


def test_counts_of_an_earlier_version_give_no_length(tmp_path, tokenizers, caplog):
    args = (tmp_path, tokenizers, "bytes 300", "pieces, space first")
    retokenize(*args, name="mine", max_length=20)
    for path in (tmp_path / "mine/counts").iterdir():
        kept = json.loads(path.read_text())
        kept["counts"] = {k: n for k, n in kept["counts"].items() if "_at:" not in k}
        path.write_text(json.dumps(kept))
    caplog.clear()
    retokenize(*args, name="mine", max_length=20)
    assert "longer than 20. Raise retokenizations.mine.max_length, or" in caplog.text


def test_rows_that_are_split_are_predicted_token_by_token_once(tmp_path, tokenizers):
    limit = 20
    args = (tmp_path, tokenizers, "bytes 300", "pieces, space first")
    _, before, whole = retokenize(*args, name="whole")
    outcome, _, after = retokenize(*args, name="split", max_length=limit, long_rows="split")
    sidecar = after[0].sidecar
    originals = (sidecar["sequence_id"].to_numpy() & ((1 << 40) - 1)).tolist()
    assert originals == sorted(originals)
    assert len(set(sidecar["sequence_id"].to_pylist())) == len(after[0]) > len(before[0])
    eos_id = after[0].info.eos_id
    joined: dict[int, list[int]] = {}
    for original, row, names in zip(
        originals, rows(after), sidecar["source_ids"].to_pylist(), strict=True
    ):
        assert 2 <= len(row) <= limit + 1
        assert len(names) == len(split_at_eos(row, eos_id))
        parts = joined.setdefault(original, [])
        assert not parts or parts[-1] == row[0]
        parts += row[1:].tolist() if parts else row.tolist()
    assert list(joined.values()) == [row.tolist() for row in rows(whole)]
    assert outcome.counts["split_sequences"] > 0
    assert outcome.counts["cut_ids"] == 0


def test_what_the_tokenizer_changes_is_counted_with_the_reason(tmp_path, tokenizers, caplog):
    from tokenizers import normalizers

    for name, normalizer in {"nfc": normalizers.NFC(), "lower": normalizers.Lowercase()}.items():
        tokenizer = load_tokenizer(tokenizers["bytes 300"])
        tokenizer.backend_tokenizer.normalizer = normalizer
        tokenizer.save_pretrained(tmp_path / name)
    pack(
        tmp_path / "old", tokenizers["bytes 300"], ["plain text", "e\u0301", "UP"], max_length=LONG
    )
    found = [
        retokenize_corpus(
            tmp_path / "old", tokenizers["bytes 300"], tmp_path / name, LONG, tmp_path / "to" / name
        ).counts
        for name in ("nfc", "lower")
    ]
    assert found[0]["different: characters composed in another way"] == 1
    assert found[1]["different: upper case lost"] == 1
    assert "not all text is the same" in caplog.text


def test_the_letter_that_pieces_write_for_a_space_becomes_one(tmp_path, tokenizers):
    pack(tmp_path / "old", tokenizers["bytes 300"], [f"a{SPACE}b"], max_length=LONG)
    outcome, _, after = retokenize(tmp_path, tokenizers, "bytes 300", "pieces, space first")
    reason = "characters that the tokenizer does not know or changes"
    assert outcome.counts[f"different: {reason}"] == 1
    assert decoded(load_tokenizer(tokenizers["pieces, space first"]), rows(after)[0]) == ["a b"]


def pickled(function, tasks):
    """What another process would get and give."""
    for task in tasks:
        sent_function, sent_task = pickle.loads(pickle.dumps((function, task)))  # noqa: S301
        yield sent_function(sent_task)


@pytest.mark.parametrize("executor", [threads, pickled])
def test_workers_do_not_change_a_byte(tmp_path, tokenizers, executor):
    pack(tmp_path / "old", tokenizers["bytes 300"], per_shard=12)
    args = (tmp_path, tokenizers, "bytes 300", "bytes 420")
    straight, shards, _ = retokenize(*args, name="straight")
    assert len(shards) > 1
    mapped, _, _ = retokenize(*args, name="mapped", executor=executor)
    assert mapped == straight
    for path in (tmp_path / "straight/shards").iterdir():
        assert (tmp_path / "mapped/shards" / path.name).read_bytes() == path.read_bytes()


def test_shards_that_are_there_are_kept_and_counted(tmp_path, tokenizers):
    def dies_at_second(function, tasks):
        for count, task in enumerate(tasks):
            if count == 1:
                raise KeyboardInterrupt
            yield function(task)

    pack(tmp_path / "old", tokenizers["bytes 300"], per_shard=12)
    args = (tmp_path, tokenizers, "bytes 300", "bytes 420")
    with pytest.raises(KeyboardInterrupt):
        retokenize(*args, executor=dies_at_second)
    done = {path: path.stat().st_mtime_ns for path in (tmp_path / "new/shards").iterdir()}
    assert len(done) == 3
    resumed, _, _ = retokenize(*args)
    assert {path: path.stat().st_mtime_ns for path in done} == done
    assert resumed == retokenize(*args, name="straight")[0]


@pytest.mark.parametrize("change", ["tokenizer", "shard", "length"])
def test_shards_of_other_inputs_are_made_again(tmp_path, tokenizers, change):
    retokenize(tmp_path, tokenizers, "bytes 300", "bytes 420")
    new = "pieces, space first" if change == "tokenizer" else "bytes 420"
    if change == "shard":
        pack(tmp_path / "old", tokenizers["bytes 300"], [*TEXTS, "And one more."])
    length = 30 if change == "length" else LONG
    again, _, _ = retokenize(tmp_path, tokenizers, "bytes 300", new, max_length=length)
    straight, _, _ = retokenize(
        tmp_path, tokenizers, "bytes 300", new, name="straight", max_length=length
    )
    assert again == straight
    for path in (tmp_path / "straight/shards").iterdir():
        assert (tmp_path / "new/shards" / path.name).read_bytes() == path.read_bytes()


def test_rows_of_a_single_token_are_dropped_and_counted(tmp_path, tokenizers):
    from miniplm.data.shards import make_sidecar, write_shard

    tokenizer = load_tokenizer(tokenizers["bytes 300"])
    table, ends = token_table(tokenizer), load_tokenizer(tokenizers["bytes 420"])
    word = next(
        text for text, index in ends.get_vocab().items()
        if 3 <= len(text) <= 6 and text.isascii() and text.isalpha()
        and len(TokenizersEncoder(tokenizer)([text]).ids_N) > 1
    )  # fmt: skip
    parts = [TokenizersEncoder(tokenizer)([text]).ids_N for text in (word, f"{word} {word}")]
    sidecar = make_sidecar(
        np.arange(2), ["x", "x"], np.array([len(p) for p in parts], np.int32), np.array([1, 1]),
        [["a"], ["b"]],
    )  # fmt: skip
    write_shard(
        tmp_path / "old/data_0", parts, sidecar,
        vocab_size=table.vocab_size, eos_id=table.eos_id, max_length=24,
    )  # fmt: skip
    outcome, _, (after,) = retokenize(tmp_path, tokenizers, "bytes 300", "bytes 420")
    assert after.sequence_ids.tolist() == [1]
    assert (outcome.counts["too_short"], outcome.counts["sequences"]) == (1, 1)


def test_shards_of_another_tokenizer_are_refused(tmp_path, tokenizers):
    pack(tmp_path / "old", tokenizers["bytes 420"])
    with pytest.raises(ArtefactError, match=r"Give the tokenizer that these shards were made with"):
        retokenize(tmp_path, tokenizers, "bytes 300", "bytes 420")


def test_tokenizers_whose_ids_are_no_bytes_are_refused(tmp_path, tokenizers):
    from tokenizers import Tokenizer, models
    from transformers import PreTrainedTokenizerFast

    words = Tokenizer(models.WordLevel({"a": 0, "</s>": 1}, unk_token="a"))
    PreTrainedTokenizerFast(tokenizer_object=words, eos_token="</s>").save_pretrained(
        tmp_path / "w"
    )
    pack(tmp_path / "old", tokenizers["bytes 300"])
    with pytest.raises(ModelError, match=r"Tokenise the documents afresh instead"):
        retokenize_corpus(
            tmp_path / "old", tokenizers["bytes 300"], tmp_path / "w", LONG, tmp_path / "new"
        )


def test_a_tokenizer_is_trained_on_the_text_of_the_rows(tmp_path, tokenizers):
    from miniplm.data.tokenizer import TokenizerConfig

    shards = pack(tmp_path / "old", tokenizers["bytes 300"])
    texts = list(corpus_texts(shards, tokenizers["bytes 300"], LONG))
    assert "".join(texts).count("sat on the mat") == 1
    some = "".join(corpus_texts(shards, tokenizers["bytes 300"], 100))
    assert "".join(texts).startswith(some)
    assert 100 <= len(some.encode()) < 200
    config = TokenizerConfig(vocab_size=333)
    make_tokenizer(config, shards, tokenizers["bytes 300"], tmp_path / "tokenizer")
    assert len(load_tokenizer(tmp_path / "tokenizer")) == 333
    made = (tmp_path / "tokenizer/tokenizer.json").stat().st_mtime_ns
    make_tokenizer(config, shards, tokenizers["bytes 300"], tmp_path / "tokenizer")
    assert (tmp_path / "tokenizer/tokenizer.json").stat().st_mtime_ns == made


def test_counts_are_kept_beside_the_shards(tmp_path, tokenizers):
    outcome, _, _ = retokenize(tmp_path, tokenizers, "bytes 300", "bytes 420")
    path = tmp_path / "new/counts/data_0.json"
    kept = json.loads(path.read_text())
    assert kept["counts"] == outcome.counts
    kept["origin"]["tokenizer"] = "another"  # a kill between the two files, and other inputs
    path.write_text(json.dumps({**kept, "counts": {"sequences": 1}}))
    assert retokenize(tmp_path, tokenizers, "bytes 300", "bytes 420")[0] == outcome


@settings(max_examples=60, deadline=None)
@given(
    documents=st.lists(st.text(st.characters(exclude_categories=["Cs"]), max_size=40), max_size=5),
    is_closed=st.booleans(),
    kind=st.sampled_from(sorted(KINDS)),
)
def test_encoded_rows_spell_what_is_wanted(tokenizers, documents, is_closed, kind):
    from miniplm.export.row_text import RowTexts

    new = RowText(load_tokenizer(tokenizers[kind]))
    row = RowTexts(["the cat", *documents], is_closed)
    (pieces,) = new.encode([row])
    assert [new.spelt(ids).decode() for ids in pieces] == new.wanted(row)
    back = new.decode(new.joined(pieces, is_closed=True).astype(np.int64))
    assert back.pieces[1:] == documents
