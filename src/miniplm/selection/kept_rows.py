"""The rows of a token shard with their lengths, domains, and how many copies of each are kept."""

from dataclasses import dataclass
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from miniplm.data.parquet import ColumnFile, places_of
from miniplm.data.shards import shard_info
from miniplm.errors import ArtefactError
from miniplm.selection.tables import REPEATS_FIELD, UNTIL_FIELD, read_selection


@dataclass(frozen=True)
class KeptRows:
    """Rows of a shard, kept or not, in its order.

    Args:
        shard_hash: Of the token shard.
        sequence_ids: Of each row, `[rows]`.
        num_tokens: Ids of each row, `[rows]`.
        num_bytes: Bytes of its text, `[rows]`.
        domains: Names of domains.
        domain_numbers: Which of them each row belongs to, `[rows]`.
        copies: How often each row comes in an epoch at the end of training, `[rows]`; 0 where it
            was dropped.
    """

    shard_hash: str
    sequence_ids: NDArray[np.int64]
    num_tokens: NDArray[np.int64]
    num_bytes: NDArray[np.int64]
    domains: list[str]
    domain_numbers: NDArray[np.int64]
    copies: NDArray[np.int64]


def read_kept_rows(prefix: Path, selection_folder: Path) -> KeptRows:
    """The rows of one shard and what became of them.

    Args:
        prefix: Of the token shard.
        selection_folder: Holds the shard's selection under the shard's name.

    Raises:
        ArtefactError: A file is missing or damaged, or the selection is of another shard.
    """
    sidecar = ColumnFile(prefix.with_suffix(".parquet"))
    sequence_ids = sidecar.sequence_ids()
    domains, domain_numbers = sidecar.categories("domain")
    selection = selection_folder / f"{prefix.name}.parquet"
    shard_hash = shard_info(sidecar).shard_hash
    return KeptRows(
        shard_hash=shard_hash,
        sequence_ids=sequence_ids,
        num_tokens=sidecar.array("num_tokens").astype(np.int64),
        num_bytes=sidecar.array("num_bytes").astype(np.int64),
        domains=domains,
        domain_numbers=domain_numbers.astype(np.int64),
        copies=_copies(selection, shard_hash, sequence_ids),
    )


def _copies(path: Path, shard_hash: str, sequence_ids: NDArray[np.int64]) -> NDArray[np.int64]:
    kept_ids, file = read_selection(path, shard_hash).sequence_ids, ColumnFile(path)
    copies = np.zeros(len(sequence_ids), dtype=np.int64)
    if len(kept_ids) == 0:
        return copies
    places = places_of(kept_ids, sequence_ids)
    if places is None:
        raise ArtefactError(
            f"{path}: selects sequences that its token shard does not hold. "
            "Select from these shards again."
        )
    copies[places] = 1
    if REPEATS_FIELD.name in file.names:
        copies[places] = file.array(REPEATS_FIELD.name)
    elif UNTIL_FIELD.name in file.names:
        copies[places] = file.array(UNTIL_FIELD.name) >= 1
    return copies
