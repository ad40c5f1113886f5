"""Log-probabilities of texts behind others, in ids; the output layer sees nothing but the targets.

Axes: W windows of a batch, T positions, N targets of a batch, C targets of a chunk, D hidden
width, V rows of the output layer.
"""

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, NamedTuple

import torch

from miniplm.errors import ModelError
from miniplm.evaluation.continuation_windows import Window, batches, windows_of
from miniplm.model import hidden_states, output_layer
from miniplm.runtime.log import logger
from miniplm.scoring.log_probs import chunk_length

if TYPE_CHECKING:
    from transformers import PreTrainedModel


class Answer(NamedTuple):
    """What a model says of a continuation.

    `log_prob`: nats, a sum. `is_greedy`: whether each id is the likeliest. `num_positions`: that
    the model went through. `num_targets`: ids of the continuation. `is_cut`: whether the ids before
    it did not all fit.
    """

    log_prob: float
    is_greedy: bool
    num_positions: int
    num_targets: int
    is_cut: bool


@dataclass(frozen=True)
class Limits:
    """Positions that a model serves, and that go into a batch."""

    max_length: int
    batch_tokens: int


def answers(
    model: "PreTrainedModel",
    pairs: Sequence[tuple[Sequence[int], Sequence[int]]],
    limits: Limits,
    advance: Callable[[int], None],
) -> list[Answer]:
    """The log-probability of each continuation behind its context.

    Args:
        model: A causal model whose logits are hidden states times its output layer.
        pairs: Context and continuation, in ids; neither is empty.
        limits: Of windows and batches; where a device runs out of memory, batches are halved.
        advance: Is told how many windows are done.

    Raises:
        ModelError: The model has no embedding of an id, the device no memory for one window, or a
            log-probability is not finite.
    """
    _check_ids(model, pairs)
    windows = [windows_of(*pair, limits.max_length) for pair in pairs]
    found = _window_answers(model, [w for some in windows for w in some], limits, advance)
    return [
        _joined([found[window] for window in some], some, len(context) + len(continuation))
        for some, (context, continuation) in zip(windows, pairs, strict=True)
    ]


def _check_ids(
    model: "PreTrainedModel", pairs: Sequence[tuple[Sequence[int], Sequence[int]]]
) -> None:
    rows = model.get_input_embeddings().weight.shape[0]
    largest = max(max(*context, *continuation) for context, continuation in pairs)
    if largest >= rows:
        raise ModelError(
            f"the tokenizer gives ids up to {largest} and the model has embeddings of {rows}: they "
            "do not belong together"
        )


def _joined(found: Sequence[tuple[float, bool]], windows: Sequence[Window], length: int) -> Answer:
    return Answer(
        log_prob=sum(log_prob for log_prob, _ in found),
        is_greedy=all(is_greedy for _, is_greedy in found),
        num_positions=sum(len(window.ids) - 1 for window in windows),
        num_targets=sum(window.num_targets for window in windows),
        is_cut=len(windows[-1].ids) < length,
    )


def _window_answers(
    model: "PreTrainedModel",
    windows: Sequence[Window],
    limits: Limits,
    advance: Callable[[int], None],
) -> dict[Window, tuple[float, bool]]:
    """Log-probability of each window's targets, and whether all of them are the likeliest.

    Equal windows are read once: the same text has the same log-probability wherever it stands.
    """
    todo = sorted(dict.fromkeys(windows), key=lambda window: -len(window.ids))
    found: dict[Window, tuple[float, bool]] = {}
    batch_tokens = limits.batch_tokens
    while True:
        try:
            for batch in batches(todo[len(found) :], batch_tokens):
                found |= _batch_answers(model, batch)
                advance(len(batch))
        except torch.OutOfMemoryError as error:
            longest = len(todo[len(found)].ids) - 1
            if batch_tokens <= longest:
                raise ModelError(
                    f"the device has no memory for a single item of {longest} tokens beside the "
                    "model. Use a larger device."
                ) from error
        else:
            break
        batch_tokens //= 2  # outside of the handler, whose error holds on to the batch
        logger.warning("out of memory; going on with batches of %d", batch_tokens)
        torch.cuda.empty_cache()
    return found


@torch.no_grad()
def _batch_answers(
    model: "PreTrainedModel", batch: Sequence[Window]
) -> dict[Window, tuple[float, bool]]:
    """Of one batch; windows are padded on the right, which a causal model does not see."""
    length = len(batch[0].ids) - 1
    padded_WT = torch.tensor([w.ids + (0,) * (length + 1 - len(w.ids)) for w in batch])
    ends_W = torch.tensor([len(window.ids) - 1 for window in batch]).unsqueeze(1)
    counts_W = torch.tensor([window.num_targets for window in batch]).unsqueeze(1)
    places_T = torch.arange(length)
    targeted_WT = (places_T < ends_W) & (places_T >= ends_W - counts_W)
    hidden_WTD = hidden_states(model, padded_WT[:, :-1].to(model.device))
    hidden_ND = hidden_WTD[targeted_WT.to(hidden_WTD.device)]
    log_probs_N, greedy_N = target_log_probs_and_greedy(
        model, hidden_ND, padded_WT[:, 1:][targeted_WT]
    )
    counts = counts_W.flatten().tolist()
    sums = [float(part.double().sum()) for part in torch.split(log_probs_N, counts)]
    if not torch.isfinite(log_probs_N).all():
        raise ModelError("a log-probability is not finite; the model's weights are damaged")
    greedy = [bool(part.all()) for part in torch.split(greedy_N, counts)]
    return dict(zip(batch, zip(sums, greedy, strict=True), strict=True))


def target_log_probs_and_greedy(
    model: "PreTrainedModel", hidden_ND: torch.Tensor, targets_N: torch.Tensor
) -> tuple[torch.Tensor, torch.Tensor]:
    """Log-probability of each target, `[N]` float32, and whether it is the likeliest, `[N]`.

    Logits are made for a chunk of targets at a time, and rounded to the dtype of the model; both
    results are on the CPU.

    Args:
        model: Gives the output layer.
        hidden_ND: Hidden states where the targets are predicted, `[N, D]`.
        targets_N: Ids.
    """
    weight_VD, bias_V = output_layer(model)
    size = chunk_length(len(weight_VD), weight_VD.device)
    log_probs, greedy = [], []
    for hidden_CD, targets_C in zip(
        torch.split(hidden_ND, size), torch.split(targets_N, size), strict=True
    ):
        targets_C = targets_C.to(weight_VD.device)  # noqa: PLW2901
        logits_CV = torch.nn.functional.linear(hidden_CD.to(weight_VD), weight_VD, bias_V).float()
        logits_C = logits_CV.gather(1, targets_C.unsqueeze(1)).squeeze(1)
        log_probs.append((logits_C - logits_CV.logsumexp(dim=1)).cpu())
        greedy.append((logits_CV.argmax(dim=1) == targets_C).cpu())
    return torch.cat(log_probs), torch.cat(greedy)
