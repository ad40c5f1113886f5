"""Whether losses of several curves may be compared."""

from collections.abc import Iterable, Sequence
from itertools import combinations

from miniplm.errors import ConfigError
from miniplm.scaling.held_out_values import LossKind
from miniplm.scaling.read_curves import StudentCurve


def check_comparable(students: Sequence[StudentCurve], kind: LossKind) -> list[str]:
    """Refuse losses that do not compare.

    Args:
        students: All that are looked at.
        kind: Of their losses.

    Returns:
        Cautions.

    Raises:
        ConfigError: Two curves are of other domains, or losses per token of other tokens or text.
    """
    for student in students[1:]:
        if student.domains != students[0].domains:
            raise ConfigError("--loss", [_other_domains(students[0], student)])
    for one, other in _pairs(students):
        if one.text is None or other.text is None or one.text.is_same_as(other.text):
            continue
        if kind.is_per_token:
            raise ConfigError("--loss", [_why_not(one, other)])
        return [
            f"{_names(one, other)} were measured on text that was made apart; that it is the same "
            "is not known here."
        ]
    return []


def _pairs(students: Iterable[StudentCurve]) -> Iterable[tuple[StudentCurve, StudentCurve]]:
    """One student of each text with each of another one."""
    return combinations({each.text: each for each in students}.values(), 2)


def _names(one: StudentCurve, other: StudentCurve) -> str:
    return " and ".join(f"{each.curve.run}/{each.curve.student}" for each in (one, other))


def _other_domains(one: StudentCurve, other: StudentCurve) -> str:
    apart = ", ".join(sorted(one.domains ^ other.domains))
    return (
        f"{_names(one, other)} were measured on different domains (not both have {apart}), and "
        "means over them do not compare; name those that all have: bits_per_byte:DOMAIN,DOMAIN"
    )


def _why_not(one: StudentCurve, other: StudentCurve) -> str:
    if any(each.text and each.text.is_retokenized for each in (one, other)):
        return (
            f"{_names(one, other)} read different tokenizers, and losses per token of these do "
            "not compare; use --loss bits_per_byte, or leave some out with --method"
        )
    return (
        f"{_names(one, other)} were not measured on the same held-out tokens (another tokenizer, "
        "text or number of sequences), so their losses per token do not compare; give these runs "
        "one by one, or use --loss bits_per_byte"
    )
