"""Micro-batches: sequences, with whatever a method takes beside them.

Axes: M sequences of the corpus, G sequences of a global batch, B of a micro-batch, T positions, N
tokens that the student draws.
"""

from collections.abc import Iterator
from dataclasses import dataclass, fields, replace
from typing import Protocol

import numpy as np
import torch
from numpy.typing import NDArray

from miniplm.data.chance import seed_of, uniform_by_position
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
class Writing:
    """Rows as prompts that the student continues.

    Args:
        prompt_tokens: Ids of a prompt.
        new_tokens: Most ids of a continuation.
        seed: Of what is drawn.
    """

    prompt_tokens: int
    new_tokens: int
    seed: int

    @property
    def num_positions(self) -> int:
        """Positions that a student is trained on for each row."""
        return self.prompt_tokens + self.new_tokens - 1

    def draws(self, indices: NDArray[np.int64], step: int) -> torch.Tensor:
        """Uniform numbers for the tokens of a step, `[B, N]`: the same on any device."""
        numbers_BN = uniform_by_position(indices, self.new_tokens, seed_of(self.seed, step))
        return torch.from_numpy(numbers_BN)


@dataclass(frozen=True)
class Supplements:
    """What a method takes beside the sequences.

    Args:
        weights_M: Weight of each sequence, of mean one; None for equal ones.
        teacher_losses_M: The teacher's loss of each sequence, nats per unit.
        num_units_M: Units that these are per; None for predicted tokens.
        token_losses: The teacher's loss of each token.
        captured: The teacher's stored distributions.
        writing: How the student continues the rows, where it writes itself.
    """

    weights_M: NDArray[np.float64] | None = None
    teacher_losses_M: NDArray[np.float64] | None = None
    num_units_M: NDArray[np.float64] | None = None
    token_losses: TokenLosses | None = None
    captured: Captured | None = None
    writing: Writing | None = None


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

    def planned(self, num_positions: int) -> "Feed":
        """The same for a training of so many sequences."""
        return replace(self, order=self.order.planned(num_positions))

    @property
    def mean_tokens(self) -> float:
        """Tokens that the student is trained on for each sequence, on average."""
        if self.supplements.writing:
            return float(self.supplements.writing.num_positions)
        return self.order.mean(self.store.lengths - 1)

    def num_tokens(self, indices_G: NDArray[np.int64]) -> int:
        """Tokens that the student is trained on in a global batch.

        What it writes itself is counted as if no text ended early.
        """
        if self.supplements.writing:
            return len(indices_G) * self.supplements.writing.num_positions
        return int((self.store.lengths[indices_G] - 1).sum())

    def micro_batches(
        self,
        step: int,
        indices_G: NDArray[np.int64],
        rank: int,
        world: int,
        size: int,
        length: int | None,
    ) -> Iterator[MicroBatch]:
        """One process's part of a global batch, in pieces.

        A sequence counts for its weight over the size of the global batch: a batch of heavy ones
        counts for more than one of light ones, as in an epoch of all of them.

        Args:
            step: Its number; what the student draws depends on it.
            indices_G: The global batch.
            rank: Which process this is.
            world: Of how many.
            size: Sequences of a micro-batch.
            length: Positions to pad to; None for the longest of the piece.
        """
        weights_M = self.supplements.weights_M
        weights_G = np.ones(len(indices_G)) if weights_M is None else weights_M[indices_G]
        weights_G = weights_G / len(indices_G)
        mine, mine_weights = indices_G[rank::world], weights_G[rank::world]
        for begin in range(0, len(mine), size):
            part = slice(begin, begin + size)
            yield self._micro_batch(step, mine[part], mine_weights[part], length)

    def _micro_batch(
        self,
        step: int,
        indices: NDArray[np.int64],
        weights: NDArray[np.float64],
        length: int | None,
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
        if extra.writing is not None:
            writes = self.store.lengths[indices] > extra.writing.prompt_tokens
            micro = replace(
                micro,
                draws_BN=extra.writing.draws(indices, step),
                writes_B=torch.from_numpy(writes),
            )
        return micro


def on_device(batch: MicroBatch, device: torch.device) -> MicroBatch:
    """The same batch on a device."""
    moved = {
        field.name: value.to(device)
        for field in fields(batch)
        if (value := getattr(batch, field.name)) is not None
    }
    return replace(batch, **moved)
