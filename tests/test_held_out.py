"""Losses on held-out text along the way, and what is averaged over."""

import json
import math

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from conftest import random_rows, tiny_model, tiny_recipe, write_rows
from miniplm.config import validate
from miniplm.data.loader import SequenceStore
from miniplm.data.shards import open_shards
from miniplm.errors import ArtefactError
from miniplm.evaluation.averages import domains_apart, mean_over_domains
from miniplm.recipe import Recipe
from miniplm.report.model_content import BITS, NATS
from miniplm.report.training_curves import _held_out, _units
from miniplm.road.road import Road
from miniplm.scoring.forward import sequence_log_probs
from miniplm.training.held_out import HeldOut, balanced_sample
from miniplm.training.parallel import Parallel
from miniplm.training.student_loss import StudentLoss

NUM_BYTES_V = np.arange(128) % 7


@given(st.lists(st.integers(0, 4)), st.integers(1, 40))
def test_a_sample_is_balanced_over_domains(domains, most):
    domains_M = np.array(domains, dtype=np.int64)
    places = balanced_sample(domains_M, most)
    assert len(places) == min(most, len(domains)) == len(set(places.tolist()))
    taken = np.bincount(domains_M[places], minlength=5)
    for domain, there in enumerate(np.bincount(domains_M, minlength=5)):
        assert taken[domain] == there or taken[domain] >= taken.max() - 1
        first = np.flatnonzero(domains_M == domain)[: taken[domain]]
        assert set(first) == set(places[domains_M[places] == domain])
    assert set(places) <= set(balanced_sample(domains_M, most + 1))


def test_what_is_logged_is_measured_row_by_row(tmp_path):
    rows = random_rows(9)
    store = SequenceStore(open_shards(write_rows(tmp_path, rows, per_shard=4)))
    model = tiny_model()
    losses = HeldOut(store, 5, NUM_BYTES_V).measure(StudentLoss(model), Parallel())
    sums = {"even": np.zeros(3), "odd": np.zeros(3)}
    for place in range(5):  # the domains take turns, so the first five
        batch = store.batch([place])
        counted = [b for a, b in zip(rows[place], rows[place][1:], strict=False) if a != 0]
        log_prob = float(sequence_log_probs(model, batch.input_ids_BT, batch.targets_BT))
        sums["odd" if place % 2 else "even"] += [
            log_prob, len(counted), sum(NUM_BYTES_V[i] for i in counted),
        ]  # fmt: skip
    total = sum(sums.values())
    assert losses.loss == pytest.approx(-total[0] / total[1], rel=1e-6)
    assert losses.bits_per_byte == pytest.approx(
        {name: -nats / (size * math.log(2)) for name, (nats, _, size) in sums.items()}, rel=1e-6
    )
    assert json.loads(json.dumps(losses.metrics())) == losses.metrics()


@pytest.mark.parametrize(("most", "said"), [(1, "nothing of 1 of 2 domains"), (2, "")])
def test_a_sample_without_some_domains_says_so(tmp_path, caplog, most, said):
    store = SequenceStore(open_shards(write_rows(tmp_path, random_rows(4), per_shard=4)))
    HeldOut(store, most, NUM_BYTES_V).measure(StudentLoss(tiny_model()), Parallel())
    assert said in caplog.text
    assert bool(caplog.text) == bool(said)


def test_every_domain_may_not_be_set_apart():
    assert domains_apart(["a", "b"], []) == frozenset()
    assert domains_apart(["noise-a", "Noise-b", "law"], ["noise-*", "x"]) == {"noise-a"}
    with pytest.raises(ArtefactError, match=r"matches every domain .*\(a, b\)"):
        domains_apart(["a", "b"], ["[ab]"])
    with pytest.raises(ValueError, match="all set apart"):
        mean_over_domains({"a": 1.0}, {"a"})


def test_curves_are_bits_per_byte_where_all_of_a_figure_logged_them():
    new = {"held_out_loss": 5.0, "held_out": {"law": 1.0, "books": 3.0, "noise": 9.0}}
    old = {"held_out_loss": 4.0}
    logged = {"teacher": ("teacher", [old, new]), "a": ("student", [new]), "b": ("student", [new])}
    assert _units(logged, {"noise"}) == {"teacher": NATS, "a": BITS, "b": BITS}
    assert set(_units(logged | {"b": ("student", [old])}, set()).values()) == {NATS}
    only_apart = {"held_out_loss": 4.0, "held_out": {"noise": 9.0}}
    assert _units({"a": ("student", [only_apart])}, {"noise"}) == {"a": NATS}
    assert _held_out(new, BITS, {"noise"}) == 2.0
    assert _held_out(new, NATS, {"noise"}) == 5.0


def fingerprints(corpus_folder, tmp_path, **changes):
    content = tiny_recipe(corpus_folder, tmp_path / "run") | changes
    road = Road(validate(Recipe, content, "test"))
    return {step.name: step.spec.fingerprint for step in road.steps}


def test_what_is_averaged_over_redoes_no_training(corpus_folder, tmp_path):
    before = fingerprints(corpus_folder, tmp_path)
    apart = fingerprints(corpus_folder, tmp_path, evaluation={"set_apart": ["tables"]})
    changed = {name for name in before if before[name] != apart[name]}
    assert {name.partition("/")[0] for name in changed} == {"evaluate", "report"}
    more = {"held_out_sequences_while_training": 80}
    sampled = fingerprints(corpus_folder, tmp_path, evaluation=more)
    redone = {name for name in before if before[name] != sampled[name]}
    assert {name for name in redone if name.startswith("train/")} == {
        "train/plain", "train/miniplm",
    }  # fmt: skip
    assert "evaluate/teacher" not in redone
