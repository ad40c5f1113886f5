"""The splits of a corpus that is tokenised already: its rows are dealt to them by chance.

Which documents the rows come from is not known, so the row is the unit: two rows of one document
may go to different splits, which texts never do.
"""

from collections.abc import Sequence
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from miniplm.data.chance import seed_of, uniform_by_id
from miniplm.data.documents import CorpusConfig, token_sources
from miniplm.data.splits import SPLITS, Split, SplitsConfig
from miniplm.data.token_corpus import Deal, ViewCounts, Views, write_views
from miniplm.data.tokenizer import TokenTable

DEALING_FORMAT = 2
"""Raised when the same rows, shares and seed would from now on give other splits."""
_DEALING = 0xDEA1
"""Keeps the deal apart from all else that draws by id with the run's seed: candidates must not be
the rows of low numbers."""
_SHARE_SEED = 2**63
"""No run has this seed: what `corpus.share` takes says nothing about the splits."""


def deal_by_share(shares: Sequence[float], taken: float, seed: int) -> Deal:
    """Deals rows by a hash of their place and the seed.

    Args:
        shares: Of the rows, for each view; they add up to 1.
        taken: Share of all rows to deal out; smaller shares lie in larger ones.
        seed: Of the chance.

    Example:
        >>> deal = deal_by_share([0.5, 0.25, 0.25], taken=1.0, seed=1)
        >>> (np.bincount(deal(np.arange(100_000))) / 100_000).round(2).tolist()
        [0.5, 0.25, 0.25]
    """
    bounds, stream = np.cumsum(shares)[:-1], seed_of(seed, _DEALING)

    def deal(rows: NDArray[np.int64]) -> NDArray[np.int64]:
        views = np.searchsorted(bounds, uniform_by_id(rows, stream), side="right")
        return np.where(uniform_by_id(rows, _SHARE_SEED) < taken, views, -1)

    return deal


def split_token_corpus(
    corpus: CorpusConfig,
    splits: SplitsConfig,
    seed: int,
    folder: Path,
    table: TokenTable,
    max_length: int,
) -> dict[Split, ViewCounts]:
    """Write views of a corpus's rows into `folder/<split>`.

    Returns:
        What each split holds that has a share.

    Raises:
        DocumentError: A path leads to no token shards.
        ArtefactError: A shard is damaged, or not of this tokenizer and length.
    """
    shares: dict[Split, float] = {split: getattr(splits, split) for split in SPLITS[1:]}
    shares = {"candidates": 1 - sum(shares.values()), **shares}
    shares = {split: share for split, share in shares.items() if share > 0}
    views = Views(
        [folder / split for split in shares],
        deal_by_share(list(shares.values()), corpus.share, seed),
        [DEALING_FORMAT, shares, corpus.share, seed],
        table,
        max_length,
    )
    return dict(zip(shares, write_views(token_sources(corpus), views), strict=True))


def take_held_out(
    corpus: CorpusConfig, folder: Path, table: TokenTable, max_length: int
) -> ViewCounts:
    """Write views of a corpus's rows into `folder`. Raises what `split_token_corpus` raises."""
    deal = deal_by_share([1.0], corpus.share, seed=0)
    views = Views([folder], deal, ["held out", corpus.share], table, max_length)
    return write_views(token_sources(corpus), views)[0]
