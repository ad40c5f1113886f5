"""Students trained at the same time: what comes out, what a fault or a signal leaves."""

import json
import os
import signal
import subprocess
import sys
import time

import pytest

from conftest import tiny_recipe
from miniplm import at_once
from miniplm.errors import ConfigError, TrainingError
from miniplm.pipeline import run
from miniplm.recipe import make_recipe
from miniplm.road.road import Road

NAMES = ["plain", "miniplm"]


def recipe(corpus_folder, run_dir, **changes):
    return make_recipe({**tiny_recipe(corpus_folder, run_dir), **changes}, "test")


def figures(manifests):
    return {
        each.stage: (each.fingerprint, each.num_tokens, each.flops, each.facts.get("held_out"))
        for each in manifests
        if each.stage != "report"  # which names the folder
    }


def has_begun(log):
    return log.exists() and len(log.read_bytes().splitlines()) > 2


def test_students_come_out_as_one_after_the_other(corpus_folder, tmp_path, monkeypatch):
    begun = []
    start = at_once._start
    monkeypatch.setattr(at_once, "_start", lambda *given: begun.append(given[1]) or start(*given))
    together = recipe(corpus_folder, tmp_path / "together")
    found = figures(run(together, at_once=2))
    assert begun == NAMES
    assert found == figures(run(recipe(corpus_folder, tmp_path / "alone")))
    assert all(step.is_complete for step in Road(together).steps)
    assert figures(run(together, at_once=2)) == found
    assert begun == NAMES  # nothing was left to do


def test_a_student_that_fails_stops_the_others_and_what_is_done_is_kept(
    corpus_folder, tmp_path, capfd
):
    content = tiny_recipe(corpus_folder, tmp_path / "run")
    shape = content["students"]["plain"]
    content["students"] = {
        "wild": {**shape, "training": {"lr": 1e30, "warmup_steps": 0, "max_grad_norm": 1e30}},
        "long": {**shape, "training": {"budget": {"steps": 100_000}}},
    }
    made = make_recipe(content, "test")
    with pytest.raises(TrainingError, match=r"wild could not be finished: .* stands above\. What"):
        run(made, at_once=2)
    assert "error: " in capfd.readouterr().err
    long = tmp_path / "run/train/long"
    assert list((long / "checkpoints").iterdir())
    assert not (long / "manifest.json").exists()
    assert (tmp_path / "run/tokenize/manifest.json").exists()


def test_a_stopped_walk_stops_its_students_with_a_checkpoint(corpus_folder, tmp_path):
    content = tiny_recipe(corpus_folder, tmp_path / "run")
    for student in content["students"].values():
        student["training"] = {"budget": {"steps": 100_000}}
    (tmp_path / "recipe.yaml").write_text(json.dumps(content))
    words = ["run", str(tmp_path / "recipe.yaml"), "--at-once", "2"]
    logs = [tmp_path / f"run/train/{name}/metrics.jsonl" for name in NAMES]
    with subprocess.Popen([sys.executable, "-m", "miniplm", *words], stderr=-1) as walk:
        while not all(map(has_begun, logs)) and walk.poll() is None:
            time.sleep(0.1)
        walk.terminate()
        said = walk.stderr.read().decode()
    assert walk.returncode == 128 + signal.SIGTERM, said
    assert said.count("which is in a checkpoint") == 2
    assert "stopped with 2 students to go" in said
    for log in logs:
        assert list((log.parent / "checkpoints").iterdir())


def test_a_student_ends_when_its_walk_is_killed(corpus_folder, tmp_path):
    content = tiny_recipe(corpus_folder, tmp_path / "run")
    content["students"]["plain"]["training"] = {"budget": {"steps": 100_000}}
    made = make_recipe(content, "test")
    run(made, kinds=["tokenize"])
    words = [at_once.COMMAND, str(made.run_dir), "plain", "1"]  # of a parent that it has not
    done = subprocess.run(
        [sys.executable, "-m", "miniplm", *words],
        check=False, capture_output=True, timeout=60,
    )  # fmt: skip
    assert done.returncode in (128 + signal.SIGTERM, -signal.SIGTERM)
    assert not (tmp_path / "run/train/plain/manifest.json").exists()


@pytest.mark.parametrize(
    ("code", "said"),
    [(1, "what went wrong stands above"), (-9, "ended by SIGKILL; if memory ran out"),
     (-11, "ended by SIGSEGV")],
)  # fmt: skip
def test_how_a_process_ended_is_said(code, said):
    with pytest.raises(TrainingError, match=said):
        at_once._require_success("plain", code)


def test_processes_share_the_machine(monkeypatch):
    monkeypatch.delenv("OMP_NUM_THREADS", raising=False)
    monkeypatch.setattr(at_once, "_num_cores", lambda: 8)
    assert at_once._share(0, 3, [])["OMP_NUM_THREADS"] == "2"
    assert at_once._share(0, 16, [])["OMP_NUM_THREADS"] == "1"
    shares = [at_once._share(slot, 4, ["0", "GPU-b"]) for slot in range(4)]
    assert [share["CUDA_VISIBLE_DEVICES"] for share in shares] == ["0", "GPU-b", "0", "GPU-b"]
    monkeypatch.setenv("OMP_NUM_THREADS", "5")
    assert at_once._share(0, 4, [])["OMP_NUM_THREADS"] == "5"
    assert os.environ["OMP_NUM_THREADS"] == "5"


def test_processes_that_train_together_train_one_student(corpus_folder, tmp_path, monkeypatch):
    monkeypatch.setenv("WORLD_SIZE", "2")
    with pytest.raises(ConfigError, match="2 processes train each student together; give 1"):
        run(recipe(corpus_folder, tmp_path / "run"), at_once=2)
