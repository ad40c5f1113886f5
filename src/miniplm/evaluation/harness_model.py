"""A model as lm-evaluation-harness asks it: its tokenisation, our forward pass.

This module imports the harness; import it only where tasks are asked for.
"""

from collections.abc import Sequence
from typing import TYPE_CHECKING

from lm_eval.api.instance import Instance
from lm_eval.models.huggingface import HFLM

from miniplm.errors import DocumentError
from miniplm.evaluation.continuations import Answer, Limits, answers
from miniplm.runtime.progress import progress
from miniplm.scoring.tuning import tune

if TYPE_CHECKING:
    from transformers import PreTrainedModel, PreTrainedTokenizerBase


class HarnessModel(HFLM):  # type: ignore[misc]
    """The harness's `HFLM` but for its forward pass, which makes logits of every position.

    So text becomes ids as in the harness: a context and a continuation are encoded together, as the
    tokenizer does by default (with a mark in front, if it puts one), and cut apart.

    Args:
        model: On its device, ready to score.
        tokenizer: The model's own.
        memory_gb: As `ScoringConfig.memory_gb`.
    """

    def __init__(
        self,
        model: "PreTrainedModel",
        tokenizer: "PreTrainedTokenizerBase",
        memory_gb: float | None = None,
    ) -> None:
        super().__init__(pretrained=model, tokenizer=tokenizer, backend="causal")
        self.limits = Limits(self.max_length, tune(model, 0.0, memory_gb).batch_tokens)

    def _loglikelihood_tokens(
        self,
        requests: Sequence[tuple[tuple[str, str], list[int], list[int]]],
        disable_tqdm: bool = False,  # noqa: ARG002
        override_bs: int | None = None,  # noqa: ARG002
    ) -> list[Answer]:
        """An answer for each request, in order.

        Args:
            requests: Texts, then ids, of a context and of its continuation.
            disable_tqdm: Not used.
            override_bs: Not used.

        Raises:
            DocumentError: A continuation is empty.
            ModelError: As of `answers`.
        """
        for texts, _, continuation in requests:
            if not continuation:
                raise DocumentError(
                    f"the choice {texts[1]!r} adds no token to {texts[0][-60:]!r}; leave the item, "
                    "or the task, out"
                )
        pairs = [(context, continuation) for _, context, continuation in requests]
        with progress("asking the model", len(pairs), "choices") as advance:
            return answers(self.model, pairs, self.limits, advance)

    def ask(self, instances: Sequence[Instance]) -> list[Answer]:
        """Answers to instances of a task's requests, in order."""
        found: list[Answer] = self.loglikelihood(list(instances), disable_tqdm=True)
        return found
