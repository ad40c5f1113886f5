"""Corpora whose sequences come more than once, or for a part of training only."""

import shutil
from pathlib import Path

import numpy as np
import pyarrow as pa
import pytest

from conftest import random_rows, write_rows
from made_up_training import prepare, train
from miniplm.data.loader import SequenceStore
from miniplm.data.narrowing import NarrowingOrder
from miniplm.data.parquet import ColumnFile, write_parquet
from miniplm.data.shards import open_shards
from miniplm.errors import ConfigError
from miniplm.selection.tables import REPEATS_FIELD, UNTIL_FIELD
from miniplm.training.corpus_order import corpus_order
from miniplm.training.metrics import METRICS_NAME, read_metrics


def sequences(order, num_steps, size):
    return np.concatenate([order.batch(step, size) for step in range(num_steps)])


def test_each_phase_trains_on_what_still_takes_part():
    until = np.array([0.25] * 10 + [0.5] * 6 + [1.0] * 4, np.float32)
    seen = sequences(NarrowingOrder(until, seed=1, num_positions=80), 16, 5)
    assert set(seen[:20]) == set(range(20))  # once each: as many positions as sequences
    assert set(seen[20:40]) == set(range(10, 20))
    assert sorted(seen[40:]) == sorted(10 * [16, 17, 18, 19])


def test_what_has_not_been_seen_comes_first_when_the_corpus_narrows():
    until = np.array([0.25] * 20 + [1.0] * 20, np.float32)
    seen = sequences(NarrowingOrder(until, seed=3, num_positions=40), 5, 8)
    early = set(seen[:10])
    unseen = set(range(20, 40)) - early
    assert 0 < len(unseen) < 20
    assert set(seen[10 : 10 + len(unseen)]) == unseen
    assert len(set(seen[10:30])) == 20


def test_batches_follow_from_step_and_seed_alone():
    until = np.random.default_rng(0).choice(np.array([0.3, 0.7, 1.0], np.float32), 50)
    order = NarrowingOrder(until, seed=1).planned(200)
    again = NarrowingOrder(until, seed=1).planned(200)
    forward = [order.batch(step, 8) for step in range(25)]
    backward = [again.batch(step, 8) for step in reversed(range(25))]
    np.testing.assert_array_equal(np.stack(forward), np.stack(backward[::-1]))
    other = sequences(NarrowingOrder(until, seed=2).planned(200), 25, 8)
    assert not np.array_equal(np.concatenate(forward), other)


def test_the_mean_weighs_phases_by_their_length():
    until = np.array([0.25, 0.25, 1.0, 1.0], np.float32)
    lengths = np.array([10, 10, 30, 30])
    assert NarrowingOrder(until, 0).mean(lengths) == pytest.approx(0.25 * 20 + 0.75 * 30)


def with_column(folder, name, value_of):
    """A column more in the sidecars of a folder."""
    for path in folder.glob("*.parquet"):
        file = ColumnFile(path)
        values = pa.array([value_of(index) for index in file.sequence_ids().tolist()])
        field = {"repeats": REPEATS_FIELD, "until": UNTIL_FIELD}[name]
        table = file.table().append_column(field, values.cast(field.type))
        write_parquet(path, table, file.metadata, origin=file.origin)
    return folder


def test_a_corpus_with_repeats_has_them_in_every_epoch(tmp_path):
    folder = write_rows(tmp_path / "shards", random_rows(5))
    with_column(folder, "repeats", [1, 3, 1, 2, 1].__getitem__)
    order = corpus_order(SequenceStore(open_shards(folder)), seed=4)
    for step in range(3):
        assert sorted(order.batch(step, 8)) == [0, 1, 1, 1, 2, 3, 3, 4]


@pytest.fixture(scope="module")
def given(tmp_path_factory):
    folder = tmp_path_factory.mktemp("given")
    prepare(folder)
    return folder


def narrowed(given, tmp_path):
    """What `train` takes, with a corpus that narrows half way."""
    root = Path(tmp_path) / "given"
    root.mkdir()
    for name in ("tokenizer", "scores", "capture", "more"):
        (root / name).symlink_to(given / name)
    shutil.copytree(given / "shards", root / "shards")
    with_column(root / "shards", "until", lambda index: 0.5 if index < 15 else 1.0)
    return root


def test_a_narrowing_training_resumes_as_if_it_had_not_stopped(given, tmp_path, monkeypatch):
    root = narrowed(given, tmp_path)
    train(root, tmp_path / "straight", "plain", 12, 100)
    from miniplm.training.trainer import Trainer

    step = Trainer._step

    def stops(trainer, number, batch):
        if number == 8:
            raise KeyboardInterrupt
        return step(trainer, number, batch)

    with monkeypatch.context() as patched:
        patched.setattr(Trainer, "_step", stops)
        with pytest.raises(KeyboardInterrupt):
            train(root, tmp_path / "stopped", "plain", 12, 3)
    train(root, tmp_path / "stopped", "plain", 12, 3)
    straight, stopped = (
        [line["loss"] for line in read_metrics(tmp_path / name / METRICS_NAME) if "loss" in line]
        for name in ("straight", "stopped")
    )
    assert straight[-3:] == stopped[-3:]


@pytest.mark.parametrize("method", ["repeats", "mixture"])
def test_such_a_corpus_does_not_mix_with_other_ways_to_repeat(given, tmp_path, method):
    with pytest.raises(ConfigError, match=r"narrows in training|says how often sequences come"):
        train(narrowed(given, tmp_path), tmp_path / "run", method, 4, 100)
