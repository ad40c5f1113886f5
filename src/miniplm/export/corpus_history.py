"""How a refined corpus came about: what its dataset card is written from."""

from collections.abc import Mapping
from dataclasses import dataclass

from miniplm.data.shards import ShardInfo
from miniplm.manifest import Manifest


@dataclass(frozen=True)
class OtherTokens:
    """The tokens of a refined corpus that was retokenised.

    Args:
        tokenizer: Its name; None for one that was trained on the corpus.
        info: Of the token shards.
        manifest: Of the retokenization.
    """

    tokenizer: str | None
    info: ShardInfo
    manifest: Manifest


@dataclass(frozen=True)
class CorpusHistory:
    """The manifests of the stages behind a refined corpus.

    Args:
        tokenize: Of the tokenised corpus.
        select: Of the selection.
        export: Of the refined corpus's token shards.
        scores: Of the score tables, by role (teacher, reference).
        trainings: Of the models that were trained from scratch, by role.
        retokenized: What its tokens became; None for those it was selected in.
    """

    tokenize: Manifest
    select: Manifest
    export: Manifest
    scores: Mapping[str, Manifest]
    trainings: Mapping[str, Manifest]
    retokenized: OtherTokens | None = None
