"""Text to ids, by the fastest way that gives the ids of the `tokenizers` library.

`tokenizers` is what defines the ids and is always there. `gigatoken` gives the same ones many times
faster for byte-level BPE, and for SentencePiece BPE with byte fallback. It comes with the package,
since it has wheels wherever torch has. It is young, so it is never trusted: `encoder_check`
compares the two for the tokenizer at hand before it is used.
"""

import json
import re
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from importlib import metadata
from itertools import chain
from typing import TYPE_CHECKING, Any, Protocol

import numpy as np
from numpy.typing import NDArray

if TYPE_CHECKING:
    from transformers import PreTrainedTokenizerBase


@dataclass(frozen=True, slots=True)
class Encoded:
    """Ids of several texts, one after another.

    Args:
        ids_N: The ids, `[N]` int32.
        lengths_D: Ids in each text, `[texts]` int64.
    """

    ids_N: NDArray[np.int32]
    lengths_D: NDArray[np.int64]

    def split(self) -> list[NDArray[np.int32]]:
        """The ids of each text, as views."""
        ends = np.cumsum(self.lengths_D).tolist()
        starts = [0, *ends][:-1]
        return [self.ids_N[start:end] for start, end in zip(starts, ends, strict=True)]


class Encoder(Protocol):
    """Encodes texts on all cores, without the interpreter's lock.

    No special tokens are added, and text that happens to spell one is encoded as ordinary text.
    """

    @property
    def name(self) -> str:
        """Library and version."""
        ...

    def __call__(self, texts: Sequence[str]) -> Encoded:
        """Ids of texts that have no lone surrogates."""
        ...


class TokenizersEncoder:
    """Batch encoding of the `tokenizers` library."""

    def __init__(self, tokenizer: "PreTrainedTokenizerBase") -> None:
        self.name = f"tokenizers {metadata.version('tokenizers')}"
        self._backend = tokenizer.backend_tokenizer
        self._backend.encode_special_tokens = True
        self._backend.no_truncation()  # some tokenizer.json ask for these
        self._backend.no_padding()

    def __call__(self, texts: Sequence[str]) -> Encoded:
        """See `Encoder`."""
        encodings = self._backend.encode_batch_fast(texts, add_special_tokens=False)
        lists = [encoding.ids for encoding in encodings]
        lengths = np.fromiter(map(len, lists), dtype=np.int64, count=len(lists))
        ids = np.fromiter(chain.from_iterable(lists), dtype=np.int32, count=int(lengths.sum()))
        return Encoded(ids, lengths)


class GigatokenEncoder:
    """Batch encoding of the `gigatoken` library.

    It always recognises special tokens, so it is given the tokenizer without them. Other added
    tokens stay, as they do for `tokenizers`.

    Raises:
        ImportError: The library is not installed.
        RuntimeError: It does not support this kind of tokenizer.
    """

    def __init__(self, tokenizer: "PreTrainedTokenizerBase") -> None:
        import gigatoken

        self.name = f"gigatoken {metadata.version('gigatoken')}"
        description = tokenizer.backend_tokenizer.to_str()
        description = _replaced(description, "added_tokens", _without_special)
        for name in ("truncation", "padding", "post_processor"):
            description = _replaced(description, name, lambda _: None)
        self._tokenizer: Any = gigatoken.Tokenizer.from_json(description)

    def __call__(self, texts: Sequence[str]) -> Encoded:
        """See `Encoder`."""
        if not texts:
            return Encoded(np.empty(0, np.int32), np.empty(0, np.int64))
        layout = self._tokenizer.encode_batch(list(texts)).layout
        offsets = np.asarray(layout.offsets.data)
        ids = np.asarray(layout.content.data)[offsets[0] : offsets[-1]]
        return Encoded(ids.view(np.int32), np.diff(offsets))


def _without_special(added_tokens: list[dict[str, Any]]) -> list[dict[str, Any]]:
    return [token for token in added_tokens if not token["special"]]


def _replaced(description: str, name: str, change: Callable[[Any], Any]) -> str:
    """A tokenizer.json with the value of one name changed, the vocabulary not being parsed.

    No other text can look like the name, since quotes in strings have a backslash before them.
    """
    start = description.index(f'"{name}":') + len(name) + 3
    value, end = json.JSONDecoder().raw_decode(description, start)
    return description[:start] + json.dumps(change(value)) + description[end:]


class DividedEncoder:
    """A fast encoder, and an exact one for texts that hold a character on which they differ.

    Libraries hold tables of different versions of Unicode, so characters that are a few years old
    may be composed or classed in different ways.
    """

    def __init__(self, fast: Encoder, exact: Encoder, characters: str) -> None:
        self.name = f"{fast.name}, {exact.name} for texts with one of {len(characters)} characters"
        self._fast = fast
        self._exact = exact
        self._doubtful = re.compile(f"[{re.escape(characters)}]")

    def __call__(self, texts: Sequence[str]) -> Encoded:
        """See `Encoder`."""
        doubtful = [not text.isascii() and bool(self._doubtful.search(text)) for text in texts]
        if not any(doubtful):
            return self._fast(texts)
        parts = [
            encoder([text for text, other in zip(texts, doubtful, strict=True) if other is wanted])
            for encoder, wanted in ((self._fast, False), (self._exact, True))
        ]
        pieces = [iter(part.split()) for part in parts]
        arrays = [next(pieces[wanted]) for wanted in doubtful]
        lengths = np.fromiter(map(len, arrays), dtype=np.int64, count=len(arrays))
        return Encoded(np.concatenate(arrays), lengths)
