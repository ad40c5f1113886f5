"""What a selection asks of scores that a proxy predicts."""

from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from miniplm.scoring.agreement import PAPER_RATIO
from miniplm.scoring.proxy_bar import By, Comparison, Judgement, Within, judge, require_to_pass
from miniplm.scoring.proxy_config import ProxyConfig
from miniplm.scoring.proxy_held_out import HELD_OUT_NAME, HeldOut, Ranked
from miniplm.selection.calibration import Calibration, Rows, fit_calibration
from miniplm.selection.config import SelectionConfig
from miniplm.selection.group_tables import group_name, groups_of

_BLIND_TO_THE_TEACHER = ("random", "reference_only", "perplexity_band")
_WITH_A_FLOOR = "a floor is kept inside each domain or group, and the rest across them"
_WITH_SHARES = "domains or groups without a share of their own are ranked against each other"
_WITHOUT_GROUPS = "rows were not grouped, and domains had to do"
_WITHOUT_REFERENCE = (
    "differences were compared, the held-out sequences being of an older version that kept no "
    "scores of the reference with them"
)


def comparison_for(config: SelectionConfig) -> Comparison | None:
    """How predicted scores are to be compared with true ones for a selection.

    Returns:
        None where the selection does not look at the teacher's scores. Where it does not go by a
        ratio, that of the paper.

    Example:
        >>> comparison_for(SelectionConfig(ratio=0.25, within="domain"))  # doctest: +ELLIPSIS
        Comparison(ratio=0.25, normalization='per_token', within='domain', by=..., doubt='')
        >>> comparison_for(SelectionConfig(policy="random"))
    """
    if config.policy in _BLIND_TO_THE_TEACHER:
        return None
    by_ratio = config.tokens is None and config.policy != "threshold"
    within = _within(config)
    return Comparison(
        ratio=config.ratios[-1] if by_ratio else PAPER_RATIO,
        normalization=config.normalization,
        within=within,
        by=_by(config),
        doubt=_WITH_A_FLOOR if config.floor and within == "corpus" else "",
    )


def _by(config: SelectionConfig) -> By:
    if config.policy == "teacher_only":
        return "teacher"
    return "difference" if config.calibration == "none" else config.calibration


def _within(config: SelectionConfig) -> Within:
    """What the top is taken inside, or is as good as taken inside: z-scores level domains."""
    own: Within = "group" if config.within == "group" else "domain"
    if config.calibration == "zscore":
        return own
    if config.policy == "threshold" or config.floor:
        return "corpus"
    return own if config.within != "corpus" or config.policy == "quota" else "corpus"


def judge_selection(
    held_out: HeldOut, proxy: ProxyConfig, config: SelectionConfig, groups_folder: Path | None
) -> Judgement | None:
    """Compare predicted with true scores by the ranking that a selection makes.

    Calibrations are fit to the held-out rows alone, to their true and to their predicted scores.

    Args:
        held_out: Rows with both.
        proxy: Has the bars.
        config: The selection.
        groups_folder: Group tables of the candidates; read where it ranks by groups.

    Returns:
        None where it does not look at the teacher's scores.

    Raises:
        ArtefactError: A group table is missing or damaged, or lacks a held-out row, or there is
            nothing to fit a calibration to.
    """
    asked = comparison_for(config)
    if asked is None:
        return None
    asked = _measurable(asked, held_out, groups_folder)
    labels, numbers_R = _labels(held_out, asked, groups_folder)
    if _ranks_the_rest(config, asked, labels):
        asked = replace(asked, doubt=_WITH_SHARES)
    true_R, predicted_R = _values(held_out, asked, labels, numbers_R)
    ranked = Ranked(true_R, predicted_R, _strata(config, asked, labels)[numbers_R])
    if ranked.num_strata == 1:
        asked = replace(asked, within="corpus")
    return judge(ranked, proxy, asked)


def require_to_select(
    scores_folder: Path, proxy: ProxyConfig, config: SelectionConfig, groups_folder: Path | None
) -> None:
    """Refuse a selection by predicted scores that would keep too many wrong sequences.

    Args:
        scores_folder: Of the predicted score tables.
        proxy: Has the bars.
        config: The selection.
        groups_folder: Group tables of the candidates; read where it ranks by groups.

    Raises:
        ArtefactError: Kappa on held-out sequences is under the bar, or not clearly above chance,
            or something that `judge_selection` needs is missing.
    """
    if comparison_for(config) is None:
        return
    held_out = HeldOut.read(scores_folder / HELD_OUT_NAME)
    found = judge_selection(held_out, proxy, config, groups_folder)
    if found is not None:
        require_to_pass(found, scores_folder, proxy, len(held_out.true_R))


def _measurable(asked: Comparison, held_out: HeldOut, groups_folder: Path | None) -> Comparison:
    """What is asked, or what comes nearest to it, and then why."""
    if asked.by in ("teacher", "residual") and held_out.reference_R is None:
        asked = replace(asked, by="difference", doubt=_WITHOUT_REFERENCE)
    if asked.within == "group" and groups_folder is None:
        asked = replace(asked, within="domain", doubt=_WITHOUT_GROUPS)
    return asked


def _labels(
    held_out: HeldOut, asked: Comparison, groups_folder: Path | None
) -> tuple[Sequence[str], NDArray[np.int32]]:
    """Names of domains or groups, and which of them each row is of."""
    if asked.within != "group" or groups_folder is None:
        return held_out.domains, held_out.domain_numbers_R
    groups_R = groups_of(groups_folder, held_out.sequence_ids)
    found, numbers_R = np.unique(groups_R, return_inverse=True)
    return [group_name(group) for group in found.tolist()], numbers_R.astype(np.int32)


def _ranks_the_rest(config: SelectionConfig, asked: Comparison, labels: Sequence[str]) -> bool:
    """Whether several labels have no share of their own, so that they rank as one."""
    others = set(labels) - set(config.shares)
    return bool(config.shares) and asked.by != "zscore" and len(others) > 1


def _strata(config: SelectionConfig, asked: Comparison, labels: Sequence[str]) -> NDArray[np.int64]:
    """The stratum of each label."""
    numbers = np.arange(len(labels))
    if asked.within == "corpus":
        return np.zeros_like(numbers)
    if not config.shares or asked.by == "zscore":
        return numbers
    return np.where([label in config.shares for label in labels], numbers, -1)


def _values(
    held_out: HeldOut, asked: Comparison, labels: Sequence[str], numbers_R: NDArray[np.int32]
) -> tuple[NDArray[np.float64], NDArray[np.float64]]:
    """What the true and the predicted scores rank rows by."""
    true_R, predicted_R = held_out.scores(asked.normalization)
    if asked.by == "difference":
        return true_R, predicted_R
    reference_R = held_out.reference(asked.normalization)
    if reference_R is None:  # z-scores are of differences alone
        reference_R = np.zeros_like(true_R)
    teacher_R, teacher_predicted_R = reference_R + true_R, reference_R + predicted_R
    if asked.by == "teacher":
        return teacher_R, teacher_predicted_R
    described = held_out.num_tokens_R, tuple(labels), numbers_R
    true_rows, predicted_rows = (
        Rows(by_teacher_R, reference_R, *described)
        for by_teacher_R in (teacher_R, teacher_predicted_R)
    )
    return _calibrated(asked.by, true_rows), _calibrated(asked.by, predicted_rows)


def _calibrated(kind: Calibration, rows: Rows) -> NDArray[np.float64]:
    fitted = fit_calibration(kind, rows)
    return rows.teacher - rows.reference if fitted is None else fitted.scores(rows)
