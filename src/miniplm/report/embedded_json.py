"""Data for the page's script, inside the page.

A browser ends a script at the first `</script` whatever stands around it, and `<!--` changes how
it reads on, so no `<`, `>` or `&` is left in the JSON. Texts are made readable first.
"""

import json
from typing import Any

from markupsafe import Markup

from miniplm.report.formats import readable

_ESCAPES = {ord(character): f"\\u{ord(character):04x}" for character in "<>&"}


def embedded(content: object) -> Markup:
    r"""A JSON value as it may stand inside a `script` element.

    Args:
        content: Lists, tuples, mappings, texts, finite numbers, None.

    Example:
        >>> embedded(["</script>", 1.5])
        Markup('["\\u003c/script\\u003e",1.5]')
    """
    text = json.dumps(
        all_readable(content), ensure_ascii=False, separators=(",", ":"), allow_nan=False
    )
    return Markup(text.translate(_ESCAPES))  # noqa: S704  (nothing in it can end the element)


def all_readable(value: Any) -> Any:  # noqa: ANN401
    """A JSON value with all its texts made readable, names of fields too."""
    if isinstance(value, str):
        return readable(value)
    if isinstance(value, dict):
        return {readable(key): all_readable(item) for key, item in value.items()}
    if isinstance(value, list | tuple):
        return [all_readable(item) for item in value]
    return value
