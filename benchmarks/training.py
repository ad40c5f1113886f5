"""Training a student: `transformers.Trainer` and ours, with the same model, batch and precision."""

import shutil
from pathlib import Path
from typing import Any

import numpy as np
import torch

from benchmarks.harness import KEEP_MEMORY, Bench, Clock, Contender
from benchmarks.setting import Setting
from miniplm.data.loader import SequenceStore
from miniplm.data.order import EpochOrder
from miniplm.data.shards import make_sidecar, open_shards, write_shard
from miniplm.model import ModelConfig, build_model, model_config
from miniplm.model_size import TRAINING_TO_FORWARD, size_of
from miniplm.training.config import TrainingConfig
from miniplm.training.feed import Feed
from miniplm.training.metrics import METRICS_NAME, read_metrics
from miniplm.training.student_loss import StudentLoss
from miniplm.training.trainer import Trainer

SHAPES: dict[str, dict[str, Any]] = {
    "10M student": {
        "hidden_size": 256, "intermediate_size": 704, "num_layers": 8, "num_heads": 4,
        "tie_embeddings": True,
    },
    "200M student": {
        "hidden_size": 768, "intermediate_size": 2112, "num_layers": 12, "num_heads": 12,
        "tie_embeddings": True,
    },
}  # fmt: skip
"""The latter is the paper's; its vocabulary is that of Qwen."""

WARM_UP_STEPS = 2
"""Steps that the clock leaves out."""


def prepare(
    _: Clock, *, folder: str, vocab_size: int, length: int, batch: int, steps: int, **_others: Any
) -> None:
    """Full rows of random ids as token shards, one for each place in each step."""
    count = (steps + WARM_UP_STEPS) * batch
    rows = np.random.default_rng(0).integers(1, vocab_size, (count, length + 1))
    sidecar = make_sidecar(
        np.arange(count, dtype=np.int64),
        ["text"] * count,
        np.full(count, length + 1, np.int32),
        np.full(count, 4 * length, np.int64),
        [[str(index)] for index in range(count)],
    )
    write_shard(
        Path(folder) / "shards" / "data_0", list(rows.astype(np.int32)), sidecar,
        vocab_size=vocab_size, eos_id=0, max_length=length,
    )  # fmt: skip


def fresh_model(shape: str, vocab_size: int, length: int, **changes: Any) -> Any:
    """A model of one of `SHAPES`, with changes."""
    fields = {"family": "qwen2", **SHAPES[shape], **changes}
    config = ModelConfig.model_validate({"shape": fields})
    return build_model(model_config(config, vocab_size, length), 0)


def trainer_of_transformers(
    clock: Clock, *, folder: str, shape: str, vocab_size: int, length: int, batch: int, steps: int
) -> float:
    """`transformers.Trainer` as its documentation has it: bfloat16 autocast, fused AdamW."""
    from torch.utils.data import Dataset
    from transformers import Trainer as TheirTrainer
    from transformers import TrainerCallback, TrainingArguments

    store = SequenceStore(open_shards(Path(folder) / "shards"))

    class Rows(Dataset):  # type: ignore[type-arg]
        def __len__(self) -> int:
            return len(store)

        def __getitem__(self, index: int) -> dict[str, torch.Tensor]:
            ids = torch.from_numpy(store.row(index)[:-1].copy())
            return {"input_ids": ids, "labels": ids}

    class Timing(TrainerCallback):
        """Starts the clock when all is warm."""

        def on_step_end(self, _args: Any, state: Any, _control: Any, **_kwargs: Any) -> None:
            if state.global_step == WARM_UP_STEPS:
                clock.__enter__()

    model = fresh_model(shape, vocab_size, length)
    arguments = TrainingArguments(
        output_dir=str(Path(folder) / "theirs"), max_steps=steps + WARM_UP_STEPS, bf16=True,
        per_device_train_batch_size=batch, optim="adamw_torch_fused", save_strategy="no",
        report_to=[], disable_tqdm=True, logging_strategy="no", dataloader_pin_memory=False,
        use_cpu=not torch.cuda.is_available(),
    )  # fmt: skip
    TheirTrainer(model=model, args=arguments, train_dataset=Rows(), callbacks=[Timing()]).train()
    clock.__exit__(None, None, None)
    return count_tokens(clock, model, length, steps * batch * length)


def ours(
    clock: Clock,
    *,
    folder: str,
    shape: str,
    vocab_size: int,
    length: int,
    batch: int,
    steps: int,
    compiled: bool = False,
) -> float:
    """Our loop, from shards, with its metrics file."""
    store = SequenceStore(open_shards(Path(folder) / "shards"))
    model = fresh_model(shape, vocab_size, length)
    feed = Feed(store, EpochOrder(len(store), 0))
    config = training_config(batch, steps, compile=compiled)
    time_steps(clock, Trainer(StudentLoss(model), feed, config, Path(folder) / "ours", **RUN))
    return count_tokens(clock, model, length, steps * batch * length)


RUN: dict[str, Any] = {"seed": 0, "flops_per_token": 1.0}
"""What a trainer is told that has no part in its speed."""


def training_config(batch: int, steps: int, **settings: Any) -> TrainingConfig:
    """One micro-batch a step, and a line of metrics for each."""
    return TrainingConfig(
        budget={"steps": steps + WARM_UP_STEPS}, global_batch_size=batch, micro_batch_size=batch,
        warmup_steps=1, checkpoint_every_steps=10**6, log_every_steps=1, **settings,
    )  # fmt: skip


def time_steps(clock: Clock, trainer: Trainer) -> None:
    """Train from the start, timing all steps after the first few, and the wait for their data."""
    shutil.rmtree(trainer.folder, ignore_errors=True)
    step, last = trainer._step, trainer.num_steps - 1

    def timed(number: int, batch: Any) -> Any:
        if number == WARM_UP_STEPS:
            clock.__enter__()
        facts = step(number, batch)
        if number == last:
            clock.__exit__(None, None, None)
        return facts

    trainer._step = timed  # type: ignore[method-assign]
    trainer.train()
    lines = read_metrics(trainer.folder / METRICS_NAME)[WARM_UP_STEPS + 1 :]
    waited = sum(line["seconds_waiting_for_data"] for line in lines)
    clock.facts["share_waiting_for_data"] = waited / clock.seconds


def count_tokens(clock: Clock, model: Any, length: int, num_tokens: int) -> float:
    """The tokens, after FLOPs of training on them are put down."""
    flops = TRAINING_TO_FORWARD * size_of(model, length).forward_flops_per_token * num_tokens
    clock.facts["flops_per_second"] = flops / clock.seconds
    return float(num_tokens)


def benches(setting: Setting) -> list[Bench]:
    """The students that the machine can train."""
    steps = 4 if setting.size == "small" else 16
    cases = [("10M student", 16_384, 512, 16), ("10M student", 16_384, 1024, 8)]
    if torch.cuda.is_available():
        cases = [("200M student", 151_936, 1024, 32)]
    made = []
    for shape, vocab_size, length, batch in cases:
        name = f"train, {shape}, {length} tokens"
        contenders = {
            "transformers.Trainer": Contender("training:trainer_of_transformers"),
            "transformers.Trainer, memory kept": Contender(
                "training:trainer_of_transformers", environment=KEEP_MEMORY
            ),
            "miniplm": Contender("training:ours"),
        }
        if setting.size == "full":
            contenders["miniplm, compiled"] = Contender("training:ours", {"compiled": True})
        made.append(
            Bench(
                name=name,
                unit="tokens",
                baseline="transformers.Trainer",
                contenders=contenders,
                arguments={
                    "folder": str(setting.folder / name.replace(" ", "-").replace(",", "")),
                    "shape": shape,
                    "vocab_size": vocab_size,
                    "length": length,
                    "batch": batch,
                    "steps": steps,
                },
                goal=">= 2x on two cores; >= 1.2x and 45 % of peak on a GPU",
                prepare="training:prepare",
                peer="transformers.Trainer, memory kept",
            )
        )
    return made
