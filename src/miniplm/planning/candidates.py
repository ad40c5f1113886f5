"""What it costs to look for near-duplicates, to leave them out, and to group candidates."""

from miniplm.planning.basis import Basis
from miniplm.planning.cost import EXPORTED_BYTES_PER_SECOND, Cost, Load

_COMPARED_IDS_PER_SECOND = 10e6
_GROUPED_IDS_PER_SECOND = 8e6
"""Measured on two cores with rows of 256 tokens (docs/duplicates_and_groups.md)."""
_CLUSTER_BYTES_PER_ROW = 16
_BAND_BYTES_PER_ROW = 120
_COMPARING_BYTES_PER_ROW = 20
_GROUP_BYTES_PER_ROW = 12
_FIT_SECONDS = 8.0
_FIT_BYTES = 0.5e9
_GROUPER_BYTES_PER_GROUP = 4 << 16
"""A float32 for each feature (`selection.ngram_counts.NUM_FEATURES`)."""


def duplicates_cost(basis: Basis, _: str) -> Cost:
    """Of finding near-duplicates."""
    num_tokens = basis.tokenized_candidates
    num_rows = basis.num_rows(num_tokens)
    on_disk = _CLUSTER_BYTES_PER_ROW * num_rows
    in_shard = min(num_rows, basis.recipe.packing.sequences_per_shard)
    memory = _COMPARING_BYTES_PER_ROW * num_rows + _BAND_BYTES_PER_ROW * in_shard
    load = Load(num_tokens / _COMPARED_IDS_PER_SECOND, memory)
    note = f"{_BAND_BYTES_PER_ROW * num_rows / 1e6:,.1f} MB more on disk while at work"
    return Cost(num_tokens, num_bytes=on_disk, load=lambda: load, note=note)


def distinct_cost(basis: Basis, _: str) -> Cost:
    """Of writing what is left without near-duplicates; until that is known, as if nothing went."""
    size = basis.candidate_tokens * basis.bytes_per_id()
    return Cost(
        basis.tokenized_candidates,
        num_bytes=size,
        load=lambda: Load(size / EXPORTED_BYTES_PER_SECOND),
    )


def group_cost(basis: Basis, _: str) -> Cost:
    """Of finding groups on a sample, and the group of every row."""
    num_tokens = basis.candidate_tokens
    on_disk = _GROUP_BYTES_PER_ROW * basis.num_rows(num_tokens)
    if basis.recipe.grouping is not None:
        on_disk += _GROUPER_BYTES_PER_GROUP * basis.recipe.grouping.num_groups
    load = Load(_FIT_SECONDS + num_tokens / _GROUPED_IDS_PER_SECOND, _FIT_BYTES)
    return Cost(num_tokens, num_bytes=on_disk, load=lambda: load)
