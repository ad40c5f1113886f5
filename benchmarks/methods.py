"""What distillation costs a step: our loop with each method, the teacher twice as deep."""

from pathlib import Path
from typing import Any

import torch

from benchmarks import training
from benchmarks.harness import Bench, Clock, Contender
from benchmarks.setting import Setting
from miniplm.data.loader import SequenceStore
from miniplm.data.order import EpochOrder
from miniplm.data.shards import open_shards
from miniplm.runtime.devices import place
from miniplm.scoring.capture import capture_shards
from miniplm.scoring.capture_config import CaptureConfig
from miniplm.scoring.config import ScoringConfig
from miniplm.scoring.scorer import ScoringModel
from miniplm.training.captured import Captured
from miniplm.training.feed import Feed, Supplements
from miniplm.training.student_loss import LossSettings, StudentLoss
from miniplm.training.teacher import DenseTeacher
from miniplm.training.trainer import Trainer

KD_RATIO = 0.5


def prepare(clock: Clock, *, folder: str, shape: str, vocab_size: int, **others: Any) -> None:
    """Token shards, and what the teacher says of them: 50 draws a token, the default."""
    training.prepare(clock, folder=folder, vocab_size=vocab_size, **others)
    scorer = ScoringModel(_teacher(shape, vocab_size, others["length"]), "teacher", "", "bfloat16")
    capture_shards(
        scorer, Path(folder) / "shards", CaptureConfig(), ScoringConfig(),
        Path(folder) / "capture", 0,
    )  # fmt: skip


def _teacher(shape: str, vocab_size: int, length: int) -> Any:
    layers = 2 * training.SHAPES[shape]["num_layers"]
    model = training.fresh_model(shape, vocab_size, length, num_layers=layers)
    return place(model.to(torch.bfloat16))


def train(
    clock: Clock,
    *,
    folder: str,
    shape: str,
    vocab_size: int,
    length: int,
    batch: int,
    steps: int,
    method: str,
) -> float:
    """Our loop with a method."""
    store = SequenceStore(open_shards(Path(folder) / "shards"))
    model = training.fresh_model(shape, vocab_size, length)
    supplements, teacher, settings = Supplements(), None, LossSettings(kd_ratio=KD_RATIO)
    if method == "vanilla_kd":
        teacher = DenseTeacher(_teacher(shape, vocab_size, length), vocab_size)
    elif method == "sparse_kd":
        supplements = Supplements(captured=Captured(Path(folder) / "capture", store.shards))
    else:
        settings = LossSettings()
    feed = Feed(store, EpochOrder(len(store), 0), supplements)
    config = training.training_config(batch, steps, method=method)
    student = StudentLoss(model, settings, teacher)
    training.time_steps(
        clock, Trainer(student, feed, config, Path(folder) / method, **training.RUN)
    )
    return training.count_tokens(clock, model, length, steps * batch * length)


def benches(setting: Setting) -> list[Bench]:
    """The methods on the first student that the machine can train."""
    like = training.benches(setting)[0]
    name = like.name.replace("train", "methods")
    methods = ("plain", "vanilla_kd", "sparse_kd")
    return [
        Bench(
            name=name,
            unit="tokens",
            baseline="plain",
            contenders={each: Contender("methods:train", {"method": each}) for each in methods},
            arguments={
                **like.arguments,
                "folder": str(setting.folder / name.replace(" ", "-").replace(",", "")),
            },
            prepare="methods:prepare",
        )
    ]
