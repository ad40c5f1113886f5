"""Retokenisation among six real tokenizers, on text of many kinds: decoded, it is the same."""

import io
import json
import shutil
import unicodedata
from functools import cache

import pytest
import zstandard

import made_up_tokenizers
from made_up_tokenizers import TEXTS, pack
from miniplm.data.encoder_check import choose_encoder
from miniplm.data.pieces import split_at_eos
from miniplm.data.shards import open_shards
from miniplm.data.tokenizer import load_tokenizer
from miniplm.export import corpus_tokenizer, retokenize
from miniplm.export.retokenize import retokenize_corpus
from miniplm.export.row_text import RowText

pytestmark = [pytest.mark.shared_data, pytest.mark.usefixtures("all_characters")]

BYTE_LEVEL = ("gpt2", "whisper-multilingual", "gpt-neox-20b", "dolma2-100k")
PIECES = {
    "mistral-v1": "tokenizer.model.v1", "mistral-v3": "mistral_instruct_tokenizer_240323.model.v3"
}  # fmt: skip
RING = (*BYTE_LEVEL[:2], "mistral-v1", *BYTE_LEVEL[2:], "mistral-v3")
AROUND = list(zip(RING, (*RING[1:], RING[0]), strict=True))
PAIRS = [*AROUND, *((new, old) for old, new in AROUND)]
NUM_FILES = 48
"""Of 23 domains: 25 to train on, and 23 held out."""


@pytest.fixture(scope="module")
def tokenizers(shared_data, tmp_path_factory):
    """Folders by name; those of SentencePiece files as transformers converts them."""
    root, source = tmp_path_factory.mktemp("tokenizers"), shared_data / "tokenizers"
    folders = {name: source / name for name in BYTE_LEVEL}
    for name, file in PIECES.items():
        folders[name] = root / name
        folders[name].mkdir()
        shutil.copy(source / "mistral-32k" / file, folders[name] / "tokenizer.model")
        marks = {"bos_token": "<s>", "eos_token": "</s>", "unk_token": "<unk>"}
        config = {"tokenizer_class": "LlamaTokenizer", "legacy": False, **marks}
        (folders[name] / "tokenizer_config.json").write_text(json.dumps(config))
    return folders


@pytest.fixture(scope="module")
def documents(shared_data):
    """Hard texts, and the beginning of a document of every file of every corpus."""
    paths = sorted(shared_data.glob("corpus*/*.jsonl.zst"))
    assert len(paths) == NUM_FILES
    return [*TEXTS, *map(first_text, paths)]


def first_text(path):
    with path.open("rb") as raw:
        stream = zstandard.ZstdDecompressor().stream_reader(raw)
        line = next(iter(io.TextIOWrapper(stream, encoding="utf-8")))
    return json.loads(line)["text"][:3000]


@cache
def loaded(folder):
    return load_tokenizer(folder)


@pytest.fixture(scope="module", autouse=True)
def _loaded_once():
    """Six tokenizers are loaded and their encoders proven once, not for each pair."""
    proven = cache(lambda tokenizer: choose_encoder(tokenizer, TEXTS))
    with pytest.MonkeyPatch.context() as patch:
        for module in (made_up_tokenizers, corpus_tokenizer, retokenize):
            patch.setattr(module, "load_tokenizer", loaded)
        patch.setattr(retokenize, "choose_encoder", lambda tokenizer, _: proven(tokenizer))
        yield


@pytest.fixture(scope="module")
def packed(tokenizers, documents, tmp_path_factory):
    """Token shards of the documents, by tokenizer."""
    root = tmp_path_factory.mktemp("packed")
    return cache(lambda name: pack(root / name, tokenizers[name], documents, max_length=256))


def decoded(tokenizer, row):
    pieces = split_at_eos(row, tokenizer.eos_token_id)
    options = {"skip_special_tokens": False, "clean_up_tokenization_spaces": False}
    return [tokenizer.decode(piece.tolist(), **options) for piece in pieces]


@pytest.mark.parametrize(("old", "new"), PAIRS)
def test_text_is_the_same(tmp_path, tokenizers, packed, old, new):
    one, other = loaded(tokenizers[old]), loaded(tokenizers[new])
    spelling, new_spelling = RowText(one), RowText(other)
    counts = retokenize_corpus(
        packed(old), tokenizers[old], tokenizers[new], 10_000, tmp_path / "new"
    ).counts
    (before,), (after,) = open_shards(packed(old)), open_shards(tmp_path / "new/shards")
    assert len(before) == len(after) > 100
    composed = 0
    for place in range(len(before)):
        texts = decoded(one, before.row(place))
        if "mistral" in old:  # its decoder breaks whole characters beside a broken one
            texts = spelling.decode(before.row(place)).pieces
        new_texts = decoded(other, after.row(place))
        if "neox" in new:  # which composes characters
            composed += sum(text != unicodedata.normalize("NFC", text) for text in texts)
            texts = [unicodedata.normalize("NFC", text) for text in texts]
        if "mistral" in new:  # a space that begins a row is not doubled
            texts[0] = texts[0].removeprefix(" ")
            if "\ufffd" in "".join(new_texts):
                new_texts = new_spelling.decode(after.row(place)).pieces
                new_texts[0] = new_texts[0].removeprefix(" ")
        assert new_texts == texts
    different = {name: n for name, n in counts.items() if name.startswith("different")}
    reason = "different: characters composed in another way"
    assert different == ({reason: composed} if composed else {})


def test_the_hard_texts_are_in_the_rows(tokenizers, packed):
    """Emoji, ideographs, line ends of Windows, control characters, marks that spell tokens."""
    (shard,) = open_shards(packed("gpt2"))
    tokenizer = loaded(tokenizers["gpt2"])
    text = "".join("".join(decoded(tokenizer, shard.row(place))) for place in range(len(shard)))
    hard = (
        "🏳\ufe0f\u200d🌈",
        "漢字",
        "\r\n",
        "\x00",
        "\x1b[0m",
        "<|endoftext|>",
        "\ufffd\ufffd",
    )
    assert [wanted for wanted in hard if wanted not in text] == []
