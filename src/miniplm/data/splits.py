"""Which split a document belongs to."""

import hashlib
from typing import Literal

from pydantic import Field, model_validator

from miniplm.config import Config

Split = Literal["candidates", "reference", "teacher", "held_out"]
SPLITS: tuple[Split, ...] = ("candidates", "reference", "teacher", "held_out")
CANDIDATES = "candidates"
"""The split that is scored; what a student trains on when no selection is made."""


class SplitsConfig(Config):
    """Shares of the corpus, by document; what is left are the candidates.

    Changing one deals all documents anew.
    """

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
    return _unit(_digest(text, seed))


def _digest(text: str, seed: int) -> bytes:
    content, key = text.encode("utf-8", "replace"), str(seed).encode()
    return hashlib.blake2b(content, key=key, digest_size=8).digest()


def _unit(digest: bytes) -> float:
    return int.from_bytes(digest, "big") / 2**64


class SplitAssigner:
    """Deals the documents of a corpus, in order, to the splits.

    Chance decides (a hash of source and seed), among the splits that are behind their share of the
    domain's bytes. So each split is a fair sample of every domain, even where a domain has few
    sources of very different sizes: a reference trained on a lopsided split scores lopsidedly.
    The result depends on config, seed and the documents in their order, and on nothing else.
    """

    def __init__(self, config: SplitsConfig, seed: int) -> None:
        taken = [float(getattr(config, split)) for split in SPLITS[1:]]
        self._shares = [1.0 - sum(taken), *taken]
        self._seed = seed
        self._bytes: dict[str, list[int]] = {}
        self._sources: dict[bytes, int] = {}

    def assign(self, document_id: str, domain: str, num_bytes: int) -> Split:
        """The split of the next document; parts of one source all go where the first went.

        Some hundred bytes are kept for every source.
        """
        if self._shares[0] == 1:
            return "candidates"
        held = self._bytes.get(domain)
        if held is None:
            held = self._bytes[domain] = [0] * len(SPLITS)
        digest = _digest(source_of(document_id), self._seed)
        index = self._sources.get(digest)
        if index is None:
            index = self._sources[digest] = self._draw(_unit(digest), held, num_bytes)
        held[index] += num_bytes
        return SPLITS[index]

    def _draw(self, chance: float, held: list[int], num_bytes: int) -> int:
        total = sum(held) + num_bytes
        lacking = [
            max(0.0, share * total - have) for share, have in zip(self._shares, held, strict=True)
        ]
        position = chance * sum(lacking)
        for index, lack in enumerate(lacking):
            if position < lack:
                return index
            position -= lack
        return 0
