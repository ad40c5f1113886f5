"""A recipe as commented YAML, for `miniplm init`."""

from collections.abc import Mapping
from typing import Any

import yaml
from pydantic import BaseModel

from miniplm.recipe import Recipe

_COMMENT_COLUMN = 44
_HEAD = """\
# A recipe of miniplm. Run it:       miniplm run THIS_FILE
# See what it would do and cost:     miniplm plan THIS_FILE
# Change a field for one run:        miniplm run THIS_FILE training.lr=3e-4
# Fields that are left out have their defaults; sections shown as comments are optional.

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


def _section(content: Mapping[str, Any], model: type[BaseModel], depth: int) -> list[str]:
    lines = []
    for name, field in model.model_fields.items():
        comment = field.description or ""
        inner = _config_class(field.annotation)
        if name not in content:
            if inner is None:
                default = field.get_default(call_default_factory=True)
                lines.append(_line(f"# {name}: {_scalar(default)}", comment, depth))
            continue
        value = content[name]
        if isinstance(value, Mapping) and inner and not _is_mapping_of_sections(field.annotation):
            lines += (
                ["", *_opening(name, comment, depth)]
                if depth == 0
                else _opening(name, comment, depth)
            )
            lines += _section(value, inner, depth + 1)
        elif isinstance(value, Mapping) and inner:
            lines += ["", *_opening(name, comment, depth)]
            for key, item in value.items():
                lines.append(f"{'  ' * (depth + 1)}{key}:")
                lines += _given(item, inner, depth + 2)
        else:
            lines.append(_line(f"{name}: {_scalar(value)}", comment, depth))
    return lines


def _given(content: Mapping[str, Any], model: type[BaseModel], depth: int) -> list[str]:
    """Only the fields that are given, for entries that repeat."""
    lines = []
    for name, value in content.items():
        field = model.model_fields[name]
        inner = _config_class(field.annotation)
        if isinstance(value, Mapping) and inner:
            lines += [f"{'  ' * depth}{name}:", *_given(value, inner, depth + 1)]
        else:
            lines.append(_line(f"{name}: {_scalar(value)}", field.description or "", depth))
    return lines


def _opening(name: str, comment: str, depth: int) -> list[str]:
    return [_line(f"{name}:", comment, depth)]


def _line(text: str, comment: str, depth: int) -> str:
    text = "  " * depth + text
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
    """The config class in an annotation such as `X`, `X | None` or `dict[str, X]`."""
    if isinstance(annotation, type) and issubclass(annotation, BaseModel):
        return annotation
    for argument in getattr(annotation, "__args__", ()):
        if (found := _config_class(argument)) is not None:
            return found
    return None
