"""One model over whole documents, each by itself, in windows where they are longer than it reads.

A document is its ids and end-of-text; its first token has no target, as in packed rows, so that
figures are of the same kind. Where the tokenizer begins a text with a mark (Llama, Gemma), the
document begins with it, and it has no target either (`scoring.reencoding`).

Windows begin `stride` tokens apart, and of each only the tokens that no window before it held are
counted. Side by side, a token near the beginning of a window has little to go by; with a small
stride every token has nearly a whole window before it, and the text is read length / stride times.

Axes: D documents, W windows.
"""

from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np
import polars as pl
import pyarrow as pa
from numpy.typing import NDArray

from miniplm.data.encoders import TokenizersEncoder
from miniplm.data.records import Document
from miniplm.data.shards import ShardInfo
from miniplm.data.tokenizer import token_table
from miniplm.errors import ConfigError
from miniplm.evaluation.documents import SUMS
from miniplm.model_checks import check_scorer
from miniplm.model_size import size_of
from miniplm.scoring.preparation import prepare_model
from miniplm.scoring.reencoding import text_begins_with, windows
from miniplm.scoring.row_scores import score_rows
from miniplm.scoring.rows import Rows
from miniplm.scoring.scoring_model import ScoringModel
from miniplm.scoring.shard_scorer import whole_rows
from miniplm.scoring.tuning import halving_batches, tune

if TYPE_CHECKING:
    from transformers import PreTrainedTokenizerBase


@dataclass
class TextScorer:
    """A model that reads documents.

    Args:
        scorer: The model, on its device.
        tokenizer: What it reads text by.
        length: Tokens that are predicted in a window.
        stride: Tokens from one window to the next; None: side by side.
        memory_gb: As `ScoringConfig.memory_gb`.

    Raises:
        ConfigError: The stride is longer than a window.
        ModelError: The model's vocabulary or length is smaller, or its logits are not those of its
            output layer.
    """

    scorer: ScoringModel
    tokenizer: "PreTrainedTokenizerBase"
    length: int
    stride: int | None = None
    memory_gb: float | None = None
    flops_per_token: float = field(init=False)

    def __post_init__(self) -> None:
        if self.stride is not None and not 1 <= self.stride <= self.length:
            raise ConfigError(
                "evaluation.window_stride",
                [f"is {self.stride}; expected 1 to {self.length}, the tokens of a window"],
            )
        self._table = token_table(self.tokenizer)
        self._bos_id = text_begins_with(self.tokenizer)
        self._encode = TokenizersEncoder(self.tokenizer)
        model = self.scorer.model
        check_scorer(model, self._table.vocab_size, self.length, self.scorer.name)
        prepare_model(model)
        self.flops_per_token = size_of(model, self.length).forward_flops_per_token
        self._tuning = tune(model, 0.0, self.memory_gb)

    def score(self, documents: Sequence[Document]) -> pl.DataFrame:
        """domain, document, log_prob, num_tokens and num_bytes of each document, in their order.

        And `num_positions`, that the model went through for it.

        Raises:
            ModelError: A score is not finite, or the device has no memory for a window.
        """
        ids = [self._ids(part) for part in self._encode([each.text for each in documents]).split()]
        rows, parents_W = self._windows(ids)
        (scored,), self._tuning = halving_batches(
            lambda tuned: score_rows(
                [self.scorer.model], rows, self._table.num_bytes_V, tuned, lambda _: None
            ),
            rows,
            self._tuning,
        )
        sums = whole_rows(scored, parents_W, np.arange(len(documents), dtype=np.int64))
        positions_D = np.zeros(len(documents), dtype=np.int64)
        np.add.at(positions_D, parents_W, rows.lengths - 1)
        return _lines(documents, sums, positions_D)

    def _ids(self, ids: NDArray[np.int32]) -> NDArray[np.int64]:
        begin = [] if self._bos_id is None else [self._bos_id]
        return np.concatenate([begin, ids, [self._table.eos_id]]).astype(np.int64)

    def _windows(self, ids: Sequence[NDArray[np.int64]]) -> tuple[Rows, NDArray[np.int64]]:
        """All windows, and the document that each is of, `[W]`."""
        cut = [
            (parent, text[begin:end], known)
            for parent, text in enumerate(ids)
            for begin, end, known in windows(len(text), self.length, self.stride or self.length)
        ]
        parts = [part for _, part, _ in cut]
        rows = Rows(
            Path(self.scorer.name),
            ShardInfo("", self._table.vocab_size, self._table.eos_id, self.length),
            np.arange(len(cut), dtype=np.int64),
            np.array([len(part) for part in parts], dtype=np.int32),
            lambda place: parts[place],
            self._bos_id,
            np.array([known for _, _, known in cut], dtype=np.int32),
        )
        return rows, np.array([parent for parent, _, _ in cut], dtype=np.int64)


def _lines(
    documents: Sequence[Document], sums: pa.Table, positions_D: NDArray[np.int64]
) -> pl.DataFrame:
    columns = {name: sums[name].to_numpy() for name in SUMS}
    lines = {
        "domain": [each.domain for each in documents],
        "document": [each.id for each in documents],
        **columns,
        "num_positions": positions_D,
    }
    counts = pl.col("num_tokens", "num_bytes", "num_positions").cast(pl.Int64)
    return pl.DataFrame(lines).with_columns(counts)
