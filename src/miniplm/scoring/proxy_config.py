"""How the teacher's scores are predicted from a few of them."""

from typing import Annotated, Literal

from pydantic import Field

from miniplm.config import NOT_FINGERPRINTED, Config

Features = Literal["hidden", "ngrams"]


class ProxyConfig(Config):
    """The teacher scores a share of the sequences; the scores of the others are predicted."""

    share: float = Field(
        0.05, gt=0, lt=1, description="share of the sequences that the teacher scores"
    )
    features: Features = Field(
        "ngrams",
        description="what the difference score is predicted from: ngrams (of ids, hashed), or "
        "hidden (the reference's hidden states, of the pass that scores)",
    )
    min_kappa: Annotated[float, NOT_FINGERPRINTED] = Field(
        0.7,
        ge=0,
        le=1,
        description="selecting is refused where Cohen's kappa of the predicted and the true "
        "selection is lower on held-out sequences: 0 is chance, 1 the same sequences",
    )
    min_kappa_within_domains: Annotated[float, NOT_FINGERPRINTED] = Field(
        0.5,
        ge=0,
        le=1,
        description="the same for selections that rank within domains or groups, where telling "
        "these apart is no help",
    )
    allow_low_agreement: Annotated[bool, NOT_FINGERPRINTED] = Field(
        False, description="select all the same"
    )
