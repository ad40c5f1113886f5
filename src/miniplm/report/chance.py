"""Whether differences between students could be chance, in words."""

from collections.abc import Mapping

from miniplm.evaluation.difference import Difference


def chance_sentence(difference: Difference) -> str:
    """Whether a difference over documents could be chance."""
    if difference.low is None:
        return (
            f"Whether the choice of held-out documents accounts for this difference is not known: "
            f"there are only {difference.num_units:,}."
        )
    interval = (
        f"95 % interval {difference.low:+.4f} to {difference.high:+.4f}, p = "
        f"{difference.p_value:.2g}, {difference.test}, {difference.num_units:,} of them"
    )
    if difference.is_clear:
        return (
            f"The choice of held-out documents does not account for this difference ({interval})."
        )
    return f"The choice of held-out documents could account for this difference ({interval})."


def seed_sentence(differences: Mapping[str, Difference]) -> str:
    """What one seed says, with intervals over documents and without."""
    if not differences:
        return (
            "This is one run with one seed: a small difference may come from chance, and the page "
            "does not say how large such a difference is."
        )
    return (
        "This is one run with one seed. Intervals are over documents: they say how far a "
        "difference hangs on which text was held out, and nothing of what another seed would give."
    )


def spread(difference: Difference | None) -> str:
    """The interval behind a difference in a list, and whether it could be chance."""
    if difference is None or difference.low is None:
        return ""
    chance = "" if difference.is_clear else ", could be chance"
    return f" [{difference.low:+.4f}, {difference.high:+.4f}]{chance}"
