"""Rows to be read by a person: their text and where it is from."""

from collections.abc import Iterable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from miniplm.data.parquet import ColumnFile, places_of
from miniplm.data.shards import Shard
from miniplm.data.tokenizer import load_tokenizer
from miniplm.errors import ArtefactError
from miniplm.selection.row_text import row_text


@dataclass(frozen=True)
class RowExample:
    """A row.

    Args:
        facts: Its line of the table `scores` (`selection.score_frames`).
        source_ids: The documents it is cut from.
        text: Of the whole row.
    """

    facts: dict[str, Any]
    source_ids: tuple[str, ...]
    text: str


def read_examples(
    rows: Iterable[dict[str, Any]], shards_folder: Path, tokenizer_folder: Path
) -> list[RowExample]:
    """Rows of the table `scores` with their text.

    Args:
        rows: Lines of the table.
        shards_folder: The token shards.
        tokenizer_folder: Their tokenizer.

    Raises:
        ArtefactError: A shard is damaged or lacks a row.
        ModelError: The tokenizer cannot be loaded.
    """
    tokenizer = load_tokenizer(tokenizer_folder)
    examples = []
    for facts in rows:
        shard = Shard(shards_folder / facts["shard"])
        places = places_of(np.array([facts["sequence_id"]]), shard.sequence_ids)
        if places is None:
            raise ArtefactError(f"{shard.prefix}: has no sequence {facts['sequence_id']}")
        place = int(places[0])
        sources = ColumnFile(shard.prefix.with_suffix(".parquet")).table(["source_ids"])
        examples.append(
            RowExample(
                facts,
                tuple(sources["source_ids"][place].as_py()),
                row_text(shard.row(place), shard.info.eos_id, tokenizer),
            )
        )
    return examples
