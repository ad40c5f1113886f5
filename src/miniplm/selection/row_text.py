"""The text of a row."""

from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

if TYPE_CHECKING:
    from transformers import PreTrainedTokenizerBase

NEXT_DOCUMENT = "\n\n[next document]\n\n"


def row_text(ids: NDArray[Any], eos_id: int, tokenizer: "PreTrainedTokenizerBase") -> str:
    """A row decoded; where one document ends and the next begins is said in words."""
    pieces = np.split(ids, np.flatnonzero(ids == eos_id))
    documents = [piece[piece != eos_id].tolist() for piece in pieces]
    decode = tokenizer.backend_tokenizer.decode
    return NEXT_DOCUMENT.join(decode(ids, skip_special_tokens=False) for ids in documents if ids)
