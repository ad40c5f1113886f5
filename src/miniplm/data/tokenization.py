"""The tokenize stage: documents to token shards, one folder of shards per split.

Documents are read, encoded on all cores and packed as they come; finished rows go to a spill file
per split, so that memory holds only a row's place and its document ids. When all is read the rows
are shuffled by seed and written as shards. A sequence's id is its place in the shuffled split,
whatever the number of shards.
"""

from collections import Counter
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np
from numpy.typing import NDArray

from miniplm.data.documents import CorpusConfig, Document, Tally, estimate_bytes, read_documents
from miniplm.data.packing import DomainPacker, PackingConfig
from miniplm.data.shards import make_sidecar, write_shard
from miniplm.data.spill import Spill, open_spills
from miniplm.data.splits import SPLITS, Split, SplitAssigner, SplitsConfig, unit_hash
from miniplm.data.tokenizer import (
    TokenizerConfig,
    TokenTable,
    encode_batch,
    load_tokenizer,
    token_table,
    train_tokenizer,
)
from miniplm.errors import DocumentError
from miniplm.manifest import Outcome
from miniplm.runtime.log import logger
from miniplm.runtime.progress import progress

if TYPE_CHECKING:
    from transformers import PreTrainedTokenizerBase

TOKENIZER_FOLDER = "tokenizer"
_BATCH_CHARACTERS = 1 << 20
_BATCH_DOCUMENTS = 1024


@dataclass(frozen=True)
class TokenizationConfig:
    """Everything the stage depends on; `held_out_corpus` is read instead of a held-out share."""

    corpus: CorpusConfig
    splits: SplitsConfig
    tokenizer: TokenizerConfig
    packing: PackingConfig
    seed: int
    held_out_corpus: CorpusConfig | None = None


def tokenize_corpus(config: TokenizationConfig, folder: Path) -> Outcome:
    """Write `folder/tokenizer` and, per split, `folder/<split>/data_*.{bin,idx,parquet}`.

    Raises:
        DocumentError: Documents cannot be read, too many are bad, or none are left to keep.
        ModelError: The tokenizer cannot be loaded.
    """
    tokenizer = _make_tokenizer(config, folder / TOKENIZER_FOLDER)
    table = token_table(tokenizer)
    tally = Tally()
    with open_spills(folder, SPLITS, table) as spills:
        packers = _pack_corpus(config, tokenizer, table, spills, tally)
        _refuse_empty_splits(config, spills, tally)
        splits = {
            split: _write_split(config, spills[split], folder, split, table) for split in SPLITS
        }
    return _outcome(splits, packers, table, tally)


def _refuse_empty_splits(
    config: TokenizationConfig, spills: dict[Split, Spill], tally: Tally
) -> None:
    wanted: list[Split] = ["candidates"]
    wanted += [split for split in SPLITS[1:] if getattr(config.splits, split) > 0]
    if config.held_out_corpus is not None:
        wanted.append("held_out")
    for split in wanted:
        if spills[split].num_rows == 0:
            raise DocumentError(
                f"no sequence is left for the split {split!r} ({tally.num_documents} documents "
                f"read, {sum(tally.dropped.values())} left out: {dict(tally.dropped)}). Give more "
                "text, or other shares (splits.*); parts of one source stay together."
            )


def _make_tokenizer(config: TokenizationConfig, folder: Path) -> "PreTrainedTokenizerBase":
    wanted = config.tokenizer
    if wanted.name is None:
        logger.info("training a tokenizer of %d entries", wanted.vocab_size)
        train_tokenizer(_training_texts(config), wanted.vocab_size, folder)
        return load_tokenizer(folder)
    tokenizer = load_tokenizer(
        wanted.name, revision=wanted.revision, trust_remote_code=wanted.trust_remote_code
    )
    tokenizer.save_pretrained(folder)
    return tokenizer


def _training_texts(config: TokenizationConfig) -> Iterator[str]:
    """A sample of the corpus, spread over all of it, without held-out documents."""
    budget = config.tokenizer.train_bytes
    share = budget / max(1, estimate_bytes(config.corpus))
    splits = SplitAssigner(config.splits, config.seed)
    with progress("tokenizer", min(budget, estimate_bytes(config.corpus)) / 1e6, "MB") as advance:
        for document in read_documents(config.corpus, Tally()):
            size = len(document.text.encode())
            if splits.assign(document.id, document.domain, size) == "held_out":
                continue
            if unit_hash(document.id, config.seed + 1) >= share:
                continue
            advance(size / 1e6)
            yield document.text
            budget -= size
            if budget <= 0:
                return


def _pack_corpus(
    config: TokenizationConfig,
    tokenizer: "PreTrainedTokenizerBase",
    table: TokenTable,
    spills: dict[Split, Spill],
    tally: Tally,
) -> "_Packers":
    packers = _Packers(table, config.packing.max_length, spills)

    splits = SplitAssigner(config.splits, config.seed)

    def deal(document: Document) -> Split:
        return splits.assign(document.id, document.domain, len(document.text.encode()))

    _feed(config.corpus, tokenizer, tally, packers, deal)
    if config.held_out_corpus is not None:
        _feed(config.held_out_corpus, tokenizer, tally, packers, lambda _: "held_out")
    packers.flush()
    return packers


@dataclass
class _Packers:
    """A packer per split and domain, made when the first document comes."""

    table: TokenTable
    max_length: int
    spills: dict[Split, Spill]
    packers: dict[tuple[Split, str], DomainPacker] = field(default_factory=dict)
    num_documents: Counter[str] = field(default_factory=Counter)

    def add(self, ids: NDArray[np.int32], document: Document, split: Split) -> None:
        key = (split, document.domain)
        if key not in self.packers:
            self.packers[key] = DomainPacker(
                self.table.ends_sentence_V, self.table.eos_id, self.max_length
            )
        self.packers[key].add(ids, document.id)
        self.num_documents[split] += 1
        self._drain(key, flush=False)

    def flush(self) -> None:
        for key in sorted(self.packers):
            self._drain(key, flush=True)

    @property
    def num_dropped_ids(self) -> int:
        return sum(packer.num_dropped_ids for packer in self.packers.values())

    def _drain(self, key: tuple[Split, str], *, flush: bool) -> None:
        split, domain = key
        for row in self.packers[key].rows(flush=flush):
            self.spills[split].add(row.ids, domain, row.sources)


def _feed(
    corpus: CorpusConfig,
    tokenizer: "PreTrainedTokenizerBase",
    tally: Tally,
    packers: _Packers,
    split_for: Callable[[Document], Split],
) -> None:
    with progress("tokenize", estimate_bytes(corpus) / 1e6, "MB") as advance:
        for batch in _batches(read_documents(corpus, tally)):
            texts = [document.text for document in batch]
            for document, ids in zip(batch, encode_batch(tokenizer, texts), strict=True):
                packers.add(ids, document, split_for(document))
            advance(sum(len(text) for text in texts) / 1e6)


def _batches(documents: Iterator[Document]) -> Iterator[list[Document]]:
    """Documents in groups large enough to keep all cores encoding."""
    batch: list[Document] = []
    size = 0
    for document in documents:
        batch.append(document)
        size += len(document.text)
        if size >= _BATCH_CHARACTERS or len(batch) >= _BATCH_DOCUMENTS:
            yield batch
            batch, size = [], 0
    if batch:
        yield batch


def _write_split(
    config: TokenizationConfig, spill: Spill, folder: Path, split: Split, table: TokenTable
) -> dict[str, int]:
    """Shuffle a split's rows and write its shards; returns its counts."""
    seed = np.random.SeedSequence([config.seed, SPLITS.index(split)])
    order = np.random.Generator(np.random.PCG64(seed)).permutation(spill.num_rows)
    lengths, num_bytes = spill.lengths, spill.num_bytes
    step = config.packing.sequences_per_shard
    for number, begin in enumerate(range(0, len(order), step)):
        part = order[begin : begin + step]
        sidecar = make_sidecar(
            np.arange(begin, begin + len(part), dtype=np.int64),
            [spill.domains[index] for index in part],
            lengths[part],
            num_bytes[part],
            [spill.source_ids[index] for index in part],
        )
        write_shard(
            folder / split / f"data_{number}",
            spill.rows(part),
            sidecar,
            vocab_size=table.vocab_size,
            eos_id=table.eos_id,
            max_length=config.packing.max_length,
        )
    return {
        "num_sequences": len(order),
        "num_tokens": int(lengths.sum()) - len(order),
        "num_bytes": int(num_bytes.sum()),
    }


def _outcome(
    splits: dict[Split, dict[str, int]], packers: _Packers, table: TokenTable, tally: Tally
) -> Outcome:
    for split in SPLITS:
        splits[split]["num_documents"] = packers.num_documents[split]
    return Outcome(
        counts={
            "documents": tally.num_documents,
            "bytes": tally.num_bytes,
            "dropped": dict(tally.dropped),
            "dropped_ids": packers.num_dropped_ids,
        },
        num_tokens=sum(counts["num_tokens"] for counts in splits.values()),
        facts={"splits": splits, "vocab_size": table.vocab_size, "eos_id": table.eos_id},
    )
