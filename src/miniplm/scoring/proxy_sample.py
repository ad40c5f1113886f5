"""The sequences that the teacher itself scores, where a proxy predicts the rest."""

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import pyarrow as pa
from numpy.typing import NDArray

from miniplm.data.chance import seed_of, uniform_by_id
from miniplm.data.parquet import ColumnFile, places_of
from miniplm.data.shards import Shard
from miniplm.errors import ArtefactError
from miniplm.runtime.progress import progress
from miniplm.scoring.shard_scorer import ShardScorer
from miniplm.scoring.tables import SCORE_SCHEMA, ScoreInfo, score_info, write_scores

_SAMPLING = 1
_HOLDING_OUT = 2
_SAMPLE_NAMES = SCORE_SCHEMA.names


@dataclass(frozen=True)
class SampleChoice:
    """Which sequences the teacher scores, and which of these the proxy is not fit on.

    By hash of the id, so that shards have no say in it and a larger share holds a smaller one.
    """

    share: float
    seed: int
    held_out: float

    def sampled(self, sequence_ids: NDArray[np.int64], share: float = 1.0) -> NDArray[np.bool_]:
        """Whether each sequence is scored, or among the first `share` of those that are."""
        numbers = uniform_by_id(sequence_ids, seed_of(self.seed, _SAMPLING))
        return numbers < self.share * share

    def is_held_out(self, sequence_ids: NDArray[np.int64]) -> NDArray[np.bool_]:
        """Whether each sequence is for measuring rather than fitting."""
        return uniform_by_id(sequence_ids, seed_of(self.seed, _HOLDING_OUT)) < self.held_out


def score_sample(
    work: ShardScorer, shards: Sequence[Shard], choice: SampleChoice, folder: Path
) -> None:
    """Write `folder/data_N.parquet` with the scores of each shard's sampled sequences.

    Scores that are already there are kept: those of a smaller share are added to.

    Args:
        work: The teacher.
        shards: Of the candidates.
        choice: Which sequences.
        folder: Of this teacher and these shards.

    Raises:
        ModelError: A score is not finite.
    """
    with progress(f"score a sample, {work.scorer.name}", len(shards), "shards") as advance:
        for shard in shards:
            _score_shard(work, shard, choice, folder / f"{shard.prefix.name}.parquet")
            advance(1)


def _score_shard(work: ShardScorer, shard: Shard, choice: SampleChoice, path: Path) -> None:
    info = work.info(shard)
    there, counted = _scores_there(path, info)
    wanted = choice.sampled(shard.sequence_ids)
    missing = np.flatnonzero(wanted & ~np.isin(shard.sequence_ids, there["sequence_id"]))
    if len(missing) == 0 and path.exists():
        return
    table, more = work.score(shard, missing)
    table = pa.concat_tables([there, table]).sort_by("sequence_id")
    names = {**counted, **more}
    write_scores(
        path, table, info, {name: counted.get(name, 0) + more.get(name, 0) for name in names}
    )


def _scores_there(path: Path, info: ScoreInfo) -> tuple[pa.Table, dict[str, int]]:
    """The true scores that an earlier run left, if they come from exactly this."""
    try:
        file = ColumnFile(path)
        if score_info(file) == info:
            return file.table(_SAMPLE_NAMES).cast(SCORE_SCHEMA), file.origin
    except ArtefactError:
        pass
    return SCORE_SCHEMA.empty_table(), {}


def read_sample(
    file: ColumnFile, shard: Shard, choice: SampleChoice
) -> tuple[pa.Table, NDArray[np.int64]]:
    """The true scores of a shard's sampled sequences, in its order, and their places in it.

    Raises:
        ArtefactError: The file is damaged or lacks some of them.
    """
    places = np.flatnonzero(choice.sampled(shard.sequence_ids))
    found = places_of(shard.sequence_ids[places], file.sequence_ids())
    if found is None:
        raise ArtefactError(f"{file.path}: lacks sampled sequences. Score these shards again.")
    return file.table(_SAMPLE_NAMES).take(pa.array(found)), places
