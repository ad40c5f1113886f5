"""Retokenisation among six real tokenizers, on text of many kinds: decoded, it is the same."""

import io
import json
import shutil
import unicodedata
from functools import cache

import pytest
import zstandard

from made_up_tokenizers import TEXTS, pack
from miniplm.data.pieces import split_at_eos
from miniplm.data.shards import open_shards
from miniplm.data.tokenizer import load_tokenizer
from miniplm.export.retokenize import retokenize_corpus
from miniplm.export.row_text import RowText

pytestmark = pytest.mark.shared_data

BYTE_LEVEL = ("gpt2", "whisper-multilingual", "gpt-neox-20b", "dolma2-100k")
PIECES = {
    "mistral-v1": "tokenizer.model.v1", "mistral-v3": "mistral_instruct_tokenizer_240323.model.v3"
}  # fmt: skip
RING = (*BYTE_LEVEL[:2], "mistral-v1", *BYTE_LEVEL[2:], "mistral-v3")
AROUND = list(zip(RING, (*RING[1:], RING[0]), strict=True))
PAIRS = [*AROUND, *((new, old) for old, new in AROUND)]
DOMAINS = (
    "books", "code-python", "dialog", "math-latex", "newsletter", "noise-german-law", "noise-hex",
    "noise-minified-js", "specs",
)  # fmt: skip


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
    found = list(TEXTS)
    for domain in DOMAINS:
        path = shared_data / f"corpus-heldout/{domain}.jsonl.zst"
        with path.open("rb") as raw:
            stream = zstandard.ZstdDecompressor().stream_reader(raw)
            for _, line in zip(range(2), io.TextIOWrapper(stream, encoding="utf-8"), strict=False):
                found.append(json.loads(line)["text"][:6000])
    return found


@cache
def loaded(folder):
    return load_tokenizer(folder)


def decoded(tokenizer, row):
    pieces = split_at_eos(row, tokenizer.eos_token_id)
    options = {"skip_special_tokens": False, "clean_up_tokenization_spaces": False}
    return [tokenizer.decode(piece.tolist(), **options) for piece in pieces]


@pytest.mark.parametrize(("old", "new"), PAIRS)
def test_text_is_the_same(tmp_path, tokenizers, documents, old, new):
    one, other = loaded(tokenizers[old]), loaded(tokenizers[new])
    spelling, new_spelling = RowText(one), RowText(other)
    pack(tmp_path / "old", tokenizers[old], documents, max_length=256)
    counts = retokenize_corpus(
        tmp_path / "old", tokenizers[old], tokenizers[new], 10_000, tmp_path / "new"
    ).counts
    (before,), (after,) = open_shards(tmp_path / "old"), open_shards(tmp_path / "new/shards")
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


def test_the_hard_texts_are_in_the_rows(tokenizers, documents, tmp_path):
    """Emoji, ideographs, line ends of Windows, control characters, marks that spell tokens."""
    pack(tmp_path / "old", tokenizers["gpt2"], documents, max_length=256)
    (shard,) = open_shards(tmp_path / "old")
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
