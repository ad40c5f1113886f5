"""The output layer of scoring by itself: hidden states to log-probabilities of the targets."""

import torch
from torch.nn import functional

from benchmarks.harness import Bench, Clock, Contender
from benchmarks.setting import Setting
from miniplm.runtime.allocator import keep_memory
from miniplm.runtime.devices import best_device
from miniplm.scoring.log_probs import target_log_probs

LENGTH = 1024


def run(clock: Clock, *, way: str, rows: int, width: int, vocab_size: int) -> float:
    """One of `WAYS` over `rows` sequences, after one that warms up.

    All with an allocator that keeps its memory, as in scoring: what is compared is the arithmetic.
    """
    keep_memory()
    device = best_device()
    torch.manual_seed(0)
    shapes = ((rows * LENGTH, width), (vocab_size, width))
    hidden_ND, weight_VD = (
        torch.randn(shape, device=device).mul_(scale).bfloat16()
        for shape, scale in zip(shapes, (1.0, 0.05), strict=True)
    )
    targets_N = torch.randint(vocab_size, (rows * LENGTH,), device=device)

    def once(num_rows: int) -> torch.Tensor:
        num = num_rows * LENGTH
        return WAYS[way](hidden_ND[:num], weight_VD, targets_N[:num])

    with torch.inference_mode():
        once(1).sum().item()
        with clock:
            found = once(rows).double().sum().item()
        exact = sum(
            float(_whole(hidden_ID.float(), weight_VD.float(), targets_I).double().sum())
            for hidden_ID, targets_I in zip(hidden_ND.split(256), targets_N.split(256), strict=True)
        )
    num_tokens = rows * LENGTH
    clock.facts["flops_per_second"] = 2.0 * num_tokens * width * vocab_size / clock.seconds
    clock.facts["error_per_token"] = abs(found - exact) / num_tokens
    return float(num_tokens)


def _whole(
    hidden_ND: torch.Tensor, weight_VD: torch.Tensor, targets_N: torch.Tensor
) -> torch.Tensor:
    logits_NV = functional.linear(hidden_ND, weight_VD).float()
    return functional.cross_entropy(logits_NV, targets_N, reduction="none").neg()


def _linear_cross_entropy(
    hidden_ND: torch.Tensor, weight_VD: torch.Tensor, targets_N: torch.Tensor
) -> torch.Tensor:
    return functional.linear_cross_entropy(hidden_ND, weight_VD, targets_N, reduction="none").neg()


def _linear_cross_entropy_in_chunks(
    hidden_ND: torch.Tensor, weight_VD: torch.Tensor, targets_N: torch.Tensor
) -> torch.Tensor:
    options = torch.nn.LinearCrossEntropyOptions()
    return functional.linear_cross_entropy(
        hidden_ND, weight_VD, targets_N, reduction="none", options=options
    ).neg()


WAYS = {
    "whole logits": _whole,
    "linear_cross_entropy": _linear_cross_entropy,
    "linear_cross_entropy, chunks": _linear_cross_entropy_in_chunks,
    "miniplm": target_log_probs,
}


def benches(setting: Setting) -> list[Bench]:
    """The layer of the teacher of 50M parameters, and the same over a large vocabulary."""
    gpu = torch.cuda.is_available()
    cases = [(50_257, 3)] if setting.size == "small" else [(50_257, 12), (151_936, 4)]
    if gpu:
        cases = [(151_936, 16 if setting.size == "small" else 64)]
    return [
        Bench(
            name=f"output layer, vocabulary {round(vocab_size / 1000)}k",
            unit="tokens",
            baseline="whole logits",
            contenders={way: Contender("output_layer:run", {"way": way}) for way in WAYS},
            arguments={
                "rows": rows, "width": 2048 if gpu else 768, "vocab_size": vocab_size,
            },
            goal="the quickest of them",
        )
        for vocab_size, rows in cases
    ]  # fmt: skip
