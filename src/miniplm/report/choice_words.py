"""How a selection was chosen, in words: what was asked for, and what decides."""

from collections.abc import Mapping

from miniplm.report import formats
from miniplm.selection.config import SelectionConfig

_BY_ANOTHER = {
    "random": "Sequences are kept by chance alone{within}, whatever their score.",
    "mix_of": "Sequences are kept by chance, as many of each domain as {other!r} keeps, whatever "
    "their score: what its mix alone buys.",
    "teacher_only": "Kept{within} are the sequences that the teacher finds likeliest, whatever the "
    "difference score.",
    "reference_only": "Kept{within} are the sequences that the reference finds least likely, "
    "whatever the difference score.",
    "perplexity_band": "Kept{within} are the sequences whose loss under the reference lies in the "
    "middle, whatever the difference score.",
}

_SAID_ELSEWHERE = frozenset({"policy", "ratio", "tokens", "min_score", "max_score"})


def kept_range(
    config: SelectionConfig, counts: Mapping[str, int], threshold: float | None
) -> tuple[float | None, float | None]:
    """The lowest and the highest kept score, where exactly what lies between them is kept.

    Args:
        config: What was asked for.
        counts: Of the select stage's manifest.
        threshold: Of its facts: the lowest kept score, if exactly the rows down to it are kept.

    Returns:
        None for an end that is open; both are where something else decides.
    """
    by_range = config.policy == "threshold" and config.calibration == "none"
    if by_range and config.max_score is not None and not counts.get("near_duplicates"):
        return config.min_score, config.max_score
    return threshold, None


def choice_in_words(config: SelectionConfig, counts: Mapping[str, int]) -> str:
    """What decides, where that is not a range of this score.

    Args:
        config: What was asked for.
        counts: Of the select stage's manifest.
    """
    once = not config.schedule and not config.replacement
    if once and counts["kept"] == counts["sequences"] - counts["not_comparable"]:
        return "All sequences that have a score are kept."
    sentence = _rule(config)
    if config.schedule:
        sentence += " As training goes on, the share kept narrows."
    if num_left_out := counts.get("near_duplicates"):
        sentence += (
            " Of each cluster of near-duplicates only the best-ranked could be kept, which left "
            f"{num_left_out:,} sequences out."
        )
    return sentence


def asked_in_words(config: SelectionConfig, counts: Mapping[str, int]) -> str:
    """How much is asked for, and of what where near-duplicates have no place in the ranking."""
    if config.tokens is not None:
        return f"{config.tokens:,} predicted tokens"
    left_out = counts.get("near_duplicates")
    if not left_out or config.policy == "threshold":
        return config.amount_in_words
    left = counts["sequences"] - left_out
    return f"{config.amount_in_words} left ({left:,}, without {left_out:,} near-duplicates)"


def dials_in_words(config: SelectionConfig) -> list[str]:
    """Dials that the policy reads and that are not at their default, but for how much is kept.

    Example:
        >>> dials_in_words(SelectionConfig(policy="quota", within="group", floor=0.1))
        ['within group', 'floor 0.1']
    """
    fields = type(config).model_fields
    return [
        _dial(name, value)
        for name, value in config.fingerprinted().items()
        if name not in _SAID_ELSEWHERE and getattr(config, name) != fields[name].default
    ]


def _dial(name: str, value: object) -> str:
    """In the recipe's own words."""
    if value is True:
        return name
    if isinstance(value, dict):
        return f"{name} " + ", ".join(f"{key} {share:g}" for key, share in value.items())
    if isinstance(value, list):
        phases = (f"{phase['ratio']:g} until {phase['until']:g}" for phase in value)
        return f"{name} " + ", ".join(phases)
    return f"{name} {value:g}" if isinstance(value, float) else f"{name} {value}"


def _rule(config: SelectionConfig) -> str:
    within = "" if config.within == "corpus" else f" within each {config.within}"
    score = "this score"
    if config.calibration != "none":
        score = f"the score after calibration ({config.calibration}; drawn is the one before)"
    if config.policy in _BY_ANOTHER:
        kind = "random" if config.mix_of is None else "mix_of"
        return _BY_ANOTHER[kind if config.policy == "random" else config.policy].format(
            within=within, other=config.mix_of
        )
    if config.policy == "sample":
        return _sampled(config, score, within)
    if config.policy == "quota":
        return _by_quota(config, score)
    if config.policy == "threshold":
        return f"Sequences are kept by {score}: {config.amount_in_words}."
    if config.policy == "band":
        skipped, kept = formats.percent(config.skip_top), formats.percent(config.ratio)
        return (
            f"Sequences are ranked by {score}{within}; the first {skipped} are left out and the "
            f"next {kept} kept{_each(within)}."
        )
    return f"Sequences are ranked by {score}{within}, and the best{_each(within)} are kept."


def _each(within: str) -> str:
    return " of each" if within else ""


def _sampled(config: SelectionConfig, score: str, within: str) -> str:
    how = "with replacement" if config.replacement else "without replacement"
    return (
        f"Sequences are drawn by chance{within}, {how}, by {score}: chance ~ exp(score / "
        f"{config.temperature:g}), so that high ones are likelier and none is sure."
    )


def _by_quota(config: SelectionConfig, score: str) -> str:
    kind = "group" if config.within == "group" else "domain"
    if config.floor:
        return (
            f"The best {formats.percent(config.floor)} of each {kind} by {score} are kept in any "
            "case, and the best of all that is left."
        )
    if config.shares:
        return (
            f"Sequences are ranked by {score} within each {kind} that shares names, and all others "
            "among themselves; the best of each are kept."
        )
    return f"Sequences are ranked by {score} within each {kind}, and the best of each are kept."
