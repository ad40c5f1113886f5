"""Capturing the teacher's distributions, and reading them for training."""

import json
import shutil

import numpy as np
import pyarrow as pa
import pytest
import torch

from conftest import random_rows, tiny_model, write_rows
from miniplm.config import validate
from miniplm.data.loader import IGNORED, SequenceStore
from miniplm.data.shards import Shard, open_shards, write_shard
from miniplm.errors import ArtefactError, ConfigError, ModelError
from miniplm.scoring.batches import row_batches
from miniplm.scoring.capture import capture_shards
from miniplm.scoring.capture_config import CaptureConfig
from miniplm.scoring.capture_files import Capture, CaptureInfo
from miniplm.scoring.capture_forward import captured_rows
from miniplm.scoring.config import ScoringConfig
from miniplm.scoring.scorer import ScoringModel
from miniplm.training.captured import Captured
from miniplm.training.objective import LinearCrossEntropy
from miniplm.training.targets import HardTargets, SparseTargets

TEMPERATURES = {"sampled": 1.0, "flatter": 2.0}


def teacher(fingerprint="fingerprint", **changes):
    return ScoringModel(tiny_model(**changes), "tiny", fingerprint, "float32")


def peaked_model():
    """A model whose distributions are as uneven as a trained one's."""
    model = tiny_model()
    with torch.no_grad():
        model.model.norm.weight.mul_(3.0)
    return model


def run_capture(
    shards, folder, *, model=None, fingerprint="fingerprint", memory_gb=None, seed=1, **config
):
    scoring = ScoringConfig(dtype="float32", memory_gb=memory_gb)
    return capture_shards(
        model or teacher(fingerprint), shards, CaptureConfig(**config), scoring, folder, seed
    )


def dense(targets, num_positions, vocab_size=128):
    """Weights as `[N, V]`."""
    weights = torch.zeros(num_positions, vocab_size)
    weights[targets.positions_M, targets.ids_M] = targets.weights_M
    return weights


def all_weights(folder, shards):
    """Weights of every sequence of some shards, `[N, V]`, and which positions have a target."""
    store = SequenceStore(open_shards(shards))
    batch = store.batch(range(len(store)))
    targets = Captured(folder, store.shards).batch(range(len(store)), batch.targets_BT.shape[1])
    counted = (batch.targets_BT != IGNORED).flatten()
    return dense(targets, len(counted), store.vocab_size), counted


def true_probabilities(model, shards):
    """The teacher's distribution at every position, from full logits, `[N, V]`."""
    store = SequenceStore(open_shards(shards))
    batch = store.batch(range(len(store)))
    with torch.no_grad():
        logits = model(input_ids=batch.input_ids_BT, use_cache=False).logits
    return torch.softmax(logits[..., : store.vocab_size].double(), -1).flatten(0, 1)


# --- what is captured


def test_every_target_gets_exactly_its_draws_and_masked_positions_none(tmp_path):
    shards = write_rows(tmp_path / "shards", [[5, 6, 0, 7, 8], [0, 9], *random_rows(10)])
    run_capture(shards, tmp_path / "capture", entries=7)
    weights, counted = all_weights(tmp_path / "capture", shards)
    assert 0 < counted.sum() < len(counted)
    assert (weights[counted] * 7).sum(1).round(decimals=4).tolist() == [7.0] * int(counted.sum())
    assert (weights[~counted] == 0).all()
    p = true_probabilities(teacher().model, shards)[counted]
    assert ((weights[counted] - p).abs() * 7).max() < 1.001  # drawn Np times, rounded up or down


def test_top_k_keeps_the_most_likely_ids_with_their_probabilities(tmp_path):
    shards = write_rows(tmp_path / "shards", random_rows(10))
    run_capture(shards, tmp_path / "capture", method="top_k", entries=6)
    weights, counted = all_weights(tmp_path / "capture", shards)
    values, ids = true_probabilities(teacher().model, shards).topk(6)
    np.testing.assert_allclose(
        weights.gather(1, ids)[counted], values[counted], rtol=1e-3, atol=1e-7
    )
    assert ((weights > 0).sum(1)[counted] <= 6).all()
    assert (weights.sum(1)[counted] < 1).any()


def seeded_weights(shards, num_seeds, temperature, entries):
    """Weights of one batch under many seeds, each `[N, V]`, as the reader gives them."""
    shard = Shard(shards / "data_0")
    batch = next(row_batches(shard, [np.arange(len(shard))]))
    model = peaked_model()
    for seed in range(num_seeds):
        info = CaptureInfo("", "", "", "", 128, "sampled", entries, temperature, seed)
        rows = captured_rows(model, batch, shard.sequence_ids, shard.lengths, info)
        weights = torch.zeros(*batch.targets_BT.shape, 128)
        for row, weights_TV in zip(rows, weights, strict=True):
            positions = np.repeat(np.arange(len(row.num_entries_T)), row.num_entries_T)
            weights_TV[positions, row.ids_E] = torch.from_numpy(row.weights_E).float()
        yield weights.flatten(0, 1) / (entries if temperature == 1 else 1)


@pytest.mark.parametrize("temperature", TEMPERATURES.values(), ids=TEMPERATURES)
def test_the_gradient_through_the_objective_is_unbiased(temperature, tmp_path):
    shards = write_rows(tmp_path, random_rows(3, longest=20))
    num_seeds, entries = 300, 4
    p = true_probabilities(peaked_model(), shards).float()
    store = SequenceStore(open_shards(shards))
    targets = store.batch(range(3)).targets_BT.flatten()
    scales = (targets != IGNORED) / len(targets)
    generator = torch.Generator().manual_seed(0)
    hidden = torch.randn(len(targets), 8, generator=generator, requires_grad=True)
    student = torch.randn(128, 8, generator=generator, requires_grad=True)

    def gradient(weights):
        positions, ids = weights.nonzero(as_tuple=True)
        starts = torch.cat([torch.zeros(1), (weights != 0).sum(1).cumsum(0)]).long()
        soft = SparseTargets(positions, ids, weights[positions, ids], starts)
        mixture = ((0.5, HardTargets(targets.clamp(min=0))), (0.5, soft))
        loss = LinearCrossEntropy.apply(hidden, student, None, mixture, scales, torch.float32)
        return torch.cat([g.flatten() for g in torch.autograd.grad(loss, (hidden, student))])

    log_p = torch.log_softmax(hidden @ student.T, 1)
    hard = -log_p.gather(1, targets.clamp(min=0)[:, None]).squeeze(1)
    by_hand = ((0.5 * hard - 0.5 * (p * log_p).sum(1)) * scales).sum()
    exact = torch.cat([g.flatten() for g in torch.autograd.grad(by_hand, (hidden, student))])

    sampled = list(seeded_weights(shards, num_seeds, temperature, entries))
    gradients = torch.stack([gradient(weights) for weights in sampled])
    noise = gradients.var(0).sum() / num_seeds

    def squared_error(found):
        """In units of what chance gives the mean of unbiased gradients."""
        return float((found - exact).square().sum() / noise)

    assert squared_error(gradients.mean(0)) < 1.5
    if temperature != 1:
        normalised = [w / w.sum(1, keepdim=True).clamp(min=1e-9) for w in sampled]
        assert squared_error(sum(gradient(w) for w in normalised) / num_seeds) > 3
    top_k = torch.where(p >= p.topk(entries).values[:, -1:], p, 0.0)
    assert squared_error(gradient(top_k)) > 30


@pytest.mark.parametrize("temperature", TEMPERATURES.values(), ids=TEMPERATURES)
def test_weights_average_to_the_probabilities_over_seeds(temperature, tmp_path):
    shards = write_rows(tmp_path, random_rows(3, longest=20))
    p = true_probabilities(peaked_model(), shards)
    store = SequenceStore(open_shards(shards))
    counted = (store.batch(range(3)).targets_BT != IGNORED).flatten()
    stacked = torch.stack(list(seeded_weights(shards, 300, temperature, 4)))[:, counted].double()
    # sums over positions, whose draws are independent
    sums = stacked.sum(1)
    standard_errors = (sums.mean(0) - p[counted].sum(0)) / (sums.std(0) / 300**0.5)
    assert standard_errors.abs().max() < 4.5
    assert standard_errors.square().mean() < 1.5
    assert stacked.sum(2).mean() == pytest.approx(1, abs=0.01)


# --- what it does not depend on


def test_captures_do_not_depend_on_batches_blocks_or_shards(tmp_path, monkeypatch):
    rows = random_rows(30, seed=4)
    one = write_rows(tmp_path / "one", rows)
    run_capture(one, tmp_path / "straight")
    expected, _ = all_weights(tmp_path / "straight", one)
    run_capture(one, tmp_path / "single", memory_gb=1e-9)
    several = write_rows(tmp_path / "several", rows, per_shard=8)
    monkeypatch.setattr("miniplm.scoring.capture._BLOCK_ENTRIES", 50 * 100)
    run_capture(several, tmp_path / "several-capture")
    assert Capture(tmp_path / "several-capture/data_0.arrow", open_shards(several)[0]).num_entries
    for folder, shards in (("single", one), ("several-capture", several)):
        found, _ = all_weights(tmp_path / folder, shards)
        # rounding differs between batches, and now and then moves one draw to another id
        differing = ((found - expected).abs() > 1e-6).any(1)
        assert differing.float().mean() < 0.01
        assert (found - expected).abs().max() < 1.5 / 50


def test_another_seed_draws_otherwise(tmp_path):
    shards = write_rows(tmp_path / "shards", random_rows(5))
    for seed in (1, 2):
        run_capture(shards, tmp_path / str(seed), seed=seed)
    one, other = (all_weights(tmp_path / str(seed), shards)[0] for seed in (1, 2))
    assert ((one - other).abs().sum(1) > 0).float().mean() > 0.5


def test_blocks_of_rows_are_record_batches_of_the_same_rows(tmp_path, monkeypatch):
    shards = write_rows(tmp_path / "shards", random_rows(30))
    run_capture(shards, tmp_path / "one")
    monkeypatch.setattr("miniplm.scoring.capture._BLOCK_ENTRIES", 50 * 200)
    run_capture(shards, tmp_path / "several")
    files = [pa.ipc.open_file(tmp_path / name / "data_0.arrow") for name in ("one", "several")]
    assert files[0].num_record_batches == 1
    assert files[1].num_record_batches > 3
    ids = [file.read_all()["sequence_id"].to_pylist() for file in files]
    assert ids[0] == ids[1] == list(range(30))


# --- resuming


def modified(folder):
    return {path.name: path.stat().st_mtime_ns for path in sorted(folder.iterdir())}


def test_capturing_resumes_between_shards_with_the_same_bytes(tmp_path, monkeypatch):
    from miniplm.scoring import capture

    shards = write_rows(tmp_path / "shards", random_rows(30), per_shard=8)
    run_capture(shards, tmp_path / "straight")
    calls, whole = [], capture.captured_rows

    def dies_in_the_second_shard(model, batch, sequence_ids, *others):
        if sequence_ids.min() >= 8:
            raise KeyboardInterrupt
        calls.append(1)
        return whole(model, batch, sequence_ids, *others)

    monkeypatch.setattr(capture, "captured_rows", dies_in_the_second_shard)
    with pytest.raises(KeyboardInterrupt):
        run_capture(shards, tmp_path / "killed")
    done = modified(tmp_path / "killed")
    assert list(done) == ["data_0.arrow"]
    assert calls
    monkeypatch.undo()
    outcome = run_capture(shards, tmp_path / "killed")
    for path in (tmp_path / "straight").iterdir():
        assert (tmp_path / "killed" / path.name).read_bytes() == path.read_bytes()
    assert modified(tmp_path / "killed")["data_0.arrow"] == done["data_0.arrow"]
    assert outcome.num_tokens == sum(s.num_ids - len(s) for s in open_shards(shards))


@pytest.mark.parametrize(
    "changes",
    [{"fingerprint": "other"}, {"seed": 2}, {"entries": 51}, {"method": "top_k"},
     {"temperature": 2.0}],
    ids=lambda changes: next(iter(changes)),
)  # fmt: skip
def test_what_was_captured_in_another_way_is_done_again(changes, tmp_path):
    shards = write_rows(tmp_path / "shards", random_rows(4))
    run_capture(shards, tmp_path / "capture")
    before = modified(tmp_path / "capture")
    run_capture(shards, tmp_path / "capture")
    assert modified(tmp_path / "capture") == before
    run_capture(shards, tmp_path / "capture", **changes)
    assert modified(tmp_path / "capture") != before
    run_capture(shards, tmp_path / "fresh", **changes)
    one, other = (tmp_path / name / "data_0.arrow" for name in ("capture", "fresh"))
    assert one.read_bytes() == other.read_bytes()


def test_batches_are_halved_when_memory_runs_out(tmp_path, monkeypatch):
    from miniplm.scoring import capture

    shards = write_rows(tmp_path / "shards", random_rows(20))
    run_capture(shards, tmp_path / "straight")
    whole, most = capture.captured_rows, 200

    def limited(model, batch, *others):
        if batch.input_ids_BT.numel() > most:
            raise torch.OutOfMemoryError("CUDA out of memory")
        return whole(model, batch, *others)

    monkeypatch.setattr(capture, "captured_rows", limited)
    outcome = run_capture(shards, tmp_path / "halved")
    assert outcome.facts["batch_tokens"] <= most
    assert all_weights(tmp_path / "halved", shards)[0].sum() > 0
    most = 10
    with pytest.raises(ModelError, match="no memory for a single row of"):
        run_capture(shards, tmp_path / "again")
    assert not list((tmp_path / "again").iterdir())


# --- reading


@pytest.fixture
def captured(tmp_path):
    """Shards in `shards` and their capture in `capture`."""
    shards = write_rows(tmp_path / "shards", random_rows(20), per_shard=8)
    run_capture(shards, tmp_path / "capture")
    return tmp_path


def read(folder):
    return Captured(folder / "capture", open_shards(folder / "shards"))


def test_a_batch_holds_the_entries_of_its_rows(captured):
    whole, _ = all_weights(captured / "capture", captured / "shards")
    width = len(whole) // 20
    indices = [17, 3, 8, 3]
    targets = read(captured).batch(indices, width)
    expected = whole.view(20, width, -1)[indices].flatten(0, 1)
    torch.testing.assert_close(dense(targets, 4 * width), expected)
    assert targets.ids_M.dtype == targets.positions_M.dtype == torch.int64
    assert targets.weights_M.dtype == torch.float32
    counts = torch.bincount(targets.positions_M, minlength=4 * width)
    assert targets.starts_N1.tolist() == [0, *counts.cumsum(0).tolist()]
    wider = read(captured).batch(indices, width + 5)
    np.testing.assert_array_equal(wider.ids_M, targets.ids_M)
    np.testing.assert_array_equal(
        wider.positions_M, targets.positions_M + 5 * (targets.positions_M // width)
    )


def test_a_capture_of_other_shards_is_refused(captured):
    shutil.rmtree(captured / "shards")
    write_rows(captured / "shards", random_rows(20, seed=1), per_shard=8)
    other = open_shards(captured / "shards")[0].info.shard_hash[:12]
    with pytest.raises(
        ArtefactError,
        match=rf"data_0.arrow: holds the capture of another token shard .*{other}.*Capture these",
    ):
        read(captured)


def test_a_shard_that_was_not_captured_is_named(captured):
    (captured / "capture/data_1.arrow").unlink()
    with pytest.raises(ArtefactError, match=r"data_1\.arrow: no such file; this shard was not"):
        read(captured)


@pytest.mark.parametrize("keep", [0, 20, -8])
def test_a_capture_that_is_cut_off_is_damaged(captured, keep):
    path = captured / "capture/data_0.arrow"
    path.write_bytes(path.read_bytes()[:keep])
    with pytest.raises(ArtefactError, match=r"data_0.arrow: is damaged .*Capture this shard again"):
        read(captured)
    run_capture(captured / "shards", captured / "capture")
    read(captured)


def rewrite(path, change, metadata=None):
    """Replace the table of a capture by a changed one."""
    table = pa.ipc.open_file(pa.BufferReader(path.read_bytes())).read_all()
    table = change(table).replace_schema_metadata(metadata or table.schema.metadata)
    with pa.ipc.new_file(str(path), table.schema) as writer:
        writer.write_table(table.combine_chunks())


def test_a_capture_with_rows_of_other_lengths_is_damaged(captured):
    rewrite(captured / "capture/data_0.arrow", lambda table: table.slice(0, 7))
    with pytest.raises(ArtefactError, match="rows are not as long as those of the shard"):
        read(captured)


def test_entries_that_do_not_add_up_are_noticed(captured):
    def change(table):
        numbers = table["num_entries"].combine_chunks()
        values = numbers.values.to_numpy().copy()
        values[0] += 1
        column = pa.ListArray.from_arrays(numbers.offsets, pa.array(values))
        return table.set_column(1, table.schema.field(1), column)

    rewrite(captured / "capture/data_0.arrow", change)
    read(captured).batch([1], 64)
    with pytest.raises(ArtefactError, match="entries of its row 0 do not add up"):
        read(captured).batch([0], 64)


def test_other_arrow_files_are_no_captures(captured):
    path = captured / "capture/data_0.arrow"
    rewrite(path, lambda table: table, {b"miniplm": b"{}"})
    with pytest.raises(ArtefactError, match="is not a capture"):
        read(captured)
    run_capture(captured / "shards", captured / "capture")
    rewrite(path, lambda table: table.drop_columns("weights"))
    with pytest.raises(ArtefactError, match="columns are not those of a capture"):
        read(captured)


def test_captures_of_different_make_do_not_go_together(captured):
    run_capture(captured / "shards", captured / "other", method="top_k")
    shutil.copy(captured / "other/data_2.arrow", captured / "capture/data_2.arrow")
    with pytest.raises(
        ArtefactError, match=r"data_0.arrow and data_2.arrow were captured from different"
    ):
        read(captured)


# --- the file


def test_a_file_names_teacher_shard_and_config(captured):
    schema = pa.ipc.open_file(captured / "capture/data_1.arrow").schema
    shard = open_shards(captured / "shards")[1]
    assert json.loads(schema.metadata[b"miniplm"]) == {
        "shard_hash": shard.info.shard_hash, "model": "tiny", "model_fingerprint": "fingerprint",
        "dtype": "float32", "vocab_size": 128, "method": "sampled", "entries": 50,
        "temperature": 1.0, "seed": 1,
    }  # fmt: skip


@pytest.mark.parametrize(
    ("config", "vocab_size", "types"),
    [
        ({}, 65_536, ("uint8", "uint16", "uint8")),
        ({"entries": 256}, 65_537, ("uint16", "uint32", "uint16")),
        ({"temperature": 2.0}, 100, ("uint8", "uint16", "halffloat")),
        ({"method": "top_k"}, 100, ("uint8", "uint16", "halffloat")),
    ],
)
def test_numbers_are_stored_in_the_smallest_type(config, vocab_size, types):
    fields = CaptureConfig(**config).model_dump(exclude={"corpus"})
    schema = CaptureInfo("", "", "", "", vocab_size, **fields, seed=0).schema
    assert tuple(str(field.type.value_type) for field in list(schema)[1:]) == types


def test_a_large_vocabulary_makes_the_round_trip(tmp_path):
    shards = write_rows(tmp_path / "shards", random_rows(2, vocab_size=70_000), vocab_size=70_000)
    model = teacher(vocab_size=70_000)
    run_capture(shards, tmp_path / "capture", model=model, entries=300)
    weights, counted = all_weights(tmp_path / "capture", shards)
    p = true_probabilities(model.model, shards)
    assert ((weights - p)[counted].abs() * 300).max() < 1.01
    assert weights[counted].sum(1).numpy() == pytest.approx(1, abs=1e-5)


def test_bytes_per_token_are_those_of_the_files(tmp_path):
    shards = write_rows(tmp_path / "shards", random_rows(40), per_shard=20)
    outcome = run_capture(shards, tmp_path / "capture")
    num_bytes = sum(path.stat().st_size for path in (tmp_path / "capture").iterdir())
    assert outcome.facts["bytes_per_token"] == pytest.approx(
        num_bytes / outcome.num_tokens, abs=0.01
    )
    weights, _ = all_weights(tmp_path / "capture", shards)
    entries = float((weights > 0).sum()) / outcome.num_tokens
    assert outcome.facts["entries_per_token"] == pytest.approx(entries, abs=0.01)
    assert outcome.counts == {"sequences": 40}


def test_forward_flops_are_counted(tmp_path):
    from miniplm.model_size import size_of

    shards = write_rows(tmp_path / "shards", random_rows(4))
    outcome = run_capture(shards, tmp_path / "capture")
    length = sum(len(row) for row in random_rows(4)) // 4
    per_token = size_of(tiny_model(), length).forward_flops_per_token
    assert outcome.flops == outcome.num_tokens * per_token


# --- teachers and shards that are out of the ordinary


def test_a_padded_vocabulary_takes_no_part(tmp_path):
    shards = write_rows(tmp_path / "shards", random_rows(8, vocab_size=100), vocab_size=100)
    model = teacher(vocab_size=100)  # padded to 128
    run_capture(shards, tmp_path / "capture", model=model)
    weights, counted = all_weights(tmp_path / "capture", shards)
    store = SequenceStore(open_shards(shards))
    with torch.no_grad():
        ids = store.batch(range(8)).input_ids_BT
        logits = model.model(input_ids=ids, use_cache=False).logits.flatten(0, 1)
    p = torch.softmax(logits[:, :100].double(), 1)
    assert weights.shape[1] == 100
    assert ((weights - p)[counted].abs() * 50).max() < 1.01


def test_a_bias_of_the_output_layer_counts(tmp_path):
    shards = write_rows(tmp_path / "shards", random_rows(5))
    model = teacher()
    bias = torch.linspace(-3, 3, 128)
    model.model.lm_head.bias = torch.nn.Parameter(bias)
    run_capture(shards, tmp_path / "capture", model=model)
    weights, counted = all_weights(tmp_path / "capture", shards)
    p = true_probabilities(model.model, shards)
    assert ((weights - p)[counted].abs() * 50).max() < 1.01


def test_logits_that_are_not_finite_are_refused(tmp_path):
    shards = write_rows(tmp_path / "shards", [[5, 6, 7], [20, 9, 4]])
    model = teacher(family="llama")
    with torch.no_grad():
        model.model.get_input_embeddings().weight[20] = float("nan")
    with pytest.raises(
        ModelError, match=r"tiny: 1 of the sequences .*not finite \(ids \[1\]\).*float32"
    ):
        run_capture(shards, tmp_path / "capture", model=model)


def test_a_teacher_of_a_smaller_vocabulary_is_refused(tmp_path):
    shards = write_rows(tmp_path / "shards", random_rows(3, vocab_size=300), vocab_size=300)
    with pytest.raises(ModelError, match=r"128 rows.*ids up to 299"):
        run_capture(shards, tmp_path / "capture")


def test_a_shard_without_rows_and_one_without_targets(tmp_path):
    shards = write_rows(tmp_path / "shards", [[0, 9], [0, 0, 0]])
    write_shard(
        shards / "data_1", [], Shard(shards / "data_0").sidecar.slice(0, 0),
        vocab_size=128, eos_id=0, max_length=64,
    )  # fmt: skip
    for name, config in (("sampled", {}), ("top_k", {"method": "top_k"})):
        outcome = run_capture(shards, tmp_path / name, **config)
        assert outcome.facts["entries_per_token"] == 0
        targets = Captured(tmp_path / name, open_shards(shards)).batch([1, 0], 32)
        assert len(targets.ids_M) == len(targets.positions_M) == len(targets.weights_M) == 0


def test_a_compiler_that_fails_is_done_without(tmp_path, monkeypatch):
    monkeypatch.setattr("miniplm.scoring.tuning.COMPILING_PAYS_FROM", 0.0)
    monkeypatch.setattr("miniplm.scoring.tuning.can_compile", lambda _: True)

    def fail(*_, **__):
        raise RuntimeError("Python.h: No such file or directory")

    monkeypatch.setattr("torch.nn.Module.compile", fail)
    shards = write_rows(tmp_path / "shards", random_rows(4))
    assert not run_capture(shards, tmp_path / "capture").facts["compiled"]


@pytest.mark.parametrize(
    ("given", "message"),
    [
        ({"entries": 0}, "entries"),
        ({"temperature": 0.5}, "temperature"),
        ({"method": "top_k", "temperature": 2.0}, "temperature is of method sampled only"),
        ({"methd": "top_k"}, "did you mean 'method'"),
    ],
)
def test_what_cannot_be_captured_is_refused(given, message):
    with pytest.raises(ConfigError, match=message):
        validate(CaptureConfig, given, "recipe", "capture")
