"""What precedes every pass of a model over token shards: checks, FLOPs, speed."""

import time
from collections.abc import Callable, Sequence
from dataclasses import replace
from typing import TYPE_CHECKING

import torch

from miniplm.data.shards import Shard
from miniplm.errors import reason_of
from miniplm.model_checks import check_scorer
from miniplm.model_size import size_of
from miniplm.runtime.allocator import keep_memory
from miniplm.runtime.log import logger
from miniplm.scoring.attention import use_blocked_attention
from miniplm.scoring.tuning import Tuning

if TYPE_CHECKING:
    from transformers import PreTrainedModel


def check_and_count(model: "PreTrainedModel", name: str, shards: Sequence[Shard]) -> float:
    """Refuse a model that does not fit the shards; returns its forward FLOPs for a token.

    Raises:
        ModelError: Its vocabulary or length is smaller than that of the shards, or its logits are
            not those of its output layer.
    """
    check_scorer(model, shards[0].info.vocab_size, shards[0].info.max_length, name)
    lengths = [int(shard.lengths.sum()) for shard in shards]
    length = sum(lengths) // max(1, sum(len(shard) for shard in shards))
    return size_of(model, length).forward_flops_per_token


def prepare_model(model: "PreTrainedModel") -> None:
    """Make a model, and on a CPU the allocator, ready to score at full speed."""
    if model.device.type == "cpu":
        keep_memory()
    use_blocked_attention(model)


def compile_models(
    models: Sequence["PreTrainedModel"], tuning: Tuning, first: Callable[[], object]
) -> tuple[Tuning, float]:
    """Compile the layers of models in place; where that fails they go on as they were.

    Args:
        models: On the devices they are to run on.
        tuning: Says that they are to be compiled.
        first: A little of the work, which is what sets the compiler going.

    Returns:
        How they go on, and the seconds it took.
    """
    started = time.monotonic()
    try:
        for model in models:
            compile_layers(model, dynamic=True)
        first()
    except RuntimeError as error:  # of which the compilers' errors are, and running out of memory
        logger.warning("scoring goes on without compiling, which failed: %s", reason_of(error))
        for model in models:
            _undo_compiling(model)
        tuning = replace(tuning, compiled=False)
    return tuning, time.monotonic() - started


def compile_layers(model: torch.nn.Module, *, dynamic: bool | None = None) -> None:
    """Compile the layers of a model in place; layers of one kind are compiled once.

    Args:
        model: Compiles when it is first run.
        dynamic: As in `torch.compile`: whether for all shapes at once.
    """
    for layer in _layers(model):
        layer.compile(dynamic=dynamic)


def _undo_compiling(model: torch.nn.Module) -> None:
    for layer in _layers(model):
        layer._compiled_call_impl = None


def _layers(model: torch.nn.Module) -> list[torch.nn.Module]:
    lists = [module for module in model.modules() if isinstance(module, torch.nn.ModuleList)]
    return [layer for layers in lists for layer in layers]
