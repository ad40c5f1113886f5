"""Losses on held-out text along the way."""

from dataclasses import dataclass

import numpy as np
import torch

from miniplm.data.loader import SequenceStore
from miniplm.training.parallel import Parallel
from miniplm.training.student_loss import StudentLoss

_POSITIONS = 8192


@dataclass(frozen=True)
class HeldOut:
    """Some sequences of the held-out split, which is shuffled: its first ones are a sample."""

    store: SequenceStore
    num_sequences: int

    @torch.no_grad()
    def loss(self, student: StudentLoss, parallel: Parallel) -> float:
        """Nats per token, a mean over tokens; every process does its part of the sequences."""
        size = max(1, _POSITIONS // self.store.max_length)
        indices = np.arange(min(self.num_sequences, len(self.store)))
        # all processes call the model equally often, since a sharded one is gathered by all
        rounds = -(-len(indices) // (size * parallel.world))
        sums = torch.zeros(2, dtype=torch.float64, device=parallel.device)
        student.eval()
        for begin in range(0, rounds * size, size):
            mine = indices[parallel.rank :: parallel.world][begin : begin + size]
            batch = self.store.batch(mine if len(mine) else indices[:1])
            log_probs_B = student.log_probs(
                batch.input_ids_BT.to(parallel.device), batch.targets_BT.to(parallel.device)
            )
            if len(mine):
                sums[0] -= log_probs_B.sum()
                sums[1] += batch.num_tokens_B.sum()
        student.train()
        total, num_tokens = parallel.sum(sums).tolist()
        return float(total / max(1.0, num_tokens))
