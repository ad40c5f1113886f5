"""Until which share of training the sequences of a refined corpus take part.

The column `until` of the sidecar says so, where a selection has a schedule; without the column all
take part to the end.
"""

from collections.abc import Iterable

import numpy as np

from miniplm.data.parquet import ColumnFile
from miniplm.data.shards import Shard
from miniplm.selection.tables import UNTIL_FIELD

UNTIL: str = UNTIL_FIELD.name


def rows_by_end(shards: Iterable[Shard]) -> dict[float, int]:
    """Number of rows that take part until each share of training, in rising order.

    Empty where the corpus has no schedule.

    Raises:
        ArtefactError: A sidecar is missing or damaged.
    """
    counts: dict[float, int] = {}
    for shard in shards:
        sidecar = ColumnFile(shard.prefix.with_suffix(".parquet"))
        if UNTIL not in sidecar.names:
            continue
        ends, numbers = np.unique(sidecar.array(UNTIL), return_counts=True)
        for end, number in zip(ends.tolist(), numbers.tolist(), strict=True):
            counts[end] = counts.get(end, 0) + number
    return dict(sorted(counts.items()))
