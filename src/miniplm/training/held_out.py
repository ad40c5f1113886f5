"""Losses on held-out text along the way: over all of it, and bits per byte of each domain.

Axes: M sequences of the split, S sequences of the sample, B sequences of a batch, T positions,
D domains, V vocabulary.
"""

import math
from dataclasses import dataclass
from functools import cached_property

import numpy as np
import torch
from numpy.typing import NDArray

from miniplm.data.loader import IGNORED, SequenceStore
from miniplm.runtime.log import logger
from miniplm.training.parallel import Parallel
from miniplm.training.student_loss import StudentLoss

_POSITIONS = 8192


@dataclass(frozen=True)
class HeldOutLosses:
    """What was measured.

    Args:
        loss: Nats per token, a mean over the tokens of all sequences of the sample.
        bits_per_byte: Of each domain, the text of its sequences together.
    """

    loss: float
    bits_per_byte: dict[str, float]

    def metrics(self) -> dict[str, object]:
        """As `metrics.jsonl` has them."""
        return {"held_out_loss": self.loss, "held_out": self.bits_per_byte}


def balanced_sample(domains_M: NDArray[np.int64], most: int) -> NDArray[np.int64]:
    """The first sequences of each domain, as many from each where there are that many.

    Domains take turns, in order, until `most` sequences are dealt; a domain without any left is
    passed over. So a larger sample holds the smaller one.

    Args:
        domains_M: Number of each sequence's domain; the split is shuffled, `[M]`.
        most: How many are wanted.

    Returns:
        Places of `min(most, M)` sequences, ascending.

    Example:
        >>> balanced_sample(np.array([1, 1, 1, 0, 1]), 3).tolist()
        [0, 1, 3]
    """
    by_domain = np.argsort(domains_M, kind="stable")
    counts = np.bincount(domains_M)
    turns_M = np.empty(len(domains_M), dtype=np.int64)
    turns_M[by_domain] = np.arange(len(domains_M)) - np.repeat(np.cumsum(counts) - counts, counts)
    return np.sort(np.lexsort((domains_M, turns_M))[:most])


@dataclass(frozen=True)
class _Sample:
    """What is measured.

    Args:
        places_S: In the split.
        domains_S: Number of each sequence's domain.
        names_D: Of the domains.
        num_tokens_D: Targets that count.
        num_bytes_D: Bytes of text that they stand for.
    """

    places_S: NDArray[np.int64]
    domains_S: NDArray[np.int64]
    names_D: list[str]
    num_tokens_D: NDArray[np.int64]
    num_bytes_D: NDArray[np.int64]


@dataclass(frozen=True)
class HeldOut:
    """A sample of the held-out split, balanced over its domains.

    Args:
        store: The split.
        num_sequences: How many of its sequences are measured.
        token_num_bytes_V: Bytes of text that each id stands for, `[V]`.
    """

    store: SequenceStore
    num_sequences: int
    token_num_bytes_V: NDArray[np.int64]

    @cached_property
    def _sample(self) -> _Sample:
        names, domains_M = self.store.domains()
        places = balanced_sample(domains_M, self.num_sequences)
        if unseen := len(names) - len(np.unique(domains_M[places])):
            logger.warning(
                "losses along the way are of %d sequences, and say nothing of %d of %d domains; "
                "evaluation.held_out_sequences_while_training could be %d or more",
                len(places), unseen, len(names), len(names),
            )  # fmt: skip
        num_tokens_D, num_bytes_D = np.zeros((2, len(names)), dtype=np.int64)
        for place, domain in zip(places, domains_M[places], strict=True):
            targets_BT = self.store.batch([place]).targets_BT.numpy()
            counted = targets_BT[targets_BT != IGNORED]
            num_tokens_D[domain] += len(counted)
            num_bytes_D[domain] += self.token_num_bytes_V[counted].sum()
        return _Sample(places, domains_M[places], names, num_tokens_D, num_bytes_D)

    def measure(self, student: StudentLoss, parallel: Parallel) -> HeldOutLosses:
        """Run the model over the sample; every process does its part of the sequences."""
        sample = self._sample
        log_probs_D = torch.zeros(len(sample.names_D), dtype=torch.float64)
        mine = slice(parallel.rank, None, parallel.world)
        log_probs_S = self._log_probs(student, parallel, sample.places_S[mine])
        log_probs_D.index_add_(0, torch.from_numpy(sample.domains_S[mine]), log_probs_S)
        parallel.sum(summed_D := log_probs_D.to(parallel.device))
        return _losses(sample, summed_D.cpu().numpy())

    @torch.no_grad()
    def _log_probs(
        self, student: StudentLoss, parallel: Parallel, places: NDArray[np.int64]
    ) -> torch.Tensor:
        """Of the sequences at these places, which are this process's, float64, nats."""
        size = max(1, _POSITIONS // self.store.max_length)
        # all processes call the model equally often, since a sharded one is gathered by all
        rounds = -(-len(self._sample.places_S) // (size * parallel.world))
        found = [torch.empty(0, dtype=torch.float64, device=parallel.device)]
        student.eval()
        for begin in range(0, rounds * size, size):
            some = places[begin : begin + size]
            batch = self.store.batch(some if len(some) else self._sample.places_S[:1])
            log_probs_B = student.log_probs(
                batch.input_ids_BT.to(parallel.device), batch.targets_BT.to(parallel.device)
            )
            found.append(log_probs_B[: len(some)])
        student.train()
        return torch.cat(found).cpu()


def _losses(sample: _Sample, log_probs_D: NDArray[np.float64]) -> HeldOutLosses:
    nats_D = -log_probs_D
    return HeldOutLosses(
        loss=float(nats_D.sum() / max(1, sample.num_tokens_D.sum())),
        bits_per_byte={
            name: float(nats / (num_bytes * math.log(2)))
            for name, nats, num_bytes in zip(
                sample.names_D, nats_D, sample.num_bytes_D, strict=True
            )
            if num_bytes
        },
    )
