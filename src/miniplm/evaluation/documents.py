"""What a model says of each held-out document: sums over its pieces, in whatever rows they are.

A row holds pieces of several documents, with end-of-text between them, and a document may run over
several rows. Where rows do not say which documents they hold (token corpora made elsewhere), each
row stands for one, and the unit is said to be rows.
"""

import json
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Literal

import polars as pl
import pyarrow as pa
import pyarrow.parquet as pq

from miniplm.data.shards import Shard, open_shards
from miniplm.data.splits import source_of
from miniplm.errors import ArtefactError
from miniplm.export.retokenized_rows import PART_BIT
from miniplm.manifest import atomic_path, fingerprint, how_to_remake
from miniplm.scoring.tables import SEGMENT_COLUMNS, read_scores

DOCUMENTS_NAME = "documents.parquet"
SUMS = ("log_prob", "num_tokens", "num_bytes")
"""Columns that are added up: nats, targets that count, bytes of text that they stand for."""
Unit = Literal["documents", "rows"]
_KEY = b"miniplm"


@dataclass(frozen=True)
class Documents:
    """Sums of every document.

    Args:
        table: domain, document, log_prob, num_tokens, num_bytes; in order of domain and document.
            Documents without a target that counts are there too, so that models can be compared
            whatever they count.
        unit: What a line is of.
    """

    table: pl.DataFrame
    unit: Unit = "documents"

    @classmethod
    def of_pieces(cls, pieces: pl.DataFrame, unit: Unit = "documents") -> "Documents":
        """From lines of the same columns, several of which may be of one document."""
        sums = pieces.group_by("domain", "document").agg(pl.col(*SUMS).sum())
        return cls(sums.select("domain", "document", *SUMS).sort("domain", "document"), unit)

    def digests(self) -> dict[str, str]:
        """A digest of the names of each domain's documents.

        It does not depend on tokens, but for documents too short to be packed. Rows have no names,
        so where those are counted there is none.
        """
        if self.unit == "rows":
            return {}
        named = self.table.group_by("domain", maintain_order=True).agg(pl.col("document").sort())
        return {domain: fingerprint(names) for domain, names in named.iter_rows()}

    def write(self, path: Path) -> None:
        """Write them atomically."""
        schema = {b"miniplm": json.dumps({"unit": self.unit}).encode()}
        path.parent.mkdir(parents=True, exist_ok=True)
        with atomic_path(path) as temporary:
            pq.write_table(self.table.to_arrow().replace_schema_metadata(schema), temporary)


def read_documents(path: Path) -> Documents:
    """What `Documents.write` wrote.

    Raises:
        ArtefactError: The file is missing, damaged or of another kind.
    """
    try:
        table = pq.read_table(path)
        unit = json.loads(table.schema.metadata[_KEY])["unit"]
        frame = pl.from_arrow(table.select(["domain", "document", *SUMS]))
    except FileNotFoundError:
        raise ArtefactError(
            f"{path}: no such file; evaluate the model (again), which writes the sums of its "
            "held-out documents"
        ) from None
    except (OSError, pa.ArrowException, KeyError, TypeError, ValueError) as error:
        raise ArtefactError(
            f"{path}: is no table of documents, or is damaged. {how_to_remake(path)}"
        ) from error
    assert isinstance(frame, pl.DataFrame)
    return Documents(frame, unit)


def held_out_documents(shards_folder: Path, scores_folder: Path) -> Documents:
    """The sums of every held-out document.

    Args:
        shards_folder: The held-out token shards.
        scores_folder: Their score tables, with `segments`.

    Raises:
        ArtefactError: A file is missing or damaged, or belongs to another shard.
    """
    shards = open_shards(shards_folder)
    rows = pl.concat([_rows(shard, scores_folder) for shard in shards])
    names = rows["source_ids"].to_list()
    original = pl.col("sequence_id") & ((1 << PART_BIT) - 1)  # of rows that were split
    num_rows = rows.select(original.n_unique()).item()
    if are_documents(names, rows["segment_log_probs"].list.len().to_list(), num_rows):
        columns = dict(zip(SEGMENT_COLUMNS, SUMS, strict=True))
        pieces = rows.drop(SUMS).explode("source_ids", *SEGMENT_COLUMNS)
        return Documents.of_pieces(pieces.rename({"source_ids": "document", **columns}))
    return Documents.of_pieces(rows.with_columns(document=original.cast(pl.String)), "rows")


def are_documents(
    source_ids: Sequence[Sequence[str]], num_pieces: Sequence[int], num_rows: int
) -> bool:
    """Whether rows say which documents they hold, and do not merely name themselves.

    Args:
        source_ids: What each row, or part of one that was split, says.
        num_pieces: Pieces of documents found in each.
        num_rows: Before they were split: all models have to be measured in the same unit.

    Example:
        >>> are_documents([["a", "b"], ["b", "c"]], [2, 2], 2)
        True
        >>> are_documents([["shard:0#0", "shard:0#1"], ["shard:1#0"]], [2, 1], 2)
        False
    """
    if any(len(names) != count for names, count in zip(source_ids, num_pieces, strict=True)):
        return False
    sources = [{source_of(name) for name in names} for names in source_ids]
    own_rows = all(len(names) == 1 for names in sources)
    return not (own_rows and len(set().union(*sources)) == num_rows)


def _rows(shard: Shard, scores_folder: Path) -> pl.DataFrame:
    """The score table of a shard, with the domain and the documents of each row."""
    path = scores_folder / f"{shard.prefix.name}.parquet"
    scores = pl.from_arrow(read_scores(path, shard.info.shard_hash))
    told = pl.from_arrow(shard.sidecar.select(["sequence_id", "domain", "source_ids"]))
    assert isinstance(scores, pl.DataFrame)
    assert isinstance(told, pl.DataFrame)
    counts = pl.col("num_tokens", "num_bytes").cast(pl.Int64)
    columns = ["sequence_id", *SUMS, *SEGMENT_COLUMNS]
    told = told.with_columns(pl.col("domain").cast(pl.String))
    return told.join(scores.select(columns).with_columns(counts), on="sequence_id")
