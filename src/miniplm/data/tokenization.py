"""The tokenize stage: documents to token shards, one folder of shards per split.

Documents are read, encoded and packed as they come; finished rows go to disk with what describes
them. When all is read, the rows are shuffled by seed and written as shards. Memory does not grow
with the corpus, but for eight bytes a row (their order) and some hundred a source (its split); it
has to hold the longest documents a few times over, and a few shards' sidecars.
"""

from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

from miniplm.data.corpus_packing import CorpusPacker, pack_corpus
from miniplm.data.documents import (
    CorpusConfig,
    Document,
    DocumentTally,
    estimate_bytes,
    read_documents,
    token_sources,
)
from miniplm.data.packing import PackingConfig
from miniplm.data.spill import Spill, open_spills
from miniplm.data.split_shards import write_split
from miniplm.data.splits import SPLITS, Split, SplitAssigner, SplitsConfig, unit_hash
from miniplm.data.token_corpus import ViewCounts, count_short_rows
from miniplm.data.token_splits import split_token_corpus, take_held_out
from miniplm.data.tokenizer import (
    TokenizerConfig,
    TokenTable,
    load_configured_tokenizer,
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
TOO_SHORT = "rows of token shards with fewer than two ids"


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
    tally = DocumentTally()
    with open_spills(folder, SPLITS, table) as spills:
        packer = CorpusPacker(table, config.packing.max_length, spills)
        encoder = _pack(config, tokenizer, packer, tally)
        views = _take_tokens(config, table, folder, tally)
        splits = {split: _split_counts(spill) for split, spill in spills.items()} | views
        _refuse_empty_splits(config, splits, tally)
        for split, spill in spills.items():
            if split not in views:
                write_split(spill, folder, split, config.seed, config.packing, table)
    return _outcome(config, splits, packer, table, tally, encoder)


def _pack(
    config: TokenizationConfig,
    tokenizer: "PreTrainedTokenizerBase",
    packer: CorpusPacker,
    tally: DocumentTally,
) -> str:
    """Pack the corpora that are text; returns the name of the encoder."""
    assigner = SplitAssigner(config.splits, config.seed)

    def deal(document: Document) -> Split:
        return assigner.assign(document.id, document.domain, document.num_bytes)

    encoders = []
    if config.corpus.source != "tokens":
        encoders.append(pack_corpus(config.corpus, tokenizer, packer, deal, tally))
    held_out = config.held_out_corpus
    if held_out is not None and held_out.source != "tokens":
        encoders.append(pack_corpus(held_out, tokenizer, packer, lambda _: "held_out", tally))
    packer.flush()
    return "; ".join(dict.fromkeys(encoders))


def _take_tokens(
    config: TokenizationConfig, table: TokenTable, folder: Path, tally: DocumentTally
) -> dict[Split, dict[str, int]]:
    """Deal the rows of corpora that are token shards; returns counts of the splits made so."""
    length, held_out = config.packing.max_length, config.held_out_corpus
    views: dict[Split, ViewCounts] = {}
    if config.corpus.source == "tokens":
        views = split_token_corpus(config.corpus, config.splits, config.seed, folder, table, length)
    if held_out is not None and held_out.source == "tokens":
        views["held_out"] = take_held_out(held_out, folder / "held_out", table, length)
    tokens = [
        one for one in (config.corpus, held_out) if one is not None and one.source == "tokens"
    ]
    if num_short := sum(count_short_rows(token_sources(corpus)) for corpus in tokens):
        tally.dropped[TOO_SHORT] = num_short
    return {split: _view_counts(counts) for split, counts in views.items()}


def _refuse_empty_splits(
    config: TokenizationConfig, splits: dict[Split, dict[str, int]], tally: DocumentTally
) -> None:
    wanted: list[Split] = ["candidates"]
    wanted += [split for split in SPLITS[1:] if getattr(config.splits, split) > 0]
    if config.held_out_corpus is not None:
        wanted.append("held_out")
    for split in wanted:
        if splits[split]["num_sequences"] == 0:
            raise DocumentError(
                f"no sequence is left for the split {split!r} ({tally.num_documents} documents "
                f"read, {sum(tally.dropped.values())} left out: {dict(tally.dropped)}). Give more "
                "text, or other shares (splits.*); parts of one source stay together, and rows of "
                "token shards are dealt one by one."
            )


def _make_tokenizer(config: TokenizationConfig, folder: Path) -> "PreTrainedTokenizerBase":
    wanted = config.tokenizer
    if wanted.name is None:
        logger.info("training a tokenizer of %d entries", wanted.vocab_size)
        train_tokenizer(_training_texts(config), wanted.vocab_size, folder)
        return load_tokenizer(folder)
    tokenizer = load_configured_tokenizer(wanted)
    tokenizer.save_pretrained(folder)
    return tokenizer


def _training_texts(config: TokenizationConfig) -> Iterator[str]:
    """A sample of the corpus, spread over all of it, without held-out documents."""
    budget = config.tokenizer.train_bytes
    total = estimate_bytes(config.corpus)
    share = budget / max(1, total)
    splits = SplitAssigner(config.splits, config.seed)
    with progress("tokenizer", min(budget, total) / 1e6, "MB") as advance:
        first: str | None = None
        for document in read_documents(config.corpus, DocumentTally()):
            size = document.num_bytes
            if splits.assign(document.id, document.domain, size) == "held_out":
                continue
            if first is None:
                first = document.text[: config.tokenizer.train_bytes]
            if unit_hash(document.id, config.seed + 1) >= share:
                continue
            advance(size / 1e6)
            yield document.text[: config.tokenizer.train_bytes]
            budget -= size
            if budget <= 0:
                return
        if budget == config.tokenizer.train_bytes and first is not None:
            yield first  # few documents, and chance took none of them


def _split_counts(spill: Spill) -> dict[str, int]:
    return {
        "num_sequences": spill.num_rows,
        "num_tokens": spill.num_ids - spill.num_rows,
        "num_bytes": spill.num_bytes,
        "num_documents": spill.num_documents,
    }


def _view_counts(views: ViewCounts) -> dict[str, int]:
    return {
        "num_sequences": views.num_sequences,
        "num_tokens": views.num_ids - views.num_sequences,
        "num_bytes": views.num_bytes,
    }


def _outcome(
    config: TokenizationConfig,
    splits: dict[Split, dict[str, int]],
    packer: CorpusPacker,
    table: TokenTable,
    tally: DocumentTally,
    encoder: str,
) -> Outcome:
    return Outcome(
        counts={
            "documents": tally.num_documents,
            "bytes": tally.num_bytes,
            "dropped": dict(tally.dropped),
            "dropped_ids": packer.num_dropped_ids,
        },
        num_tokens=sum(counts["num_tokens"] for counts in splits.values()),
        facts={
            "splits": splits,
            "vocab_size": table.vocab_size,
            "eos_id": table.eos_id,
            "encoder": encoder,
            "corpus": config.corpus.origin,
            "held_out_corpus": config.held_out_corpus and config.held_out_corpus.origin,
        },
    )
