"""Checkpoints: whole or absent, without pickles, and resumed exactly.

A checkpoint is a folder `step-00000500` with safetensors files (weights `model.*`, AdamW's moments
`exp_avg.*`, `exp_avg_sq.*` and step counts `step.*` by parameter name, random state) and
`state.json`. It is written under another name and renamed when everything is on disk. Sharded
weights are written by every process its part, through torch.distributed.checkpoint, in the same
format; either kind is read by any number of processes.
"""

import json
import re
import shutil
import warnings
from collections.abc import Mapping
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import torch
from safetensors import SafetensorError
from safetensors.torch import save_file
from torch.distributed.checkpoint.api import CheckpointException
from torch.distributed.checkpoint.hf_storage import (
    HuggingFaceStorageReader,
    HuggingFaceStorageWriter,
)
from torch.distributed.checkpoint.metadata import TensorStorageMetadata
from torch.distributed.checkpoint.state_dict_loader import load as load_distributed
from torch.distributed.checkpoint.state_dict_saver import save as save_distributed

from miniplm.errors import TrainingError
from miniplm.manifest import changed_fields, remove_folder
from miniplm.training.parallel import Parallel
from miniplm.training.student_loss import StudentLoss
from miniplm.training.writing import complete_folder, removed_on_error, writing

_NAME = re.compile(r"step-(\d{8})")
_STATE_NAME = "state.json"
_RANDOM_STATE = "random_state"
_LONGEST_CHANGE = 200
_MOMENTS = ("exp_avg", "exp_avg_sq", "step")


@dataclass(frozen=True)
class TrainingState:
    """Where training stands.

    Args:
        step: Steps done.
        num_tokens: Tokens the model was run on (masked positions included, padding not).
        seconds: Time spent in training, over all runs.
    """

    step: int
    num_tokens: int
    seconds: float


@dataclass(frozen=True)
class Checkpoints:
    """The checkpoints of one training.

    Args:
        folder: Holds them.
        keep_last: How many of the last are kept.
        keep_every: Those of steps that are multiples of this are kept as well.
        identity: What the training follows from, JSON values.
    """

    folder: Path
    keep_last: int = 2
    keep_every: int | None = None
    identity: Mapping[str, Any] | None = None

    def complete(self) -> list[Path]:
        """The complete ones, oldest first."""
        if not self.folder.exists():
            return []
        return sorted(path for path in self.folder.iterdir() if _NAME.fullmatch(path.name))

    def save(
        self,
        student: StudentLoss,
        optimizer: torch.optim.Optimizer,
        state: TrainingState,
        parallel: Parallel,
    ) -> None:
        """Write a checkpoint, all processes together, and remove the ones not to be kept.

        Args:
            student: Its parameters are saved by name; ones shared between layers once.
            optimizer: AdamW over them.
            state: Where training stands.
            parallel: The processes.

        Raises:
            TrainingError: It cannot be written; the checkpoints before it stay.
        """
        target = self.folder / f"step-{state.step:08d}"
        temporary = self.folder / f".{target.name}.tmp"
        with writing("the checkpoint", target), removed_on_error(temporary):
            self._write(temporary, student, optimizer, state, parallel)
            if parallel.is_main:
                complete_folder(temporary, target)
                for old in self._superfluous():
                    remove_folder(old)
        parallel.wait_for_all()

    def _write(
        self,
        folder: Path,
        student: StudentLoss,
        optimizer: torch.optim.Optimizer,
        state: TrainingState,
        parallel: Parallel,
    ) -> None:
        """Every process its part of a checkpoint, into a folder that is made for it."""
        if parallel.is_main:
            shutil.rmtree(folder, ignore_errors=True)
            folder.mkdir(parents=True)
        parallel.wait_for_all()
        tensors = _tensors(student, optimizer)
        if parallel.sharded:
            writer = HuggingFaceStorageWriter(str(folder), save_distributed=True)
            save_distributed(tensors, storage_writer=writer)
        elif parallel.is_main:
            save_file(_contiguous(tensors), folder / "state.safetensors")
        if parallel.is_main:
            content = {**asdict(state), "identity": self.identity}
            (folder / _STATE_NAME).write_text(json.dumps(content), encoding="utf-8")

    def _superfluous(self) -> list[Path]:
        older = self.complete()[: -self.keep_last]
        if self.keep_every is None:
            return older
        return [path for path in older if _step(path) % self.keep_every]

    def load_last(
        self, student: StudentLoss, optimizer: torch.optim.Optimizer, parallel: Parallel
    ) -> TrainingState | None:
        """Put the last checkpoint's weights, moments and random state in place, if there is one.

        Raises:
            TrainingError: It is damaged, or belongs to another model or training.
        """
        found = self.complete()
        if not found:
            return None
        path = found[-1]
        state = self._read_state(path)
        _prepare_moments(optimizer)
        tensors = _tensors(student, optimizer)
        reader = HuggingFaceStorageReader(str(path))
        try:
            _check_shapes(path, tensors, reader)
            with warnings.catch_warnings():
                warnings.filterwarnings("ignore", "torch.distributed is disabled")  # as it may be
                load_distributed(tensors, storage_reader=reader, no_dist=parallel.world == 1)
        except (OSError, ValueError, KeyError, SafetensorError, CheckpointException) as error:
            raise TrainingError(_unreadable(path, error)) from error
        torch.set_rng_state(tensors[_RANDOM_STATE])
        return state

    def _read_state(self, path: Path) -> TrainingState:
        try:
            content = json.loads((path / _STATE_NAME).read_text(encoding="utf-8"))
            identity = content.pop("identity")
            state = TrainingState(**content)
        except (OSError, ValueError, TypeError, KeyError, AttributeError) as error:
            raise TrainingError(_unreadable(path, error)) from error
        if self.identity is not None and identity != self.identity:
            changed = changed_fields(identity or {}, dict(self.identity))[:4]
            changes = "; ".join(_shortened(change) for change in changed)
            raise TrainingError(
                f"the checkpoint {path} belongs to another training: {changes}. Set these back, "
                f"or delete the folder {path.parent} to train from the start."
            )
        return state


def _shortened(change: str) -> str:
    """Without the values where they are long, such as the hashes of a thousand shards."""
    return change if len(change) <= _LONGEST_CHANGE else f"{change.partition(':')[0]} is another"


def _step(path: Path) -> int:
    return int(path.name.removeprefix("step-"))


def _tensors(student: StudentLoss, optimizer: torch.optim.Optimizer) -> dict[str, torch.Tensor]:
    """All that is saved, by name; parameters and moments themselves, not copies.

    Step counts are given a dimension, which the sharded format needs.
    """
    names: dict[torch.Tensor, str] = {p: name for name, p in student.model.named_parameters()}
    tensors = {f"model.{name}": parameter.detach() for parameter, name in names.items()}
    for parameter, name in names.items():
        for moment in _MOMENTS:
            if moment in optimizer.state[parameter]:
                value = optimizer.state[parameter][moment]
                tensors[f"{moment}.{name}"] = value.view(1) if value.dim() == 0 else value
    return {**tensors, _RANDOM_STATE: torch.get_rng_state()}


def _prepare_moments(optimizer: torch.optim.Optimizer) -> None:
    """Moments to read into; the fused AdamW keeps even its step count on the device."""
    for group in optimizer.param_groups:
        for parameter in group["params"]:
            optimizer.state[parameter] = {
                "step": torch.zeros((), dtype=torch.float32, device=parameter.device),
                "exp_avg": torch.zeros_like(parameter),
                "exp_avg_sq": torch.zeros_like(parameter),
            }


def _contiguous(tensors: dict[str, torch.Tensor]) -> dict[str, torch.Tensor]:
    return {name: tensor.detach().cpu().contiguous() for name, tensor in tensors.items()}


def _check_shapes(
    path: Path,
    tensors: Mapping[str, torch.Tensor],
    reader: HuggingFaceStorageReader,
) -> None:
    stored = reader.read_metadata().state_dict_metadata
    found = {
        name: tuple(entry.size)
        for name, entry in stored.items()
        if isinstance(entry, TensorStorageMetadata)
    }
    if {name: tuple(value.shape) for name, value in tensors.items()} != found:
        raise TrainingError(
            f"the checkpoint {path} belongs to a model of another shape. Delete the folder "
            f"{path.parent} to train from the start."
        )


def _unreadable(path: Path, error: BaseException) -> str:
    return (
        f"the checkpoint {path} cannot be read ({error}). Delete it to go on from an earlier "
        "one, or from the start."
    )
