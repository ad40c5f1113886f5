import importlib.util
import json
from importlib import metadata

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


def wandb_records(folder):
    """The rows of all offline runs in a folder, as Weights & Biases wrote them."""
    from wandb.proto import wandb_internal_pb2
    from wandb.sdk.internal.datastore import DataStore

    rows = []
    for path in sorted(folder.glob("wandb/offline-run-*/run-*.wandb")):
        store = DataStore()
        store.open_for_scan(str(path))
        while data := store.scan_data():
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


def test_wandb_goes_online_only_where_the_environment_says_so():
    assert wandb_mode({}) == "offline"
    assert wandb_mode({"WANDB_MODE": "online"}) == "online"
    assert wandb_mode({"WANDB_API_KEY": "k", "WANDB_MODE": "disabled"}) == "disabled"
