"""Rows as text, and text as rows, exactly: by the bytes that ids stand for.

A row is pieces of documents with end-of-text between them. Its text is what the bytes of its ids
spell, piece by piece. Two things are not as simple:

- A row can begin or end inside a character of several bytes; each rest of one becomes U+FFFD, as
  in `tokenizer.decode`.
- SentencePiece puts a space in front of each document. Behind an end-of-text, or the mark that
  begins a text (BOS), it is taken off again. At the beginning of a row without such a mark nothing
  tells it from a space of the text (most rows begin inside a document, with one), so there it
  counts as text; and a text that begins a row with a space is encoded so that this space, and no
  second one, stands in front.

Ids that stand for no text, BOS among them, are in rows that other programs made. They are left out
and counted.
"""

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from itertools import chain
from typing import TYPE_CHECKING

import numpy as np
from numpy.typing import NDArray

from miniplm.data.encoders import Encoder, TokenizersEncoder
from miniplm.data.pieces import split_at_eos
from miniplm.data.shards import Shard
from miniplm.data.tokenizer import check_stands_for_bytes, token_bytes
from miniplm.errors import ArtefactError, ModelError

if TYPE_CHECKING:
    from transformers import PreTrainedTokenizerBase

REPLACED = "\N{REPLACEMENT CHARACTER}"


@dataclass(frozen=True)
class RowTexts:
    """A row as text.

    Args:
        pieces: Texts of its pieces of documents, in order; some may be empty.
        is_closed: Whether end-of-text stands behind the last one.
        num_replaced: Rests of characters that became U+FFFD.
        num_special: Ids that stand for no text, end-of-text not counted.
    """

    pieces: list[str]
    is_closed: bool
    num_replaced: int = 0
    num_special: int = 0


class RowText:
    """A tokenizer as rows are written in it.

    Args:
        tokenizer: Its ids have to stand for bytes.
        encoder: Gives its ids; that of `tokenizers` if none is given.

    Raises:
        ModelError: They do not.
    """

    def __init__(
        self, tokenizer: "PreTrainedTokenizerBase", encoder: Encoder | None = None
    ) -> None:
        check_stands_for_bytes(tokenizer)
        self._name = tokenizer.name_or_path
        self.eos_id = int(tokenizer.eos_token_id)
        self._bos_id = tokenizer.bos_token_id
        self._bytes_V = token_bytes(tokenizer)
        self.num_bytes_V = np.array([len(text) for text in self._bytes_V], dtype=np.int64)
        self._encoder = encoder or TokenizersEncoder(tokenizer)
        self._adds_space = self._probe("a") == b" a"
        self._doubles_space = self._probe(" a") == b"  a"

    @property
    def vocab_size(self) -> int:
        """One more than the largest id."""
        return len(self._bytes_V)

    def check_shard(self, shard: Shard) -> None:
        """Refuse to decode rows of another tokenizer.

        Raises:
            ArtefactError: The shard's vocabulary or end-of-text is another.
        """
        found = (shard.info.vocab_size, shard.info.eos_id)
        if found != (self.vocab_size, self.eos_id):
            raise ArtefactError(
                f"{shard.prefix}: has {found[0]:,} entries and end-of-text {found[1]}, the "
                f"tokenizer {self._name!r} has {self.vocab_size:,} and {self.eos_id}. Give the "
                "tokenizer that these shards were made with."
            )

    def decode(self, row: NDArray[np.int64]) -> RowTexts:
        """The text of a row of ids, `[length]`."""
        pieces, num_replaced = [], 0
        for place, ids in enumerate(split_at_eos(row, self.eos_id)):
            spelt = self.spelt(ids)
            begins_document = place > 0 or (len(ids) > 0 and ids[0] == self._bos_id)
            if self._adds_space and begins_document:
                spelt = spelt.removeprefix(b" ")
            text = spelt.decode(errors="replace")
            num_replaced += text.count(REPLACED) - spelt.count(REPLACED.encode())
            pieces.append(text)
        is_silent = self.num_bytes_V[row] == 0
        num_special = int(np.count_nonzero(is_silent & (row != self.eos_id)))
        is_closed = bool(len(row)) and int(row[-1]) == self.eos_id
        return RowTexts(pieces, is_closed, num_replaced, num_special)

    def encode(self, rows: Sequence[RowTexts]) -> list[list[NDArray[np.int32]]]:
        """Ids of the pieces of rows, without end-of-text."""
        spelt = [self.wanted(row) for row in rows]
        texts = [text for row in spelt for text in row if text]
        if self._doubles_space:
            texts = [text[1:] for text in texts]
        encoded = iter(self._encoder(texts).split())
        none = np.empty(0, np.int32)
        return [[next(encoded) if text else none for text in row] for row in spelt]

    def wanted(self, row: RowTexts) -> list[str]:
        """What the ids of each piece are to spell, the tokenizer's own space included."""
        if not self._adds_space:
            return row.pieces
        first, *others = row.pieces
        spaced = [f" {text}" if text else "" for text in others]
        return [first if first.startswith(" ") or not first else f" {first}", *spaced]

    def joined(self, pieces: Sequence[NDArray[np.int32]], *, is_closed: bool) -> NDArray[np.int32]:
        """Pieces with end-of-text between them, and behind the last one if it `is_closed`."""
        eos = np.array([self.eos_id], dtype=np.int32)
        parts = list(chain.from_iterable((piece, eos) for piece in pieces))
        return np.concatenate(parts if is_closed else parts[:-1])

    def spelt(self, ids: NDArray[np.int64] | NDArray[np.int32]) -> bytes:
        """The bytes that ids stand for."""
        return b"".join(map(self._bytes_V.__getitem__, ids.tolist()))

    def _probe(self, text: str) -> bytes:
        return self.spelt(self._encoder([text]).ids_N)


def piece_texts(
    tokenizer: "PreTrainedTokenizerBase",
) -> Callable[[NDArray[np.int64]], list[str]]:
    """What gives the texts of a row's pieces: exact, or as the tokenizer decodes them.

    Word pieces and the like, whose ids do not stand for bytes, have no exact text.
    """
    try:
        exact = RowText(tokenizer)
    except ModelError:
        eos_id, backend = int(tokenizer.eos_token_id), tokenizer.backend_tokenizer
        return lambda row: backend.decode_batch(
            [piece.tolist() for piece in split_at_eos(row, eos_id)]
        )
    return lambda row: exact.decode(row).pieces
