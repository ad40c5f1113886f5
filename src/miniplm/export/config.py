"""In which forms the refined corpus is written."""

from typing import Literal

from pydantic import Field

from miniplm.config import Config

TextForm = Literal["jsonl", "parquet"]


class ExportConfig(Config):
    """In which forms the refined corpus is written; token shards always are."""

    text: TextForm | None = Field(
        None, description="also write the text: jsonl (zstd-compressed) or parquet; null: do not"
    )
