"""A recipe as YAML: with comments for `miniplm init`, as given for the report."""

from collections.abc import Mapping
from typing import Any

import yaml
from pydantic import BaseModel

from miniplm.recipe import Recipe
from miniplm.selection.config import SelectionConfig

_COMMENT_COLUMN = 44
_HEAD = """\
# A recipe of miniplm. Run it:       miniplm run THIS_FILE
# See what it would do and cost:     miniplm plan THIS_FILE
# Change a field for one run:        miniplm run THIS_FILE training.lr=3e-4
# Fields that are left out have their defaults, shown as comments.

"""


def commented_recipe(content: Mapping[str, Any]) -> str:
    """YAML of a recipe's values with every field explained.

    Args:
        content: The values; those of a preset.

    Returns:
        Text that `load_recipe` reads back to the same recipe. Fields that the values leave out
        stand as comments with their defaults.
    """
    return _HEAD + "\n".join(_section(content, Recipe, 0)) + "\n"


def _section(
    content: Mapping[str, Any], model: type[BaseModel], depth: int, *, whole: bool = True
) -> list[str]:
    """Lines of a section; fields that are not given stand as comments if `whole`."""
    lines: list[str] = []
    for name, field in model.model_fields.items():
        comment = field.description or ""
        inner = _config_class(field.annotation)
        given = name in content
        if name in _NULL_WHEN_ABSENT and content.get(name) is None:
            inner = None
        if inner is not None and (given or (whole and _shown_when_absent(name, depth))):
            lines += [""] * (depth == 0) + [_line(f"{name}:", comment, depth, absent=not given)]
            value = content.get(name, {})
            if _is_mapping_of_sections(field.annotation):
                lines += _entries(value, inner, depth + 1)
            else:
                lines += _section(value, inner, depth + 1, whole=whole)
        elif given:
            lines.append(_line(f"{name}: {_scalar(content[name])}", comment, depth))
        elif whole and inner is None:
            default = field.get_default(call_default_factory=True)
            shown = "" if field.is_required() else f" {_scalar(default)}"
            lines.append(_line(f"{name}:{shown}", comment, depth, absent=True))
    return lines


_NULL_WHEN_ABSENT = ("proxy",)
"""Sections that few recipes have, shown as null so that they are seen."""


def _shown_when_absent(name: str, depth: int) -> bool:
    return depth == 0 and name in ("scoring", "export", "evaluation")


def _entries(content: Mapping[str, Any], model: type[BaseModel], depth: int) -> list[str]:
    """Named entries of one kind; what could be given is shown for the first only."""
    lines: list[str] = []
    for place, (key, item) in enumerate(content.items()):
        explain = place == 0 and model is SelectionConfig
        lines.append(f"{'  ' * depth}{key}:")
        lines += _section(item, model, depth + 1, whole=explain)
    return lines


def _line(text: str, comment: str, depth: int, *, absent: bool = False) -> str:
    text = "  " * depth + ("# " if absent else "") + text
    return f"{text:<{_COMMENT_COLUMN}}  # {comment}" if comment else text


def _scalar(value: object) -> str:
    """A value on one line."""
    if isinstance(value, float):
        return f"{value:g}" if "e" not in f"{value:g}" else _exponent(value)
    if isinstance(value, tuple):
        value = list(value)
    text = yaml.safe_dump(value, default_flow_style=True, width=10_000).strip()
    return text.removesuffix("...").strip()


def _exponent(value: float) -> str:
    """YAML reads 6e-4 as a word and 6.0e-04 as a number; write what is read back as a number."""
    mantissa, _, exponent = f"{value:e}".partition("e")
    digits = mantissa.rstrip("0")
    return f"{digits}{'0' if digits.endswith('.') else ''}e{exponent}"


def _is_mapping_of_sections(annotation: object) -> bool:
    return getattr(annotation, "__origin__", None) is dict


def _config_class(annotation: object) -> type[BaseModel] | None:
    """The config class in an annotation such as `X`, `X | None` or `dict[str, X]`; no list's."""
    if getattr(annotation, "__origin__", None) is list:
        return None
    if isinstance(annotation, type) and issubclass(annotation, BaseModel):
        return annotation
    for argument in getattr(annotation, "__args__", ()):
        if (found := _config_class(argument)) is not None:
            return found
    return None


def recipe_yaml(recipe: Recipe) -> str:
    """What was given of a recipe, as YAML."""
    return yaml.safe_dump(recipe.given(), sort_keys=False, allow_unicode=True)
