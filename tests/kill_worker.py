"""What test_kill kills: trainings, each in a process of its own, forked so that it starts at once.

Argument: a folder with `shards`, `tokenizer`, `scores` and `capture`. Each line of standard input
is a JSON object: what `train` takes, and under "kill" when the training is to be killed, if at all.
The answer is its exit code, or minus the signal that ended it; an error is in `<folder>.error`.
"""

import json
import math
import os
import resource
import signal
import sys
import time
from pathlib import Path

import torch

from conftest import FAMILIES, tiny_model
from miniplm.data.tokenizer import load_tokenizer
from miniplm.model import ModelConfig
from miniplm.model_checks import check_causal_head
from miniplm.scoring.scorer import ScoringModel
from miniplm.training.config import TrainingConfig
from miniplm.training.inputs import TrainInputs
from miniplm.training.scores import ScoreTables
from miniplm.training.student import train_model

VOCAB_SIZE = 300
METHODS = {
    "plain": {},
    "vanilla_kd": {"method": "vanilla_kd"},
    "sparse_kd": {"method": "sparse_kd", "capture": "c"},
    "dynamic": {"reweighting": {"kind": "dynamic"}},
    "repeats": {"reweighting": {"kind": "repeats"}},
}


def teacher():
    model = tiny_model("llama", vocab_size=VOCAB_SIZE, seed=7)
    return ScoringModel(model, "teacher", "teacher", "float32")


def train(given, folder, method, num_steps, checkpoint_every_steps):
    training = TrainingConfig(
        budget={"steps": num_steps}, lr=1e-2, warmup_steps=2, global_batch_size=4,
        precision="float32", log_every_steps=1, eval_every_steps=50,
        checkpoint_every_steps=checkpoint_every_steps, **METHODS[method],
    )  # fmt: skip
    inputs = TrainInputs(
        {given / "shards": 1.0}, "a test corpus", given / "tokenizer", given / "shards", 4,
        scores=ScoreTables({role: given / "scores" / role for role in ("teacher", "reference")}),
        captured=given / "capture", teacher=teacher,
    )  # fmt: skip
    train_model(
        "student", ModelConfig(shape=FAMILIES["qwen2"]), training, inputs, 1, Path(folder)
    )  # fmt: skip


def die_at(operation, folder):
    """Kill this process right before the n-th file operation on something in a folder."""
    count = 0

    def hook(event, arguments):
        nonlocal count
        if event.split(".")[0] in ("open", "os", "shutil") and folder in str(arguments):
            count += 1
            if count == operation:
                os.kill(os.getpid(), signal.SIGKILL)

    sys.addaudithook(hook)


def limit_files(num_bytes, *, die):
    """Let no file grow larger; an attempt fails as on a full disk, or kills this process."""
    signal.signal(signal.SIGXFSZ, signal.SIG_DFL if die else signal.SIG_IGN)
    resource.setrlimit(resource.RLIMIT_CORE, (0, 0))
    resource.setrlimit(resource.RLIMIT_FSIZE, (num_bytes, num_bytes))


def killed_after(child, folder, num_lines, delay):
    """Wait for so many further lines of metrics, and a moment, then kill; the exit code."""
    metrics = Path(folder) / "metrics.jsonl"
    target, ended = lines_in(metrics) + num_lines, (0, 0)
    while ended == (0, 0) and lines_in(metrics) < target:
        time.sleep(0.0005)
        ended = os.waitpid(child, os.WNOHANG)
    if ended == (0, 0):
        time.sleep(delay)
        os.kill(child, signal.SIGKILL)
        ended = os.waitpid(child, 0)
    return os.waitstatus_to_exitcode(ended[1])


def lines_in(path):
    return path.read_bytes().count(b"\n") if path.exists() else 0


def warm_up(given):
    """Have imported what libraries import late, once for all children."""
    load_tokenizer(given / "tokenizer")
    for model in (teacher().model, tiny_model()):
        check_causal_head(model)


def serve(given):
    torch.set_num_threads(1)
    warm_up(given)
    for line in sys.stdin:
        order = json.loads(line)
        kill = order.pop("kill", {})
        child = os.fork()
        if child == 0:
            try:
                if "at_operation" in kill:
                    die_at(kill["at_operation"], order["folder"] + "/checkpoints")
                if "file_limit" in kill:
                    limit_files(kill["file_limit"], die=kill["die"])
                train(given, **order)
            except BaseException as error:  # noqa: BLE001  (told by the exit code)
                Path(order["folder"] + ".error").write_text(f"{type(error).__name__}: {error}")
                os._exit(1)
            os._exit(0)
        moment = (kill.get("after_lines", math.inf), kill.get("delay", 0.0))
        print(killed_after(child, order["folder"], *moment), flush=True)


if __name__ == "__main__":
    serve(Path(sys.argv[1]))
