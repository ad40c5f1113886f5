"""Checkpoints of another training are refused, and the field that differs is named."""

import shutil

import pytest

from conftest import random_rows, write_rows
from made_up_training import (
    VOCAB_SIZE,
    capture,
    prepare,
    reference,
    score,
    teacher,
    train,
)
from miniplm.errors import ArtefactError, TrainingError
from miniplm.training.checkpoint import Checkpoints


@pytest.fixture(scope="module")
def prepared(tmp_path_factory):
    folder = tmp_path_factory.mktemp("prepared")
    prepare(folder)
    return folder


@pytest.fixture
def given(prepared, tmp_path):
    return shutil.copytree(prepared, tmp_path / "given")


def refused(given, folder, method, field, **changes):
    """Another training in the folder of one is refused, and leaves its checkpoints."""
    before = Checkpoints(folder / "checkpoints").complete()
    with pytest.raises(TrainingError, match=rf"belongs to another training: .*{field}: .* -> "):
        train(given, folder, method, 2, 1, **changes)
    assert Checkpoints(folder / "checkpoints").complete() == before != []


@pytest.mark.parametrize(
    ("changes", "field"),
    [
        ({"lr": 2e-2}, "training.lr"),
        ({"seed": 5}, "seed"),
        ({"weight_decay": 0.5}, "training.weight_decay"),
        ({"reweighting": {"kind": "static"}}, "training.reweighting.kind"),
    ],
)
def test_another_recipe_is_refused(given, tmp_path, changes, field):
    train(given, tmp_path / "out", "plain", 2, 1)
    refused(given, tmp_path / "out", "plain", field, **changes)


def test_another_method_is_refused(given, tmp_path):
    train(given, tmp_path / "out", "plain", 2, 1)
    refused(given, tmp_path / "out", "vanilla_kd", "training.method")


def test_another_corpus_is_refused(given, tmp_path):
    train(given, tmp_path / "out", "plain", 2, 1)
    shutil.rmtree(given / "shards")
    write_rows(given / "shards", random_rows(30, 9, VOCAB_SIZE), vocab_size=VOCAB_SIZE)
    with pytest.raises(TrainingError, match="belongs to another training: corpus is another"):
        train(given, tmp_path / "out", "plain", 2, 1)


def test_another_teacher_beside_the_student_is_refused(given, tmp_path):
    train(given, tmp_path / "out", "vanilla_kd", 2, 1)
    refused(given, tmp_path / "out", "vanilla_kd", "teacher", taught_by=lambda: teacher("other"))


def test_another_capture_is_refused(given, tmp_path):
    train(given, tmp_path / "out", "sparse_kd", 2, 1)
    shutil.rmtree(given / "capture")
    capture(given, seed=2)
    refused(given, tmp_path / "out", "sparse_kd", "capture.seed")
    train(given, tmp_path / "plain", "plain", 2, 1)
    shutil.rmtree(given / "capture")
    train(given, tmp_path / "plain", "plain", 2, 1)  # which takes none


@pytest.mark.parametrize(("method", "reads_reference"), [("dynamic", False), ("repeats", True)])
def test_other_scores_are_refused(given, tmp_path, method, reads_reference):
    train(given, tmp_path / "out", method, 2, 1)
    shutil.rmtree(given / "scores/reference")
    score(given, "reference", teacher("other"))
    if reads_reference:
        refused(given, tmp_path / "out", method, "scores.reference.model_fingerprint")
        score(given, "reference", reference())
    train(given, tmp_path / "out", method, 2, 1)
    shutil.rmtree(given / "scores/teacher")
    score(given, "teacher", reference())
    refused(given, tmp_path / "out", method, "scores.teacher.model")


def test_scores_by_different_models_are_refused(given, tmp_path):
    kept = (given / "scores/teacher/data_0.parquet").read_bytes()
    score(given, "teacher", teacher("other"))
    (given / "scores/teacher/data_0.parquet").write_bytes(kept)
    with pytest.raises(ArtefactError, match=r"data_0.parquet and data_1.parquet were scored by"):
        train(given, tmp_path / "out", "dynamic", 2, 1)
