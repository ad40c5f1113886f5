"""On-policy distillation: TRL's trainer and ours, with the same models, prompts and lengths."""

from pathlib import Path
from typing import Any

import numpy as np
import torch

from benchmarks import training
from benchmarks.harness import Bench, Clock, Contender
from benchmarks.setting import Setting
from miniplm.data.loader import SequenceStore
from miniplm.data.order import EpochOrder
from miniplm.data.shards import open_shards
from miniplm.training.feed import Feed, Supplements, Writing
from miniplm.training.on_policy import OnPolicyLoss, Policy
from miniplm.training.student_loss import LossSettings
from miniplm.training.teacher import DenseTeacher
from miniplm.training.trainer import Trainer


def _model(layers: int, vocab_size: int, length: int) -> Any:
    model = training.fresh_model("10M student", vocab_size, length, num_layers=layers)
    model.generation_config.eos_token_id = 0
    return model


def gkd_of_trl(
    clock: Clock, *, folder: str, vocab_size: int, length: int, prompt: int, batch: int, steps: int
) -> float:
    """`GKDTrainer` with `lmbda` and `beta` 1: its own text, reverse KL."""
    from transformers import TrainerCallback
    from trl.experimental.gkd import GKDConfig, GKDTrainer

    store = SequenceStore(open_shards(Path(folder) / "shards"))
    rows = [store.row(index) for index in range(len(store))]

    def collate(places: list[dict[str, int]]) -> dict[str, torch.Tensor]:
        ids = torch.from_numpy(np.stack([rows[place["row"]] for place in places]))
        prompts = ids[:, :prompt]
        return {
            "input_ids": ids, "attention_mask": torch.ones_like(ids), "labels": ids,
            "prompts": prompts, "prompt_attention_mask": torch.ones_like(prompts),
        }  # fmt: skip

    class Timing(TrainerCallback):
        """Starts the clock when all is warm."""

        def on_step_end(self, _args: Any, state: Any, _control: Any, **_kwargs: Any) -> None:
            if state.global_step == training.WARM_UP_STEPS:
                clock.__enter__()

    arguments = GKDConfig(
        output_dir=str(Path(folder) / "theirs"), bf16=True,
        max_steps=steps + training.WARM_UP_STEPS,
        per_device_train_batch_size=batch, optim="adamw_torch_fused", save_strategy="no",
        report_to=[], disable_tqdm=True, logging_strategy="no", dataloader_pin_memory=False,
        use_cpu=not torch.cuda.is_available(), gradient_checkpointing=False,
        lmbda=1.0, beta=1.0, temperature=1.0, max_new_tokens=length + 1 - prompt,
    )  # fmt: skip
    GKDTrainer(
        model=_model(8, vocab_size, length),
        teacher_model=_model(16, vocab_size, length).to(torch.bfloat16),
        args=arguments,
        data_collator=collate,
        train_dataset=_places(len(rows)),
        processing_class=_tokenizer(vocab_size),
        callbacks=[Timing()],
    ).train()
    clock.__exit__(None, None, None)
    return float(steps * batch * length)


def _places(count: int) -> Any:
    from datasets import Dataset

    return Dataset.from_dict({"row": list(range(count))})


def _tokenizer(vocab_size: int) -> Any:
    """One that TRL can ask for its special ids; ids come from the shards."""
    from tokenizers import Tokenizer
    from tokenizers.models import WordLevel
    from transformers import PreTrainedTokenizerFast

    words = {f"w{index}": index for index in range(vocab_size)}
    model = Tokenizer(WordLevel(words, unk_token="w0"))  # noqa: S106
    return PreTrainedTokenizerFast(tokenizer_object=model, eos_token="w0", pad_token="w0")  # noqa: S106


def ours(
    clock: Clock, *, folder: str, vocab_size: int, length: int, prompt: int, batch: int, steps: int
) -> float:
    """Our loop with its metrics file: all of it distillation, no long-term part, as GKD has it."""
    store = SequenceStore(open_shards(Path(folder) / "shards"))
    config = training.training_config(batch, steps, method="minillm")
    model, teacher = _model(8, vocab_size, length), _model(16, vocab_size, length)
    student = OnPolicyLoss(
        model, LossSettings(1.0), DenseTeacher(teacher.to(torch.bfloat16), vocab_size),
        Policy(model, torch.bfloat16, vocab_size, eos_id=0), prompt, long_term=False,
    )  # fmt: skip
    writing = Supplements(writing=Writing(prompt, length + 1 - prompt, seed=0))
    feed = Feed(store, EpochOrder(len(store), 0), writing)
    training.time_steps(
        clock, Trainer(student, feed, config, Path(folder) / "ours", **training.RUN)
    )
    return float(steps * batch * length)


def benches(setting: Setting) -> list[Bench]:
    """One case: the 10M student and a teacher of twice its depth."""
    return [
        Bench(
            name="minillm, 10M student, 256 tokens",
            unit="tokens",
            baseline="trl GKDTrainer",
            contenders={
                "trl GKDTrainer": Contender("on_policy:gkd_of_trl"),
                "miniplm": Contender("on_policy:ours"),
            },
            arguments={
                "folder": str(setting.folder / "on-policy"),
                "vocab_size": 16_384,
                "length": 256,
                "prompt": 64,
                "batch": 16,
                "steps": 2 if setting.size == "small" else 6,
            },
            prepare="training:prepare",
        )
    ]
