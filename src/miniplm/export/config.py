"""In which forms the refined corpus is written."""

from typing import Literal

from pydantic import Field, field_validator

from miniplm.config import Config

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
