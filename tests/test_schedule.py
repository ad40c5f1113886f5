import math

import pytest

from miniplm.training.schedule import lr_factor

SETTINGS = {"num_steps": 100, "warmup_steps": 20, "min_lr_ratio": 0.1, "decay_share": 0.2}
SCHEDULES = ("cosine", "linear", "wsd", "constant")


def factor(step, schedule, **changes):
    return lr_factor(step, schedule=schedule, **{**SETTINGS, **changes})


@pytest.mark.parametrize("schedule", SCHEDULES)
def test_all_warm_up_alike_and_reach_the_peak(schedule):
    assert factor(0, schedule) == 1 / 21
    assert factor(19, schedule) == 20 / 21
    assert factor(20, schedule) == 1.0


@pytest.mark.parametrize(
    ("schedule", "step", "expected"),
    [
        ("cosine", 60, 0.55),  # half way: (1 + 0.1) / 2
        ("cosine", 40, 0.1 + 0.9 * 0.5 * (1 + math.cos(math.pi / 4))),
        ("linear", 60, 0.55),
        ("linear", 80, 0.325),  # three quarters of the way from 1 to 0.1
        ("wsd", 79, 1.0),
        ("wsd", 80, 1.0),
        ("wsd", 90, 0.55),
        ("wsd", 99, 0.145),  # a twentieth of 0.9 above the end
        ("constant", 99, 1.0),
    ],
)
def test_factors_worked_by_hand(schedule, step, expected):
    assert factor(step, schedule) == pytest.approx(expected)


@pytest.mark.parametrize("schedule", ["cosine", "linear", "wsd"])
def test_falling_schedules_end_at_the_minimum_and_stay_there(schedule):
    assert factor(100, schedule) == pytest.approx(0.1)
    assert factor(250, schedule) == pytest.approx(0.1)
    steps = [factor(step, schedule) for step in range(20, 101)]
    assert steps == sorted(steps, reverse=True)


def test_a_minimum_of_zero_is_reached():
    assert factor(100, "linear", min_lr_ratio=0.0) == 0.0


def test_wsd_that_decays_all_the_way_is_linear_and_one_that_never_does_is_constant():
    for step in range(101):
        assert factor(step, "wsd", decay_share=1.0) == factor(step, "linear")
        assert step == 100 or factor(step, "wsd", decay_share=0.0) == factor(step, "constant")


def test_a_warm_up_of_all_steps_never_falls():
    for schedule in SCHEDULES:
        assert factor(99, schedule, warmup_steps=100) == 100 / 101
