"""The data-limited setting: a quarter of the corpus is kept and trained on for four epochs."""

import numpy as np
import pytest

from made_up_training import prepare, train
from miniplm.data.loader import SequenceStore
from miniplm.data.shards import open_shards
from miniplm.export.exporter import export_corpus
from miniplm.selection.config import SelectionConfig
from miniplm.selection.selector import select_sequences
from miniplm.training.student_loss import StudentLoss

EPOCHS, KEPT, BATCH = 4, 7, 4  # a quarter of 30 rows; an epoch is no whole number of batches
STEPS = EPOCHS * KEPT // BATCH


@pytest.fixture(scope="module")
def refined(tmp_path_factory):
    """What a training takes, with the refined corpus for its shards."""
    folder = tmp_path_factory.mktemp("given")
    prepare(folder)
    tables = [folder / "scores" / role for role in ("teacher", "reference")]
    config = SelectionConfig(ratio=0.25)
    select_sequences(folder / "shards", *tables, config, 1, folder / "selection")
    (folder / "shards").rename(folder / "candidates")
    export_corpus(folder / "candidates", folder / "selection", folder)
    return folder


@pytest.fixture
def seen(refined, monkeypatch):
    """Sequences that go through the student, as places in the refined corpus, in their order."""
    store, seen, forward = SequenceStore(open_shards(refined / "shards")), [], StudentLoss.forward
    assert len(store) == KEPT
    whole = store.batch(range(KEPT)).input_ids_BT

    def noting(module, batch):
        for ids_T in batch.input_ids_BT:
            padded = ids_T.new_zeros(whole.shape[1])
            padded[: len(ids_T)] = ids_T
            (place,) = (whole == padded).all(dim=1).nonzero()[:, 0].tolist()
            seen.append(place)
        return forward(module, batch)

    monkeypatch.setattr(StudentLoss, "forward", noting)
    return seen


def test_each_kept_sequence_is_seen_once_an_epoch_in_ever_new_orders(refined, seen, tmp_path):
    outcome = train(refined, tmp_path / "out", "plain", STEPS, 2)
    assert outcome.facts["epochs"] == EPOCHS
    epochs = np.array(seen).reshape(EPOCHS, KEPT)
    np.testing.assert_array_equal(np.sort(epochs, axis=1), [range(KEPT)] * EPOCHS)
    assert len({tuple(epoch) for epoch in epochs.tolist()}) == EPOCHS


@pytest.mark.parametrize("method", ["plain", "dynamic", "repeats"])
def test_resumed_in_the_midst_of_an_epoch_it_sees_the_rest(
    refined, seen, tmp_path, monkeypatch, method
):
    train(refined, tmp_path / "straight", method, STEPS, 2)
    straight = list(seen)
    seen.clear()
    noting, calls = StudentLoss.forward, 0

    def dies_in_the_sixth_step(module, batch):
        nonlocal calls
        calls += 1
        if calls == 6:
            raise KeyboardInterrupt
        return noting(module, batch)

    with monkeypatch.context() as patched:
        patched.setattr(StudentLoss, "forward", dies_in_the_sixth_step)
        with pytest.raises(KeyboardInterrupt):
            train(refined, tmp_path / "killed", method, STEPS, 2)
    assert seen == straight[: 5 * BATCH]
    assert 2 * KEPT < 4 * BATCH < 3 * KEPT  # the checkpoint is in the midst of the third epoch
    seen.clear()
    train(refined, tmp_path / "killed", method, STEPS, 2)
    assert seen == straight[4 * BATCH :]
    weights = [tmp_path / name / "model/model.safetensors" for name in ("straight", "killed")]
    assert weights[0].read_bytes() == weights[1].read_bytes()
