"""In which forms the refined corpus is written."""

from typing import Literal

from pydantic import Field

from miniplm.config import Config


class ExportConfig(Config):
    """In which forms the refined corpus is written; token shards always are."""

    text: Literal["jsonl", "parquet"] | None = Field(
        None, description="also write the text: jsonl (zstd-compressed) or parquet; null: do not"
    )
