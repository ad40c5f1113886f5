"""What is measured, and in which dtype."""

from typing import Annotated

from pydantic import Field

from miniplm.config import NOT_FINGERPRINTED, Config
from miniplm.data.documents import CorpusConfig
from miniplm.model import Dtype


class EvaluationConfig(Config):
    """What is measured, and in which dtype."""

    dtype: Dtype = Field("float32", description="dtype the models run in")
    set_apart: list[str] = Field(
        default_factory=list,
        description="domains (globs, such as noise-*) that are measured but not averaged over",
    )
    texts: dict[str, CorpusConfig] = Field(
        default_factory=dict,
        description="further texts by name, measured document by document without packing",
    )
    window_stride: int | None = Field(
        None,
        ge=1,
        description="tokens from one window over a text to the next; null: side by side",
    )
    held_out_sequences_while_training: Annotated[int, NOT_FINGERPRINTED] = Field(
        64,
        ge=1,
        description="held-out sequences behind the losses along the way, as many of each domain",
    )
