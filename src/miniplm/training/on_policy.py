"""MiniLLM: the student writes, the teacher judges every token of it.

A row's first ids are the prompt; the student goes on from there, anew at every step, and learns
from the prompt's own tokens by cross-entropy and from its continuation by reverse KL.

Axes: B sequences, P prompt tokens, N new tokens, T = P + N - 1 positions, V vocabulary.
"""

import copy
from dataclasses import dataclass
from typing import TYPE_CHECKING

import torch

from miniplm.data.loader import IGNORED
from miniplm.generation.decoding import continue_prompts
from miniplm.generation.sampling import Sampling
from miniplm.model import hidden_states, output_layer
from miniplm.scoring.attention import use_blocked_attention
from miniplm.training.objective import LinearCrossEntropy
from miniplm.training.reverse_kl import LinearReverseKL, OutputLayer
from miniplm.training.student_loss import LossSettings, LossSums, MicroBatch, StudentLoss
from miniplm.training.targets import HardTargets

if TYPE_CHECKING:
    from transformers import PreTrainedModel

    from miniplm.training.teacher import DenseTeacher


class Policy:
    """The student as it writes: a copy of its weights, in the dtype of its matrix products.

    Args:
        model: The student, on whatever device it is later; before it is wrapped or compiled.
        dtype: Of the copy.
        vocab_size: Entries of the tokenizer.
        eos_id: Ends a text.
    """

    def __init__(
        self, model: "PreTrainedModel", dtype: torch.dtype, vocab_size: int, eos_id: int
    ) -> None:
        self._model = copy.deepcopy(model).eval().requires_grad_(requires_grad=False)
        for parameter in self._model.parameters():
            parameter.data = parameter.to(dtype)  # not its buffers: rotary angles need float32
        self._vocab_size, self.eos_id = vocab_size, eos_id

    @torch.no_grad()
    def write(
        self, model: "PreTrainedModel", prompts_BP: torch.Tensor, draws_BN: torch.Tensor
    ) -> tuple[torch.Tensor, torch.Tensor]:
        """Continue prompts as a model with these weights does.

        Args:
            model: The student as it is now.
            prompts_BP: Prompts.
            draws_BN: Uniform numbers, one for each token.

        Returns:
            New ids, `[B, N]`, end-of-text behind the end, and how many there are, `[B]`.

        Raises:
            ModelError: The logits are not finite.
        """
        use_blocked_attention(self._model.to(prompts_BP.device))
        ours, theirs = list(self._model.parameters()), list(model.parameters())
        torch._foreach_copy_(ours, theirs)
        with torch.autocast(prompts_BP.device.type, enabled=False):
            made = continue_prompts(
                self._model, prompts_BP, draws_BN,
                eos_id=self.eos_id, vocab_size=self._vocab_size, sampling=Sampling(),
            )  # fmt: skip
        ids_BN = torch.full(draws_BN.shape, self.eos_id, dtype=torch.int64)
        for row, new in zip(ids_BN, made, strict=True):
            row[: len(new)] = torch.from_numpy(new)
        lengths_B = torch.tensor([len(new) for new in made])
        return ids_BN.to(prompts_BP.device), lengths_B.to(prompts_BP.device)


@dataclass(frozen=True)
class Judged:
    """A text that is half a row and half the student's, with the weight of each prediction.

    Args:
        input_ids_BT: Prompt and continuation, but for the last id.
        prompt_targets: The prompt's ids behind the first, `[B, P - 1]`.
        prompt_weights: Of these.
        ids_BN: The continuation.
        weights_BN: Of these; 0 behind its end.
    """

    input_ids_BT: torch.Tensor
    prompt_targets: torch.Tensor
    prompt_weights: torch.Tensor
    ids_BN: torch.Tensor
    weights_BN: torch.Tensor


class OnPolicyLoss(StudentLoss):
    """(1 - kd_ratio) CE(prompt) + kd_ratio KL(student || teacher) on its own continuation.

    Args:
        model: The student.
        settings: Its `kd_ratio` counts.
        teacher: Runs beside it.
        policy: Writes as the student would.
        prompt_tokens: P.
        long_term: Whether a token answers for those that follow it.
    """

    def __init__(
        self,
        model: "PreTrainedModel",
        settings: LossSettings,
        teacher: "DenseTeacher",
        policy: Policy,
        prompt_tokens: int,
        *,
        long_term: bool,
    ) -> None:
        super().__init__(model, settings)
        self._judge, self._policy = teacher, policy
        self._prompt_tokens, self._long_term = prompt_tokens, long_term

    def forward(self, batch: MicroBatch) -> LossSums:
        """See `StudentLoss.forward`; the mean is over the prompt's and over the new tokens."""
        judged = self._write(batch)
        hidden_BTD = hidden_states(self.model, judged.input_ids_BT)
        weight_VD, bias_V = output_layer(self.model)
        dtype = self._compute_dtype(hidden_BTD.device.type)
        target = self._judge.targets(judged.input_ids_BT)
        teacher_BTE = target.hidden_ND.view(*hidden_BTD.shape[:2], -1)
        split = self._prompt_tokens - 1
        with torch.autocast(hidden_BTD.device.type, enabled=False):
            loss: torch.Tensor = LinearReverseKL.apply(  # type: ignore[no-untyped-call]
                hidden_BTD[:, split:],
                weight_VD,
                bias_V,
                OutputLayer(teacher_BTE[:, split:], target.weight_VD, target.bias_V),
                judged.ids_BN,
                judged.weights_BN,
                dtype,
                self._long_term,
            )
            if split and self.settings.kd_ratio < 1:
                loss = (
                    loss
                    + LinearCrossEntropy.apply(  # type: ignore[no-untyped-call]
                        hidden_BTD[:, :split].flatten(0, 1),
                        weight_VD,
                        bias_V,
                        ((1.0, HardTargets(judged.prompt_targets.flatten())),),
                        judged.prompt_weights.flatten(),
                        dtype,
                    )
                )
        weights_B = batch.weights_B.double()
        return LossSums(loss, weights_B.sum(), weights_B.square().sum())

    @torch.no_grad()
    def _write(self, batch: MicroBatch) -> Judged:
        """Let the student go on from the rows' first ids.

        A row that is shorter than a prompt gives its own tokens only. What comes first behind an
        end of text does not count: no model here is trained on it.
        """
        assert batch.draws_BN is not None
        assert batch.writes_B is not None
        length = self._prompt_tokens
        missing = max(0, length - batch.input_ids_BT.shape[1])
        pad = torch.nn.functional.pad
        eos_id = self._policy.eos_id
        prompts_BP = pad(batch.input_ids_BT, (0, missing), value=eos_id)[:, :length]
        targets = pad(batch.targets_BT, (0, missing), value=IGNORED)[:, : length - 1]
        ids_BN, lengths_B = self._policy.write(self.model, prompts_BP, batch.draws_BN)
        counted = targets != IGNORED
        places_N = torch.arange(ids_BN.shape[1], device=ids_BN.device)
        new_BN = (places_N < lengths_B[:, None]) & batch.writes_B[:, None]
        new_BN[:, 0] &= prompts_BP[:, -1] != eos_id
        ratio = self.settings.kd_ratio
        return Judged(
            input_ids_BT=torch.cat([prompts_BP, ids_BN[:, :-1]], dim=1),
            prompt_targets=targets.clamp(min=0),
            prompt_weights=(1 - ratio) * _spread(batch.weights_B, counted),
            ids_BN=ids_BN,
            weights_BN=ratio * _spread(batch.weights_B, new_BN),
        )


def _spread(weights_B: torch.Tensor, counted_BT: torch.Tensor) -> torch.Tensor:
    """Each sequence's weight, in equal parts on the positions that count, `[B, T]` float32."""
    per_token_B = weights_B / counted_BT.sum(dim=1).clamp(min=1)
    return (per_token_B[:, None] * counted_BT).float()
