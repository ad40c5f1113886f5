import contextlib
import importlib.util
import json
import os
import sqlite3
import struct
import subprocess
import sys
from importlib import metadata
from pathlib import Path

import pytest

from miniplm.errors import ConfigError
from miniplm.training.trackers import check_trackers, tracking, wandb_mode

RECORDS = [
    {"step": 0, "num_tokens": 0, "flops": 0.0, "held_out_loss": 5.0},
    {"step": 10, "num_tokens": 640, "flops": 1e6, "loss": 4.5, "lr": 1e-3},
    {"step": 20, "num_tokens": 1280, "flops": 2e6, "loss": 4.25, "lr": 1e-3},
]


def needs(name):
    return pytest.mark.skipif(importlib.util.find_spec(name) is None, reason=f"{name} is missing")


def track(names, folder, records=RECORDS, first_step=0, enabled=True):
    with tracking(
        names, folder, run_name="demo/plain", settings={"lr": 1e-3, "method": "plain"},
        first_step=first_step, enabled=enabled,
    ) as log:  # fmt: skip
        for record in records:
            log(record)


def test_no_tracker_writes_nothing(tmp_path):
    track([], tmp_path)
    assert not list(tmp_path.iterdir())


def test_missing_packages_are_all_named_before_anything_starts(tmp_path, monkeypatch):
    def none(name):
        raise metadata.PackageNotFoundError(name)

    monkeypatch.setattr("importlib.metadata.version", none)
    with pytest.raises(ConfigError) as caught:
        track(["tensorboard", "wandb"], tmp_path)
    assert len(caught.value.faults) == 2
    assert "pip install 'miniplm[tensorboard]'" in caught.value.faults[0]
    assert not list(tmp_path.iterdir())
    check_trackers([])


def test_only_the_main_process_writes(tmp_path):
    pytest.importorskip("tensorboard")
    track(["tensorboard"], tmp_path, enabled=False)
    assert not list(tmp_path.iterdir())


def scalars(folder):
    """What TensorBoard shows of a folder: values by step, by name."""
    from tensorboard.backend.event_processing.event_accumulator import EventAccumulator

    events = EventAccumulator(str(folder))
    events.Reload()
    names = events.Tags()["scalars"]
    return {name: {e.step: e.value for e in events.Scalars(name)} for name in names}


@needs("tensorboard")
def test_tensorboard_reads_the_figures_back(tmp_path):
    track(["tensorboard"], tmp_path)
    found = scalars(tmp_path / "trackers/tensorboard")
    assert found["held_out_loss"] == {0: 5.0}
    assert found["loss"] == {10: 4.5, 20: 4.25}
    assert found["num_tokens"] == {0: 0.0, 10: 640.0, 20: 1280.0}
    assert "step" not in found


@needs("tensorboard")
def test_tensorboard_forgets_what_came_after_the_checkpoint(tmp_path):
    track(["tensorboard"], tmp_path)
    again = [{"step": 20, "loss": 4.0}, {"step": 30, "loss": 3.5}]
    track(["tensorboard"], tmp_path, again, first_step=11)
    assert scalars(tmp_path / "trackers/tensorboard")["loss"] == {10: 4.5, 20: 4.0, 30: 3.5}


def log_records(content):
    """The records of a LevelDB log with a header of seven bytes, as Weights & Biases writes it.

    Blocks are of 32 KiB; a record, or a part of one, is: checksum (4), length (2), kind (1), data;
    kinds 1 and 4 end a record.
    """
    record, place = b"", 7
    while place + 7 <= len(content):
        if 32_768 - place % 32_768 < 7:  # no header fits in what is left of the block
            place += 32_768 - place % 32_768
            continue
        length, kind = struct.unpack_from("<HB", content, place + 4)
        record += content[place + 7 : place + 7 + length]
        place += 7 + length
        if kind in (1, 4):
            yield record
            record = b""


def wandb_records(folder):
    """The rows of all offline runs in a folder, as Weights & Biases wrote them."""
    from wandb.proto import wandb_internal_pb2

    rows = []
    for path in sorted(folder.glob("wandb/offline-run-*/run-*.wandb")):
        for data in log_records(path.read_bytes()):
            record = wandb_internal_pb2.Record()
            record.ParseFromString(data)
            if record.WhichOneof("record_type") == "history":
                items = record.history.item
                rows.append({(i.key or i.nested_key[0]): json.loads(i.value_json) for i in items})
    return rows


@needs("wandb")
def test_wandb_writes_below_the_run_and_offline(tmp_path, monkeypatch):
    for name in ("WANDB_API_KEY", "WANDB_MODE"):
        monkeypatch.delenv(name, raising=False)
    track(["wandb"], tmp_path)
    rows = wandb_records(tmp_path / "trackers/wandb")
    assert [row["step"] for row in rows] == [0, 10, 20]
    assert [row.get("loss") for row in rows] == [None, 4.5, 4.25]


@needs("trackio")
def test_trackio_keeps_the_figures_in_its_own_place(tmp_path):
    code = f"""
import pathlib, sys
sys.path.insert(0, {str(Path(__file__).parent)!r})
from test_trackers import track
folder = pathlib.Path({str(tmp_path)!r}) / "runs/demo/train/plain"
track(["trackio"], folder)
track(["trackio"], folder, [{{"step": 30, "loss": 4.0}}], first_step=21)
"""
    environment = os.environ | {"TRACKIO_DIR": str(tmp_path / "trackio")}
    done = subprocess.run(
        [sys.executable, "-c", code], capture_output=True, text=True, env=environment, check=False
    )
    assert done.returncode == 0, done.stderr
    assert done.stdout == ""
    with contextlib.closing(sqlite3.connect(tmp_path / "trackio/miniplm.db")) as database:
        rows = database.execute("select run_name, step, metrics from metrics").fetchall()
    assert {name for name, _, _ in rows} == {str(tmp_path / "runs/demo/train/plain")}
    losses = {step: json.loads(metrics).get("loss") for _, step, metrics in rows}
    assert losses == {0: None, 10: 4.5, 20: 4.25, 30: 4.0}


def test_wandb_goes_online_only_where_the_environment_says_so():
    assert wandb_mode({}) == "offline"
    assert wandb_mode({"WANDB_MODE": "online"}) == "online"
    assert wandb_mode({"WANDB_API_KEY": "k", "WANDB_MODE": "disabled"}) == "disabled"
