"""The select stage: two score tables in, the kept sequences and what selection did out.

Shards are gone through twice, in parallel: to find where the ranking is to be cut, and to write
what ranks before the cut. Neither the number of shards nor that of workers has a say in it.
"""

from functools import partial
from itertools import islice
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from miniplm.data.shards import count_rows
from miniplm.errors import ArtefactError
from miniplm.manifest import Outcome
from miniplm.runtime.buffers import Buffers
from miniplm.runtime.executors import Executor, threads
from miniplm.runtime.log import logger
from miniplm.selection.config import SelectionConfig
from miniplm.selection.cut import EVERYTHING, Bracket, Place, Tally, find_cut
from miniplm.selection.policies import ranking_values
from miniplm.selection.sample import SampledRows, write_sample
from miniplm.selection.scores import ROLES, Block, OpenShard, ScoredShard, scored_shards
from miniplm.selection.tables import is_selected, write_selection
from miniplm.selection.totals import Totals

VANISHING = 0.1
"""A domain all but vanishes when its kept share is under this part of the selection ratio."""
_LOOKS = 16
_BUFFERS = Buffers()


def select_sequences(
    shards_folder: Path,
    teacher_folder: Path,
    reference_folder: Path,
    config: SelectionConfig,
    seed: int,
    folder: Path,
    executor: Executor[Any, Any] = threads,
) -> Outcome:
    """Write `folder/data_N.parquet` for every token shard, and `folder/sample.parquet`.

    The columns are sequence_id, difference_score and weight of the kept rows, in the order of the
    shard; the files name the shard they are for.

    Args:
        shards_folder: The candidates' token shards.
        teacher_folder: The teacher's score tables of these shards.
        reference_folder: The reference's.
        config: What to keep.
        seed: For the policy `random`.
        folder: Where the selection goes.
        executor: Runs the shards.

    Raises:
        ArtefactError: Scores are missing or belong to other shards, or none can be compared.
    """
    shards = scored_shards(shards_folder, teacher_folder, reference_folder, config.normalization)
    selector = _Selector(shards, config, seed, executor)
    cut = selector.find_cut()
    if cut is None:
        raise ArtefactError(f"{shards_folder}: no sequence has a scored token; nothing to select")
    totals = selector.write(cut, folder)
    facts = _facts(totals, cut, config)
    for warning in facts["warnings"]:
        logger.warning("selection: %s", warning)
    return Outcome(
        counts={
            "sequences": totals.num_rows,
            "kept": totals.num_kept,
            "not_comparable": totals.num_rows - totals.scores.count,
        },
        num_tokens=totals.num_tokens_kept,
        facts=facts,
    )


class _Selector:
    def __init__(
        self,
        shards: list[ScoredShard],
        config: SelectionConfig,
        seed: int,
        executor: Executor[Any, Any],
    ) -> None:
        self.shards, self.config, self.seed, self.executor = shards, config, seed, executor
        sizes = [count_rows(shard.prefix) for shard in shards]
        self.num_rows = sum(sizes)
        self.ranked = [shard for shard, size in zip(shards, sizes, strict=True) if size]

    def _rank(self, block: Block) -> tuple[NDArray[np.float64], NDArray[np.float64]]:
        """What the rows of a block are ranked by, and their difference scores."""
        difference = _BUFFERS.get("difference", len(block.sequence_ids))
        np.subtract(block.teacher, block.reference, out=difference)
        values = ranking_values(
            self.config.policy,
            block.teacher,
            block.reference,
            difference,
            block.sequence_ids,
            self.seed,
        )
        return values, difference

    # The first pass

    def find_cut(self) -> Place | None:
        """The last place in the ranking that is kept; None where nothing can be ranked."""
        if not self.ranked:
            return None
        step = -(-len(self.ranked) // _LOOKS)
        look = Tally.total(list(self.executor(self._look, self.ranked[::step]))).inside
        return find_cut(self._count, look, self.config.ratio)

    def _look(self, shard: ScoredShard) -> Tally:
        """The first rows of a shard."""
        blocks = islice(shard.open().blocks(), 1)
        return Tally.total([Tally.of(self._rank(b)[0], b.sequence_ids, EVERYTHING) for b in blocks])

    def _count(self, bracket: Bracket, step: int) -> Tally:
        return Tally.total(
            list(self.executor(partial(self._count_shard, bracket, step), self.ranked))
        )

    def _count_shard(self, bracket: Bracket, step: int, shard: ScoredShard) -> Tally:
        tallies = []
        for block in shard.open().blocks():
            values, _ = self._rank(block)
            tallies.append(Tally.of(values, block.sequence_ids, bracket, step))
        return Tally.total(tallies)

    # The second pass

    def write(self, cut: Place, folder: Path) -> Totals:
        """Write what ranks before the cut; returns what there was and what was kept."""
        parts, samples = [], []
        for totals, sample in self.executor(partial(self._write_shard, cut, folder), self.shards):
            parts.append(totals)
            samples += sample
        write_sample(folder, samples)
        return Totals.total(parts)

    def _write_shard(
        self, cut: Place, folder: Path, shard: ScoredShard
    ) -> tuple[Totals, list[SampledRows]]:
        totals, samples, kept = [], [], _KeptRows(shard)
        files = shard.open()
        for block in files.blocks(described=True):
            values, difference = self._rank(block)
            keep = cut.reached(values, block.sequence_ids)
            kept.add(block.sequence_ids, difference, keep)
            totals.append(
                Totals.of(block.domains, block.domain_numbers, block.num_tokens, difference, keep)
            )
            samples.append(SampledRows.of(block, shard.name, self.num_rows))
        path, origin = folder / f"{shard.name}.parquet", self._origin(files, cut)
        if not is_selected(path, origin):
            write_selection(path, *kept.columns(), origin)
        return Totals.total(totals), samples

    def _origin(self, files: OpenShard, cut: Place) -> dict[str, Any]:
        """All that the selection of a shard follows from."""
        return {
            "shard_hash": files.shard_hash,
            "scores": {role: files.tables[role].metadata for role in ROLES},
            "config": self.config.model_dump(mode="json"),
            "seed": self.seed,
            "cut": [cut.value.hex(), cut.sequence_id],
        }


class _KeptRows:
    """The columns of a shard's selection, filled block by block."""

    def __init__(self, shard: ScoredShard) -> None:
        most = count_rows(shard.prefix)
        self.size = 0
        self.ids = _BUFFERS.get("kept ids", most, np.int64)
        self.scores = _BUFFERS.get("kept scores", most, np.float32)
        self.weights = _BUFFERS.get("kept weights", most, np.float32)

    def add(
        self,
        sequence_ids: NDArray[np.int64],
        difference: NDArray[np.float64],
        keep: NDArray[np.bool_],
    ) -> None:
        places = np.flatnonzero(keep)  # taking by place is several times faster than by a mask
        rows = slice(self.size, self.size + len(places))
        np.take(sequence_ids, places, out=self.ids[rows], mode="clip")
        np.take(difference.astype(np.float32), places, out=self.scores[rows], mode="clip")
        self.weights[rows] = 1.0
        self.size = rows.stop

    def columns(self) -> tuple[NDArray[np.int64], NDArray[np.float32], NDArray[np.float32]]:
        """Ids, scores and weights; valid until the thread begins another shard."""
        return self.ids[: self.size], self.scores[: self.size], self.weights[: self.size]


def _facts(totals: Totals, cut: Place, config: SelectionConfig) -> dict[str, Any]:
    """What selection did, for the manifest: threshold, spread of scores, shares per domain."""
    domains = totals.by_domain()
    return {
        "threshold": cut.value if config.policy == "top_ratio" else None,
        "mean_score": totals.scores.mean,
        "share_below_zero": totals.num_below_zero / totals.scores.count,
        "variance_between_domains": totals.variance_between_domains,
        "domains": domains,
        "warnings": _warnings(domains, totals.num_kept / totals.num_rows),
    }


def _warnings(domains: dict[str, dict[str, Any]], overall: float) -> list[str]:
    warnings = []
    for domain, counts in domains.items():
        share = counts["num_kept"] / counts["num_sequences"]
        if share < VANISHING * overall:
            warnings.append(
                f"Domain {domain!r} all but vanishes: {counts['num_kept']} of "
                f"{counts['num_sequences']} sequences are kept ({share:.1%}, against "
                f"{overall:.0%} overall)."
            )
    return warnings
