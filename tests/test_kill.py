"""Killed at any moment and run again, a training ends with the bytes of the straight one."""

import json
import os
import random
import signal
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest

from conftest import random_rows, tiny_model, write_rows
from kill_worker import METHODS, VOCAB_SIZE, teacher
from miniplm.data.tokenizer import train_tokenizer
from miniplm.scoring.capture import capture_shards
from miniplm.scoring.capture_config import CaptureConfig
from miniplm.scoring.config import ScoringConfig
from miniplm.scoring.scorer import ScoringModel, score_shards

WORKER = Path(__file__).parent / "kill_worker.py"


class Worker:
    """Does trainings, one at a time, each in a process that can be killed."""

    def __init__(self, given):
        self._process = subprocess.Popen(
            [sys.executable, str(WORKER), str(given)],
            env={**os.environ, "OMP_NUM_THREADS": "1", "PYTHONPATH": os.pathsep.join(sys.path)},
            stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True,
        )  # fmt: skip

    def train(self, folder, method, num_steps, every, kill=None):
        """A training's exit code, or minus the signal that ended it."""
        order = {
            "folder": str(folder), "method": method, "num_steps": num_steps,
            "checkpoint_every_steps": every, "kill": kill or {},
        }  # fmt: skip
        self._process.stdin.write(json.dumps(order) + "\n")
        self._process.stdin.flush()
        return int(self._process.stdout.readline())

    def close(self):
        self._process.communicate()


@pytest.fixture(scope="module")
def worker(tmp_path_factory):
    given = tmp_path_factory.mktemp("given")
    text = ["some words to train a tokenizer on. " * 5] * 5
    train_tokenizer(text, VOCAB_SIZE, given / "tokenizer")
    shards = write_rows(
        given / "shards", random_rows(30, vocab_size=VOCAB_SIZE), vocab_size=VOCAB_SIZE
    )
    scoring = ScoringConfig(dtype="float32")
    reference = ScoringModel(tiny_model(vocab_size=VOCAB_SIZE, seed=3), "r", "r", "float32")
    for role, scorer in {"teacher": teacher(), "reference": reference}.items():
        num_bytes_V = np.ones(VOCAB_SIZE, dtype=np.int64)
        score_shards(scorer, shards, num_bytes_V, scoring, given / "scores" / role)
    capture_shards(teacher(), shards, CaptureConfig(entries=8), scoring, given / "capture", 1)
    worker = Worker(given)
    yield worker
    worker.close()


def assert_same_run(folder, straight, num_steps):
    """Weights bit for bit, and each step once in the metrics."""
    ours, theirs = (f / "model/model.safetensors" for f in (folder, straight))
    assert ours.read_bytes() == theirs.read_bytes()
    curves = []
    for path in (folder, straight):
        lines = (path / "metrics.jsonl").read_text().splitlines()
        records = [json.loads(line) for line in lines]
        curves.append([{k: v for k, v in r.items() if "seconds" not in k} for r in records])
    assert [record["step"] for record in curves[0]] == [*range(num_steps + 1)]
    assert curves[0] == curves[1]


@pytest.mark.parametrize("method", METHODS)
def test_killed_at_random_moments_it_ends_as_the_straight_run(worker, tmp_path, method):
    chance, kills = random.Random(17), 10 if method == "plain" else 3
    num_steps = 15 * kills
    assert worker.train(tmp_path / "straight", method, num_steps, 5) == 0
    for _ in range(kills):
        moment = {"after_lines": chance.randint(0, 14), "delay": chance.uniform(0, 0.02)}
        ended = worker.train(tmp_path / "killed", method, num_steps, 5, moment)
        assert ended == -signal.SIGKILL
    assert worker.train(tmp_path / "killed", method, num_steps, 5) == 0
    assert_same_run(tmp_path / "killed", tmp_path / "straight", num_steps)


def test_killed_at_every_file_operation_of_a_checkpoint_it_ends_as_the_straight_run(
    worker, tmp_path
):
    """The n-th try dies before the n-th operation: reading, writing, renaming, removing."""
    assert worker.train(tmp_path / "straight", "plain", 12, 1) == 0
    operation, ended = 0, -signal.SIGKILL
    while ended == -signal.SIGKILL:
        operation += 1
        ended = worker.train(tmp_path / "killed", "plain", 12, 1, {"at_operation": operation})
    assert ended == 0
    assert operation > 20
    assert_same_run(tmp_path / "killed", tmp_path / "straight", 12)
