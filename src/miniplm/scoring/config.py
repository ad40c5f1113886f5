"""How models score sequences."""

from typing import Annotated

from pydantic import Field

from miniplm.config import NOT_FINGERPRINTED, Config
from miniplm.model import Dtype


class ScoringConfig(Config):
    """How models score sequences."""

    dtype: Dtype = Field("bfloat16", description="dtype the models run in: bfloat16 or float32")
    batch_tokens: Annotated[int, NOT_FINGERPRINTED] = Field(
        16384, ge=1, description="positions per batch; float32 scores do not depend on it"
    )
