"""A form of a refined corpus with all that makes it usable elsewhere: data, tokenizer, card."""

import shutil
from collections.abc import Mapping
from pathlib import Path

from miniplm.data.shards import open_shards
from miniplm.export.card import corpus_card
from miniplm.export.config import Form
from miniplm.export.corpus_history import CorpusHistory
from miniplm.export.input_ids import export_input_ids
from miniplm.export.megatron import export_megatron
from miniplm.export.schedule import rows_by_end
from miniplm.export.text import export_text
from miniplm.export.token_form import export_tokens
from miniplm.manifest import Outcome, remove_folder, write_atomically
from miniplm.runtime.log import logger

CARD_NAME = "README.md"
TOKENIZER_FOLDER = "tokenizer"


def export_form(
    form: Form,
    name: str,
    shards_folder: Path,
    tokenizer: Path,
    history: CorpusHistory,
    folder: Path,
    *,
    materialize_repeats: bool = False,
) -> Outcome:
    """Write a refined corpus in one form, with a dataset card, and the tokenizer of its ids.

    Args:
        form: Of the corpus.
        name: Of the corpus.
        shards_folder: Its token shards.
        tokenizer: Folder of their tokenizer.
        history: How it came about, for the card.
        folder: Where to write.
        materialize_repeats: Of forms without a column for it, as `ExportConfig` says.

    Raises:
        ArtefactError: A shard is damaged, or not one of a refined corpus.
    """
    ends = rows_by_end(open_shards(shards_folder))
    if form == "megatron" and ends:
        _warn_of_lost_order(name, ends)
    if form == "tokens":
        outcome = export_tokens(shards_folder, folder, materialize_repeats=materialize_repeats)
    elif form == "megatron":
        outcome = export_megatron(
            shards_folder, folder, name, materialize_repeats=materialize_repeats
        )
    elif form == "input_ids":
        outcome = export_input_ids(shards_folder, folder)
    else:
        outcome = export_text(shards_folder, tokenizer, form, folder)
    if form not in ("jsonl", "parquet"):
        _copy_tokenizer(tokenizer, folder / TOKENIZER_FOLDER)
    write_atomically(
        folder / CARD_NAME,
        corpus_card(name, form, outcome, history, materialized=materialize_repeats, ends=ends),
    )
    return outcome


def _warn_of_lost_order(name: str, ends: Mapping[float, int]) -> None:
    *_, to_the_end = ends.values()
    logger.warning(
        "export megatron: %s was selected with a schedule (%d of %d sequences take part to the end "
        "of training). Megatron-LM has no column for that: it will train on all of them throughout "
        "and the order is lost. Select without a schedule to give it the refined part only.",
        name,
        to_the_end,
        sum(ends.values()),
    )


def _copy_tokenizer(source: Path, target: Path) -> None:
    if target.exists():
        remove_folder(target)  # of an earlier try, perhaps half of it
    shutil.copytree(source, target)
