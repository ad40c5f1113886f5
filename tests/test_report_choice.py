"""What the page says of how a selection was chosen is true of each policy."""

import doctest

import pytest

from miniplm.report import choice_words
from miniplm.report.choice_words import asked_in_words, choice_in_words, dials_in_words, kept_range
from miniplm.selection.config import BASELINES, SelectionConfig

COUNTS = {"sequences": 100, "kept": 50, "not_comparable": 2}


@pytest.mark.parametrize(
    ("asked", "said"),
    [
        ({"within": "domain"}, "ranked by this score within each domain, and the best of each"),
        ({"within": "group"}, "ranked by this score within each group, and the best of each"),
        ({"calibration": "residual"}, "ranked by the score after calibration (residual; drawn is"),
        ({"policy": "token_budget", "tokens": 9, "within": "domain"}, "this score within each dom"),
        ({"policy": "threshold", "min_score": 1, "calibration": "zscore"}, "(zscore; drawn is the"),
        ({"policy": "sample", "temperature": 2}, "chance ~ exp(score / 2)"),
        ({"policy": "sample", "replacement": True, "within": "domain"}, "domain, with replacement"),
        ({"policy": "band", "ratio": 0.3}, "the first 5.0 % are left out and the next 30.0 % kept"),
        ({"policy": "quota"}, "ranked by this score within each domain"),
        ({"policy": "quota", "floor": 0.1}, "The best 10.0 % of each domain by this score"),
        ({"policy": "quota", "shares": {"a": 0.1}, "within": "group"}, "each group that shares na"),
        ({"policy": "random"}, "kept by chance alone, whatever"),
        ({"policy": "random", "within": "domain"}, "by chance alone within each domain"),
        ({"policy": "teacher_only"}, "that the teacher finds likeliest"),
        ({"policy": "reference_only"}, "that the reference finds least likely"),
        ({"policy": "perplexity_band"}, "under the reference lies in the middle"),
    ],
)
def test_each_policy_is_said_as_it_is(asked, said):
    words = choice_in_words(SelectionConfig(**asked), COUNTS)
    assert said in words
    assert (asked.get("policy") in BASELINES) == ("whatever" in words)


def test_narrowing_and_near_duplicates_are_said_too():
    phases = [{"until": 0.3, "ratio": 1}, {"until": 1, "ratio": 0.5}]
    narrowing = SelectionConfig(schedule=phases, one_per_cluster=True)
    words = choice_in_words(narrowing, {**COUNTS, "near_duplicates": 1_234})
    assert "ranked by this score, and the best are kept. As training goes on" in words
    assert words.endswith("which left 1,234 sequences out.")
    assert "cluster" not in choice_in_words(narrowing, {**COUNTS, "near_duplicates": 0})


def test_where_everything_is_kept_there_is_no_best():
    everything = {**COUNTS, "kept": 98}
    assert "All sequences that have a score" in choice_in_words(
        SelectionConfig(ratio=1), everything
    )
    phases = [{"until": 0.3, "ratio": 1}, {"until": 1, "ratio": 0.5}]
    assert "All" not in choice_in_words(SelectionConfig(schedule=phases), everything)


@pytest.mark.parametrize(
    ("asked", "counts", "threshold", "ends"),
    [
        ({}, {}, 0.2, (0.2, None)),
        ({"within": "domain"}, {}, None, (None, None)),
        ({"min_score": 0.1, "max_score": 0.5}, {}, None, (0.1, 0.5)),
        ({"max_score": 0.5}, {}, None, (None, 0.5)),
        ({"max_score": 0.5, "calibration": "residual"}, {}, None, (None, None)),
        ({"max_score": 0.5, "one_per_cluster": True}, {"near_duplicates": 3}, None, (None, None)),
    ],
)
def test_ends_are_drawn_where_they_say_exactly_what_is_kept(asked, counts, threshold, ends):
    policy = "threshold" if "max_score" in asked else "top_ratio"
    config = SelectionConfig(policy=policy, **asked)
    assert kept_range(config, {**COUNTS, **counts}, threshold) == ends


def test_dials_that_are_read_and_set_are_named():
    everything = {
        "policy": "sample", "temperature": 2, "replacement": True, "within": "domain",
        "calibration": "zscore", "normalization": "per_byte", "one_per_cluster": True, "ratio": 0.3,
    }  # fmt: skip
    assert sorted(dials_in_words(SelectionConfig(**everything))) == [
        "calibration zscore", "normalization per_byte", "one_per_cluster", "replacement",
        "temperature 2", "within domain",
    ]  # fmt: skip
    assert dials_in_words(SelectionConfig(ratio=0.3)) == []
    phases = [{"until": 0.3, "ratio": 1}, {"until": 1, "ratio": 0.5}]
    assert dials_in_words(SelectionConfig(schedule=phases)) == ["schedule 1 until 0.3, 0.5 until 1"]
    shares = {"a": 0.1, "b": 0.25}
    assert dials_in_words(SelectionConfig(policy="quota", shares=shares)) == [
        "shares a 0.1, b 0.25"
    ]


def test_a_share_is_of_what_near_duplicates_leave():
    counts = {**COUNTS, "sequences": 10_000, "near_duplicates": 1_000}
    said = "50% of the sequences left (9,000, without 1,000 near-duplicates)"
    assert asked_in_words(SelectionConfig(one_per_cluster=True), counts) == said
    assert asked_in_words(SelectionConfig(), COUNTS) == "50% of the sequences"
    budget = SelectionConfig(policy="token_budget", tokens=9, one_per_cluster=True)
    assert asked_in_words(budget, counts) == "9 predicted tokens"


def test_examples_in_docstrings_hold():
    failed, tried = doctest.testmod(choice_words)
    assert failed == 0
    assert tried > 0


def test_a_mix_alone_is_told():
    config = SelectionConfig(policy="random", mix_of="sampled")
    counts = {"sequences": 10, "kept": 5, "not_comparable": 0}
    assert "as many of each domain as 'sampled' keeps" in choice_in_words(config, counts)
    assert asked_in_words(config, counts) == "as many rows of each domain as 'sampled' keeps"
