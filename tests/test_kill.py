"""Killed at any moment, or out of room, and run again, a training ends as the straight one."""

import errno
import json
import os
import random
import signal
import subprocess
import sys
from pathlib import Path

import pytest
import torch
from torch.distributed.checkpoint.hf_storage import HuggingFaceStorageWriter
from torch.distributed.checkpoint.state_dict_saver import save as save_distributed

from made_up_training import METHODS, prepare, train
from miniplm.errors import TrainingError
from miniplm.training.writing import writing

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
def given(tmp_path_factory):
    """What every method takes."""
    given = tmp_path_factory.mktemp("given")
    prepare(given)
    return given


@pytest.fixture(scope="module")
def worker(given):
    worker = Worker(given)
    yield worker
    worker.close()


@pytest.fixture(scope="module")
def straight(worker, tmp_path_factory):
    """A plain training of 30 steps, never disturbed."""
    folder = tmp_path_factory.mktemp("straight")
    assert worker.train(folder, "plain", 30, 5) == 0
    return folder


@pytest.fixture
def one_thread():
    """As in the worker: the order of sums depends on it."""
    before = torch.get_num_threads()
    torch.set_num_threads(1)
    yield
    torch.set_num_threads(before)


@pytest.fixture
def half_way(worker, tmp_path):
    """The same, killed after step 12: the checkpoints of steps 5 and 10 are complete."""
    folder = tmp_path / "half_way"
    assert worker.train(folder, "plain", 30, 5, {"after_lines": 13}) == -signal.SIGKILL
    return folder


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
    chance, kills = random.Random(17), 10 if method == "plain" else 2
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


# --- no more room


def checkpoints_in(folder):
    return sorted(path.name for path in (folder / "checkpoints").iterdir())


@pytest.mark.parametrize("die", [True, False], ids=["killed", "refused"])
def test_a_checkpoint_cut_off_in_the_middle_leaves_the_earlier_ones(
    worker, half_way, straight, die
):
    """The system itself ends the write after 20 kB: by a signal, or as on a full disk."""
    before = checkpoints_in(half_way)
    ended = worker.train(half_way, "plain", 30, 5, {"file_limit": 20_000, "die": die})
    assert ended == (-signal.SIGXFSZ if die else 1)
    assert [name for name in checkpoints_in(half_way) if name.startswith("step")] == before
    if not die:
        error = half_way.with_suffix(".error").read_text()
        assert error.startswith("TrainingError: the checkpoint ")
        assert "step-00000015 cannot be written" in error
        assert "File too large" in error
        assert "MB free" in error
        assert "run the same command again" in error
        assert checkpoints_in(half_way) == before  # the half written one takes no room
    assert worker.train(half_way, "plain", 30, 5) == 0
    assert_same_run(half_way, straight, 30)


def test_a_line_of_metrics_cut_off_in_the_middle_is_written_anew(worker, half_way, straight):
    limit = (half_way / "metrics.jsonl").stat().st_size + 50
    assert worker.train(half_way, "plain", 30, 5, {"file_limit": limit, "die": False}) == 1
    error = half_way.with_suffix(".error").read_text()
    assert f"the metrics {half_way / 'metrics.jsonl'} cannot be written (No space" in error
    assert not (half_way / "metrics.jsonl").read_text().endswith("\n")
    assert worker.train(half_way, "plain", 30, 5) == 0
    assert_same_run(half_way, straight, 30)


def full_disk(*_, **__):
    raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))


@pytest.mark.usefixtures("one_thread")
@pytest.mark.parametrize("operation", ["write_text", "mkdir", "rename"])
def test_wherever_a_full_disk_stops_a_checkpoint_it_is_told(
    given, worker, half_way, straight, monkeypatch, operation
):
    real = getattr(Path, operation)

    def fails(path, *arguments, **settings):
        if path.name.startswith((".step-00000020", "state.json")) and "step-00000020" in str(path):
            full_disk()
        return real(path, *arguments, **settings)

    with monkeypatch.context() as patched:
        patched.setattr(Path, operation, fails)
        with pytest.raises(TrainingError, match=r"step-00000020 cannot be written \(No space left"):
            train(given, half_way, "plain", 30, 5)
    assert checkpoints_in(half_way) == ["step-00000010", "step-00000015"]
    assert worker.train(half_way, "plain", 30, 5) == 0
    assert_same_run(half_way, straight, 30)


@pytest.mark.usefixtures("one_thread")
def test_a_trained_model_that_finds_no_room_is_told_and_not_trained_again(
    given, half_way, straight, monkeypatch
):
    with monkeypatch.context() as patched:
        patched.setattr("miniplm.training.student.write_atomically", full_disk)
        with pytest.raises(TrainingError, match=r"the trained model .* cannot be written"):
            train(given, half_way, "plain", 30, 5)
    assert checkpoints_in(half_way)[-1] == "step-00000030"
    with monkeypatch.context() as patched:
        patched.setattr("miniplm.training.trainer.Trainer._step", None)
        train(given, half_way, "plain", 30, 5)
    assert_same_run(half_way, straight, 30)


@pytest.mark.filterwarnings("ignore:torch.distributed is disabled")  # as it is here
def test_what_a_process_of_several_could_not_write_is_told(tmp_path):
    (tmp_path / "file").write_text("in the way")
    writer = HuggingFaceStorageWriter(str(tmp_path / "file/step-1"), save_distributed=True)
    with (
        pytest.raises(
            TrainingError, match=r"the checkpoint .*step-1 cannot be written \(Not a dir"
        ),
        writing("the checkpoint", tmp_path / "file/step-1"),
    ):
        save_distributed({"a": torch.zeros(1)}, storage_writer=writer, no_dist=True)
