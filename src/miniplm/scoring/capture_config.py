"""What is captured of the teacher's distribution."""

from typing import Literal

from pydantic import Field, model_validator

from miniplm.config import Config

CaptureMethod = Literal["sampled", "top_k"]


class CaptureConfig(Config):
    """What is captured of the teacher's distribution, for training with sparse_kd."""

    corpus: str = Field(
        "candidates",
        description="what to capture: candidates, or the name of a selection or generation",
    )
    method: CaptureMethod = Field(
        "sampled", description="sampled: unbiased; top_k: the most likely ids, which is biased"
    )
    entries: int = Field(
        50, ge=1, le=4096, description="draws per token (sampled), or ids kept of it (top_k)"
    )
    # a sharper proposal draws unlikely ids with weights past float16; a flatter one has no use
    temperature: float = Field(
        1.0, ge=0.75, le=4, description="of what is drawn from: p ^ (1 / temperature); sampled only"
    )

    @model_validator(mode="after")
    def _temperature_is_for_sampling(self) -> "CaptureConfig":
        if self.method == "top_k" and self.temperature != 1:
            raise ValueError("temperature is of method sampled only; leave it at 1 with top_k")
        return self

    @property
    def holds_counts(self) -> bool:
        """Whether weights are whole numbers of draws, of `entries` in all."""
        return self.method == "sampled" and self.temperature == 1

    def most_bytes_per_token(self, vocab_size: int) -> int:
        """On disk, where no id is drawn twice: a count, and an id and a weight for each entry.

        Example:
            >>> CaptureConfig(entries=50).most_bytes_per_token(50_257)
            151
            >>> CaptureConfig(entries=50, method="top_k").most_bytes_per_token(151_936)
            301
        """
        count = 1 if self.entries <= 255 else 2
        weight = count if self.holds_counts else 2
        return count + self.entries * ((2 if vocab_size <= 1 << 16 else 4) + weight)
