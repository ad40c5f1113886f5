import numpy as np
import pytest

from miniplm.data import long_texts
from miniplm.data.encoders import TokenizersEncoder
from miniplm.data.long_texts import exact_pieces
from miniplm.data.tokenizer import load_tokenizer, train_tokenizer


@pytest.fixture(autouse=True)
def _short_pieces(monkeypatch):
    monkeypatch.setattr(long_texts, "PIECE_CHARACTERS", 500)
    monkeypatch.setattr(long_texts, "_SEARCHED_CHARACTERS", 200)
    monkeypatch.setattr(long_texts, "_AROUND_CHARACTERS", 100)


@pytest.fixture(scope="module")
def encoder(tmp_path_factory):
    folder = tmp_path_factory.mktemp("tokenizer")
    train_tokenizer(["some words in a row.\nthe next line 123 456\n"] * 50, 300, folder)
    return TokenizersEncoder(load_tokenizer(folder))


def random_text(alphabet, size, seed=0):
    return "".join(np.random.default_rng(seed).choice(list(alphabet), size))


TEXTS = {
    "words": random_text("abcde  \n.,12'", 20_000),
    "spaces": random_text(" \n\r\ta", 20_000),
    "wide": random_text("漢字é🙂 \na", 20_000),
    "lines": random_text("漢字。\n", 20_000).replace("\n", "\na"),
}


@pytest.mark.parametrize("kind", TEXTS)
def test_the_ids_of_the_pieces_are_those_of_the_whole(encoder, kind):
    text = TEXTS[kind]
    pieces = list(exact_pieces(text, encoder))
    assert "".join(pieces) == text
    assert len(pieces) > 5
    assert encoder(pieces).ids_N.tolist() == encoder([text]).ids_N.tolist()


@pytest.mark.parametrize("text", ["a" * 5000, "1" * 5000, " " * 5000, "漢" * 5000, "short", ""])
def test_a_text_without_a_place_to_cut_stays_whole(encoder, text):
    assert list(exact_pieces(text, encoder)) == [text]


def test_a_tokenizer_that_joins_words_is_not_cut_between_them(encoder):
    class Joining:
        name = "joining"

        def __call__(self, texts):
            return encoder([f"_{text}" for text in texts])  # as those that put a space in front

    text = TEXTS["words"]
    assert list(exact_pieces(text, Joining())) == [text]


def test_a_piece_goes_on_to_the_next_place_to_cut(encoder):
    text = "a" * 1200 + " word" + "b" * 1000
    first, *rest = exact_pieces("x y" * 100 + text + "x y" * 500, encoder)
    assert len(first) > 0
    assert "".join([first, *rest]).count("a" * 1200) == 1
    assert any("a" * 1200 in piece for piece in [first, *rest])
