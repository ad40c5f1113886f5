"""Documents to packed rows: read ahead, encoded in batches, dealt to splits, packed by domain.

One thread reads, decompresses and parses while this one encodes and packs; encoding itself uses
all cores. What is in memory at once does not depend on the corpus: three batches of text or three
single long documents, a batch's ids, and a block of ids for each split and domain.
"""

from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass, field
from itertools import chain
from typing import TYPE_CHECKING

import numpy as np
from numpy.typing import NDArray

from miniplm.data.ahead import ahead
from miniplm.data.documents import CorpusConfig, Document, Tally, estimate_bytes, read_documents
from miniplm.data.encoder_check import choose_encoder
from miniplm.data.encoders import Encoder
from miniplm.data.long_texts import PIECE_CHARACTERS, exact_pieces
from miniplm.data.packing import DomainPacker
from miniplm.data.spill import Spill
from miniplm.data.splits import Split
from miniplm.data.tokenizer import TokenTable
from miniplm.runtime.progress import progress

if TYPE_CHECKING:
    from transformers import PreTrainedTokenizerBase

_BATCH_CHARACTERS = 1 << 20
_BATCH_DOCUMENTS = 4096
_BATCHES_AHEAD = 1


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

    def add(self, parts: Iterable[NDArray[np.int32]], document: Document, split: Split) -> None:
        """Add a document, whose ids come in one array or several."""
        packer = self._packers.get((split, document.domain))
        if packer is None:
            packer = DomainPacker(self.table.ends_sentence_V, self.table.eos_id, self.max_length)
            self._packers[split, document.domain] = packer
        spill = self.spills[split]
        for rows in packer.add(parts, spill.add_document(document.id)):
            spill.add_rows(rows, document.domain)

    def flush(self) -> None:
        """Write out what is left, when all documents were added."""
        for split, domain in sorted(self._packers):
            for rows in self._packers[split, domain].flush():
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
    tally: Tally,
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
        ahead(_batches(read_documents(corpus, tally)), _BATCHES_AHEAD) as batches,
    ):
        first = next(batches, [])
        encoder = choose_encoder(tokenizer, [document.text for document in first])
        remaining = chain([first], batches)
        del first  # it may be half a gigabyte
        for batch in remaining:
            for document, parts in _encoded(encoder, batch):
                packer.add(parts, document, split_for(document))
            advance(sum(len(document.text) for document in batch) / 1e6)
    return encoder.name


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


def _encoded(
    encoder: Encoder, batch: list[Document]
) -> Iterator[tuple[Document, Iterable[NDArray[np.int32]]]]:
    if len(batch) == 1 and len(batch[0].text) > _BATCH_CHARACTERS:
        yield batch[0], _encoded_in_pieces(encoder, batch[0].text)
        return
    arrays = encoder([document.text for document in batch]).split()
    for document, ids in zip(batch, arrays, strict=True):
        yield document, (ids.copy(),)  # a view would keep the ids of the whole batch


def _encoded_in_pieces(encoder: Encoder, text: str) -> Iterator[NDArray[np.int32]]:
    group: list[str] = []
    for piece in exact_pieces(text, encoder):
        group.append(piece)
        if len(group) * PIECE_CHARACTERS >= _BATCH_CHARACTERS:
            yield encoder(group).ids_N
            group = []
    yield encoder(group).ids_N
