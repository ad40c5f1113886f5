"""Which sequences make the refined corpus."""

from pydantic import Field

from miniplm.config import Config
from miniplm.selection.difference import Normalization
from miniplm.selection.policies import Policy


class SelectionConfig(Config):
    """Which sequences make the refined corpus."""

    policy: Policy = Field(
        "top_ratio",
        description="top_ratio (MiniPLM), or a baseline: random, teacher_only, reference_only",
    )
    ratio: float = Field(
        0.5, gt=0, le=1, description="selection ratio: share of the candidate sequences to keep"
    )
    normalization: Normalization = Field(
        "per_token", description="log-probabilities are compared per_token, per_byte, or as a sum"
    )
