"""How often a sequence of a refined corpus counts in an epoch.

The column `repeats` of the sidecar says so, where a selection draws with replacement; without the
column each counts once.
"""

import numpy as np
import pyarrow as pa
from numpy.typing import NDArray

REPEATS = "repeats"


def repeats_of(sidecar: pa.Table) -> NDArray[np.int32]:
    """How often each row counts, `[rows]`."""
    if REPEATS not in sidecar.column_names:
        return np.ones(sidecar.num_rows, np.int32)
    repeats: NDArray[np.int32] = sidecar[REPEATS].to_numpy().astype(np.int32)
    return repeats


def with_repeats(sidecar: pa.Table) -> pa.Table:
    """The sidecar with the column in any case, and last."""
    repeats = pa.array(repeats_of(sidecar), pa.int32())
    return without_repeats(sidecar).append_column(REPEATS, repeats)


def without_repeats(sidecar: pa.Table) -> pa.Table:
    """The sidecar without the column."""
    return sidecar.select([name for name in sidecar.column_names if name != REPEATS])


def places_to_write(sidecar: pa.Table, *, materialize: bool) -> NDArray[np.int64]:
    """Places of the rows to write, in order: each once, or as often as it counts.

    Example:
        >>> sidecar = pa.table({"sequence_id": [7, 8, 9], "repeats": [1, 3, 2]})
        >>> places_to_write(sidecar, materialize=True).tolist()
        [0, 1, 1, 1, 2, 2]
        >>> places_to_write(sidecar, materialize=False).tolist()
        [0, 1, 2]
    """
    places = np.arange(sidecar.num_rows)
    return np.repeat(places, repeats_of(sidecar)) if materialize else places
