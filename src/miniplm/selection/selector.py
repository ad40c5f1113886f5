"""The select stage: two score tables in, the kept sequences and what selection did out.

Shards are gone through several times, in parallel: to fit a calibration where there is one, to find
where rankings are to be cut, and to write what is kept. Neither the number of shards nor that of
workers has a say in it.
"""

import hashlib
from dataclasses import dataclass, replace
from functools import partial
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
from miniplm.selection.calibration import Rows, fit_calibration
from miniplm.selection.candidates import Candidates, Labels, ScoredBlock, whole_corpus
from miniplm.selection.choice import Choice, Kept, Layers, choose, ranking_of, strata
from miniplm.selection.config import SelectionConfig
from miniplm.selection.one_per_cluster import all_but_the_best
from miniplm.selection.remarks import warnings_of
from miniplm.selection.replacement import draw_repeats
from miniplm.selection.row_tables import RowTables
from miniplm.selection.sample import SampledRows, in_sample, write_sample
from miniplm.selection.scores import ROLES, OpenShard, ScoredShard, scored_shards
from miniplm.selection.tables import REPEATS_FIELD, UNTIL_FIELD, is_selected, write_selection
from miniplm.selection.totals import Totals

_BUFFERS = Buffers()
_NO_TABLES = RowTables()


def select_sequences(
    shards_folder: Path,
    teacher_folder: Path,
    reference_folder: Path,
    config: SelectionConfig,
    seed: int,
    folder: Path,
    executor: Executor[Any, Any] = threads,
    tables: RowTables = _NO_TABLES,
) -> Outcome:
    """Write `folder/data_N.parquet` for every token shard, and `folder/sample.parquet`.

    The columns are those of `selection.tables`, of the kept rows, in the order of the shard; the
    files name the shard they are for.

    Args:
        shards_folder: The candidates' token shards.
        teacher_folder: The teacher's score tables of these shards.
        reference_folder: The reference's.
        config: What to keep.
        seed: Of chance.
        folder: Where the selection goes.
        executor: Runs the shards.
        tables: Groups and clusters of near-duplicates of the candidates, where there are any.

    Raises:
        ConfigError: The selection looks at tables that are not given.
        ArtefactError: Scores are missing or belong to other shards, none can be compared, or
            nothing is kept.
    """
    tables.check(config)
    shards = scored_shards(shards_folder, teacher_folder, reference_folder, config.normalization)
    described = (
        config.tokens is not None
        or config.calibration == "zscore"
        or strata(config) is not whole_corpus
    )
    candidates = Candidates(
        shards,
        executor,
        described=described,
        groups_folder=tables.groups if config.within == "group" else None,
    )
    if not candidates.filled:
        raise ArtefactError(_nothing_scored(shards_folder))
    _calibrate(candidates, config)
    if config.one_per_cluster and tables.clusters is not None:
        value_of = ranking_of(config, seed)
        candidates.left_out = all_but_the_best(candidates, tables.clusters, value_of)
    choice = draw_repeats(candidates, config, seed) if config.replacement else None
    chosen: Choice = choice or choose(candidates, config, seed)
    written = _Writer(candidates, config, seed, chosen, folder).write()
    totals = written.totals
    _check_something_is_kept(shards_folder, totals, config)
    facts = _facts(written, chosen, candidates, config)
    for strata_of in ("domain", "group"):
        if f"{strata_of}s" in facts:
            shares = _shares_in_words(facts[f"{strata_of}s"])
            logger.info("selection: kept by %s: %s", strata_of, shares)
    for warning in facts["warnings"]:
        logger.warning("selection: %s", warning)
    return Outcome(
        counts={
            "sequences": totals.num_rows,
            "kept": totals.num_kept,
            **({"drawn": totals.num_drawn} if config.replacement else {}),
            "not_comparable": totals.num_rows - totals.scores.count,
            **({"near_duplicates": len(candidates.left_out)} if config.one_per_cluster else {}),
        },
        num_tokens=totals.num_tokens_drawn,
        facts=facts,
    )


def _calibrate(candidates: Candidates, config: SelectionConfig) -> None:
    """Fit the calibration on the sample of rows."""
    if config.calibration == "none":
        return
    parts = candidates.each_block(partial(_sampled, candidates.num_rows, candidates.described))
    rows = Rows.joined([rows for _, rows in parts])
    order = np.argsort(np.concatenate([ids for ids, _ in parts]))  # sums depend on the order
    candidates.calibrated = fit_calibration(config.calibration, rows.take(order))


def _sampled(num_rows: int, described: bool, block: ScoredBlock) -> tuple[NDArray[np.int64], Rows]:
    """Ids of the rows of a block that belong to the sample, and the rows."""
    rows, places = block.rows, in_sample(block.ids, num_rows)
    sampled = Rows(rows.teacher[places], rows.reference[places])
    if described:
        sampled = replace(
            sampled,
            num_tokens=rows.num_tokens[places],
            domains=tuple(block.labels.names),
            domain_numbers=block.labels.numbers[places],
        )
    return block.ids[places], sampled


class _Writer:
    """Writes what is kept, shard by shard."""

    def __init__(
        self,
        candidates: Candidates,
        config: SelectionConfig,
        seed: int,
        choice: Choice,
        folder: Path,
    ) -> None:
        self.candidates, self.config, self.seed = candidates, config, seed
        self.choice, self.folder = choice, folder
        self._by_group = config.within == "group"

    def write(self) -> "_Written":
        """Write everything; returns what there was and what was kept."""
        parts, groups, samples = [], [], []
        for written, sample in self.candidates.executor(self._write_shard, self.candidates.shards):
            parts.append(written.totals)
            groups += [written.groups] if written.groups else []
            samples += sample
        write_sample(self.folder, samples)
        return _Written(Totals.total(parts), Totals.total(groups) if groups else None)

    def _write_shard(self, shard: ScoredShard) -> tuple["_Written", list[SampledRows]]:
        totals, groups, samples, columns = [], [], [], _KeptRows(shard)
        files = shard.open()
        for block in self.candidates.blocks(files, described=True):
            kept = self.choice.kept(block)
            columns.add(block, kept)
            rows = block.rows
            totals.append(_totals(Labels(rows.domains, rows.domain_numbers), block, kept))
            groups += [_totals(block.labels, block, kept)] if self._by_group else []
            samples.append(SampledRows.of(rows, shard.name, self.candidates.num_rows))
        path, origin = self.folder / f"{shard.name}.parquet", self._origin(files)
        if not is_selected(path, origin):
            write_selection(path, *columns.columns(), origin)
        return _Written(Totals.total(totals), Totals.total(groups) if groups else None), samples

    def _origin(self, files: OpenShard) -> dict[str, Any]:
        """All that the selection of a shard follows from."""
        left_out = self.candidates.left_out
        return {
            **(
                {"left_out": hashlib.sha256(left_out.tobytes()).hexdigest()}
                if len(left_out)
                else {}
            ),
            "shard_hash": files.shard_hash,
            "scores": {role: files.tables[role].metadata for role in ROLES},
            "config": self.config.fingerprinted(),
            "seed": self.seed,
            "cuts": self.choice.origin(),
        }


@dataclass(frozen=True)
class _Written:
    """What there was and what was kept, by domain, and by group if groups are the strata."""

    totals: Totals
    groups: Totals | None


def _totals(labels: Labels, block: ScoredBlock, kept: Kept) -> Totals:
    return Totals.of(
        labels.names,
        labels.numbers,
        block.rows.num_tokens,
        block.difference,
        kept.mask,
        kept.repeats,
    )


class _KeptRows:
    """The columns of a shard's selection, filled block by block."""

    def __init__(self, shard: ScoredShard) -> None:
        most = count_rows(shard.prefix)
        self.size = 0
        self.ids = _BUFFERS.get("kept ids", most, np.int64)
        self.scores = _BUFFERS.get("kept scores", most, np.float32)
        self.extra: dict[str, list[NDArray[Any]]] = {}

    def add(self, block: ScoredBlock, kept: Kept) -> None:
        places = np.flatnonzero(kept.mask)  # taking by place is several times faster than by a mask
        rows = slice(self.size, self.size + len(places))
        np.take(block.ids, places, out=self.ids[rows], mode="clip")
        np.take(block.difference.astype(np.float32), places, out=self.scores[rows], mode="clip")
        extra = {REPEATS_FIELD.name: kept.repeats, UNTIL_FIELD.name: kept.until}
        for name, values in extra.items():
            if values is not None:
                self.extra.setdefault(name, []).append(values[places])
        self.size = rows.stop

    def columns(
        self,
    ) -> tuple[NDArray[np.int64], NDArray[np.float32], dict[str, NDArray[Any]]]:
        """Ids, scores and further columns; valid until the thread begins another shard."""
        extra = {name: np.concatenate(parts) for name, parts in self.extra.items()}
        return self.ids[: self.size], self.scores[: self.size], extra


def _check_something_is_kept(folder: Path, totals: Totals, config: SelectionConfig) -> None:
    if totals.scores.count == 0:
        raise ArtefactError(_nothing_scored(folder))
    if totals.num_kept == 0:
        asked = config.model_dump(mode="json", exclude_unset=True)
        raise ArtefactError(
            f"{folder}: the selection {asked} keeps none of {totals.num_rows:,} sequences "
            f"(difference scores have mean {totals.scores.mean:.3f}). Ask for more."
        )


def _nothing_scored(folder: Path) -> str:
    return f"{folder}: no sequence has a scored token; nothing to select"


def _facts(
    written: _Written, choice: Choice, candidates: Candidates, config: SelectionConfig
) -> dict[str, Any]:
    """What selection did, for the manifest: threshold, spread of scores, shares per domain."""
    totals = written.totals
    domains = totals.by_domain()
    groups = written.groups.by_domain() if written.groups else {}
    plain = isinstance(choice, Layers) and config.policy in (
        "top_ratio", "token_budget", "threshold",
    )  # fmt: skip
    by_score = plain and config.calibration == "none"
    calibrated = candidates.calibrated
    return {
        "threshold": choice.threshold if by_score and isinstance(choice, Layers) else None,
        "calibration": None if calibrated is None else calibrated.facts(),
        "mean_score": totals.scores.mean,
        "share_below_zero": totals.num_below_zero / totals.scores.count,
        "variance_between_domains": totals.variance_between_domains,
        "domains": domains,
        **({"groups": groups} if groups else {}),
        "warnings": warnings_of(domains, config, groups),
    }


def _shares_in_words(domains: dict[str, dict[str, Any]]) -> str:
    shares = {name: each["num_kept"] / each["num_sequences"] for name, each in domains.items()}
    ordered = sorted(shares, key=lambda name: (-shares[name], name))
    return ", ".join(f"{name} {shares[name]:.0%}" for name in ordered)
