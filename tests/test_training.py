import json
import math
import os
import re
import shutil
import signal
from dataclasses import replace

import numpy as np
import pytest
import torch

from conftest import FAMILIES, random_rows, tiny_model, write_rows
from miniplm.data.loader import IGNORED, SequenceStore, make_batch
from miniplm.data.order import EpochOrder
from miniplm.data.shards import open_shards
from miniplm.data.tokenizer import train_tokenizer
from miniplm.errors import ArtefactError, ConfigError, ModelError, StoppedError, TrainingError
from miniplm.model import ModelConfig, ShapeConfig, build_model, model_config
from miniplm.model_checks import check_shape
from miniplm.model_size import model_size
from miniplm.training.budget import budget_steps
from miniplm.training.checkpoint import Checkpoints
from miniplm.training.config import BudgetConfig, TrainingConfig
from miniplm.training.feed import Feed
from miniplm.training.held_out import HeldOut
from miniplm.training.inputs import TrainInputs, make_feed
from miniplm.training.metrics import read_metrics
from miniplm.training.objective import LinearCrossEntropy
from miniplm.training.schedule import lr_factor
from miniplm.training.student import train_model
from miniplm.training.student_loss import MicroBatch, StudentLoss
from miniplm.training.targets import HardTargets
from miniplm.training.trainer import Trainer

NUM_BYTES_V = np.arange(128) % 5


def config(**changes):
    settings = {
        "budget": BudgetConfig(steps=8), "lr": 1e-2, "warmup_steps": 2, "global_batch_size": 6,
        "precision": "float32", "log_every_steps": 1, "checkpoint_every_steps": 3,
        "eval_every_steps": 4,
    }  # fmt: skip
    return TrainingConfig(**{**settings, **changes})


@pytest.fixture
def store(tmp_path):
    return SequenceStore(open_shards(write_rows(tmp_path / "shards", random_rows(20), per_shard=7)))


def run(model, store, folder, settings=None, order=None, **changes):
    feed = Feed(store, order or EpochOrder(len(store), seed=5))
    trainer = Trainer(
        StudentLoss(model), feed, settings or config(), folder,
        seed=5, flops_per_token=300.0, **changes,
    )  # fmt: skip
    return trainer.train()


def batch_of(size, step):
    return EpochOrder(10, seed=1).batch(step, size)


# --- order and batches


def test_each_epoch_shows_every_sequence_once_in_another_order():
    seen = np.concatenate([batch_of(4, step) for step in range(5)])
    assert sorted(seen[:10]) == sorted(seen[10:]) == list(range(10))
    assert seen[:10].tolist() != seen[10:].tolist()


def test_batches_depend_on_step_and_seed_only():
    later = batch_of(4, 7)
    np.testing.assert_array_equal(later, batch_of(4, 7))
    halves = [batch_of(2, step) for step in (14, 15)]
    np.testing.assert_array_equal(np.concatenate(halves), later)
    assert EpochOrder(10, seed=2).batch(0, 10).tolist() != batch_of(10, 0).tolist()


def test_targets_are_the_next_ids_but_behind_eos_and_in_padding():
    batch = make_batch([np.array([5, 6, 0, 7]), np.array([8, 9])], eos_id=0, length=4)
    assert batch.input_ids_BT.tolist() == [[5, 6, 0, 0], [8, 0, 0, 0]]
    assert batch.targets_BT.tolist() == [[6, 0, IGNORED, IGNORED], [9, IGNORED, IGNORED, IGNORED]]
    assert batch.num_tokens_B.tolist() == [2, 1]


def test_shards_of_different_make_are_refused(tmp_path):
    a = write_rows(tmp_path / "a", random_rows(3), vocab_size=128)
    b = write_rows(tmp_path / "b", random_rows(3), vocab_size=300)
    with pytest.raises(ArtefactError, match="differ in"):
        SequenceStore([*open_shards(a), *open_shards(b)])


# --- objective


def plain_loss(model, batch):
    """The paper's loss by the book: mean per token in each sequence, mean over sequences."""
    logits = model(input_ids=batch.input_ids_BT, use_cache=False).logits
    losses = torch.nn.functional.cross_entropy(
        logits.transpose(1, 2), batch.targets_BT, ignore_index=IGNORED, reduction="none"
    )
    return (losses.sum(1) / batch.num_tokens_B).mean()


@pytest.mark.parametrize("family", FAMILIES)
def test_loss_and_gradients_equal_those_of_full_logits(family, store, monkeypatch):
    monkeypatch.setattr("miniplm.training.objective.chunk_length", lambda *_: 11)
    batch = store.batch(range(5))
    ours, theirs = tiny_model(family), tiny_model(family)
    weights = torch.full((5,), 1 / 5)
    loss = StudentLoss(ours)(MicroBatch(batch.input_ids_BT, batch.targets_BT, weights)).loss
    expected = plain_loss(theirs, batch)
    loss.backward()
    expected.backward()
    assert loss.item() == pytest.approx(expected.item(), rel=1e-5)
    for (name, mine), other in zip(ours.named_parameters(), theirs.parameters(), strict=True):
        torch.testing.assert_close(mine.grad, other.grad, atol=1e-4, rtol=1e-3, msg=name)


def test_a_bias_of_the_output_layer_gets_its_gradient():
    generator = torch.Generator().manual_seed(0)
    hidden = torch.randn(9, 4, generator=generator, requires_grad=True)
    weight = torch.randn(7, 4, generator=generator, requires_grad=True)
    bias = torch.randn(7, generator=generator, requires_grad=True)
    targets, weights = torch.arange(9) % 7, torch.rand(9, generator=generator)
    mixture = ((1.0, HardTargets(targets)),)
    loss = LinearCrossEntropy.apply(hidden, weight, bias, mixture, weights, torch.float32)
    mine = torch.autograd.grad(loss, (hidden, weight, bias))
    logits = hidden @ weight.T + bias
    expected = (
        torch.nn.functional.cross_entropy(logits, targets, reduction="none") * weights
    ).sum()
    torch.testing.assert_close(mine, torch.autograd.grad(expected, (hidden, weight, bias)))


def test_micro_batches_do_not_change_the_run(store, tmp_path):
    losses = {}
    for size in (1, 4, 6):
        model = tiny_model()
        run(model, store, tmp_path / str(size), config(micro_batch_size=size))
        losses[size] = [r["loss"] for r in read_metrics(tmp_path / f"{size}/metrics.jsonl")[1:]]
    np.testing.assert_allclose(losses[1], losses[6], rtol=1e-4)
    np.testing.assert_allclose(losses[4], losses[6], rtol=1e-4)


# --- schedule and budget


def test_schedule_by_hand():
    def factor(step):
        return lr_factor(step, schedule="cosine", num_steps=103, warmup_steps=3, min_lr_ratio=0.1)

    assert [factor(step) for step in range(4)] == pytest.approx([0.25, 0.5, 0.75, 1.0])
    assert factor(53) == pytest.approx(0.55)
    assert factor(103) == pytest.approx(0.1)
    assert factor(500) == pytest.approx(0.1)


def test_budgets_by_hand():
    assert budget_steps(BudgetConfig(steps=7), 100.0, 5.0) == 7
    assert budget_steps(BudgetConfig(tokens=1_040), 100.0, 5.0) == 10
    assert budget_steps(BudgetConfig(flops=5.0 * 760), 100.0, 5.0) == 8
    assert budget_steps(BudgetConfig(tokens=51), 100.0, 5.0) == 1
    with pytest.raises(TrainingError, match="pays for 49 tokens, less than half of the 100 of a"):
        budget_steps(BudgetConfig(tokens=49), 100.0, 5.0)


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"family": "qwem2"}, r"no such model type; did you mean 'qwen2"),
        ({"family": "gpt2"}, "has no intermediate_size; leave shape.intermediate_size out"),
        ({"family": "ernie4_5_moe"}, "mixture of experts .* of a kind"),
        ({"family": "t5"}, "t5"),
        ({"num_heads": 3}, "not a multiple of num_heads 3"),
        ({"num_kv_heads": 3}, "cannot build"),
        ({"extra": {"foo": 3}}, "has no field 'foo'"),
        ({"family": "cohere"}, "changes its logits"),
    ],
)
def test_shapes_that_cannot_be_trained_are_refused_without_weights(changes, message):
    shape = FAMILIES["llama"].model_copy(update=changes)
    with pytest.raises(ModelError, match=message):
        check_shape(model_config(ModelConfig(shape=shape), 128, 64))


_SMALL_MAMBA2 = {"expand": 2, "head_dim": 32, "n_groups": 1}


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"head_dim": 16}, r"\(64 \* 2 = 128\) has to be num_heads \* head_dim \(4 \* 16 = 64\)"),
        ({"n_groups": 3}, r"num_heads \(4\) has to be a multiple of n_groups \(3\)"),
    ],
)
def test_fields_of_mamba2_have_to_fit_each_other(changes, message):
    shape = ShapeConfig(
        family="mamba2", hidden_size=64, num_layers=1, num_heads=4, extra=_SMALL_MAMBA2 | changes
    )
    with pytest.raises(ModelError, match=message):
        model_config(ModelConfig(shape=shape), 128, 64)


def test_the_heads_of_mamba2_may_stand_where_those_of_others_do():
    fields = {"family": "mamba2", "hidden_size": 64, "num_layers": 1}
    ours = ShapeConfig(**fields, num_heads=4, extra=_SMALL_MAMBA2)
    theirs = ShapeConfig(**fields, extra={**_SMALL_MAMBA2, "num_heads": 4})
    made = [model_config(ModelConfig(shape=shape), 128, 64).to_dict() for shape in (ours, theirs)]
    assert made[0] == made[1]
    assert made[0]["num_heads"] == 4


def test_the_reason_of_a_library_is_shown_whole():
    shape = ShapeConfig(
        family="qwen2", hidden_size=32, intermediate_size=64, num_layers=2, num_heads=2,
        extra={"layer_types": ["full_attention"] * 3},
    )  # fmt: skip
    with pytest.raises(ModelError, match=r"'validate_layer_type': ValueError: .*must be equal"):
        model_config(ModelConfig(shape=shape), 128, 64)


@pytest.mark.parametrize("family", FAMILIES)
def test_shapes_that_can_be_trained_pass(family):
    check_shape(model_config(ModelConfig(shape=FAMILIES[family]), 128, 64))


def test_gpt2_is_counted_by_its_own_layers():
    shape = ShapeConfig(family="gpt2", hidden_size=32, num_layers=2, num_heads=2)
    size = model_size(model_config(ModelConfig(shape=shape), 128, 64), 64)
    body = 2 * (4 * 32 * 32 + 2 * 32 * 128)
    assert size.forward_flops_per_token == 2 * (body + 128 * 32) + 2 * 4 * 64 * 32


def test_special_ids_of_the_family_do_not_reach_our_vocabulary():
    shape = ShapeConfig(
        family="olmo2", hidden_size=32, intermediate_size=64, num_layers=1, num_heads=2
    )
    model = build_model(model_config(ModelConfig(shape=shape), 128, 64), 0)
    assert model.get_input_embeddings().padding_idx is None
    assert model.config.bos_token_id is None


def test_flops_are_counted_from_the_shape():
    shape = model_config(ModelConfig(shape=FAMILIES["llama"]), 128, 64)
    size = model_size(shape, 64)
    body = 2 * (4 * 32 * 32 + 3 * 32 * 64)
    assert size.num_params == body + 2 * 128 * 32 + (2 * 2 + 1) * 32
    assert size.forward_flops_per_token == 2 * (body + 128 * 32) + 2 * 4 * 64 * 32


# --- checkpoints


def weights_of(model):
    return {name: value.clone() for name, value in model.state_dict().items()}


@pytest.mark.parametrize("dies_at", [1, 4, 7])
def test_a_killed_and_resumed_run_equals_the_straight_one_bit_for_bit(store, tmp_path, dies_at):
    held_out = HeldOut(store, 4, NUM_BYTES_V)
    straight = tiny_model()
    run(straight, store, tmp_path / "straight", held_out=held_out)

    class Dying(EpochOrder):
        def batch(self, step, size):
            if step == dies_at:
                raise KeyboardInterrupt
            return super().batch(step, size)

    with pytest.raises(KeyboardInterrupt):
        run(tiny_model(), store, tmp_path / "killed", order=Dying(20, seed=5), held_out=held_out)
    resumed = tiny_model()
    run(resumed, store, tmp_path / "killed", held_out=held_out)
    for name, value in weights_of(straight).items():
        assert torch.equal(value, resumed.state_dict()[name]), name
    curves = []
    for folder in ("straight", "killed"):
        records = read_metrics(tmp_path / folder / "metrics.jsonl")
        curves.append([{k: v for k, v in r.items() if "seconds" not in k} for r in records])
    assert curves[0] == curves[1]
    assert len(curves[0]) == 9  # before the first step, and after each of the eight


def test_only_the_last_two_checkpoints_stay(store, tmp_path):
    run(tiny_model(), store, tmp_path, config(checkpoint_every_steps=2))
    names = [path.name for path in Checkpoints(tmp_path / "checkpoints").complete()]
    assert names == ["step-00000006", "step-00000008"]
    suffixes = {p.suffix for p in (tmp_path / "checkpoints").rglob("*") if p.is_file()}
    assert suffixes == {".safetensors", ".json"}


def test_a_half_written_checkpoint_does_not_count(store, tmp_path):
    run(tiny_model(), store, tmp_path / "a", config(checkpoint_every_steps=2))
    last = Checkpoints(tmp_path / "a/checkpoints").complete()[-1]
    last.rename(last.with_name(f".{last.name}.tmp"))
    assert [p.name for p in Checkpoints(tmp_path / "a/checkpoints").complete()] == ["step-00000006"]


def test_damaged_and_foreign_checkpoints_are_named(store, tmp_path):
    run(tiny_model(), store, tmp_path)
    with pytest.raises(TrainingError, match="belongs to a model of another shape"):
        run(tiny_model("llama"), store, tmp_path)
    file = Checkpoints(tmp_path / "checkpoints").complete()[-1] / "state.safetensors"
    file.write_bytes(file.read_bytes()[:100])
    with pytest.raises(TrainingError, match="cannot be read"):
        run(tiny_model(), store, tmp_path)


def test_a_loss_that_is_not_finite_stops_with_step_and_sequences(store, tmp_path):
    model = tiny_model()
    with torch.no_grad():
        model.get_input_embeddings().weight[3] = math.nan
    with pytest.raises(
        TrainingError, match=r"step 1: loss nan.*sequences .*data_1:2.*no checkpoint yet"
    ):
        run(model, store, tmp_path)


def test_a_gradient_that_is_not_finite_stops_before_it_does_harm(store, tmp_path, caplog):
    """The loss is finite; the gradient of the fifth step is not."""
    straight, model, count = tiny_model(), tiny_model(), 0
    run(straight, store, tmp_path / "straight")

    def spoil(grad):
        nonlocal count
        count += 1
        return grad * math.nan if count == 5 else grad

    model.get_input_embeddings().weight.register_hook(spoil)
    with pytest.raises(TrainingError) as caught:
        run(model, store, tmp_path / "out", config(micro_batch_size=6))
    message = str(caught.value)
    assert re.match(r"step 5: loss \d+\.\d+, gradient norm nan; expected finite", message)
    names = [store.name_of(index) for index in EpochOrder(20, seed=5).batch(4, 6)]
    assert f"the sequences (shard:row) {', '.join(names[:4])}, ... (all are in the log)" in message
    assert ", ".join(names) in caplog.text
    assert f"the last good checkpoint is {tmp_path / 'out/checkpoints/step-00000003'}" in message
    resumed = tiny_model()
    run(resumed, store, tmp_path / "out")
    for name, value in weights_of(straight).items():
        assert torch.equal(value, resumed.state_dict()[name]), name


def test_training_learns(store, tmp_path):
    model = tiny_model()
    settings = config(budget=BudgetConfig(steps=60), eval_every_steps=60, lr=3e-3)
    run(model, store, tmp_path, settings, held_out=HeldOut(store, 20, NUM_BYTES_V))
    losses = [r["held_out_loss"] for r in read_metrics(tmp_path / "metrics.jsonl") if
              "held_out_loss" in r]  # fmt: skip
    assert losses[-1] < losses[0] - 1


# --- the stage


@pytest.fixture
def inputs(tmp_path):
    train_tokenizer(["some words to train a tokenizer on. " * 5] * 5, 300, tmp_path / "tokenizer")
    shards = write_rows(tmp_path / "shards", random_rows(20, vocab_size=280), vocab_size=300)
    return TrainInputs({shards: 1.0}, "a test corpus", tmp_path / "tokenizer", shards, 4)


@pytest.mark.parametrize("family", FAMILIES)
def test_a_student_of_any_family_becomes_a_hugging_face_folder(family, inputs, tmp_path):
    shape = ModelConfig(shape=FAMILIES[family])
    settings = config(budget=BudgetConfig(steps=2), precision="bfloat16")
    outcome = train_model("student", shape, settings, inputs, 1, tmp_path / "out")
    folder = tmp_path / "out/model"
    from transformers import AutoModelForCausalLM, AutoTokenizer

    model = AutoModelForCausalLM.from_pretrained(folder)
    tokenizer = AutoTokenizer.from_pretrained(folder)
    ids = tokenizer("some words", return_tensors="pt")["input_ids"]
    written = model.generate(ids, max_new_tokens=5, do_sample=False)
    assert tokenizer.decode(written[0]).startswith("some words")
    assert model.dtype == torch.float32
    card = (folder / "README.md").read_text()
    assert f"{outcome.facts['num_params']:,} parameters" in card
    assert "a test corpus" in card
    assert sum(p.numel() for p in model.parameters()) == outcome.facts["num_params"]
    assert outcome.obsolete == ("checkpoints",)
    assert {p.suffix for p in folder.iterdir()} <= {".safetensors", ".json", ".md", ".jinja"}


def test_domains_that_are_left_out_are_not_trained_on(inputs, tmp_path):
    without = replace(inputs, leave_out=("od*",))
    feed = make_feed(without, config(), 1)
    shown = np.concatenate([feed.order.batch(step, 5) for step in range(4)])
    assert set(shown.tolist()) == set(range(0, 20, 2))
    for epoch in (shown[:10], shown[10:]):
        assert len(set(epoch.tolist())) == 10
    shape = ModelConfig(
        shape=ShapeConfig(hidden_size=16, intermediate_size=32, num_layers=1, num_heads=2)
    )
    settings = config(budget={"steps": 2})
    outcome = train_model("student", shape, settings, without, 1, tmp_path / "out")
    assert outcome.counts["sequences"] == 10
    assert outcome.facts["epochs"] == 2 * settings.global_batch_size / 10
    with pytest.raises(ArtefactError, match="matches every domain of the corpus"):
        make_feed(replace(inputs, leave_out=("*",)), config(), 1)
    other = write_rows(tmp_path / "other", random_rows(5, vocab_size=300), vocab_size=300)
    mixed = replace(without, corpora={**dict.fromkeys(inputs.corpora, 0.5), other: 0.5})
    with pytest.raises(ConfigError, match="several are given"):
        make_feed(mixed, config(), 1)


def test_a_mixture_takes_nothing_that_is_stored_beside_one_corpus(inputs, tmp_path):
    other = write_rows(tmp_path / "other", random_rows(5, vocab_size=300), vocab_size=300)
    mixed = replace(inputs, corpora={**dict.fromkeys(inputs.corpora, 0.5), other: 0.5})
    assert len(make_feed(mixed, config(), 1).store) == 25
    for settings in (config(method="sparse_kd"), config(reweighting={"kind": "static"})):
        with pytest.raises(ConfigError, match="beside one corpus; 2 are given"):
            make_feed(mixed, settings, 1)


def test_a_config_folder_gives_the_shape(inputs, tmp_path):
    first = train_model(
        "a", ModelConfig(shape=FAMILIES["llama"]), config(budget=BudgetConfig(steps=1)), inputs, 1,
        tmp_path / "a",
    )  # fmt: skip
    again = ModelConfig(config_from=str(tmp_path / "a/model"))
    second = train_model(
        "b", again, config(budget=BudgetConfig(steps=1)), inputs, 1, tmp_path / "b"
    )
    assert second.facts["num_params"] == first.facts["num_params"]
    assert json.loads((tmp_path / "b/model/config.json").read_text())["model_type"] == "llama"


def losses_of(store, folder, settings):
    run(tiny_model(), store, folder, settings)
    return [record["loss"] for record in read_metrics(folder / "metrics.jsonl")]


def test_a_bfloat16_run_follows_the_float32_one(store, tmp_path):
    exact = losses_of(store, tmp_path / "float32", config())
    rough = losses_of(store, tmp_path / "bfloat16", config(precision="bfloat16"))
    np.testing.assert_allclose(exact, rough, rtol=0.03)
    assert exact != rough


@pytest.mark.skipif(shutil.which("g++") is None, reason="torch.compile needs a C++ compiler")
@pytest.mark.filterwarnings("ignore::DeprecationWarning")  # torch compiles through its own past
@pytest.mark.filterwarnings("ignore:The .grad attribute of a Tensor")  # which it looks at itself
def test_a_compiled_run_equals_the_plain_one(store, tmp_path):
    plain = losses_of(store, tmp_path / "plain", config(budget=BudgetConfig(steps=3)))
    compiled = losses_of(
        store, tmp_path / "compiled", config(budget=BudgetConfig(steps=3), compile=True)
    )
    np.testing.assert_allclose(plain, compiled, rtol=1e-4)


def test_a_signal_in_the_last_step_stops_too(store, tmp_path, monkeypatch):
    """Or the stages behind this one would go on until somebody kills them."""
    step = Trainer._step

    def signalled(self, number, batch):
        if number == self.num_steps - 1:
            os.kill(os.getpid(), signal.SIGTERM)
        return step(self, number, batch)

    monkeypatch.setattr(Trainer, "_step", signalled)
    stopped, straight = tiny_model(), tiny_model()
    with pytest.raises(StoppedError, match=r"stopped after step (\d+) of \1"):
        run(stopped, store, tmp_path / "stopped")
    monkeypatch.undo()
    run(straight, store, tmp_path / "straight")
    run(stopped, store, tmp_path / "stopped")  # nothing is left to do
    for mine, other in zip(stopped.parameters(), straight.parameters(), strict=True):
        assert torch.equal(mine, other)
