"""The select stage: two score tables in, the kept sequences and what selection did out.

Shards are gone through several times, in parallel: to fit a calibration where there is one, to find
where rankings are to be cut, and to write what is kept. Neither the number of shards nor that of
workers has a say in it.
"""

from dataclasses import replace
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from miniplm.errors import ArtefactError
from miniplm.manifest import Outcome
from miniplm.runtime.executors import Executor, threads
from miniplm.runtime.log import logger
from miniplm.selection.calibration import Rows, fit_calibration
from miniplm.selection.candidates import Candidates, ScoredBlock, whole_corpus
from miniplm.selection.choice import Choice, choose, ranking_in_range, strata
from miniplm.selection.config import SelectionConfig
from miniplm.selection.facts import in_words, selection_facts
from miniplm.selection.one_per_cluster import all_but_the_best
from miniplm.selection.replacement import draw_repeats
from miniplm.selection.row_tables import RowTables
from miniplm.selection.sample import in_sample
from miniplm.selection.scores import scored_shards
from miniplm.selection.totals import Totals
from miniplm.selection.writer import Writer

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
        candidates.left_out = all_but_the_best(
            candidates, tables.clusters, ranking_in_range(config, seed)
        )
    choice = draw_repeats(candidates, config, seed) if config.replacement else None
    chosen: Choice = choice or choose(candidates, config, seed)
    written = Writer(candidates, config, seed, chosen, folder).write()
    totals = written.totals
    _check_something_is_kept(shards_folder, totals, config)
    facts = selection_facts(written, chosen, candidates, config)
    for line in in_words(facts):
        logger.info("selection %s: %s", folder.name, line)
    for warning in facts["warnings"]:
        logger.warning("selection %s: %s", folder.name, warning)
    return Outcome(
        counts={
            "sequences": totals.num_rows,
            "kept": totals.num_kept,
            **({"drawn": int(totals.counted_D.sum())} if config.replacement else {}),
            **({"kept_to_the_end": int(totals.counted_D.sum())} if config.schedule else {}),
            "not_comparable": totals.num_rows - totals.scores.count,
            **({"near_duplicates": len(candidates.left_out)} if config.one_per_cluster else {}),
        },
        num_tokens=int(
            totals.tokens_counted_D.sum() if config.replacement else totals.tokens_DS[:, 1].sum()
        ),
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


def _check_something_is_kept(folder: Path, totals: Totals, config: SelectionConfig) -> None:
    if totals.scores.count == 0:
        raise ArtefactError(_nothing_scored(folder))
    if totals.num_kept == 0:
        asked = config.model_dump(mode="json", exclude_unset=True)
        more = "Move min_score or max_score" if config.policy == "threshold" else "Ask for more"
        scores = totals.scores
        raise ArtefactError(
            f"{folder}: the selection {asked} keeps none of {totals.num_rows:,} sequences "
            f"(difference scores have mean {scores.mean:.3f} and deviation "
            f"{scores.deviation:.3f}). {more}."
        )


def _nothing_scored(folder: Path) -> str:
    return (
        f"{folder}: no sequence has a score under both models, so there is nothing to select. "
        "Sequences of one token have none; give longer documents, or more of them."
    )
