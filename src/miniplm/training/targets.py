"""What a student is to predict: a distribution over the vocabulary at every position.

`training.objective.LinearCrossEntropy` works chunk by chunk on logits that exist only then, and
asks targets for their share of a chunk at a time.

Axes: N positions of a batch, C positions of a chunk, V vocabulary, M entries of all positions.
"""

from dataclasses import dataclass
from typing import Protocol, Self

import torch


class ChunkTargets(Protocol):
    """Targets w of a chunk's positions."""

    def mass(self) -> torch.Tensor | float:
        """sum_i w_i of each position, `[C, 1]`, or the one number that it is at all of them."""

    def expected(self, values_CV: torch.Tensor) -> torch.Tensor:
        """sum_i w_i * values_i of each position, `[C, 1]`."""

    def subtract(self, grad_CV: torch.Tensor, scale_C1: torch.Tensor) -> None:
        """Grad -= scale * w, in place."""


class Targets(Protocol):
    """Targets of a batch's positions."""

    def chunk(self, begin: int, end: int) -> ChunkTargets:
        """Those of the positions from `begin` up to `end`."""


Mixture = tuple[tuple[float, Targets], ...]
"""Targets with their shares in the loss."""


@dataclass(frozen=True)
class HardTargets:
    """One id at each position: the next token.

    Args:
        ids_N: int64; any id where the position's weight in the loss is 0.
    """

    ids_N: torch.Tensor

    def chunk(self, begin: int, end: int) -> "_HardChunk":
        """As `Targets.chunk`."""
        return _HardChunk(self.ids_N[begin:end, None])


@dataclass(frozen=True)
class _HardChunk:
    ids_C1: torch.Tensor

    def mass(self) -> float:
        return 1.0

    def expected(self, values_CV: torch.Tensor) -> torch.Tensor:
        return values_CV.gather(1, self.ids_C1)

    def subtract(self, grad_CV: torch.Tensor, scale_C1: torch.Tensor) -> None:
        grad_CV.scatter_add_(1, self.ids_C1, -scale_C1)


@dataclass(frozen=True)
class SparseTargets:
    """A few entries at each position, as `training.captured.Captured` reads them.

    Args:
        positions_M: Position of each entry, int64, ascending.
        ids_M: int64, each at most once a position.
        weights_M: float32; those of a position need not add up to 1.
        starts_N1: Entries before each position, and in all, `[N + 1]` int64, on the CPU.
    """

    positions_M: torch.Tensor
    ids_M: torch.Tensor
    weights_M: torch.Tensor
    starts_N1: torch.Tensor

    def to(self, device: torch.device) -> Self:
        """The same with entries on a device."""
        return type(self)(
            self.positions_M.to(device, non_blocking=True),
            self.ids_M.to(device, non_blocking=True),
            self.weights_M.to(device, non_blocking=True),
            self.starts_N1,
        )

    def chunk(self, begin: int, end: int) -> "_SparseChunk":
        """As `Targets.chunk`."""
        entries = slice(int(self.starts_N1[begin]), int(self.starts_N1[end]))
        return _SparseChunk(
            self.positions_M[entries] - begin,
            self.ids_M[entries],
            self.weights_M[entries],
            end - begin,
        )


@dataclass(frozen=True)
class _SparseChunk:
    positions_M: torch.Tensor
    ids_M: torch.Tensor
    weights_M: torch.Tensor
    num_positions: int

    def mass(self) -> torch.Tensor:
        return self._sums(self.weights_M)

    def expected(self, values_CV: torch.Tensor) -> torch.Tensor:
        return self._sums(self.weights_M * values_CV[self.positions_M, self.ids_M])

    def subtract(self, grad_CV: torch.Tensor, scale_C1: torch.Tensor) -> None:
        changes_M = scale_C1[self.positions_M, 0] * self.weights_M
        grad_CV[self.positions_M, self.ids_M] -= changes_M

    def _sums(self, values_M: torch.Tensor) -> torch.Tensor:
        """Of each position, `[C, 1]`."""
        sums_C = values_M.new_zeros(self.num_positions)
        return sums_C.index_add_(0, self.positions_M, values_M)[:, None]
