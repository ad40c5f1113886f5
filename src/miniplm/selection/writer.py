"""Writing what is kept: shard by shard, with the totals of what there was and what is kept."""

import hashlib
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from miniplm.data.parquet import follows_from
from miniplm.data.shards import count_rows
from miniplm.runtime.buffers import Buffers
from miniplm.selection.candidates import Candidates, Labels, ScoredBlock
from miniplm.selection.choice import Choice, Kept
from miniplm.selection.config import SelectionConfig
from miniplm.selection.sample import SampledRows, write_sample
from miniplm.selection.scores import ROLES, OpenShard, ScoredShard
from miniplm.selection.tables import EXTRA_FIELDS, write_selection
from miniplm.selection.totals import Totals

_BUFFERS = Buffers()


@dataclass(frozen=True)
class Written:
    """What there was and what is kept, by domain, and by group if groups are the strata."""

    totals: Totals
    groups: Totals | None


class Writer:
    """Writes a selection.

    Args:
        candidates: With their scores.
        config: What was asked for.
        seed: Of chance.
        choice: What is kept.
        folder: Where the selection goes.
    """

    def __init__(
        self,
        candidates: Candidates,
        config: SelectionConfig,
        seed: int,
        choice: Choice,
        folder: Path,
    ) -> None:
        self._candidates, self._config, self._seed = candidates, config, seed
        self._choice, self._folder = choice, folder
        self._by_group = config.within == "group"

    def write(self) -> Written:
        """Write `data_N.parquet` for every shard, and `sample.parquet`."""
        parts, groups, samples = [], [], []
        shards = self._candidates.shards
        for written, sample in self._candidates.executor(self._write_shard, shards):
            parts.append(written.totals)
            groups += [written.groups] if written.groups else []
            samples += sample
        write_sample(self._folder, samples)
        return Written(Totals.total(parts), Totals.total(groups) if groups else None)

    def _write_shard(self, shard: ScoredShard) -> tuple[Written, list[SampledRows]]:
        totals, groups, samples = [], [], []
        columns = _Columns(shard, self._choice.columns)
        files = shard.open()
        for block in self._candidates.blocks(files, described=True):
            kept = self._choice.kept(block)
            columns.add(block, kept)
            rows = block.rows
            totals.append(_totals(Labels(rows.domains, rows.domain_numbers), block, kept))
            groups += [_totals(block.labels, block, kept)] if self._by_group else []
            samples.append(SampledRows.of(rows, shard.name, self._candidates.num_rows))
        path, origin = self._folder / f"{shard.name}.parquet", self._origin(files)
        if not follows_from(path, origin):
            write_selection(path, *columns.all(), origin)
        return Written(Totals.total(totals), Totals.total(groups) if groups else None), samples

    def _origin(self, files: OpenShard) -> dict[str, Any]:
        """All that the selection of a shard follows from."""
        left_out = self._candidates.left_out
        calibrated = self._candidates.calibrated
        return {
            "shard_hash": files.shard_hash,
            "scores": {role: files.tables[role].metadata for role in ROLES},
            "groups": self._candidates.groups_origin(files),
            "left_out": hashlib.sha256(left_out.tobytes()).hexdigest() if len(left_out) else None,
            "config": self._config.fingerprinted(),
            "calibration": None if calibrated is None else calibrated.facts(),
            "seed": self._seed,
            "cuts": self._choice.origin(),
        }


def _totals(labels: Labels, block: ScoredBlock, kept: Kept) -> Totals:
    return Totals.of(
        labels.names,
        labels.numbers,
        block.rows.num_tokens,
        block.difference,
        kept.mask,
        kept.counted,
    )


class _Columns:
    """The columns of a shard's selection, filled block by block."""

    def __init__(self, shard: ScoredShard, extra: tuple[str, ...]) -> None:
        most = count_rows(shard.prefix)
        self._size = 0
        self._ids = _BUFFERS.get("kept ids", most, np.int64)
        self._scores = _BUFFERS.get("kept scores", most, np.float32)
        self._extra: dict[str, list[NDArray[Any]]] = {
            field.name: [np.empty(0, field.type.to_pandas_dtype())]
            for field in EXTRA_FIELDS
            if field.name in extra
        }

    def add(self, block: ScoredBlock, kept: Kept) -> None:
        places = np.flatnonzero(kept.mask)  # taking by place is several times faster than by a mask
        rows = slice(self._size, self._size + len(places))
        np.take(block.ids, places, out=self._ids[rows], mode="clip")
        np.take(block.difference.astype(np.float32), places, out=self._scores[rows], mode="clip")
        for name, parts in self._extra.items():
            parts.append(getattr(kept, name)[places])
        self._size = rows.stop

    def all(self) -> tuple[NDArray[np.int64], NDArray[np.float32], dict[str, NDArray[Any]]]:
        """Ids, scores and further columns; valid until the thread begins another shard."""
        extra = {name: np.concatenate(parts) for name, parts in self._extra.items()}
        return self._ids[: self._size], self._scores[: self._size], extra
