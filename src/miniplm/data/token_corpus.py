"""Corpora that are tokenised already: folders of token shards, ours or another program's.

The MiniPLM authors release theirs so: `data_0.bin`, `data_0.idx`, `data_1.bin`, ... in Megatron's
index format, int32 or uint16, a row an item, without sidecars. They are read where they are and
nothing is written beside them; what a run needs to know of them is in its own folder, as views
(`data.shard_views`).
"""

from collections.abc import Callable, Sequence
from dataclasses import astuple, dataclass
from functools import cached_property, partial
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from miniplm.data.megatron_index import count_rows
from miniplm.data.packing import MIN_ROW_IDS
from miniplm.data.parquet import ColumnFile
from miniplm.data.shard_views import SourceShard, read_facts, write_view
from miniplm.data.shards import Shard, is_made_from, open_shards, shard_prefixes
from miniplm.data.tokenizer import TokenTable, load_tokenizer, token_table
from miniplm.errors import ArtefactError, DocumentError
from miniplm.known_files import fingerprint_files
from miniplm.manifest import fingerprint
from miniplm.runtime.executors import Executor, threads
from miniplm.runtime.progress import progress

_MOST_NAMED = 5
Deal = Callable[[NDArray[np.int64]], NDArray[np.integer[Any]]]
"""Gives each row, by its place in the corpus, the number of its view; -1 leaves it out."""


@dataclass(frozen=True)
class ViewCounts:
    """What a folder of views holds.

    Args:
        num_sequences: Its rows.
        num_ids: Ids in them.
        num_bytes: Bytes of their text.
    """

    num_sequences: int = 0
    num_ids: int = 0
    num_bytes: int = 0

    def __add__(self, other: "ViewCounts") -> "ViewCounts":
        return ViewCounts(*(a + b for a, b in zip(astuple(self), astuple(other), strict=True)))


def find_token_shards(folders: Sequence[str], domain: str | None) -> list[SourceShard]:
    """The shards of some folders, in the order of the folders and of the shards' numbers.

    Args:
        folders: Of token shards.
        domain: Of all rows; None for what sidecars say, and the folder's name where there are none.

    Raises:
        DocumentError: A folder holds no token shards, one of them cannot be read, or only some
            have a sidecar.
    """
    sources: list[SourceShard] = []
    first_row = 0
    for given in folders:
        folder = Path(given).expanduser().absolute()
        try:
            prefixes = shard_prefixes(folder)
            counts = [count_rows(prefix) for prefix in prefixes]
            _check_sidecars(folder, prefixes)
        except ArtefactError as error:
            raise DocumentError(f"corpus.paths: {error}") from error
        for prefix, num_rows in zip(prefixes, counts, strict=True):
            name = f"{folder.name}/{prefix.name}"
            sources.append(SourceShard(prefix, name, domain, first_row))
            first_row += num_rows
    return sources


def _check_sidecars(folder: Path, prefixes: Sequence[Path]) -> None:
    """All shards of a folder have a sidecar, or none has.

    Raises:
        ArtefactError: Only some have: rows of the others would lose their domains and source ids.
    """
    lacking = [prefix.name for prefix in prefixes if not prefix.with_suffix(".parquet").exists()]
    if 0 < len(lacking) < len(prefixes):
        named = ", ".join(lacking[:_MOST_NAMED]) + (", ..." if len(lacking) > _MOST_NAMED else "")
        raise ArtefactError(
            f"{folder}: {len(lacking)} of {len(prefixes)} token shards have no sidecar (.parquet), "
            f"with the domains and sources of their rows: {named}. Copy these again from where "
            "they came; or give a folder of links to the .bin and .idx files alone, which is read "
            "as one that another program wrote."
        )


def source_files(source: SourceShard) -> list[Path]:
    """The files of a shard, its sidecar if it has one."""
    files = [source.prefix.with_suffix(suffix) for suffix in (".bin", ".idx", ".parquet")]
    return files if files[2].exists() else files[:2]


def count_tokens(sources: Sequence[SourceShard]) -> int:
    """Predicted tokens in some shards, from their indices. Raises what `Shard` raises."""
    shards = (Shard(source.prefix) for source in sources)
    return sum(shard.num_ids - len(shard) for shard in shards)


def count_short_rows(sources: Sequence[SourceShard]) -> int:
    """Rows that are in no view, since they predict nothing. Raises what `Shard` raises."""
    return sum(int((Shard(source.prefix).lengths < MIN_ROW_IDS).sum()) for source in sources)


@dataclass(frozen=True)
class Views:
    """Views of a token corpus that are to be written, and how its rows are dealt to them.

    Args:
        folders: Of the views.
        deal: Deals the rows.
        dealt_by: What tells this deal from another, a JSON value.
        table: Of the tokenizer that the ids were cut with.
        max_length: Most predicted tokens in a row.
    """

    folders: Sequence[Path]
    deal: Deal
    dealt_by: object
    table: TokenTable
    max_length: int

    @cached_property
    def rule(self) -> str:
        """Fingerprint of all that the views of a shard follow from beside the shard."""
        table = self.table
        ids = [table.num_bytes_V.tolist(), table.eos_id]
        return fingerprint([self.dealt_by, self.max_length, ids])


def write_views(
    sources: Sequence[SourceShard],
    views: Views,
    executor: Executor[tuple[int, SourceShard], list[ViewCounts]] = threads,
) -> list[ViewCounts]:
    """Write `data_N.*` into each folder of `views`, for each shard N of a corpus.

    A shard whose views are there, made from the same files, is not read again. The id of a
    sequence is its place in the corpus.

    Args:
        sources: The shards.
        views: What to write.
        executor: Runs the shards; has to share memory.

    Returns:
        What each folder holds.

    Raises:
        ArtefactError: A shard is damaged, or not of this tokenizer and length.
    """
    totals = [ViewCounts() for _ in views.folders]
    with progress("take over", len(sources), "shards") as advance:
        for counts in executor(partial(_write_shard, views), enumerate(sources)):
            totals = [total + one for total, one in zip(totals, counts, strict=True)]
            advance(1)
    return totals


def _write_shard(views: Views, numbered: tuple[int, SourceShard]) -> list[ViewCounts]:
    number, source = numbered
    prefixes = [folder / f"data_{number}" for folder in views.folders]
    origin = {"files": fingerprint_files(source_files(source)), "rule": views.rule}
    if not all(is_made_from(prefix, origin) for prefix in prefixes):
        facts = read_facts(source, views.table, views.max_length)
        places = np.flatnonzero(facts.shard.lengths >= MIN_ROW_IDS)
        dealt = views.deal(source.first_row + places)
        for view, prefix in enumerate(prefixes):
            rows = places[dealt == view]
            write_view(prefix, facts, rows, source, views.table, views.max_length, origin)
    return [_counts(prefix) for prefix in prefixes]


def _counts(prefix: Path) -> ViewCounts:
    sidecar = ColumnFile(prefix.with_suffix(".parquet"))
    num_ids, num_bytes = (
        int(sidecar.array(column).sum(dtype=np.int64)) for column in ("num_tokens", "num_bytes")
    )
    return ViewCounts(sidecar.num_rows, num_ids, num_bytes)


def adopt_shards(
    source: Path,
    folder: Path,
    tokenizer: "str | Path",
    *,
    domain: str | None = None,
    max_length: int | None = None,
) -> list[Shard]:
    """Open a folder of token shards that another program wrote, without copying their ids.

    Args:
        source: The folder, with `data_0.bin`, `data_0.idx`, ...; nothing is written there.
        folder: Where to keep what it does not say; what is there of an earlier call is used.
        tokenizer: The tokenizer that the ids were cut with: a hub name or a folder.
        domain: Of all rows; the folder's name if not given.
        max_length: Most predicted tokens in a row; that of the longest row if not given.

    Returns:
        The shards, which lie in `folder` and link to the ids in `source`.

    Raises:
        DocumentError: `source` holds no token shards.
        ModelError: The tokenizer cannot be loaded.
        ArtefactError: A shard is damaged, or not of this tokenizer and length.
    """
    sources = find_token_shards([str(source)], domain)
    longest = max(int(Shard(one.prefix).lengths.max(initial=0)) for one in sources)
    table = token_table(load_tokenizer(tokenizer))
    everything = Views([folder], np.zeros_like, "all", table, max_length or longest - 1)
    write_views(sources, everything)
    return open_shards(folder)
