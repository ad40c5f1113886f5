"""Losses of a run's student on a sample of the candidates, at its end or at an early checkpoint.

Axes: R rows.
"""

from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np
import torch
from numpy.typing import NDArray
from safetensors.torch import load_file

from miniplm.data.chance import uniform_by_id
from miniplm.data.parquet import ColumnFile, places_of
from miniplm.data.shards import open_shards
from miniplm.data.tokenizer import load_tokenizer, token_table
from miniplm.errors import ArtefactError
from miniplm.manifest import read_manifest
from miniplm.model import load_model
from miniplm.runtime.devices import place
from miniplm.scoring.config import ScoringConfig
from miniplm.scoring.scoring_model import ScoringModel
from miniplm.scoring.shard_scorer import ShardScorer
from miniplm.scoring.tables import score_info
from miniplm.training.checkpoint import Checkpoints

if TYPE_CHECKING:
    from transformers import PreTrainedModel

_SEED = 1234


def first_checkpoint(run_dir: Path, student: str) -> Path | None:
    """The earliest checkpoint that is kept of a student, if there is any."""
    found = Checkpoints(run_dir / "train" / student / "checkpoints").complete()
    return found[0] if found else None


def student_losses(
    run_dir: Path,
    student: str,
    sequence_ids_R: NDArray[np.int64],
    num_rows: int,
    checkpoint: Path | None = None,
) -> NDArray[np.float64]:
    """Nats per token of the sampled rows, NaN of all others, `[R]`.

    Args:
        run_dir: Of the run.
        student: Its name in the run.
        sequence_ids_R: Of the rows, ascending; all have a target.
        num_rows: Size of the sample, which is drawn by hash of the ids.
        checkpoint: Whose weights to take; None takes the finished student's.

    Raises:
        ArtefactError: The student is not trained, or the checkpoint holds other weights.
    """
    shards = open_shards(run_dir / "tokenize/candidates")
    scorer = _scorer(run_dir, student, checkpoint)
    num_bytes_V = token_table(load_tokenizer(run_dir / "tokenize/tokenizer")).num_bytes_V
    share = min(1.0, num_rows / len(sequence_ids_R))
    config = ScoringConfig(dtype=scorer.dtype)
    shard_scorer = ShardScorer(scorer, shards, num_bytes_V, config, share)
    sampled = _sampled(sequence_ids_R, num_rows)
    losses_R = np.full(len(sequence_ids_R), np.nan)
    for shard in shards:
        table, _ = shard_scorer.score(shard, np.flatnonzero(np.isin(shard.sequence_ids, sampled)))
        places = places_of(table["sequence_id"].to_numpy(), sequence_ids_R)
        assert places is not None  # they were chosen among these
        losses_R[places] = -table["log_prob"].to_numpy() / table["num_tokens"].to_numpy()
    return losses_R


def _sampled(sequence_ids_R: NDArray[np.int64], num_rows: int) -> NDArray[np.int64]:
    order = np.argsort(uniform_by_id(sequence_ids_R, _SEED), kind="stable")
    return sequence_ids_R[order[:num_rows]]


def _scorer(run_dir: Path, student: str, checkpoint: Path | None) -> ScoringModel:
    """The student in the dtype that the teacher's scores were made in."""
    folder = run_dir / "train" / student
    manifest = read_manifest(folder)
    if manifest is None:
        raise ArtefactError(
            f"{folder}: holds no finished student; name another with --student, or train it first"
        )
    dtype = score_info(ColumnFile(run_dir / "score/teacher/data_0.parquet")).dtype
    model = load_model(folder / "model", dtype=dtype)
    if checkpoint is not None:
        put_weights(model, checkpoint)
    return ScoringModel(place(model), student, manifest.fingerprint, dtype)


def put_weights(model: "PreTrainedModel", checkpoint: Path) -> None:
    """Give a model the weights of a checkpoint that one process wrote.

    Raises:
        ArtefactError: It lacks some of them.
    """
    path = checkpoint / "state.safetensors"
    stored = load_file(path) if path.exists() else {}
    named = {f"model.{name}": parameter for name, parameter in model.named_parameters()}
    if missing := sorted(set(named) - set(stored)):
        raise ArtefactError(
            f"{path}: lacks {len(missing)} of {len(named)} weights, such as {missing[0]}; only "
            "checkpoints of unsharded training can be read here"
        )
    with torch.no_grad():
        for name, parameter in named.items():
            parameter.copy_(stored[name])
