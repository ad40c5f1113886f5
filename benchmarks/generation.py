"""Continuing prompts: `generate` of `transformers` and ours, token for token as much work."""

from typing import Any

import torch

from benchmarks.harness import KEEP_MEMORY, Bench, Clock, Contender
from benchmarks.scoring import make_model
from benchmarks.setting import Setting
from miniplm.generation.decoding import continue_prompts
from miniplm.generation.sampling import Sampling, draws
from miniplm.scoring.preparation import prepare_model

WARM_UP_TOKENS = 8


def _prompts(model: Any, batch: int, prompt_length: int, vocab_size: int) -> torch.Tensor:
    torch.manual_seed(0)
    return torch.randint(1, vocab_size, (batch, prompt_length), device=model.device)


def transformers(
    clock: Clock,
    *,
    shape: str,
    vocab_size: int,
    batch: int,
    prompt_length: int,
    num_new: int,
    cache: str | None = None,
) -> float:
    """`generate` as its documentation has it: no id ends a text."""
    model = make_model(shape, vocab_size, "bfloat16")
    prompts_BP = _prompts(model, batch, prompt_length, vocab_size)

    def generate(count: int) -> int:
        made: torch.Tensor = model.generate(
            prompts_BP, attention_mask=torch.ones_like(prompts_BP), max_new_tokens=count,
            do_sample=True, temperature=1.0, top_k=0, top_p=1.0, pad_token_id=0, use_cache=True,
            cache_implementation=cache,
        )  # fmt: skip
        return made.shape[0] * (made.shape[1] - prompt_length)

    generate(WARM_UP_TOKENS)
    with clock:
        return float(generate(num_new))


def miniplm(
    clock: Clock, *, shape: str, vocab_size: int, batch: int, prompt_length: int, num_new: int
) -> float:
    """What the generate stage does with a batch; the id that ends a text is never drawn."""
    model = make_model(shape, vocab_size, "bfloat16")
    prepare_model(model)
    prompts_BP = _prompts(model, batch, prompt_length, vocab_size)

    def generate(count: int) -> int:
        made = continue_prompts(
            model, prompts_BP, draws(range(batch), count, 0), eos_id=vocab_size,
            vocab_size=vocab_size, sampling=Sampling(),
        )  # fmt: skip
        return sum(map(len, made))

    generate(WARM_UP_TOKENS)
    with clock:
        return float(generate(num_new))


def benches(setting: Setting) -> list[Bench]:
    """The teacher that the machine can run."""
    gpu = torch.cuda.is_available()
    shape, vocab_size = ("1.8B teacher", 151_936) if gpu else ("50M teacher", 16_384)
    return [
        Bench(
            name=f"generate, {shape}",
            unit="tokens",
            baseline="transformers.generate",
            contenders={
                "transformers.generate": Contender("generation:transformers"),
                "transformers.generate, static cache": Contender(
                    "generation:transformers", {"cache": "static"}
                ),
                "transformers.generate, memory kept": Contender(
                    "generation:transformers", environment=KEEP_MEMORY
                ),
                "miniplm": Contender("generation:miniplm"),
            },
            arguments={
                "shape": shape,
                "vocab_size": vocab_size,
                "batch": 32,
                "prompt_length": 64,
                "num_new": 48 if setting.size == "small" else 192,
            },
            peer="transformers.generate, memory kept",
        )
    ]
