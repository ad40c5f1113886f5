"""How rows are grouped."""

from pydantic import Field

from miniplm.config import Config


class GroupingConfig(Config):
    """How rows are grouped."""

    num_groups: int = Field(32, ge=2, description="groups; more are purer, fewer easier to name")
    longest_ngram: int = Field(2, ge=1, le=5, description="token ids in the longest n-grams")
    num_components: int = Field(64, ge=2, description="dimensions that rows are compared in")
    sample_rows: int = Field(32_768, ge=100, description="rows that the groups are found on")
