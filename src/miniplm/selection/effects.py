"""The describe stage: what a selection did to the text, measured.

Rows, tokens and bytes are counted over all rows. Text is looked at in samples of a fixed size
(`text_sample`), so that neither memory nor most of the time grows with the corpus. Shards are gone
through twice, in parallel; a run that is killed starts over, as there is little to lose.
"""

from collections import defaultdict
from collections.abc import Mapping, Sequence
from dataclasses import replace
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np

from miniplm.data.chance import seed_of, uniform_by_id
from miniplm.data.parquet import places_of
from miniplm.data.shards import open_shards, shard_prefixes
from miniplm.errors import ArtefactError
from miniplm.manifest import Outcome
from miniplm.runtime.executors import Executor, threads
from miniplm.runtime.log import logger
from miniplm.runtime.progress import progress
from miniplm.selection.agreement import ScoredRows, describe_agreement
from miniplm.selection.effect_facts import facts_of, write_effects
from miniplm.selection.effect_warnings import effect_warnings
from miniplm.selection.group_tables import read_groups
from miniplm.selection.kept_rows import KeptRows, read_kept_rows
from miniplm.selection.mix import Mix, add_mixes, group_shares, mix_by_domain
from miniplm.selection.ngram_model import NgramModel, Trigrams
from miniplm.selection.remarks import vanishing
from miniplm.selection.sample import read_sample
from miniplm.selection.text_measures import Compared, compare_texts
from miniplm.selection.text_sample import Limits, SampledRow, draw_rows, group_rows, sample_limits

MODEL_TOKENS = 1 << 22
"""Tokens of text held apart that the n-gram model is counted on, at most."""
_APART = 0xA9A27
"""Keeps the draw of that text apart from those that select and deal rows with the same seed."""


def describe_selection(
    shards_folder: Path,
    selection_folder: Path,
    apart_folder: Path,
    token_texts: Sequence[bytes],
    seed: int,
    folder: Path,
    executor: Executor[Any, Any] = threads,
    groups_folder: Path | None = None,
) -> Outcome:
    """Write `folder/effects.parquet`: candidates and kept rows measured, overall and by domain.

    Args:
        shards_folder: The candidates' token shards.
        selection_folder: Output of the select stage for these shards.
        apart_folder: Token shards of text that is not among the candidates, to count a model on.
        token_texts: Bytes of text that each id stands for (`data.tokenizer.token_bytes`).
        seed: Of the samples.
        folder: Where the table goes.
        executor: Runs the shards; has to share memory.
        groups_folder: Group tables of the shards, if their rows were grouped.

    Returns:
        Facts for the manifest: the same figures, the agreement with the baselines, and warnings
        in words.

    Raises:
        ArtefactError: A file is missing or damaged, or the selection is not one of these shards.
    """
    prefixes = shard_prefixes(shards_folder)
    survey = _Survey(selection_folder, groups_folder)
    with progress("describe", 2 * len(prefixes), "shards") as advance:
        mixes, grouped, scored = [], [], []
        for mix, groups, part in executor(survey.count, prefixes):
            mixes.append(mix)
            grouped.append(groups)
            scored.append(part)
            advance(1)
        by_domain = add_mixes(mixes)
        draw = _Draw(
            selection_folder, sample_limits(by_domain), seed, token_texts,
            count_apart(apart_folder, seed),
        )  # fmt: skip
        sampled = []
        for rows in executor(draw.rows, prefixes):
            sampled += rows
            advance(1)
    compared = _compare(sampled, draw.limits, executor)
    facts = facts_of(by_domain, compared)
    by_group = group_shares(add_mixes(grouped))
    warnings = [*effect_warnings(facts), *vanishing("Group", by_group)]
    for warning in warnings:
        logger.warning("selection %s: %s", folder.name, warning)
    write_effects(folder, facts)
    agreement = describe_agreement(ScoredRows.total(scored))
    return Outcome(
        counts={
            "sequences": sum(mix.candidates.num_rows for mix in by_domain.values()),
            "sampled": len(sampled),
        },
        num_tokens=sum(len(row.ids) for row in sampled),
        facts={
            **facts,
            **({"groups": by_group} if by_group else {}),
            "agreement": agreement,
            "warnings": warnings,
        },
    )


class _Survey:
    """The first pass: counts of all rows, and what became of those that select left a sample of."""

    def __init__(self, selection_folder: Path, groups_folder: Path | None) -> None:
        self._selection_folder, self._groups_folder = selection_folder, groups_folder
        sample = read_sample(selection_folder)
        self._shards = np.array(sample["shard"].to_pylist())
        self._ids, self._teacher, self._reference = (
            sample[name].to_numpy() for name in ("sequence_id", "teacher", "reference")
        )

    def count(self, prefix: Path) -> tuple[dict[str, Mix], dict[str, Mix], ScoredRows]:
        """The mix of a shard, by domain and by group, and its rows of the sample."""
        rows = read_kept_rows(prefix, self._selection_folder)
        return mix_by_domain(rows), self._by_group(prefix, rows), self._scored(prefix, rows)

    def _by_group(self, prefix: Path, rows: KeptRows) -> dict[str, Mix]:
        if self._groups_folder is None:
            return {}
        found = read_groups(self._groups_folder / f"{prefix.name}.parquet", rows.shard_hash)
        groups = replace(rows, domains=found.names, domain_numbers=found.groups.astype(np.int64))
        return mix_by_domain(groups)

    def _scored(self, prefix: Path, rows: KeptRows) -> ScoredRows:
        comparable = ~np.isnan(self._teacher - self._reference)
        here = np.flatnonzero((self._shards == prefix.name) & comparable)
        ids = self._ids[here]
        places = places_of(ids, rows.sequence_ids) if len(here) else here
        if places is None:
            raise ArtefactError(
                f"{self._selection_folder}: its sample holds sequences that {prefix} does not. "
                "Select from these shards again."
            )
        return ScoredRows(
            ids,
            self._teacher[here],
            self._reference[here],
            rows.num_tokens[places],
            rows.copies[places] > 0,
        )


class _Draw:
    """The second pass: rows whose text is looked at."""

    def __init__(
        self,
        selection_folder: Path,
        limits: Limits,
        seed: int,
        token_texts: Sequence[bytes],
        model: NgramModel | None,
    ) -> None:
        self._selection_folder, self.limits, self._seed = selection_folder, limits, seed
        self._token_texts, self._model = token_texts, model

    def rows(self, prefix: Path) -> list[SampledRow]:
        """Those of a shard."""
        rows = read_kept_rows(prefix, self._selection_folder)
        return draw_rows(prefix, rows, self.limits, self._seed, self._token_texts, self._model)


def count_apart(apart_folder: Path, seed: int) -> NgramModel | None:
    """The model of text held apart: a sample of its rows, by hash of their ids, counted.

    Returns:
        None where that text has no target.
    """
    shards = open_shards(apart_folder)
    limit = MODEL_TOKENS / max(1, sum(shard.num_ids for shard in shards))
    rows = []
    for shard in shards:
        chances = uniform_by_id(shard.sequence_ids, seed_of(seed, _APART))
        rows += [shard.row(place) for place in np.flatnonzero(chances < limit).tolist()]
    info = shards[0].info
    targets = Trigrams.of(rows, info.vocab_size, info.eos_id)
    return NgramModel(targets, info.vocab_size) if len(targets.w_N) else None


def _compare(
    sampled: Sequence[SampledRow], limits: Limits, executor: Executor[Any, Any]
) -> Mapping[str | None, Compared]:
    """All rows (None) and each domain that was sampled, before and after."""
    by_domain: defaultdict[str | None, list[SampledRow]] = defaultdict(list)
    for row in sampled:
        by_domain[None].append(row)
        by_domain[row.domain].append(row)
    names = list(dict.fromkeys(domain for domain, _ in limits))
    compared = executor(partial(_compare_group, by_domain, limits), names)
    return dict(zip(names, compared, strict=True))


def _compare_group(
    by_domain: Mapping[str | None, Sequence[SampledRow]], limits: Limits, name: str | None
) -> Compared:
    rows = by_domain.get(name, ())
    return compare_texts(
        group_rows(rows, (name, "candidates"), limits), group_rows(rows, (name, "kept"), limits)
    )
