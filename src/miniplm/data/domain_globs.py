"""Domains that a recipe names by globs, such as `noise-*`."""

from collections.abc import Sequence
from fnmatch import fnmatchcase


def matches_any(domain: str, globs: Sequence[str]) -> bool:
    """Whether any of the globs matches a domain's name, case and all.

    Example:
        >>> matches_any("noise-hex", ["noise-*"]), matches_any("Noise-hex", ["noise-*"])
        (True, False)
    """
    return any(fnmatchcase(domain, glob) for glob in globs)
