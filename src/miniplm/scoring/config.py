"""How models score sequences."""

from typing import Annotated, Any, Literal

from pydantic import Field

from miniplm.config import NOT_FINGERPRINTED, Config
from miniplm.model import Dtype
from miniplm.scoring.proxy_config import ProxyConfig

Placement = Literal["one_device", "spread"]


class ScoringConfig(Config):
    """How models score sequences."""

    dtype: Dtype = Field("bfloat16", description="dtype the models run in: bfloat16 or float32")
    per_token: bool = Field(
        False, description="keep the log-probability of every token, two bytes each"
    )
    memory_gb: Annotated[float | None, NOT_FINGERPRINTED] = Field(
        None,
        gt=0,
        description="GB that a batch may take; null: what suits the device",
    )
    placement: Annotated[Placement, NOT_FINGERPRINTED] = Field(
        "one_device",
        description="one_device, or spread: released models over all GPUs, then memory, then disk",
    )
    proxy: ProxyConfig | None = Field(
        None, description="score a few sequences with the teacher and predict the others"
    )

    def fingerprinted(self) -> dict[str, Any]:
        """What every score depends on; the proxy is a matter of the teacher's alone."""
        fields = super().fingerprinted()
        del fields["proxy"]
        return fields
