"""The evaluate stage: a model over the held-out text, document by document and in a table."""

from collections.abc import Sequence
from dataclasses import asdict
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from miniplm.data.loader import SequenceStore
from miniplm.data.shards import open_shards
from miniplm.evaluation.averages import domains_apart
from miniplm.evaluation.bootstrap import NUM_RESAMPLES
from miniplm.evaluation.documents import DOCUMENTS_NAME, held_out_documents
from miniplm.evaluation.summary import summarise
from miniplm.manifest import Outcome
from miniplm.scoring.config import ScoringConfig
from miniplm.scoring.scorer import score_shards
from miniplm.scoring.scoring_model import ScoringModel

SCORES_FOLDER = "scores"


def evaluate_model(
    scorer: ScoringModel,
    held_out_folder: Path,
    token_num_bytes_V: NDArray[np.int64],
    folder: Path,
    memory_gb: float | None = None,
    set_apart: Sequence[str] = (),
) -> Outcome:
    """Score the held-out shards and summarise them.

    In `folder` come `scores/` and `documents.parquet`, and the table in the manifest.

    Args:
        scorer: The model, on the device it is to run on.
        held_out_folder: The held-out token shards.
        token_num_bytes_V: Bytes of text that each id stands for, `[V]`.
        folder: Where the scores go.
        memory_gb: As `ScoringConfig.memory_gb`.
        set_apart: As `EvaluationConfig.set_apart`.

    Raises:
        ArtefactError: There is no held-out text, it is damaged, or all of it is set apart.
        ModelError: The model does not fit it.
    """
    domains_apart(SequenceStore(open_shards(held_out_folder)).domains()[0], set_apart)
    outcome = score_shards(
        scorer,
        held_out_folder,
        token_num_bytes_V,
        ScoringConfig(dtype=scorer.dtype, memory_gb=memory_gb),
        folder / SCORES_FOLDER,
        segments=True,
    )
    documents = held_out_documents(held_out_folder, folder / SCORES_FOLDER)
    documents.write(folder / DOCUMENTS_NAME)
    table = summarise(documents.table, set_apart)
    return Outcome(
        counts=outcome.counts,
        num_tokens=outcome.num_tokens,
        flops=outcome.flops,
        facts={
            "held_out": [asdict(line) for line in table],
            "unit": documents.unit,
            "num_resamples": NUM_RESAMPLES,
        },
    )
