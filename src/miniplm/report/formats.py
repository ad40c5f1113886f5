"""Numbers and text as people read them. Pure functions from values to strings.

A value that is not known (None) is shown as an en dash, one that is not finite by its name, and
negative numbers carry a true minus sign. `readable` makes any text harmless to draw.
"""

import math
import re

DASH = "\N{EN DASH}"
MINUS = "\N{MINUS SIGN}"

_COUNT_SUFFIXES = ("", "k", "M", "B", "T", "Q")
_SI_PREFIXES = ("", "k", "M", "G", "T", "P", "E", "Z", "Y", "R", "Q")

_UNDRAWABLE = re.compile(
    "[\x00-\x08\x0b-\x1f\x7f-\x9f\u061c\u200b\u200e\u200f\u2028-\u202e\u2060-\u206f"
    "\ud800-\udfff\ufeff\ufff9-\ufffb\ufffe\uffff]"
)
"""Control characters but tab and newline, marks that change the direction of text, characters
without width, lone surrogates, and code points that XML forbids."""


def readable(text: str) -> str:
    r"""Text with every character that cannot be drawn, or that rearranges others, made visible.

    Tabs and newlines stay; `\r\n` becomes a newline.

    Example:
        >>> readable("a\x00b")
        'a␀b'
        >>> readable("\u202eabc")
        '⟨U+202E⟩abc'
    """
    return _UNDRAWABLE.sub(_make_visible, text.replace("\r\n", "\n"))


def _make_visible(match: re.Match[str]) -> str:
    code = ord(match.group())
    if code < 0x20:
        return chr(0x2400 + code)
    return "\u2421" if code == 0x7F else f"⟨U+{code:04X}⟩"


def shorten(text: str, limit: int) -> str:
    """Text of at most `limit` characters, its middle replaced by an ellipsis where it is longer.

    Example:
        >>> shorten("student-200m-top-half-seed-7", 15)
        'student…-seed-7'
    """
    if len(text) <= limit:
        return text
    tail = (limit - 1) // 2
    return f"{text[: limit - 1 - tail]}…{text[len(text) - tail :]}"


def count(value: int | None) -> str:
    """A whole number in full, with separators between thousands.

    Example:
        >>> count(1234567)
        '1,234,567'
    """
    return DASH if value is None else f"{value:,}".replace("-", MINUS)


def short(value: float | None) -> str:
    """A number in three digits with the field's suffixes (k, M, B, T).

    Example:
        >>> short(1_234_000), short(12_000_000_000), short(999_950), short(16.25)
        ('1.23M', '12B', '1M', '16.2')
    """
    number, suffix = _scaled(value, _COUNT_SUFFIXES)
    return number + suffix


def si(value: float | None, unit: str) -> str:
    """A quantity in three digits with an SI prefix before its unit.

    Example:
        >>> si(3.4e12, "FLOPs"), si(1.26e21, "FLOPs"), si(512, "B")
        ('3.4 TFLOPs', '1.26 ZFLOPs', '512 B')
    """
    number, prefix = _scaled(value, _SI_PREFIXES)
    return number if number == DASH else f"{number} {prefix}{unit}"


def flops(value: float | None) -> str:
    """Floating-point operations, as `3.4 TFLOPs`."""
    return si(value, "FLOPs")


def _scaled(value: float | None, suffixes: tuple[str, ...]) -> tuple[str, str]:
    """The three leading digits of a number, and the suffix that stands for the rest."""
    if value is None or not math.isfinite(value):
        return DASH if value is None else _not_finite(value), ""
    # Rounded before its size is looked at: 999,950 is 1M, not 1,000k.
    exponent = int(f"{value:.2e}".partition("e")[2])
    if value == 0 or exponent < 0:
        return f"{value:.3g}".replace("-", MINUS), ""
    group = min(exponent // 3, len(suffixes) - 1)
    digits = max(0, 2 - (exponent - 3 * group))
    number = f"{float(f'{value:.2e}') / 10 ** (3 * group):.{digits}f}"
    if digits:
        number = number.rstrip("0").rstrip(".")
    return number.replace("-", MINUS), suffixes[group]


def fixed(value: float | None, digits: int = 3) -> str:
    """A loss or a score with a fixed number of decimals.

    Example:
        >>> fixed(4.9236), fixed(-0.5), fixed(None)
        ('4.924', '−0.500', '–')
    """
    if value is None or not math.isfinite(value):
        return DASH if value is None else _not_finite(value)
    return f"{round(value, digits) + 0.0:.{digits}f}".replace("-", MINUS)


def signed(value: float | None, digits: int = 3) -> str:
    """A difference with its sign; what rounds to nothing carries none.

    Example:
        >>> signed(0.0151), signed(-0.042), signed(-0.0001)
        ('+0.015', '−0.042', '0.000')
    """
    plus = "+" if value is not None and math.isfinite(value) and round(value, digits) > 0 else ""
    return plus + fixed(value, digits)


def percent(share: float | None) -> str:
    """A share of one in per cent. Nothing and everything are only said where they are exact.

    Example:
        >>> percent(0.063), percent(0.0001), percent(0.0), percent(0.99991)
        ('6.3 %', '<0.1 %', '0.0 %', '>99.9 %')
    """
    if share is None or not math.isfinite(share):
        return DASH if share is None else _not_finite(share)
    if 0 < share < 0.0005:
        return "<0.1 %"
    if 0.9995 <= share < 1:
        return ">99.9 %"
    return f"{fixed(100 * share, 1)} %"


def duration(seconds: float | None) -> str:
    """A time span in its two largest units.

    Example:
        >>> duration(0.042), duration(75.4), duration(5025), duration(180000)
        ('0.04 s', '1 min 15 s', '1 h 24 min', '2 d 2 h')
    """
    if seconds is None or not math.isfinite(seconds):
        return DASH if seconds is None else _not_finite(seconds)
    if round(seconds, 1) < 60:
        return f"{seconds:.2f} s" if seconds < 1 else f"{seconds:.1f} s"
    if round(seconds) < 3600:
        return "{} min {} s".format(*divmod(round(seconds), 60))
    if round(seconds / 60) < 24 * 60:
        return "{} h {} min".format(*divmod(round(seconds / 60), 60))
    return "{} d {} h".format(*divmod(round(seconds / 3600), 24))


def _not_finite(value: float) -> str:
    if math.isnan(value):
        return "not a number"
    return "∞" if value > 0 else f"{MINUS}∞"
