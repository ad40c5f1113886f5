"""How much to score at once, and whether to compile: derived from device, model and work."""

import shutil
from collections.abc import Callable
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, TypeVar

from miniplm.data.shards import Shard
from miniplm.errors import ModelError
from miniplm.model import output_layer
from miniplm.runtime.devices import matrix_product_rate
from miniplm.runtime.log import logger
from miniplm.scoring.rows import Rows

if TYPE_CHECKING:
    import torch
    from transformers import PreTrainedModel

ResultT = TypeVar("ResultT")

LARGEST_TEMPORARY = 16 << 20
"""Bytes of the largest tensor inside a layer, on a CPU: larger ones leave its cache."""

MOST_POSITIONS = 1 << 16
"""More positions in a batch make no GPU faster."""

_SHARE_OF_FREE_MEMORY = 0.8
_LIVE_TEMPORARIES = 6
"""Widest tensors of a layer that are alive at a time, with room to spare."""

COMPILING_PAYS_FROM = 600.0
"""Seconds of expected work; compiling takes some ten and saves a few per cent of a big model's
time, more of a small one's."""

_EXPECTED_UTILISATION = 0.6


@dataclass(frozen=True)
class Tuning:
    """How a model scores on this machine.

    Args:
        batch_tokens: Positions in a batch.
        compiled: Whether layers and log-sum-exp are compiled.
    """

    batch_tokens: int
    compiled: bool


def tune(model: "PreTrainedModel", flops: float, memory_gb: float | None = None) -> Tuning:
    """Choose for a model, on the device where it is.

    Args:
        model: Ready to score.
        flops: Of all the work ahead.
        memory_gb: Limit for a batch's temporaries; only ever makes batches smaller.
    """
    per_position = bytes_per_position(model)
    positions = _best_positions(model, per_position)
    if memory_gb is not None:
        positions = min(positions, int(memory_gb * 1e9 / per_position))
    seconds = flops / (_EXPECTED_UTILISATION * matrix_product_rate(model.device, 0.2))
    return Tuning(
        batch_tokens=max(1, positions),
        compiled=seconds >= COMPILING_PAYS_FROM and can_compile(model.device),
    )


def bytes_per_position(model: "PreTrainedModel") -> int:
    """Bytes that a position of a batch takes while a model scores, about."""
    itemsize: int = model.dtype.itemsize
    return _LIVE_TEMPORARIES * _widest(model) * itemsize


def _best_positions(model: "PreTrainedModel", per_position: int) -> int:
    """Positions of a batch that a device is best at."""
    import torch

    if model.device.type == "cuda":
        free, _ = torch.cuda.mem_get_info(model.device)
        return min(MOST_POSITIONS, int(free * _SHARE_OF_FREE_MEMORY / per_position))
    return LARGEST_TEMPORARY * _LIVE_TEMPORARIES // per_position


def _widest(model: "PreTrainedModel") -> int:
    """Entries per position of the largest tensor inside the model, logits aside."""
    weight_VD, _ = output_layer(model)
    in_float32 = int(weight_VD.shape[1]) * 4 // model.dtype.itemsize  # as norms work
    inside = [
        max(parameter.shape)
        for parameter in model.parameters()
        if parameter.dim() == 2 and parameter.shape != weight_VD.shape
    ]
    widest: int = max([in_float32, *inside])
    return widest


def can_compile(device: "torch.device") -> bool:
    """Whether it is worth trying `torch.compile`: not on a CPU without a C++ compiler."""
    if device.type != "cpu":
        return True
    return any(shutil.which(name) for name in ("g++", "clang++"))


def halving_batches(
    work: Callable[[Tuning], ResultT], shard: Shard | Rows, tuning: Tuning
) -> tuple[ResultT, Tuning]:
    """Do work on a shard; where a device runs out of memory, again with batches of half the size.

    Longest rows come first, so that this happens at the start of the work or not at all.

    Args:
        work: Goes through all rows of the shard.
        shard: The rows.
        tuning: To begin with.

    Returns:
        What the work gives, and the tuning it took.

    Raises:
        ModelError: The device has no memory for a single row.
    """
    import torch

    while True:
        try:
            return work(tuning), tuning
        except torch.OutOfMemoryError as error:
            longest = int(shard.lengths.max()) - 1
            if tuning.batch_tokens <= longest:
                raise ModelError(
                    f"{shard.prefix}: the device has no memory for a single row of {longest} "
                    "tokens beside the model. Use a larger device, or scoring.placement=spread."
                ) from error
        tuning = replace(tuning, batch_tokens=tuning.batch_tokens // 2)
        logger.warning("out of memory; going on with batches of %d", tuning.batch_tokens)
        torch.cuda.empty_cache()
