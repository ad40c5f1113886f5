import numpy as np
import pytest

from conftest import tiny_model
from miniplm.data.encoders import TokenizersEncoder
from miniplm.data.tokenizer import (
    EOS_TOKEN,
    load_tokenizer,
    token_bytes,
    token_table,
    train_tokenizer,
)
from miniplm.errors import ModelError

TEXTS = [
    "Hello world. How are you? Fine!\nA new line, \t a tab.",
    "emoji 🙂, CJK 漢字。and \r\n control \x01 characters",
    "x = {'a': [1, 2.5]}  # <|endoftext|> spelled out",
    "",
]


def encode_batch(tokenizer, texts):
    return TokenizersEncoder(tokenizer)(texts).split()


@pytest.fixture(scope="module")
def trained(tmp_path_factory):
    folder = tmp_path_factory.mktemp("tokenizer")
    train_tokenizer(TEXTS * 20, 300, folder)
    return load_tokenizer(folder)


def test_training_gives_the_same_vocabulary_again(trained, tmp_path):
    train_tokenizer(TEXTS * 20, 300, tmp_path)
    assert load_tokenizer(tmp_path).get_vocab() == trained.get_vocab()
    assert len(trained) <= 300
    assert trained.eos_token == EOS_TOKEN


def test_bytes_of_tokens_join_to_the_text(trained):
    texts = token_bytes(trained)
    for text, ids in zip(TEXTS, encode_batch(trained, TEXTS), strict=True):
        assert b"".join(texts[index] for index in ids) == text.encode()
        assert trained.decode(ids) == text


def test_text_that_spells_a_special_token_is_text(trained):
    (ids,) = encode_batch(trained, ["a<|endoftext|>b"])
    assert trained.eos_token_id not in ids
    assert trained.decode(ids) == "a<|endoftext|>b"


def test_sentence_ends(trained):
    table = token_table(trained)
    texts = token_bytes(trained)
    ends = {texts[index] for index in np.flatnonzero(table.ends_sentence_V)}
    assert {b".", b"?", b"!", b"\n"} <= ends
    assert table.ends_sentence_V[table.eos_id]
    assert table.num_bytes_V[table.eos_id] == 0
    assert b"a" not in ends


DAMAGED = '{"version": "1.0", "added_tokens": []}'


@pytest.mark.parametrize(
    ("files", "message"),
    [
        (None, "there is no such folder"),
        ({}, "it holds no files"),
        ({"a.jsonl": "{}"}, "it holds a.jsonl"),
        ({"tokenizer.json": '{"a":'}, "its tokenizer.json is damaged"),
        ({"tokenizer.json": DAMAGED}, "its tokenizer.json is damaged .*Model missing"),
    ],
)
def test_a_folder_without_a_tokenizer_says_what_it_holds(tmp_path, files, message):
    folder = tmp_path / "given"
    if files is not None:
        folder.mkdir()
    for name, text in (files or {}).items():
        (folder / name).write_text(text)
    expected = f"cannot load the tokenizer .*given': {message}.*Expected the name of a hub repo"
    with pytest.raises(ModelError, match=expected):
        load_tokenizer(folder)


def test_a_reason_of_several_lines_is_shown_whole(monkeypatch):
    def fails(*_, **__):
        raise ValueError("Couldn't instantiate it from one of: \n(1) a file, \n(2) another one.")

    monkeypatch.setattr("transformers.AutoTokenizer.from_pretrained", fails)
    with pytest.raises(ModelError, match=r"one of: \(1\) a file, \(2\) another one\. Expected the"):
        load_tokenizer("someone/something")


def test_a_tokenizer_without_end_of_text_is_refused(tmp_path):
    from tokenizers import Tokenizer, models
    from transformers import PreTrainedTokenizerFast

    plain = Tokenizer(models.WordLevel({"a": 0}, unk_token="a"))
    PreTrainedTokenizerFast(tokenizer_object=plain).save_pretrained(tmp_path)
    with pytest.raises(ModelError, match="no end-of-text token"):
        load_tokenizer(tmp_path)


@pytest.mark.shared_data
@pytest.mark.parametrize("name", ["gpt2", "whisper-multilingual", "gpt-neox-20b", "dolma2-100k"])
def test_real_tokenizers_give_exact_bytes(shared_data, name):
    tokenizer = load_tokenizer(shared_data / "tokenizers" / name)
    texts = token_bytes(tokenizer)
    for text, ids in zip(TEXTS, encode_batch(tokenizer, TEXTS), strict=True):
        assert b"".join(texts[index] for index in ids) == text.encode()
    table = token_table(tokenizer)
    assert tokenizer.convert_ids_to_tokens(table.eos_id) == "<|endoftext|>"


def test_sentencepiece_pieces_give_exact_bytes(tmp_path):
    from tokenizers import Tokenizer, decoders, models, normalizers
    from transformers import PreTrainedTokenizerFast

    space = "\N{LOWER ONE EIGHTH BLOCK}"
    vocabulary = {"<unk>": 0, "</s>": 1, **{f"<0x{byte:02X}>": 2 + byte for byte in range(256)}}
    for piece in (space, f"{space}t", "t", "h", "e", ".", "he"):
        vocabulary[piece] = len(vocabulary)
    bpe = models.BPE(
        vocabulary,
        [(space, "t"), ("h", "e")],
        unk_token="<unk>",
        byte_fallback=True,
    )
    raw = Tokenizer(bpe)
    raw.normalizer = normalizers.Replace(" ", space)
    raw.decoder = decoders.Sequence(
        [decoders.Replace(space, " "), decoders.ByteFallback(), decoders.Fuse()]
    )
    PreTrainedTokenizerFast(
        tokenizer_object=raw,
        eos_token="</s>",
        unk_token="<unk>",
    ).save_pretrained(tmp_path)
    tokenizer = load_tokenizer(tmp_path)
    text = "the 🙂 the."
    (ids,) = encode_batch(tokenizer, [text])
    assert b"".join(token_bytes(tokenizer)[index] for index in ids) == text.encode()


def test_a_model_without_a_tokenizer_has_none(tmp_path):
    tiny_model("qwen2").save_pretrained(tmp_path)  # of which transformers makes an empty one
    with pytest.raises(ModelError, match="it has no vocabulary"):
        load_tokenizer(tmp_path)
