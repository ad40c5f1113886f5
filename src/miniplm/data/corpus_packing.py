"""Documents to packed rows: read ahead, encoded in batches, dealt to splits, packed by domain.

One thread reads, decompresses and parses, one encodes (on all cores, without the interpreter's
lock), and the caller's packs. What is in memory at once does not depend on the corpus: at most five
batches of text (a long document is a batch of its own, of one to four bytes a character), the ids
of three, and a block of ids for each split and domain.
"""

from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, NamedTuple

import numpy as np
from numpy.typing import NDArray

from miniplm.data.documents import (
    CorpusConfig,
    Document,
    DocumentTally,
    estimate_bytes,
    read_documents,
)
from miniplm.data.encoder_check import choose_encoder
from miniplm.data.encoders import Encoder
from miniplm.data.long_texts import exact_pieces
from miniplm.data.packing import DomainPacker
from miniplm.data.spill import Spill
from miniplm.data.splits import Split
from miniplm.data.tokenizer import TokenTable
from miniplm.runtime.ahead import ahead
from miniplm.runtime.progress import progress

if TYPE_CHECKING:
    from transformers import PreTrainedTokenizerBase

_BATCH_CHARACTERS = 1 << 20
_BATCH_DOCUMENTS = 4096
_AHEAD = 1


class Part(NamedTuple):
    """A document, or a part of a long one, with its ids, `[N]` int32."""

    document: Document
    ids: NDArray[np.int32]
    is_last: bool


@dataclass
class CorpusPacker:
    """Packs documents into the spills of their splits, with a packer per split and domain.

    Args:
        table: What is known of each id.
        max_length: Predicted ids in a row.
        spills: Where rows go.
    """

    table: TokenTable
    max_length: int
    spills: dict[Split, Spill]
    _packers: dict[tuple[Split, str], DomainPacker] = field(default_factory=dict)
    _open: tuple[DomainPacker, Spill, int] | None = None

    def add(self, part: Part, split_for: Callable[[Document], Split]) -> None:
        """Add a document or the next part of one; its split is asked for once."""
        if self._open is None:
            self._open = self._begin(part.document, split_for(part.document))
        packer, spill, number = self._open
        if part.is_last:
            self._open = None
        rows = packer.add(part.ids, number, is_last=part.is_last)
        if rows is not None:
            spill.add_rows(rows, part.document.domain)

    def _begin(self, document: Document, split: Split) -> tuple[DomainPacker, Spill, int]:
        packer = self._packers.get((split, document.domain))
        if packer is None:
            packer = DomainPacker(self.table.ends_sentence_V, self.table.eos_id, self.max_length)
            self._packers[split, document.domain] = packer
        spill = self.spills[split]
        return packer, spill, spill.add_document(document.id)

    def flush(self) -> None:
        """Write out what is left, when all documents were added."""
        for split, domain in sorted(self._packers):
            rows = self._packers[split, domain].flush()
            if rows is not None:
                self.spills[split].add_rows(rows, domain)

    @property
    def num_dropped_ids(self) -> int:
        """Ids that were left over alone at the end of a domain."""
        return sum(packer.num_dropped_ids for packer in self._packers.values())


def pack_corpus(
    corpus: CorpusConfig,
    tokenizer: "PreTrainedTokenizerBase",
    packer: CorpusPacker,
    split_for: Callable[[Document], Split],
    tally: DocumentTally,
) -> str:
    """Read, encode and pack all documents of a corpus.

    Args:
        corpus: The corpus.
        tokenizer: Gives the ids.
        packer: Gets the documents.
        split_for: The split of a document; is asked once for each, in order.
        tally: Counts what is read.

    Returns:
        The name of the encoder that was used.

    Raises:
        DocumentError: As `read_documents`.
    """
    with (
        progress("tokenize", estimate_bytes(corpus, rough=True) / 1e6, "MB") as advance,
        ahead(_batches(read_documents(corpus, tally)), _AHEAD) as batches,
    ):
        first = next(batches, [])
        encoder = choose_encoder(tokenizer, [document.text for document in first])
        remaining = _all_of([first], batches)
        del first  # it may be half a gigabyte
        with ahead(_encoded(encoder, remaining), _AHEAD) as encoded:
            for parts in encoded:
                for part in parts:
                    packer.add(part, split_for)
                    if part.is_last:
                        advance(len(part.document.text) / 1e6)
    return encoder.name


def _all_of(
    first: list[list[Document]], rest: Iterator[list[Document]]
) -> Iterator[list[Document]]:
    """The first batches and the rest; unlike `itertools.chain` it lets go of what it gave."""
    while first:
        yield first.pop(0)
    yield from rest


def _batches(documents: Iterator[Document]) -> Iterator[list[Document]]:
    """Documents in groups large enough to keep all cores encoding; long ones are alone."""
    batch: list[Document] = []
    size = 0
    for document in documents:
        length = len(document.text)
        if batch and (size + length > _BATCH_CHARACTERS or len(batch) == _BATCH_DOCUMENTS):
            yield batch
            batch, size = [], 0
        batch.append(document)
        size += length
    if batch:
        yield batch


def _encoded(encoder: Encoder, batches: Iterator[list[Document]]) -> Iterator[list[Part]]:
    for batch in batches:
        if len(batch) == 1 and len(batch[0].text) > _BATCH_CHARACTERS:
            yield from _encoded_in_pieces(encoder, batch[0])
            continue
        arrays = encoder([document.text for document in batch]).split()
        # Copies, since a view would keep the ids of the whole batch.
        pairs = zip(batch, arrays, strict=True)
        yield [Part(document, ids.copy(), is_last=True) for document, ids in pairs]


def _encoded_in_pieces(encoder: Encoder, document: Document) -> Iterator[list[Part]]:
    group: list[str] = []
    for piece in exact_pieces(document.text, encoder):
        group.append(piece)
        if sum(map(len, group)) >= _BATCH_CHARACTERS:
            yield [Part(document, encoder(group).ids_N, is_last=False)]
            group = []
    yield [Part(document, encoder(group).ids_N, is_last=True)]
