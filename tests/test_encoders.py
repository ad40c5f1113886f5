"""The fast encoder gives the ids of `tokenizers`, or is not used."""

import logging

import numpy as np
import pytest

from miniplm.data import encoder_check
from miniplm.data.documents import CorpusConfig, DocumentTally, read_documents
from miniplm.data.encoder_check import (
    _HARD_TEXTS,
    choose_encoder,
    differences,
    doubtful_characters,
)
from miniplm.data.encoders import (
    DividedEncoder,
    Encoded,
    GigatokenEncoder,
    TokenizersEncoder,
)
from miniplm.data.tokenizer import load_tokenizer, train_tokenizer

pytestmark = pytest.mark.usefixtures("all_characters")

REAL = ["gpt2", "whisper-multilingual", "gpt-neox-20b", "dolma2-100k"]


@pytest.fixture(scope="module")
def documents():
    corpus = CorpusConfig(source="embedded", share=0.2)
    return [document.text for document in read_documents(corpus, DocumentTally())]


@pytest.fixture(scope="module")
def trained(documents, tmp_path_factory):
    folder = tmp_path_factory.mktemp("tokenizer")
    train_tokenizer(documents[::10], 2000, folder)
    return load_tokenizer(folder)


class Shifted:
    """An encoder that gets wrong what it is told to."""

    name = "shifted 1"

    def __init__(self, exact, wrong):
        self.exact, self.wrong = exact, wrong

    def __call__(self, texts):
        arrays = [
            ids + any(character in text for character in self.wrong)
            for text, ids in zip(texts, self.exact(texts).split(), strict=True)
        ]
        lengths = np.array([len(ids) for ids in arrays], dtype=np.int64)
        return Encoded(np.concatenate([np.empty(0, np.int32), *arrays]), lengths)


def test_ids_are_flat_and_split_again(trained):
    encoded = TokenizersEncoder(trained)(["one two", "", "three"])
    assert encoded.ids_N.dtype == np.int32
    assert [trained.decode(ids) for ids in encoded.split()] == ["one two", "", "three"]
    assert encoded.lengths_D.tolist() == [len(ids) for ids in encoded.split()]
    assert len(TokenizersEncoder(trained)([]).ids_N) == len(GigatokenEncoder(trained)([]).ids_N)


def test_the_whole_embedded_corpus_is_encoded_alike(trained, documents):
    assert len(documents) > 100
    assert choose_encoder(trained, documents[:3]).name.startswith("gigatoken")
    assert differences(GigatokenEncoder(trained), TokenizersEncoder(trained), documents) == []


def test_special_tokens_are_text_and_other_added_tokens_stay(trained, tmp_path):
    trained.save_pretrained(tmp_path)
    tokenizer = load_tokenizer(tmp_path)
    tokenizer.add_tokens(["    ", "<name>"])
    tokenizer.add_special_tokens({"additional_special_tokens": ["<|x|>"]})
    texts = ["a<|endoftext|>b<|x|>", "x    y", "<name> said", *_HARD_TEXTS]
    fast, exact = GigatokenEncoder(tokenizer), TokenizersEncoder(tokenizer)
    assert differences(fast, exact, texts) == []
    spelt, spaces, name, *_ = fast(texts).split()
    added = tokenizer.get_added_vocab()
    assert not {added["<|x|>"], tokenizer.eos_token_id} & set(spelt.tolist())
    assert added["    "] in spaces
    assert added["<name>"] in name


def test_a_tokenizer_that_asks_for_truncation_and_padding_gets_neither(trained, tmp_path):
    trained.save_pretrained(tmp_path)
    tokenizer = load_tokenizer(tmp_path)
    tokenizer.backend_tokenizer.enable_truncation(3)
    tokenizer.backend_tokenizer.enable_padding(length=50)
    texts = ["word " * 20, "a"]
    for make in (GigatokenEncoder, TokenizersEncoder):
        assert differences(make(tokenizer), TokenizersEncoder(trained), texts) == []


def test_an_encoder_that_differs_on_text_is_not_used_and_the_log_says_why(
    trained, monkeypatch, caplog
):
    exact = TokenizersEncoder(trained)
    monkeypatch.setattr(encoder_check, "GigatokenEncoder", lambda _: Shifted(exact, ["rare word"]))
    caplog.set_level(logging.INFO, logger="miniplm")
    monkeypatch.setattr(encoder_check.logger, "propagate", True)
    assert choose_encoder(trained, ["fine"]).name == "shifted 1"
    assert caplog.messages == []
    assert choose_encoder(trained, ["fine", "a rare word"]).name == exact.name
    message = f"encoding with {exact.name}; shifted 1 encodes 'a rare word' differently"
    assert set(caplog.messages) == {message}


@pytest.mark.parametrize("error", [ImportError("No module"), RuntimeError("Unsupported model")])
def test_without_a_fast_encoder_tokenizers_is_used(trained, monkeypatch, caplog, error):
    def fail(_):
        raise error

    monkeypatch.setattr(encoder_check, "GigatokenEncoder", fail)
    monkeypatch.setattr(encoder_check.logger, "propagate", True)
    caplog.set_level(logging.INFO, logger="miniplm")
    assert choose_encoder(trained, []).name.startswith("tokenizers")
    assert f"gigatoken cannot be used: {error}" in caplog.text


def test_single_characters_that_differ_send_their_texts_to_tokenizers(trained, monkeypatch):
    exact = TokenizersEncoder(trained)
    wrong = ["\u1c8a", "\U000113c2", "\ua7cb"]
    monkeypatch.setattr(encoder_check, "GigatokenEncoder", lambda _: Shifted(exact, wrong))
    chosen = choose_encoder(trained, ["fine"])
    assert isinstance(chosen, DividedEncoder)
    assert "3 characters" in chosen.name
    texts = ["plain", "\u1c8a b", "", "\u00e9", "x\U000113c2", "\ua7cb"]
    for part in (texts, texts[:1], texts[1:2], texts[2:4], texts[4:]):
        assert differences(chosen, exact, part) == []
    assert differences(Shifted(exact, wrong), exact, texts) == [texts[1], texts[4], texts[5]]


def test_too_many_characters_that_differ_rule_an_encoder_out(trained, monkeypatch):
    exact = TokenizersEncoder(trained)
    wrong = list(map(chr, range(0x10300, 0x10800)))
    monkeypatch.setattr(encoder_check, "GigatokenEncoder", lambda _: Shifted(exact, wrong))
    assert choose_encoder(trained, []).name == exact.name


@pytest.mark.shared_data
@pytest.mark.parametrize("name", REAL)
def test_real_tokenizers_encode_the_shared_held_out_corpus_alike(shared_data, name):
    tokenizer = load_tokenizer(shared_data / "tokenizers" / name)
    corpus = CorpusConfig(paths=(str(shared_data / "corpus-heldout"),), share=0.3)
    texts = [document.text for document in read_documents(corpus, DocumentTally())]
    chosen = choose_encoder(tokenizer, texts[:10])
    assert chosen.name.startswith("gigatoken")
    assert differences(chosen, TokenizersEncoder(tokenizer), texts) == []


@pytest.mark.shared_data
def test_characters_that_libraries_compose_differently_are_found(shared_data):
    tokenizer = load_tokenizer(shared_data / "tokenizers" / "gpt-neox-20b")
    exact, fast = TokenizersEncoder(tokenizer), GigatokenEncoder(tokenizer)
    doubtful = doubtful_characters(fast, exact)
    rest = [f"{chr(code)} x" for code in range(0x1100, 0x1200)]
    assert differences(DividedEncoder(fast, exact, doubtful or "\0"), exact, rest) == []
