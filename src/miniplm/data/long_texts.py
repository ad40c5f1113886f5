"""A long text cut into pieces that give, one after another, the ids of the whole.

Encoding a book of half a gigabyte in one go would take tens of times its size in memory. Tokenizers
look no further than a word or two, so there are places where a text can be cut without changing an
id. Such places are proposed before a space or behind a line end, where a letter follows, and are
taken only where the text around gives the same ids whole and cut. Where there is none (a tokenizer
that joins words, a text without spaces and lines) the piece goes on to the next such place.
"""

import re
from collections.abc import Iterator

import numpy as np

from miniplm.data.encoders import Encoder

PIECE_CHARACTERS = 1 << 18

_PROPOSAL = re.compile(r"(?<=\S)(?= [^\W\d_])|(?<=\n)(?=[^\W\d_])")
_SEARCHED_CHARACTERS = 1 << 13
_AROUND_CHARACTERS = 1 << 10
_MOST_TRIED = 8


def exact_pieces(text: str, encoder: Encoder) -> Iterator[str]:
    """Pieces of a text whose ids, joined, are those of the whole text.

    Args:
        text: A text of any length.
        encoder: Gives the ids.

    Yields:
        Pieces of about `PIECE_CHARACTERS`; longer ones where no place to cut is found.
    """
    start = 0
    for end in range(PIECE_CHARACTERS, len(text) - PIECE_CHARACTERS, PIECE_CHARACTERS):
        cut = _cut_before(text, end, encoder)
        if cut is not None:
            yield text[start:cut]
            start = cut
    yield text[start:]


def _cut_before(text: str, end: int, encoder: Encoder) -> int | None:
    """The last place before `end` that was found to be safe, among those that are near."""
    proposals = [
        match.start() for match in _PROPOSAL.finditer(text, end - _SEARCHED_CHARACTERS, end)
    ]
    for cut in reversed(proposals[-_MOST_TRIED:]):
        before = text[cut - _AROUND_CHARACTERS : cut]
        behind = text[cut : cut + _AROUND_CHARACTERS]
        whole, *parts = encoder([before + behind, before, behind]).split()
        if np.array_equal(whole, np.concatenate(parts)):
            return cut
    return None
