"""Which split a document belongs to: a pure function of its source and the seed."""

import hashlib
from typing import Literal

from pydantic import Field, model_validator

from miniplm.config import Config

Split = Literal["candidates", "reference", "teacher", "held_out"]
SPLITS: tuple[Split, ...] = ("candidates", "reference", "teacher", "held_out")


class SplitsConfig(Config):
    """Shares of the corpus, by document; what is left are the candidates."""

    reference: float = Field(
        0.05, ge=0, lt=1, description="share for training the reference (D_ref of the paper)"
    )
    teacher: float = Field(
        0.0,
        ge=0,
        lt=1,
        description="share for training a teacher from scratch; 0 for a released one",
    )
    held_out: float = Field(
        0.01, ge=0, lt=1, description="share kept for evaluation; 0 when held_out_corpus is given"
    )

    @model_validator(mode="after")
    def _leaves_candidates(self) -> "SplitsConfig":
        total = self.reference + self.teacher + self.held_out
        if total >= 1:
            raise ValueError(f"the shares add up to {total:g}; nothing is left for the candidates")
        return self


def source_of(document_id: str) -> str:
    """What stands before the first `#`: parts of one source never go to different splits."""
    return document_id.partition("#")[0]


def unit_hash(text: str, seed: int) -> float:
    """A number in [0, 1) that depends on text and seed only, spread evenly over texts."""
    digest = hashlib.blake2b(text.encode("utf-8", "replace"), key=str(seed).encode(), digest_size=8)
    return int.from_bytes(digest.digest(), "big") / 2**64


def split_of(document_id: str, seed: int, config: SplitsConfig) -> Split:
    """The split of a document.

    Held-out documents are cut off first, so that changing another share never moves a document
    into or out of the held-out split.
    """
    position = unit_hash(source_of(document_id), seed)
    if position < config.held_out:
        return "held_out"
    if position < config.held_out + config.reference:
        return "reference"
    if position < config.held_out + config.reference + config.teacher:
        return "teacher"
    return "candidates"
