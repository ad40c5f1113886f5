"""When rows are near-duplicates, and what becomes of them."""

from typing import Any, Literal

from pydantic import Field

from miniplm.config import Config
from miniplm.selection.minhash import Bands


class NearDuplicatesConfig(Config):
    """When two rows count as near-duplicates, and what becomes of them."""

    similarity: float = Field(
        0.8, gt=0, le=1, description="Jaccard similarity of their n-grams from which on they do"
    )
    ngram: int = Field(5, ge=1, description="token ids in an n-gram")
    num_hashes: int = Field(
        128, ge=8, le=1024, description="length of a row's MinHash signature; more miss fewer"
    )
    keep: Literal["all", "first"] = Field(
        "all",
        description="all: they are reported, and a selection can keep the best of each cluster "
        "(one_per_cluster); first: only the one with the smallest id, before anything is scored",
    )

    @property
    def bands(self) -> Bands:
        """How signatures are cut."""
        return Bands.for_similarity(self.similarity, self.num_hashes)

    def clustered_by(self) -> dict[str, Any]:
        """The fields that clusters follow from."""
        return self.model_dump(mode="json", exclude={"keep"})
