"""The order of a corpus in training, as its selection has it."""

from collections.abc import Sequence
from functools import partial
from typing import Any

import numpy as np
from numpy.typing import NDArray

from miniplm.data.domain_globs import matches_any
from miniplm.data.loader import SequenceStore
from miniplm.data.narrowing import NarrowingOrder
from miniplm.data.order import EpochOrder, Order
from miniplm.data.parquet import ColumnFile
from miniplm.errors import ArtefactError
from miniplm.selection.tables import REPEATS_FIELD, UNTIL_FIELD


def corpus_order(store: SequenceStore, seed: int) -> Order:
    """All sequences once an epoch, or as the corpus's columns `repeats` and `until` have it."""
    repeats_M = sidecar_column(store, REPEATS_FIELD.name)
    if repeats_M is not None:
        drawn = np.repeat(np.arange(len(store)), repeats_M)
        return EpochOrder(len(drawn), seed, partial(_always, drawn))
    until_M = sidecar_column(store, UNTIL_FIELD.name)
    return EpochOrder(len(store), seed) if until_M is None else NarrowingOrder(until_M, seed)


def order_without(store: SequenceStore, globs: Sequence[str], seed: int) -> EpochOrder:
    """The sequences of all domains but those that a glob matches, once an epoch.

    Raises:
        ArtefactError: None is left.
    """
    names, numbers_M = store.domains()
    kept = [number for number, name in enumerate(names) if not matches_any(name, globs)]
    indices = np.flatnonzero(np.isin(numbers_M, kept))
    if len(indices) == 0:
        raise ArtefactError(
            f"leave_out ({', '.join(globs)}) matches every domain of the corpus "
            f"({', '.join(names)}), so that nothing is left to train on. Leave some in."
        )
    return EpochOrder(len(indices), seed, partial(_always, indices))


def has_order_of_its_own(store: SequenceStore) -> bool:
    """Whether some sequences do not come once an epoch."""
    names = (REPEATS_FIELD.name, UNTIL_FIELD.name)
    return any(name in file.names for file in _sidecars(store) for name in names)


def sidecar_column(store: SequenceStore, name: str) -> NDArray[Any] | None:
    """A column of the sidecars of a corpus, `[M]`; None where they do not have it.

    Raises:
        ArtefactError: Some have it and some do not.
    """
    files = _sidecars(store)
    lacking = [file for file in files if name not in file.names]
    if len(lacking) == len(files):
        return None
    if lacking:
        raise ArtefactError(
            f"{lacking[0].path}: lacks the column {name!r} that other shards of the corpus have. "
            "Select and export again."
        )
    return np.concatenate([file.array(name) for file in files])


def _sidecars(store: SequenceStore) -> list[ColumnFile]:
    return [ColumnFile(shard.prefix.with_suffix(".parquet")) for shard in store.shards]


def _always(drawn: NDArray[np.int64], _: int) -> NDArray[np.int64]:
    """Every epoch has the same sequences."""
    return drawn
