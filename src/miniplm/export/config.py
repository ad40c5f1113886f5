"""In which forms the refined corpus is written."""

from collections.abc import Collection, Mapping
from typing import Literal

from pydantic import Field, field_validator

from miniplm.config import Config
from miniplm.data.tokenizer import TokenizerConfig

TextForm = Literal["jsonl", "parquet"]
Form = Literal["tokens", "megatron", "input_ids", "jsonl", "parquet"]


class ExportConfig(Config):
    """In which forms the refined corpus is written; token shards for training always are."""

    forms: tuple[Form, ...] = Field(
        (),
        description="also write: tokens (token shards for other loaders), megatron (prefixes for "
        "Megatron-LM), input_ids (Parquet of ids), jsonl (text, zstd-compressed), parquet (text)",
    )
    materialize_repeats: bool = Field(
        False,
        description="tokens and megatron, which have no column for it, hold a sequence as often "
        "as it counts",
    )

    @field_validator("forms", mode="before")
    @classmethod
    def _one_is_a_list_of_one(cls, value: object) -> object:
        return (value,) if isinstance(value, str) else value

    @field_validator("forms")
    @classmethod
    def _each_once(cls, value: tuple[Form, ...]) -> tuple[Form, ...]:
        if len(set(value)) < len(value):
            raise ValueError(f"a form is given twice: {', '.join(value)}")
        return value


class RetokenizationConfig(Config):
    """A corpus for students of another tokenizer."""

    corpus: str = Field(
        description="candidates, or the name of a selection or of a generation: whose rows"
    )
    tokenizer: TokenizerConfig = Field(
        TokenizerConfig(),
        description="the other tokenizer; without a name it is trained on the text of the corpus",
    )
    tokenizer_of: str | None = Field(
        None, description="take the tokenizer of this other retokenization instead"
    )
    max_length: int | None = Field(
        None,
        ge=2,
        description="predicted tokens per sequence, longer ones are cut; null: packing.max_length",
    )


def retokenization_faults(
    retokenizations: Mapping[str, RetokenizationConfig], corpora: Collection[str]
) -> list[str]:
    """What is wrong between retokenizations and what they are made from.

    Args:
        retokenizations: Those of a recipe.
        corpora: Names of what they can be made from.
    """
    faults = []
    for name, config in retokenizations.items():
        place = f"retokenizations.{name}"
        if name in corpora:
            faults.append(f"{place}: there is another corpus of this name; choose another")
        if config.corpus not in corpora:
            faults.append(
                f"{place}.corpus: there is no {config.corpus!r}; choose one of {', '.join(corpora)}"
            )
        if config.tokenizer_of is None:
            continue
        if "tokenizer" in config.model_fields_set:
            faults.append(f"{place}: give one of tokenizer and tokenizer_of")
        owners = [each for each, other in retokenizations.items() if other.tokenizer_of is None]
        if config.tokenizer_of not in owners:
            faults.append(
                f"{place}.tokenizer_of: {config.tokenizer_of!r} is no retokenization with a "
                f"tokenizer of its own; there is {', '.join(owners) or 'none'}"
            )
    return faults
