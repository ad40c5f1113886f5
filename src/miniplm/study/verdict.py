"""What a study says, in plain sentences, whichever way it went."""

from collections.abc import Sequence

from miniplm.study.summary import MethodSummary


def study_sentences(summaries: Sequence[MethodSummary], baseline: str) -> list[str]:
    """The outcome of each method at each size, and what the intervals are of."""
    compared = [line for line in summaries if line.difference is not None]
    if not compared:
        return [f"There is nothing to compare yet: no student besides {baseline} is finished."]
    sentences = [_sentence(line, baseline) for line in compared]
    if unequal := [line for line in compared if not line.at_equal_compute]:
        names = ", ".join(f"{line.method} at {line.size}" for line in unequal)
        sentences.append(f"Not at equal training compute: {names}.")
    seeds = max(len(line.bits_per_byte.values) for line in summaries)
    if seeds == 1:
        sentences.append("There is one seed: how much is chance is not known.")
    else:
        sentences.append(
            f"Intervals are of Student's t over {seeds} seeds of weights and order, wide since "
            "they are few; teacher, reference and scores are the same in all of them."
        )
    return sentences


def _sentence(line: MethodSummary, baseline: str) -> str:
    difference = line.difference
    assert difference is not None
    count = len(difference.values)
    interval = difference.interval
    outcome = "cannot be told from"
    if interval is None:
        outcome = "is better than" if difference.mean < 0 else "is no better than"
    elif interval[1] < 0:
        outcome = "is better than"
    elif interval[0] > 0:
        outcome = "is worse than"
    said = "" if interval is None else f", 95 % interval {interval[0]:+.4f} to {interval[1]:+.4f}"
    sentence = (
        f"{line.size}: {line.method} {outcome} {baseline}: {difference.mean:+.4f} bits per byte"
        f"{said}; better in {line.seeds_better} of {count} seeds and {line.domains_better:.1f} of "
        f"{line.num_domains} domains"
    )
    if line.compute_saved is not None:
        factor = line.compute_saved.geometric_mean
        verb = "less" if factor >= 1 else "more"
        shown = factor if factor >= 1 else 1 / factor
        sentence += f"; {shown:.2f} times {verb} training compute to the same loss"
    return f"{sentence}."
