"""Typed configuration: one YAML file plus dotted overrides, checked as a whole before any work.

Every section of a recipe is a frozen pydantic model that lives beside the code it configures and
derives from `Config`. This module turns YAML and `a.b=c` overrides into such a model and turns
everything wrong with them into one `ConfigError`, with the nearest right name for unknown keys.
"""

import copy
import difflib
import types
import typing
from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path
from typing import Annotated, Any, TypeVar

import yaml
from pydantic import BaseModel, BeforeValidator, ConfigDict, ValidationError
from pydantic_core import ErrorDetails

from miniplm.errors import ConfigError

NOT_FINGERPRINTED = "miniplm: does not change any result"
"""Marks a field (`Annotated[int, NOT_FINGERPRINTED]`) that changes how fast work is done, or what
is logged of it, but neither weights nor scores."""


def _whole(value: object) -> object:
    """1e9 and "1e9", which YAML and overrides give as a float and a word, as whole numbers."""
    if isinstance(value, str):
        try:
            value = float(value)
        except ValueError:
            return value
    return int(value) if isinstance(value, float) and value.is_integer() else value


WholeNumber = Annotated[int, BeforeValidator(_whole)]
"""A number that may be written as 5e9."""

ConfigT = TypeVar("ConfigT", bound="Config")


class Config(BaseModel):
    """Base of all recipe sections: frozen, no unknown keys."""

    model_config = ConfigDict(frozen=True, extra="forbid", allow_inf_nan=False)

    def fingerprinted(self) -> dict[str, Any]:
        """The fields that results depend on, as plain JSON values."""
        plain = self.model_dump(mode="json")
        for name, field in type(self).model_fields.items():
            value = getattr(self, name)
            if NOT_FINGERPRINTED in field.metadata:
                del plain[name]
            elif isinstance(value, Config):
                plain[name] = value.fingerprinted()
            elif isinstance(value, dict):
                plain[name] = {
                    key: item.fingerprinted() if isinstance(item, Config) else plain[name][key]
                    for key, item in value.items()
                }
        return plain


class _StrictLoader(yaml.SafeLoader):
    """YAML that refuses a key given twice instead of silently keeping the last."""

    def construct_mapping(self, node: yaml.MappingNode, deep: bool = False) -> dict[Any, Any]:
        seen: set[str] = set()
        for key_node, _ in node.value:
            key = repr(self.construct_object(key_node, deep=deep))
            if key in seen:
                raise yaml.constructor.ConstructorError(
                    None, None, f"the key {key} is given twice", key_node.start_mark
                )
            seen.add(key)
        return super().construct_mapping(node, deep=deep)


def read_yaml(path: Path) -> dict[str, Any]:
    """Read a YAML file that holds one mapping.

    Raises:
        ConfigError: The file is missing, is not YAML, repeats a key, or is not a mapping.
    """
    try:
        text = path.read_text(encoding="utf-8")
    except FileNotFoundError:
        raise ConfigError(
            str(path), ["no such file; `miniplm init` writes a commented recipe"]
        ) from None
    except IsADirectoryError:
        raise ConfigError(
            str(path), ["is a folder; give a recipe, such as a run's used_recipe.yaml"]
        ) from None
    except (OSError, UnicodeDecodeError) as error:
        raise ConfigError(str(path), [f"cannot be read: {error}"]) from error
    try:
        content = yaml.load(text, Loader=_StrictLoader)  # noqa: S506  (derives from SafeLoader)
    except yaml.YAMLError as error:
        raise ConfigError(str(path), [f"is not valid YAML: {error}"]) from error
    if not isinstance(content, dict):
        kind = type(content).__name__
        raise ConfigError(str(path), [f"holds a {kind}; expected a mapping of sections"])
    unshared: dict[str, Any] = _unshared(content)
    return unshared


def _unshared(value: Any) -> Any:  # noqa: ANN401
    """The same values, each in a place of its own: what an alias repeats is changed alone."""
    if isinstance(value, dict):
        return {key: _unshared(item) for key, item in value.items()}
    return [_unshared(item) for item in value] if isinstance(value, list) else value


def parse_overrides(
    overrides: Iterable[str], content: Mapping[str, Any] | None = None
) -> dict[str, Any]:
    """Turn `training.lr=3e-4` words into a nested mapping; values are read as YAML.

    Args:
        overrides: The words.
        content: What they change. A name in it may hold dots (a size called `0.5B`).

    Raises:
        ConfigError: A word has no `=`, an empty key or an unreadable value.

    Example:
        >>> parse_overrides(["seed=7", "training.lr=3e-4", "corpus.paths=[a, b]"])
        {'seed': 7, 'training': {'lr': '3e-4'}, 'corpus': {'paths': ['a', 'b']}}
        >>> parse_overrides(["sizes.0.5B.lr=1"], {"sizes": {"0.5B": {}}})
        {'sizes': {'0.5B': {'lr': 1}}}
    """
    nested: dict[str, Any] = {}
    merged = copy.deepcopy(dict(content or {}))
    faults = []
    for word in overrides:
        key, separator, value = word.partition("=")
        parts = key.strip().split(".")
        if not separator or not all(parts):
            faults.append(f"override {word!r}: expected key=value, for example training.lr=3e-4")
            continue
        try:
            parsed = yaml.safe_load(value) if value else ""
        except yaml.YAMLError:
            faults.append(f"override {word!r}: the value {value!r} is not valid YAML")
            continue
        change = _nest(_whole_names(parts, merged), parsed)
        merge_into(nested, change)
        merge_into(merged, change)
    if faults:
        raise ConfigError("overrides", faults)
    return nested


def _whole_names(parts: Sequence[str], content: object) -> list[str]:
    """Put the parts of names that hold dots together: the longest that `content` has."""
    names: list[str] = []
    while parts:
        known = content if isinstance(content, Mapping) else {}
        lengths = range(len(parts), 1, -1)
        length = next((n for n in lengths if ".".join(parts[:n]) in known), 1)
        names.append(".".join(parts[:length]))
        content, parts = known.get(names[-1]), parts[length:]
    return names


def _nest(parts: Sequence[str], value: object) -> dict[str, Any]:
    for part in reversed(parts):
        value = {part: value}
    assert isinstance(value, dict)
    return value


def merge_into(base: dict[str, Any], changes: Mapping[str, Any]) -> None:
    """Merge `changes` into `base` in place: mappings key by key, anything else replaced.

    An empty mapping empties what it is merged into.
    """
    for key, value in changes.items():
        if isinstance(value, Mapping) and value and isinstance(base.get(key), dict):
            merge_into(base[key], value)
        else:
            base[key] = dict(value) if isinstance(value, Mapping) else value


def validate(
    model: type[ConfigT], content: Mapping[str, Any], source: str, prefix: str = ""
) -> ConfigT:
    """Check `content` against a config class.

    Raises:
        ConfigError: Lists every fault, each with its dotted place, starting at `prefix`.
    """
    try:
        return model.model_validate(content)
    except ValidationError as error:
        faults = [_describe(fault, model, prefix) for fault in error.errors()]
        raise ConfigError(source, faults) from None


def _describe(fault: ErrorDetails, model: type[Config], prefix: str) -> str:
    location = [str(part) for part in fault["loc"]]
    place = ".".join([prefix, *location] if prefix else location)
    if fault["type"] == "extra_forbidden":
        siblings = _field_names(model, location[:-1])
        return f"{place}: unknown key{_suggest(location[-1], siblings)}"
    if fault["type"] == "missing":
        return f"{place}: is required and was not given"
    if fault["type"] in _PLAIN:
        return f"{place}: expected {_PLAIN[fault['type']]} (given: {fault['input']!r})"
    message = fault["msg"].removeprefix("Value error, ").removeprefix("Assertion failed, ")
    if not place:
        return message
    shown = "" if isinstance(fault["input"], Mapping) else f" (given: {fault['input']!r})"
    return f"{place}: {message[:1].lower()}{message[1:]}{shown}"


_PLAIN = {
    "model_type": "a mapping of fields",
    "model_attributes_type": "a mapping of fields",
    "dict_type": "a mapping of names to fields",
    "float_parsing": "a number",
    "float_type": "a number",
    "int_parsing": "a whole number",
    "int_type": "a whole number",
    "int_from_float": "a whole number",
    "string_type": "text; put it in quotes",
    "bool_parsing": "true or false",
    "bool_type": "true or false",
}


def _suggest(name: str, candidates: Sequence[str]) -> str:
    nearest = difflib.get_close_matches(name, candidates, n=1, cutoff=0.5)
    if nearest:
        return f"; did you mean {nearest[0]!r}?"
    return f"; the keys here are {', '.join(candidates)}" if candidates else ""


def _field_names(model: type[BaseModel], location: Sequence[str]) -> list[str]:
    """Names of the fields of the section that `location` leads to."""
    current: type[BaseModel] | None = model
    skip_key = False
    for part in location:
        if skip_key:  # the name of an entry in a mapping of sections
            skip_key = False
            continue
        if current is None or part not in current.model_fields:
            return []
        current, skip_key = _section_of(current.model_fields[part].annotation)
    return sorted(current.model_fields) if current else []


def _section_of(annotation: object) -> tuple[type[BaseModel] | None, bool]:
    """The config class inside an annotation, and whether it is the value of a mapping."""
    if isinstance(annotation, type) and issubclass(annotation, BaseModel):
        return annotation, False
    origin = typing.get_origin(annotation)
    if origin in (typing.Union, types.UnionType):
        for argument in typing.get_args(annotation):
            section, in_mapping = _section_of(argument)
            if section:
                return section, in_mapping
    if origin in (dict, Mapping):
        return _section_of(typing.get_args(annotation)[1])[0], True
    if origin in (list, tuple):
        return _section_of(typing.get_args(annotation)[0])[0], True
    return None, False
