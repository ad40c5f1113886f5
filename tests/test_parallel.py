"""Training by several processes: the same run, resumed by any number of them."""

import os
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
import torch
from safetensors.torch import load_file

from conftest import random_rows, write_rows
from miniplm.training.metrics import read_metrics

WORKER = Path(__file__).parent / "training_worker.py"
STEPS = 9


def train(
    shards, folder, *, method="dynamic", processes=1, parallel="ddp", micro_batch=8, stop_after=0
):
    """Run the worker in so many processes, until it stops itself or is done."""
    launcher = ["-m", "torch.distributed.run", "--standalone", f"--nproc-per-node={processes}"]
    start = [sys.executable, *(launcher if processes > 1 else [])]
    arguments = [
        str(shards),
        str(folder),
        method,
        parallel,
        *map(str, (micro_batch, STEPS, stop_after)),
    ]
    done = subprocess.run(
        [*start, str(WORKER), *arguments],
        env={**os.environ, "OMP_NUM_THREADS": "1", "PYTHONPATH": os.pathsep.join(sys.path)},
        capture_output=True, text=True, check=False, timeout=300,
    )  # fmt: skip
    assert done.returncode == 0, done.stderr[-3000:]
    return done


@pytest.fixture(scope="module")
def shards(tmp_path_factory):
    return write_rows(tmp_path_factory.mktemp("rows") / "shards", random_rows(20), per_shard=7)


@pytest.fixture(scope="module")
def straight(shards, tmp_path_factory):
    """One process from beginning to end."""
    folder = tmp_path_factory.mktemp("straight")
    train(shards, folder)
    return folder


def assert_same_run(folder, other):
    """Weights and losses agree within what the order of sums makes of float32."""
    ours, theirs = (load_file(f / "final.safetensors") for f in (folder, other))
    assert ours.keys() == theirs.keys()
    for name, value in theirs.items():
        torch.testing.assert_close(ours[name], value, atol=2e-4, rtol=1e-3)
    curves = [read_metrics(f / "metrics.jsonl") for f in (folder, other)]
    assert [r["step"] for r in curves[0]] == [r["step"] for r in curves[1]] == [*range(STEPS + 1)]
    measured = {"loss", "grad_norm", "effective_sample_size", "held_out_loss"}
    for key in measured & set().union(*curves[0]):
        values = [[record[key] for record in curve if key in record] for curve in curves]
        np.testing.assert_allclose(values[0], values[1], rtol=2e-3)
    domains = [[record["held_out"] for record in curve if "held_out" in record] for curve in curves]
    assert len(domains[0]) == len(domains[1]) > 1
    for mine, expected in zip(*domains, strict=True):
        assert set(mine) == set(expected) == {"even", "odd"}
        assert mine == pytest.approx(expected, rel=2e-3)
    tokens = [[record["num_tokens"] for record in curve] for curve in curves]
    assert tokens[0] == tokens[1]


@pytest.mark.parametrize(
    ("processes", "micro_batch", "parallel"),
    [(1, 1, "ddp"), (2, 4, "ddp"), (2, 4, "fsdp"), (2, 3, "ddp")],
    ids=["8x1", "2x4", "2x4 sharded", "uneven"],
)
def test_a_global_batch_of_eight_may_be_split_in_any_way(
    shards, straight, tmp_path, processes, micro_batch, parallel
):
    """With dynamic weights, which depend on the whole of it; in one piece it is 1x8."""
    train(shards, tmp_path, processes=processes, micro_batch=micro_batch, parallel=parallel)
    assert_same_run(tmp_path, straight)
    ours, theirs = (read_metrics(f / "metrics.jsonl")[1] for f in (tmp_path, straight))
    for key in ("loss", "grad_norm", "effective_sample_size"):
        assert ours[key] == pytest.approx(theirs[key], rel=1e-5), key


@pytest.mark.parametrize("parallel", ["ddp", "fsdp"])
def test_a_run_goes_from_one_process_to_two_and_back(shards, straight, tmp_path, parallel):
    stopped = train(shards, tmp_path, stop_after=3)
    assert "the same command goes on" in stopped.stdout
    train(shards, tmp_path, processes=2, parallel=parallel, stop_after=6)
    train(shards, tmp_path)
    assert_same_run(tmp_path, straight)


@pytest.mark.parametrize("method", ["vanilla_kd", "minillm"])
def test_a_teacher_beside_the_student_works_in_each_process(shards, tmp_path, method):
    """DDP for both; FSDP where it can: minillm needs the whole student."""
    alone = tmp_path / "alone"
    train(shards, alone, method=method)
    for parallel in ("ddp", "fsdp") if method == "vanilla_kd" else ("ddp",):
        together = tmp_path / parallel
        train(shards, together, method=method, processes=2, parallel=parallel, micro_batch=4)
        assert_same_run(together, alone)
