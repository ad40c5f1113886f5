"""Micro-batches: sequences, with whatever a method takes beside them.

Axes: M sequences of the corpus, G sequences of a global batch, B of a micro-batch, T positions.
"""

from collections.abc import Iterator
from dataclasses import dataclass, fields, replace
from typing import Protocol

import numpy as np
import torch
from numpy.typing import NDArray

from miniplm.data.loader import SequenceStore
from miniplm.data.order import Order
from miniplm.training.captured import Captured
from miniplm.training.student_loss import MicroBatch


class TokenLosses(Protocol):
    """A teacher's stored losses of tokens."""

    def batch(self, indices: NDArray[np.int64], width: int) -> torch.Tensor:
        """Those of some sequences, `[B, width]`, nats."""
        ...


@dataclass(frozen=True)
class Supplements:
    """What a method takes beside the sequences.

    Args:
        weights_M: Weight of each sequence, of any scale; None for equal ones.
        teacher_losses_M: The teacher's loss of each sequence, nats per unit.
        num_units_M: Units that these are per; None for predicted tokens.
        token_losses: The teacher's loss of each token.
        captured: The teacher's stored distributions.
    """

    weights_M: NDArray[np.float64] | None = None
    teacher_losses_M: NDArray[np.float64] | None = None
    num_units_M: NDArray[np.float64] | None = None
    token_losses: TokenLosses | None = None
    captured: Captured | None = None


@dataclass(frozen=True)
class Feed:
    """What a student is trained on, step by step.

    Args:
        store: The sequences.
        order: Which of them each step takes.
        supplements: What goes with them.
    """

    store: SequenceStore
    order: Order
    supplements: Supplements = Supplements()

    def micro_batches(
        self, indices_G: NDArray[np.int64], rank: int, world: int, size: int, length: int | None
    ) -> Iterator[MicroBatch]:
        """One process's part of a global batch, in pieces.

        Weights add up to one over the global batch, dynamic ones aside.

        Args:
            indices_G: The global batch.
            rank: Which process this is.
            world: Of how many.
            size: Sequences of a micro-batch.
            length: Positions to pad to; None for the longest of the piece.
        """
        weights_M = self.supplements.weights_M
        weights_G = np.ones(len(indices_G)) if weights_M is None else weights_M[indices_G]
        weights_G = weights_G / weights_G.sum()
        mine, mine_weights = indices_G[rank::world], weights_G[rank::world]
        for begin in range(0, len(mine), size):
            part = slice(begin, begin + size)
            yield self._micro_batch(mine[part], mine_weights[part], length)

    def _micro_batch(
        self, indices: NDArray[np.int64], weights: NDArray[np.float64], length: int | None
    ) -> MicroBatch:
        extra = self.supplements
        batch = self.store.batch(indices, length)
        width = batch.input_ids_BT.shape[1]
        micro = MicroBatch(
            batch.input_ids_BT, batch.targets_BT, torch.from_numpy(weights.astype(np.float32))
        )
        if extra.teacher_losses_M is not None:
            units = batch.num_tokens_B
            if extra.num_units_M is not None:
                units = torch.from_numpy(extra.num_units_M[indices])
            losses = torch.from_numpy(extra.teacher_losses_M[indices])
            micro = replace(micro, teacher_losses_B=losses, units_B=units.clamp(min=1))
        if extra.token_losses is not None:
            micro = replace(micro, teacher_losses_BT=extra.token_losses.batch(indices, width))
        if extra.captured is not None:
            micro = replace(micro, soft=extra.captured.batch(indices, width))
        return micro


def on_device(batch: MicroBatch, device: torch.device) -> MicroBatch:
    """The same batch on a device."""
    moved = {
        field.name: value.to(device)
        for field in fields(batch)
        if (value := getattr(batch, field.name)) is not None
    }
    return replace(batch, **moved)
