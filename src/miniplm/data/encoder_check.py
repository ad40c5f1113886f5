"""Which encoder to use: the fast one where it agrees with `tokenizers`, proven at the start.

They are compared on texts that are hard to get right, on the characters of all scripts one by one,
and on text of the corpus. Single characters on which they differ are noted, and texts that hold one
go to `tokenizers`; any other difference rules the fast encoder out. The tests compare the two on
whole corpora.
"""

from collections.abc import Sequence
from typing import TYPE_CHECKING

import numpy as np

from miniplm.data.encoders import (
    DividedEncoder,
    Encoder,
    GigatokenEncoder,
    TokenizersEncoder,
)
from miniplm.runtime.log import logger

if TYPE_CHECKING:
    from transformers import PreTrainedTokenizerBase

_SAMPLE_TEXTS = 32
_SAMPLE_CHARACTERS = 4096
_MOST_DOUBTFUL = 1000
_TEXT_CHARACTERS = 256

# Scripts, marks, symbols and emoji; not the ideographs and syllables of East Asia beyond the first
# of each block, nor planes without characters: what is true of one of those is true of all.
_RANGES = [
    (0x80, 0x3100), (0x3100, 0x3410), (0x4DB0, 0x4E10), (0x9FF0, 0xAC10), (0xD7A0, 0xD800),
    (0xF8FE, 0xF910), (0xFA60, 0x10000), (0x10000, 0x10800), (0x10800, 0x11250), (0x11280, 0x11C00),
    (0x11C00, 0x12010), (0x12390, 0x12490), (0x12540, 0x12550), (0x12F90, 0x13010),
    (0x13420, 0x13470), (0x14640, 0x14650), (0x16100, 0x16140), (0x16A30, 0x17008),
    (0x187F0, 0x18810), (0x18CD0, 0x18D20), (0x1AFF0, 0x1B008), (0x1B120, 0x1B178),
    (0x1BC90, 0x1BCB0), (0x1CC00, 0x1D250), (0x1D2C0, 0x1D400), (0x1D6A0, 0x1D800),
    (0x1DA00, 0x1DAB0), (0x1DF00, 0x1E300), (0x1E4D0, 0x1E600), (0x1E6C0, 0x1E960),
    (0x1EC70, 0x1ED50), (0x1EE00, 0x1FC00), (0x20000, 0x20002), (0x2F800, 0x2F802),
    (0xE0000, 0xE0080), (0xE0100, 0xE0102), (0xE01EE, 0xE01F0),
]  # fmt: skip

_HARD_TEXTS = [
    "", " ", "  ", "\n", "\r\n", "\t", "a", "\0", " a", "a ", "a  b",
    "a   b\n\n\n   c\r\n\r\n\td  ",
    "\r\n \r \n\t \v \f \x1c \x1d \x1e \x1f \x85",
    "\u00a0 \u1680 \u2003 \u2028 \u2029 \u202f \u3000 \ufeff \u200b\u200c\u2060\u00ad",
    "".join(map(chr, range(256))) * 2,
    " " * 1000 + "x" + "\t" * 300 + "\n" * 300 + " \n" * 100,
    "a" * 5000, "ab" * 3000 + " " + "0" * 3000, "!?" * 2000, "é" * 999, "漢" * 999, "_-" * 999,
    "don't I'LL we've It's 'tis O'Neill ''s 'S DON'T l\u2019eau \u017f '\u017f \u212a",
    "1 12 123 1234 12345 123456 1234567 1,234.56 1e-10 0x1F ½ ² ٣٤٥ 一二三 Ⅷ",
    "snake_case camelCase HTMLParser UPPER lower MiXeD ǅungla ﬁne straße İstanbul ΑΣ",
    "e\u0301 é a\u0308\u0323 a\u0323\u0308 \u0344 가 \u1100\u1161\u11a8 क्षि ﷺ Å \u212b ﬃ \u0f73",
    "🙂 👩\u200d👩\u200d👧\u200d👦 🏳\ufe0f\u200d🌈 👍🏽 🇩🇪🇫🇷 1\ufe0f\u20e3 \U0001fae8",
    "مرحبا بالعالم שלום עולם สวัสดีชาวโลก नमस्ते こんにちは世界。 안녕하세요 Здравствуй, мир!",
    "<|endoftext|><|im_start|> <s></s> [INST] <unk> <pad> <0x0A> </s>a <|endoftext|",
    "Ġ Ċ ĉ ▁ ▁▁a Ā ĠĠ",
    "def f(x):\n    return {'a': [1, 2.5]}  # ok\n\n\n\tif x:\r\n\t\tpass;;;//**--==>>\n",
    "https://example.org/a?b=c&d=%20#e <p class=\"x\">T\\n\\t</p> $\\alpha_{1}^{2}$ ~~~ ```",
]  # fmt: skip


def choose_encoder(tokenizer: "PreTrainedTokenizerBase", sample: Sequence[str]) -> Encoder:
    """The fastest encoder that is exact for this tokenizer; the log says why it is the slow one.

    Args:
        tokenizer: The tokenizer.
        sample: Texts of the corpus; the first few are compared.
    """
    exact = TokenizersEncoder(tokenizer)
    own = [token.content for token in tokenizer.added_tokens_decoder.values()]
    texts = [*_HARD_TEXTS, *(f"a{token} {token}b" for token in own)]
    texts += [text[:_SAMPLE_CHARACTERS] for text in sample[:_SAMPLE_TEXTS]]
    try:
        return _proven(GigatokenEncoder(tokenizer), exact, texts)
    except _NotExactError as error:
        reason = str(error)
    except (ImportError, RuntimeError, ValueError, KeyError, TypeError) as error:
        reason = f"gigatoken cannot be used: {str(error).partition(chr(10))[0]}"
    logger.info("encoding with %s; %s", exact.name, reason)
    return exact


class _NotExactError(Exception):
    """Why a fast encoder is not used."""


def _proven(fast: Encoder, exact: Encoder, texts: Sequence[str]) -> Encoder:
    """The fast encoder where it is exact, or divided from the exact one by some characters."""
    different = differences(fast, exact, texts)
    if different:
        raise _NotExactError(f"{fast.name} encodes {different[0][:80]!r} differently")
    doubtful = doubtful_characters(fast, exact)
    if len(doubtful) > _MOST_DOUBTFUL:
        raise _NotExactError(f"{fast.name} encodes {len(doubtful)} characters differently")
    return DividedEncoder(fast, exact, doubtful) if doubtful else fast


def differences(one: Encoder, other: Encoder, texts: Sequence[str]) -> list[str]:
    """The texts for which two encoders give different ids."""
    first, second = one(texts), other(texts)
    if np.array_equal(first.lengths_D, second.lengths_D) and np.array_equal(
        first.ids_N, second.ids_N
    ):
        return []
    pairs = zip(texts, first.split(), second.split(), strict=True)
    return [text for text, a, b in pairs if not np.array_equal(a, b)]


def doubtful_characters(one: Encoder, other: Encoder) -> str:
    """The characters, out of those of all scripts, that two encoders treat differently."""
    characters = [chr(code) for start, end in _RANGES for code in range(start, end)]
    starts = range(0, len(characters), _TEXT_CHARACTERS)
    texts = ["".join(map(_in_context, characters[i : i + _TEXT_CHARACTERS])) for i in starts]
    suspects = [
        character
        for text in differences(one, other, texts)
        for character in text[1::_CONTEXT_CHARACTERS]
    ]
    alone = {_in_context(character): character for character in suspects}
    return "".join(alone[text] for text in differences(one, other, list(alone)))


def _in_context(character: str) -> str:
    """The character behind a space, doubled and before a letter, where its class tells."""
    return f" {character}{character}a\n"


_CONTEXT_CHARACTERS = len(_in_context("x"))
