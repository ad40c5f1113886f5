"""What each process of test_parallel does: trains a tiny model and writes its weights down.

Arguments: folder of token shards, output folder, dynamic, vanilla_kd or minillm, ddp or fsdp,
sequences of a micro-batch, steps in all, steps to stop after.
"""

import os
import signal
import sys
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import torch
from accelerate import PartialState
from safetensors.torch import save_file

from conftest import tiny_model
from miniplm.data.loader import SequenceStore
from miniplm.data.order import EpochOrder
from miniplm.data.shards import open_shards
from miniplm.errors import StoppedError
from miniplm.training.config import TrainingConfig
from miniplm.training.feed import Feed, Supplements, Writing
from miniplm.training.held_out import HeldOut
from miniplm.training.on_policy import OnPolicyLoss, Policy
from miniplm.training.student_loss import LossSettings, StudentLoss
from miniplm.training.teacher import DenseTeacher
from miniplm.training.trainer import Trainer


@dataclass(frozen=True)
class StopsItself(EpochOrder):
    """The order of an epoch; sends this process SIGTERM when a step is asked for."""

    stop_after: int = 0

    def batch(self, step, size):
        if self.stop_after and step == self.stop_after:
            os.kill(os.getpid(), signal.SIGTERM)
        return super().batch(step, size)


def method_of(name, store):
    """A student by some method, and what it takes beside the sequences."""
    model = tiny_model()
    if name == "dynamic":
        losses = torch.linspace(3, 6, len(store)).double().numpy()
        settings = LossSettings(dynamic="sequences", temperature=0.5)
        return StudentLoss(model, settings), Supplements(teacher_losses_M=losses)
    teacher = DenseTeacher(tiny_model("llama", seed=7), store.vocab_size)
    if name == "vanilla_kd":
        return StudentLoss(model, LossSettings(0.5), teacher), Supplements()
    policy = Policy(model, torch.float32, store.vocab_size, store.eos_id)
    student = OnPolicyLoss(model, LossSettings(0.5), teacher, policy, 6, long_term=True)
    return student, Supplements(writing=Writing(6, 10, seed=3))


def main(shards, folder, method, parallel, micro_batch, num_steps, stop_after):
    torch.set_num_threads(1)
    store = SequenceStore(open_shards(Path(shards)))
    config = TrainingConfig(
        budget={"steps": num_steps}, lr=1e-2, warmup_steps=2, global_batch_size=8,
        precision="float32", log_every_steps=1, checkpoint_every_steps=100, eval_every_steps=3,
        micro_batch_size=micro_batch, parallel=parallel,
        reweighting={"kind": "dynamic" if method == "dynamic" else "none"},
    )  # fmt: skip
    order = StopsItself(len(store), seed=5, stop_after=stop_after)
    student, supplements = method_of(method, store)
    trainer = Trainer(
        student, Feed(store, order, supplements),
        config, Path(folder), seed=5, flops_per_token=1.0,
        held_out=HeldOut(store, 7, np.arange(store.vocab_size) % 5),
    )  # fmt: skip
    try:
        trainer.train()
    except StoppedError as error:
        print(error)
        return
    model, parallel = trainer.student.model, trainer.parallel
    weights = parallel.gathered(model) if parallel.sharded else dict(model.named_parameters())
    if parallel.is_main:
        parameters = dict(model.named_parameters())
        save_file(
            {name: weights[name].detach().contiguous() for name in parameters},
            Path(folder) / "final.safetensors",
        )


if __name__ == "__main__":
    shards, folder, method, parallel, *numbers = sys.argv[1:]
    try:
        main(shards, folder, method, parallel, *map(int, numbers))
    finally:
        PartialState().destroy_process_group()
