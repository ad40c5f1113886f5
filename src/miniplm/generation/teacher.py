"""The teacher at work: rows of a shard, a batch at a time, in the memory that the device has."""

import time
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray

from miniplm.data.shards import Shard
from miniplm.errors import ModelError
from miniplm.generation.batching import best_batch_size
from miniplm.generation.config import GenerationConfig
from miniplm.generation.decoding import continue_prompts
from miniplm.generation.sampling import Sampling, draws
from miniplm.runtime.log import logger
from miniplm.runtime.progress import Advance
from miniplm.scoring.scoring_model import ScoringModel


class Teacher:
    """Continues rows of shards.

    Args:
        scorer: The model.
        config: Lengths and sampling.
        num_new: Most tokens of a continuation.
        seed: Of the sampling.

    Attributes:
        batch_size: Prompts at a time; halved where the device runs out of memory.
        num_tokens: Made so far, in this process.
        seconds: Spent on them.
    """

    def __init__(
        self, scorer: ScoringModel, config: GenerationConfig, num_new: int, seed: int
    ) -> None:
        self.scorer, self.config, self.num_new, self.seed = scorer, config, num_new, seed
        self.sampling = Sampling(config.temperature, config.top_p)
        length = config.prompt_tokens + num_new
        self.batch_size = config.batch_size or best_batch_size(scorer.model, length)
        self.seconds, self.num_tokens = 0.0, 0

    def origin(self, shard: Shard, left: int | None) -> dict[str, Any]:
        """All that the continuations of a shard's rows depend on."""
        return {
            "shard_hash": shard.info.shard_hash,
            "teacher": self.scorer.fingerprint,
            "dtype": self.scorer.dtype,
            "config": self.config.fingerprinted(),
            "seed": self.seed,
            "tokens_left": left,
        }

    def continuations(
        self, shard: Shard, places: NDArray[np.int64], left: int | None, advance: Advance
    ) -> list[NDArray[np.int64]]:
        """The new ids of the rows at these places, until there are `left` of them.

        A batch is never larger than what is left needs if no text ends early.
        """
        made: list[NDArray[np.int64]] = []
        while len(made) < len(places) and (left is None or left > 0):
            needed = len(places) if left is None else -(-left // self.num_new)
            end = len(made) + min(self.batch_size, needed)
            batch = self._continue(shard, places[len(made) : end])
            num_tokens = sum(len(new) for new in batch)
            left = None if left is None else left - num_tokens
            made += batch
            advance(num_tokens)
        return made

    def _continue(self, shard: Shard, places: NDArray[np.int64]) -> list[NDArray[np.int64]]:
        """One batch, or the first rows of it where the device has no memory for all."""
        started = time.monotonic()
        while True:
            try:
                made = self._try(shard, places)
            except torch.OutOfMemoryError as error:
                places = places[: self._halve(len(places), error)]
                continue
            break
        self.seconds += time.monotonic() - started
        self.num_tokens += sum(len(new) for new in made)
        return made

    def _try(self, shard: Shard, places: NDArray[np.int64]) -> list[NDArray[np.int64]]:
        length = self.config.prompt_tokens
        prompts = np.stack([shard.row(int(place))[:length] for place in places])
        return continue_prompts(
            self.scorer.model,
            torch.from_numpy(prompts),
            draws(shard.sequence_ids[places], self.num_new, self.seed),
            eos_id=shard.info.eos_id,
            vocab_size=shard.info.vocab_size,
            sampling=self.sampling,
        )

    def _halve(self, num_rows: int, error: torch.OutOfMemoryError) -> int:
        """Make batches half of one that was too large; returns their size."""
        if num_rows == 1:
            raise ModelError(
                f"{self.scorer.name}: the device has no memory to continue a single prompt by "
                f"{self.num_new} tokens. Lower generation.new_tokens, or use a larger device."
            ) from error
        self.batch_size = num_rows // 2
        logger.warning("out of memory; going on with %d prompts at a time", self.batch_size)
        torch.cuda.empty_cache()
        return self.batch_size
