"""A tiny training by each method, with all that it takes."""

from pathlib import Path

import numpy as np

from conftest import FAMILIES, random_rows, tiny_model, write_rows
from miniplm.data.tokenizer import train_tokenizer
from miniplm.model import ModelConfig
from miniplm.scoring.capture import capture_shards
from miniplm.scoring.capture_config import CaptureConfig
from miniplm.scoring.config import ScoringConfig
from miniplm.scoring.scorer import ScoringModel, score_shards
from miniplm.training.config import TrainingConfig
from miniplm.training.inputs import TrainInputs
from miniplm.training.scores import ScoreTables
from miniplm.training.student import train_model

VOCAB_SIZE = 300
SCORING = ScoringConfig(dtype="float32", per_token=True)
METHODS = {
    "plain": {},
    "vanilla_kd": {"method": "vanilla_kd"},
    "sparse_kd": {"method": "sparse_kd", "capture": "c"},
    "mixture": {},
    "static": {"reweighting": {"kind": "static"}},
    "dynamic": {"reweighting": {"kind": "dynamic"}},
    "dynamic_tokens": {"reweighting": {"kind": "dynamic_tokens"}},
    "repeats": {"reweighting": {"kind": "repeats"}},
    "minillm": {"method": "minillm", "on_policy": {"prompt_tokens": 16, "new_tokens": 8}},
}


def teacher(fingerprint="teacher"):
    model = tiny_model("llama", vocab_size=VOCAB_SIZE, seed=7)
    return ScoringModel(model, "teacher", fingerprint, "float32")


def reference():
    return ScoringModel(tiny_model(vocab_size=VOCAB_SIZE, seed=3), "reference", "r", "float32")


def score(folder, role, scorer):
    num_bytes_V = np.ones(VOCAB_SIZE, dtype=np.int64)
    score_shards(scorer, folder / "shards", num_bytes_V, SCORING, folder / "scores" / role)


def capture(folder, seed=1):
    config = CaptureConfig(entries=8)
    capture_shards(teacher(), folder / "shards", config, SCORING, folder / "capture", seed)


def prepare(folder):
    """What every method takes, into a folder."""
    words = "some words to train a tokenizer on, and others that it has never seen before. "
    text = [words * 5] * 5
    train_tokenizer(text, VOCAB_SIZE, folder / "tokenizer")
    rows = random_rows(30, vocab_size=VOCAB_SIZE)
    write_rows(folder / "shards", rows, vocab_size=VOCAB_SIZE, per_shard=16)
    write_rows(folder / "more", random_rows(9, vocab_size=VOCAB_SIZE), vocab_size=VOCAB_SIZE)
    score(folder, "teacher", teacher())
    score(folder, "reference", reference())
    capture(folder)


def train(given, folder, method, num_steps, checkpoint_every_steps, taught_by=teacher, **changes):
    training = TrainingConfig(
        budget={"steps": num_steps}, warmup_steps=2, global_batch_size=4, precision="float32",
        log_every_steps=1, eval_every_steps=50, checkpoint_every_steps=checkpoint_every_steps,
        **{"lr": 1e-2, **METHODS[method], **changes},
    )  # fmt: skip
    mixture = {given / "shards": 0.75, given / "more": 0.25}
    inputs = TrainInputs(
        mixture if method == "mixture" else {given / "shards": 1.0},
        "a test corpus", given / "tokenizer", given / "shards", 4,
        scores=ScoreTables({role: given / "scores" / role for role in ("teacher", "reference")}),
        captured=given / "capture", teacher=taught_by,
    )  # fmt: skip
    shape = ModelConfig(shape=FAMILIES["qwen2"])
    return train_model("student", shape, training, inputs, 1, Path(folder))
