"""Rows in the tokens of another tokenizer: their text, encoded as the model that reads it would.

A row holds pieces of documents with the run's end-of-text between them. Each piece is decoded, and
encoded by the model's own tokenizer; between them comes the model's own end-of-text. Where that
tokenizer begins a text with a beginning-of-text id (Llama, Mistral, Gemma), every piece begins with
it, as in the model's own training; it has no target, like end-of-text, so that for every family the
first token of a piece is not scored.

A row that is longer than the model serves is scored in windows that overlap by half. Each target is
scored once, in the first window that holds it, so nothing is left out.

Axes: P pieces, R rows, W windows, V vocabulary.
"""

import hashlib
from collections.abc import Sequence
from dataclasses import dataclass, replace
from functools import cached_property
from typing import TYPE_CHECKING

import numpy as np
from numpy.typing import NDArray

from miniplm.data.encoders import TokenizersEncoder
from miniplm.data.pieces import split_at_eos
from miniplm.data.shards import Shard
from miniplm.data.tokenizer import TokenTable, token_table
from miniplm.scoring.rows import Rows

if TYPE_CHECKING:
    from transformers import PreTrainedTokenizerBase

_NO_CHARACTER = "\N{REPLACEMENT CHARACTER}"


@dataclass(frozen=True)
class Reencoded:
    """Some rows in other tokens, cut into windows where they have to be.

    Args:
        windows: What is scored; without its targets that an earlier window has scored.
        parents_W: Which of the rows each window is of.
        first_segments_W: Which of the row's pieces of documents each window begins in.
        num_replaced: Rows whose text has characters that the run's ids do not spell in full.
    """

    windows: Rows
    parents_W: NDArray[np.int64]
    first_segments_W: NDArray[np.int64]
    num_replaced: int

    @property
    def num_cut(self) -> int:
        """Rows that take more than one window."""
        return int((np.bincount(self.parents_W) > 1).sum())


class OwnTokens:
    """From rows of token shards to the same text in a model's own tokens.

    Args:
        run: The tokenizer that the shards are made with.
        own: The model's.
        served: Positions that the model serves; None: any number.
    """

    def __init__(
        self,
        run: "PreTrainedTokenizerBase",
        own: "PreTrainedTokenizerBase",
        served: int | None = None,
    ) -> None:
        self._run, self._own, self._served = run.backend_tokenizer, own, served
        self._encode = TokenizersEncoder(own)
        self.bos_id = text_begins_with(own)

    @cached_property
    def table(self) -> TokenTable:
        """Facts about each of the model's own ids."""
        return token_table(self._own)

    @cached_property
    def fingerprint(self) -> str:
        """Hash of the tokenizer."""
        content = self._own.backend_tokenizer.to_str().encode()
        return hashlib.sha256(content).hexdigest()[:32]

    def reencode(self, shard: Shard, places: NDArray[np.int64]) -> Reencoded:
        """The rows at some places of a shard, in the model's own tokens."""
        rows = [shard.row(int(place)) for place in places]
        pieces = [split_at_eos(row, shard.info.eos_id) for row in rows]
        texts = self._run.decode_batch(
            [piece.tolist() for row in pieces for piece in row], skip_special_tokens=False
        )
        encoded = iter(self._encode(texts).split())
        joined = [
            self._join([next(encoded) for _ in row], ends=bool(ids[-1] == shard.info.eos_id))
            for row, ids in zip(pieces, rows, strict=True)
        ]
        parents = np.repeat(np.arange(len(rows)), [len(row) for row in pieces]).tolist()
        replaced = {row for row, text in zip(parents, texts, strict=True) if _NO_CHARACTER in text}
        return self._in_windows(shard, shard.sequence_ids[places], joined, len(replaced))

    def _join(self, pieces: Sequence[NDArray[np.int32]], *, ends: bool) -> NDArray[np.int64]:
        """The ids of a row, of which the last piece `ends` with end-of-text or does not."""
        eos = [self.table.eos_id]
        begin = [] if self.bos_id is None else [self.bos_id]
        parts: list[Sequence[int] | NDArray[np.int32]] = []
        for piece in pieces:
            parts += [begin, piece, eos]
        if not ends:
            parts.pop()
        return np.concatenate([np.asarray(part, dtype=np.int64) for part in parts])

    def _in_windows(
        self,
        shard: Shard,
        sequence_ids: NDArray[np.int64],
        rows: list[NDArray[np.int64]],
        num_replaced: int,
    ) -> Reencoded:
        longest = max([2, *map(len, rows)]) - 1
        most = min(longest, self._served or longest)
        parents, parts, known, first = [], [], [], []
        for number, row in enumerate(rows):
            for begin, end, done in windows(len(row), most):
                parents.append(number)
                parts.append(row[begin:end])
                known.append(done)
                first.append(int((row[:begin] == self.table.eos_id).sum()))
        parents_W = np.array(parents, dtype=np.int64)
        info = replace(
            shard.info,
            vocab_size=self.table.vocab_size,
            eos_id=self.table.eos_id,
            max_length=most,
        )
        lengths = np.array([len(part) for part in parts], dtype=np.int32)
        window_rows = Rows(
            shard.prefix,
            info,
            sequence_ids[parents_W],
            lengths,
            lambda place: parts[place],
            self.bos_id,
            np.array(known, dtype=np.int32),
        )
        return Reencoded(window_rows, parents_W, np.array(first, dtype=np.int64), num_replaced)


def windows(num_ids: int, most: int, stride: int | None = None) -> list[tuple[int, int, int]]:
    """Windows over a row: first id, one more than the last, and leading targets already scored.

    Args:
        num_ids: Of the row; one less are targets.
        most: Targets in a window.
        stride: Ids from the beginning of a window to that of the next; half a window if not given.

    Example:
        >>> windows(5, 4), windows(8, 4)
        ([(0, 5, 0)], [(0, 5, 0), (2, 7, 2), (4, 8, 2)])
    """
    found, begin, scored_up_to = [], 0, 1
    while True:
        end = min(num_ids, begin + most + 1)
        found.append((begin, end, scored_up_to - begin - 1))
        if end == num_ids:
            return found
        begin, scored_up_to = begin + (stride or max(1, most // 2)), end


def text_begins_with(tokenizer: "PreTrainedTokenizerBase") -> int | None:
    """The beginning-of-text id that a tokenizer puts in front of a text, if it does."""
    ids = tokenizer("a")["input_ids"]
    bos_id = tokenizer.bos_token_id
    return bos_id if bos_id is not None and ids[0] == bos_id else None
