import numpy as np
import pytest
import torch

from conftest import FAMILIES
from miniplm import calibration
from miniplm.calibration import Calibration, Cost, TrainingCosts
from miniplm.model import ModelConfig, ShapeConfig, build_model, model_config, with_layers
from miniplm.training.config import TrainingConfig


def shape(num_layers=2, family="qwen2"):
    given = FAMILIES[family].model_copy(update={"num_layers": num_layers})
    return model_config(ModelConfig(shape=given), 128, 64)


def test_a_straight_line_in_the_number_of_layers_is_continued():
    line = {layers: Cost(0.5 + 0.25 * layers, 100.0 * layers) for layers in (1, 2, 10)}
    assert line[2].extrapolated(line[1], 8) == line[10]
    costs = {layers: TrainingCosts(cost, cost, cost) for layers, cost in line.items()}
    assert costs[2].extrapolated(costs[1], 8) == costs[10]


def test_noise_never_makes_a_deeper_model_cheaper():
    assert Cost(1.0).extrapolated(Cost(1.5), 100) == Cost(1.0)


def test_big_models_are_measured_on_two_layers_and_small_ones_whole(monkeypatch):
    measured = []

    def measure(config):
        measured.append(config.num_hidden_layers)
        return Cost(3.0 + config.num_hidden_layers)

    assert calibration._by_depth(shape(12), measure) == Cost(15.0)
    assert measured == [12]
    monkeypatch.setattr(calibration, "_WHOLE_MODEL_PARAMS", 0)
    assert calibration._by_depth(shape(12), measure) == Cost(15.0)
    assert measured == [12, 2, 1]


@pytest.mark.parametrize("family", FAMILIES)
def test_with_layers_changes_the_depth_and_nothing_else(family):
    deep = shape(5, family)
    shallow = with_layers(deep, 2)
    assert (shallow.num_hidden_layers, deep.num_hidden_layers) == (2, 5)
    per_layer = {
        name
        for name, value in deep.to_dict().items()
        if isinstance(value, list) and len(value) == 5
    }
    for name, value in shallow.to_dict().items():
        if name not in per_layer and name != "num_hidden_layers":
            assert value == deep.to_dict()[name], name
    build_model(shallow, 0)


def test_every_shape_is_measured_once_and_costs_something(monkeypatch):
    monkeypatch.setattr(calibration, "_SECONDS", 0.01)
    found = Calibration(64)
    training = TrainingConfig(budget={"steps": 1})
    first = found.scoring(shape(), "bfloat16"), found.training(shape(), training)
    monkeypatch.setattr(Calibration, "_build", None)
    assert (found.scoring(shape(), "bfloat16"), found.training(shape(), training)) == first
    scoring, costs = first
    assert scoring.seconds > 0
    assert scoring.num_bytes > 0
    assert min(costs.token.seconds, costs.step.seconds, costs.evaluated_token.seconds) > 0
    assert costs.token.num_bytes > 0


def test_bytes_kept_for_the_backward_pass_grow_with_depth(monkeypatch):
    monkeypatch.setattr(calibration, "_SECONDS", 0.01)
    found, training = Calibration(64), TrainingConfig(budget={"steps": 1})
    kept = [found.training(shape(depth), training).token.num_bytes for depth in (1, 2, 3)]
    np.testing.assert_allclose(np.diff(kept), kept[1] - kept[0], rtol=0.05)


def test_timing_waits_for_the_work(monkeypatch):
    monkeypatch.setattr(calibration, "_SECONDS", 0.0)
    calls = []
    Calibration(64)._time(lambda: calls.append(torch.zeros(1)))
    assert len(calls) == 2  # to warm up, and to measure


def test_a_shape_of_mamba_can_be_measured(monkeypatch):
    monkeypatch.setattr(calibration, "_SECONDS", 0.01)
    config = ShapeConfig(family="mamba", hidden_size=32, num_layers=2, extra={"state_size": 8})
    assert (
        Calibration(64).scoring(model_config(ModelConfig(shape=config), 128, 64), "float32").seconds
        > 0
    )
