"""A model that scores, with what its tables say of it."""

from dataclasses import dataclass
from typing import TYPE_CHECKING

from miniplm.model import Dtype

if TYPE_CHECKING:
    from transformers import PreTrainedModel

    from miniplm.scoring.reencoding import OwnTokens


@dataclass(frozen=True)
class ScoringModel:
    """A model with what goes into the tables it makes.

    Args:
        model: On the device it is to run on.
        name: Hub name, folder or stage that gave it.
        fingerprint: Of its weights' origin.
        dtype: It runs in.
        own: Its own tokenizer, where it reads text in tokens of its own and not the shards' ids.
    """

    model: "PreTrainedModel"
    name: str
    fingerprint: str
    dtype: Dtype
    own: "OwnTokens | None" = None
