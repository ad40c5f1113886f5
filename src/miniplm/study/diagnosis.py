"""The teacher first: what can be known of a study's scores before its students are trained."""

from collections.abc import Callable, Mapping
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from miniplm.data.shards import open_shards
from miniplm.manifest import Outcome
from miniplm.runtime.log import logger
from miniplm.scoring.config import ScoringConfig
from miniplm.scoring.scoring_model import ScoringModel
from miniplm.selection.difference import Normalization
from miniplm.study.gain import GainCorrelation, correlate, read_sampled, sample_choice, score_gain
from miniplm.study.lead import Lead, read_lead

SHORTER, LONGER = "shorter", "longer"
"""The two students held apart, by how long they were trained; and folders of their scores."""
_MOSTLY = 0.4
_FAINT = 0.1


@dataclass(frozen=True)
class HeldApart:
    """Two students that are held apart from the candidates.

    Args:
        load: Loads one of them, by `SHORTER` or `LONGER`.
        num_rows: About how many candidates they score.
        seed: Of the choice of these.
        token_num_bytes: Bytes of text that each id stands for, `[V]`, when asked.
    """

    load: Callable[[str], ScoringModel]
    num_rows: int
    seed: int
    token_num_bytes: Callable[[], NDArray[np.int64]]


def diagnose(
    shards_folder: Path,
    scores: tuple[Path, Path],
    normalization: Normalization,
    held_apart: HeldApart | None,
    config: ScoringConfig,
    folder: Path,
) -> Outcome:
    """Measure the teacher's lead by domain, and whether scores rank as students gain; say both.

    Args:
        shards_folder: The candidates' token shards.
        scores: Folders of the teacher's and the reference's score tables.
        normalization: What losses are per.
        held_apart: Students that show what is gained; without them only the lead is measured.
        config: Limits of scoring.
        folder: Where scores of the students held apart go.

    Raises:
        ArtefactError: A table is missing or damaged, or belongs to other shards.
        ModelError: A student's scores are not finite.
    """
    lead = read_lead(shards_folder, *scores, normalization)
    gain, flops = None, 0.0
    if held_apart is not None:
        flops = _score_gain(shards_folder, held_apart, config, folder)
        folders = (folder / SHORTER, folder / LONGER)
        gain = correlate(read_sampled(shards_folder, scores, folders, normalization))
    for sentence in (sentences := lead_sentences(lead, gain, normalization)):
        logger.info("%s", sentence)
    for line in lead_table(lead, gain):
        logger.info("%s", line)
    return Outcome(
        counts={"sequences": sum(line.num_rows for line in lead.domains)},
        flops=flops,
        facts={
            "normalization": normalization,
            "domains": [{**asdict(line), "ahead": line.ahead} for line in lead.domains],
            "between": lead.between,
            "gain": asdict(gain) if gain else None,
            "sentences": sentences,
        },
    )


def _score_gain(
    shards_folder: Path, held_apart: HeldApart, config: ScoringConfig, folder: Path
) -> float:
    shards = open_shards(shards_folder)
    choice = sample_choice(shards, held_apart.num_rows, held_apart.seed)
    scorers = {name: held_apart.load(name) for name in (SHORTER, LONGER)}
    num_bytes_V = held_apart.token_num_bytes()
    return score_gain(scorers, shards_folder, choice, num_bytes_V, config, folder)


def lead_sentences(
    lead: Lead, gain: GainCorrelation | None, normalization: Normalization = "per_token"
) -> list[str]:
    """What the figures say, in plain sentences."""
    unit = f"nats per {normalization.removeprefix('per_')}"
    by_lead = sorted(lead.domains, key=lambda line: line.ahead)
    sentences = [
        f"The teacher is ahead of the reference by {by_lead[0].ahead:.2f} "
        f"({by_lead[0].domain}) to {by_lead[-1].ahead:.2f} {unit} ({by_lead[-1].domain})."
    ]
    if behind := [line.domain for line in by_lead if line.ahead <= 0]:
        sentences.append(
            f"It is not ahead in {', '.join(behind)}: such text scores low and goes first. That is "
            "right for what nobody wants; for the rest the teacher has read too little of it."
        )
    between = f"{lead.between:.0%} of the scores' variance lies between domains"
    if lead.between >= _MOSTLY and len(lead.domains) > 1:
        between += "; a ranking over all of them is largely a choice of domains"
    sentences.append(f"{between}.")
    if gain is not None:
        sentences.append(_gain_sentence(gain))
    return sentences


def _gain_sentence(gain: GainCorrelation) -> str:
    within = "" if gain.within is None else f", {gain.within:.2f} within domains"
    judged = gain.overall if gain.within is None else gain.within
    words = "the scores rank rows much as a student gains on them"
    if judged < _FAINT:
        words = "the scores do not tell what a student of this size learns"
    elif judged < _MOSTLY:
        words = "the scores tell a little of what a student of this size learns"
    return (
        f"Rank correlation of the difference score with what a student held apart gains on a row: "
        f"{gain.overall:.2f} over all{within}; {words}."
    )


def lead_table(lead: Lead, gain: GainCorrelation | None) -> list[str]:
    """The figures of each domain as lines of text, the domain with the largest lead first."""
    heading = f"{'domain':<24}{'rows':>10}{'teacher':>9}{'reference':>11}{'ahead':>8}{'behind':>8}"
    lines = [heading + (f"{'gain':>8}{'rank':>7}" if gain else "")]
    for line in sorted(lead.domains, key=lambda each: -each.ahead):
        text = (
            f"{line.domain:<24}{line.num_rows:>10,}{line.teacher:>9.3f}{line.reference:>11.3f}"
            f"{line.ahead:>8.3f}{line.behind:>8.1%}"
        )
        lines.append(text + (_gain_cells(gain, line.domain) if gain else ""))
    return lines


def _gain_cells(gain: GainCorrelation, domain: str) -> str:
    means: Mapping[str, Any] = gain.mean_gain
    cells = f"{means[domain]:>8.3f}" if domain in means else f"{'':>8}"
    rank = gain.by_domain.get(domain)
    return cells + (f"{rank:>7.2f}" if rank is not None else f"{'':>7}")
