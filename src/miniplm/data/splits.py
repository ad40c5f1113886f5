"""Which split a document belongs to."""

import hashlib
from typing import Literal

from pydantic import Field, model_validator

from miniplm.config import Config

Split = Literal["candidates", "reference", "teacher", "held_out"]
SPLITS: tuple[Split, ...] = ("candidates", "reference", "teacher", "held_out")


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
    digest = hashlib.blake2b(text.encode("utf-8", "replace"), key=str(seed).encode(), digest_size=8)
    return int.from_bytes(digest.digest(), "big") / 2**64


class SplitAssigner:
    """Deals the documents of a corpus, in order, to the splits.

    Chance decides (a hash of source and seed), among the splits that are behind their share of the
    domain's bytes. So each split is a fair sample of every domain, even where a domain has few
    sources of very different sizes: a reference trained on a lopsided split scores lopsidedly.
    The result depends on config, seed and the documents in their order, and on nothing else.
    """

    def __init__(self, config: SplitsConfig, seed: int) -> None:
        taken = {split: float(getattr(config, split)) for split in SPLITS[1:]}
        self._shares: dict[Split, float] = {"candidates": 1.0 - sum(taken.values()), **taken}
        self._seed = seed
        self._bytes: dict[str, dict[Split, int]] = {}
        self._sources: dict[bytes, Split] = {}

    def assign(self, document_id: str, domain: str, num_bytes: int) -> Split:
        """The split of the next document; parts of one source all go where the first went.

        Some hundred bytes are kept for every source.
        """
        held = self._bytes.setdefault(domain, dict.fromkeys(SPLITS, 0))
        source = source_of(document_id)
        key = hashlib.blake2b(source.encode("utf-8", "replace"), digest_size=8).digest()
        split = self._sources.get(key)
        if split is None:
            split = self._draw(source, held, num_bytes)
            self._sources[key] = split
        held[split] += num_bytes
        return split

    def _draw(self, source: str, held: dict[Split, int], num_bytes: int) -> Split:
        total = sum(held.values()) + num_bytes
        lacking = {
            split: max(0.0, share * total - held[split]) for split, share in self._shares.items()
        }
        position = unit_hash(source, self._seed) * sum(lacking.values())
        for split, lack in lacking.items():
            if position < lack:
                return split
            position -= lack
        return "candidates"
