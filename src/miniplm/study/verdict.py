"""What a study says, in plain sentences, whichever way it went."""

from collections.abc import Sequence

from miniplm.study.summary import MethodSummary

_MANY = 5
"""Comparisons of which one or another comes out by chance."""


def study_sentences(
    summaries: Sequence[MethodSummary], baseline: str, *, each: bool = True
) -> list[str]:
    """The outcome in a sentence for each size, then that of each method, and what intervals are of.

    Args:
        summaries: Of a study, or of as much of it as is finished.
        baseline: The method that the others are compared with.
        each: Whether every method has a sentence, besides that of its size.
    """
    compared = [line for line in summaries if line.difference is not None]
    if not compared:
        which = f"besides {baseline} " if summaries else ""
        return [f"There is nothing to compare yet: no student {which}is finished."]
    sentences = _overview(compared, baseline) if len(compared) > 1 else []
    if each or len(compared) == 1:
        sentences += [_sentence(line, baseline) for line in compared]
    return [*sentences, *_of_intervals(summaries, len(compared))]


def _of_intervals(summaries: Sequence[MethodSummary], num_compared: int) -> list[str]:
    seeds = max(len(line.bits_per_byte.values) for line in summaries)
    if seeds == 1:
        return ["There is one seed: how much is chance is not known."]
    words = (
        f"Intervals are of Student's t over {seeds} seeds of weights and order, wide since "
        "they are few; teacher, reference and scores are the same in all of them."
    )
    if num_compared < _MANY:
        return [words]
    return [
        f"{words} There are {num_compared} of them at 95 %: of twenty where nothing differs, one "
        "leaves out zero by chance."
    ]


def _overview(compared: Sequence[MethodSummary], baseline: str) -> list[str]:
    """Which methods are better, and which are not, at each size."""
    sentences = []
    for size in dict.fromkeys(line.size for line in compared):
        outcomes: dict[str, list[str]] = {}
        for line in compared:
            if line.size == size:
                outcomes.setdefault(_outcome(line), []).append(line.label)
        parts = [
            f"{_listed(names)} {_agreeing(outcome, len(names))} {baseline}"
            for outcome, names in sorted(outcomes.items(), key=lambda item: _ORDER.index(item[0]))
        ]
        sentences.append(f"At {size}, {'; '.join(parts)}.")
    return sentences


_ORDER = ("is better than", "cannot be told from", "is no better than", "is worse than")


def _listed(names: Sequence[str]) -> str:
    *others, last = names
    return f"{', '.join(others)} and {last}" if others else last


def _agreeing(outcome: str, number: int) -> str:
    """The outcome of one method, or of several."""
    return outcome.replace("is ", "are ", 1) if number > 1 else outcome


def _outcome(line: MethodSummary) -> str:
    difference = line.difference
    assert difference is not None
    interval = difference.interval
    if interval is None:
        return "is better than" if difference.mean < 0 else "is no better than"
    if interval[1] < 0:
        return "is better than"
    return "is worse than" if interval[0] > 0 else "cannot be told from"


def _sentence(line: MethodSummary, baseline: str) -> str:
    difference = line.difference
    assert difference is not None
    interval = difference.interval
    said = "" if interval is None else f", 95 % interval {interval[0]:+.4f} to {interval[1]:+.4f}"
    sentence = (
        f"{line.size}: {line.label} {_outcome(line)} {baseline}: {difference.mean:+.4f} bits per "
        f"byte{said}; better in {line.seeds_better} of {len(difference.values)} seeds and "
        f"{line.domains_better:.2g} of {line.num_domains} domains"
    )
    if line.compute_saved is not None:
        least = "at least " if line.saved_is_cautious else ""
        factor = line.compute_saved.geometric_mean
        sentence += f"; {least}{compute_words(factor, 'training ')} to the same loss"
    return f"{sentence}."


def compute_words(factor: float, kind: str = "") -> str:
    """How many times less compute a method needed; below 1 how many times as much.

    Example:
        >>> compute_words(1.5), compute_words(0.5, "training ")
        ('1.50 times less compute', '2.00 times the training compute')
    """
    if f"{factor:.2f}" == "1.00":
        return f"as much {kind}compute"
    if factor >= 1:
        return f"{factor:.2f} times less {kind}compute"
    return f"{1 / factor:.2f} times the {kind}compute"
