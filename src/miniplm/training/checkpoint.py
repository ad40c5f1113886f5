"""Checkpoints: whole or absent, without pickles, and resumed exactly.

A checkpoint is a folder `step-00000500` with `model.safetensors`, `optimizer.safetensors` (AdamW
moments by parameter name, random state) and `state.json`. It is written under another name and
renamed when everything is on disk.
"""

import json
import os
import re
import shutil
from dataclasses import asdict, dataclass
from pathlib import Path

import torch
from safetensors import SafetensorError
from safetensors.torch import load_file, save_file

from miniplm.errors import TrainingError
from miniplm.manifest import remove_folder

_NAME = re.compile(r"step-(\d{8})")
_RANDOM_STATE = "random_state"
_KEPT = 2


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


def save_checkpoint(
    folder: Path,
    model: torch.nn.Module,
    optimizer: torch.optim.Optimizer,
    state: TrainingState,
) -> None:
    """Write a checkpoint and remove all but the last two.

    Args:
        folder: Folder that holds the checkpoints.
        model: Its parameters are saved by name; ones shared between layers once.
        optimizer: AdamW over parameters of the model.
        state: Where training stands.
    """
    target = folder / f"step-{state.step:08d}"
    temporary = folder / f".{target.name}.tmp"
    shutil.rmtree(temporary, ignore_errors=True)
    temporary.mkdir(parents=True)
    names: dict[torch.Tensor, str] = {p: name for name, p in model.named_parameters()}
    save_file(_contiguous(dict(model.named_parameters())), temporary / "model.safetensors")
    moments = {
        f"{key}.{names[parameter]}": value
        for parameter, values in optimizer.state.items()
        for key, value in values.items()
    }
    moments[_RANDOM_STATE] = torch.get_rng_state()
    save_file(_contiguous(moments), temporary / "optimizer.safetensors")
    (temporary / "state.json").write_text(json.dumps(asdict(state)), encoding="utf-8")
    for file in temporary.iterdir():
        _sync(file)
    if target.exists():
        remove_folder(target)
    temporary.rename(target)
    for old in checkpoints(folder)[:-_KEPT]:
        remove_folder(old)


def _contiguous(tensors: dict[str, torch.Tensor]) -> dict[str, torch.Tensor]:
    return {name: tensor.detach().cpu().contiguous() for name, tensor in tensors.items()}


def _sync(path: Path) -> None:
    with path.open("rb") as file:
        os.fsync(file.fileno())


def checkpoints(folder: Path) -> list[Path]:
    """The complete checkpoints in a folder, oldest first."""
    if not folder.exists():
        return []
    return sorted(path for path in folder.iterdir() if _NAME.fullmatch(path.name))


def load_checkpoint(
    path: Path, model: torch.nn.Module, optimizer: torch.optim.Optimizer
) -> TrainingState:
    """Put a checkpoint's weights, moments and random state in place.

    Raises:
        TrainingError: It is damaged or belongs to another model.
    """
    try:
        weights = load_file(path / "model.safetensors")
        moments = load_file(path / "optimizer.safetensors")
        state = TrainingState(**json.loads((path / "state.json").read_text(encoding="utf-8")))
    except (OSError, ValueError, TypeError, SafetensorError) as error:
        raise TrainingError(
            f"the checkpoint {path} cannot be read ({error}). Delete it to go on from an earlier "
            "one, or from the start."
        ) from error
    parameters = dict(model.named_parameters())
    if {name: value.shape for name, value in weights.items()} != {
        name: value.shape for name, value in parameters.items()
    }:
        raise TrainingError(
            f"the checkpoint {path} belongs to a model of another shape. Delete the folder "
            f"{path.parent} to train from the start."
        )
    torch.set_rng_state(moments.pop(_RANDOM_STATE))
    with torch.no_grad():
        for name, parameter in parameters.items():
            parameter.copy_(weights[name])
    for full_name, value in moments.items():
        key, _, name = full_name.partition(".")
        parameter = parameters[name]  # the fused AdamW keeps even its step count on the device
        optimizer.state[parameter][key] = value.to(parameter.device)
    return state
