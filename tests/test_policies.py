"""Policies: the stage against the rule spelt out, and what every policy promises."""

import shutil
from dataclasses import replace

import numpy as np
import pyarrow.parquet as pq
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from made_up_candidates import (
    Row,
    select,
    select_into,
    simple_selection,
    write_candidates,
    write_row_tables,
)
from miniplm.errors import ArtefactError, ConfigError
from miniplm.recipe import make_recipe
from miniplm.selection.amounts import num_kept
from miniplm.selection.config import SelectionConfig
from miniplm.selection.ranking import gumbel_values, pareto_values


@pytest.fixture(autouse=True, scope="module")
def small_blocks():
    """Shards of more rows than are worked on at a time."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr("miniplm.selection.scores.BLOCK_ROWS", 11)
        yield


VALUES = st.sampled_from([-3.0, -2.5, -2.0, -1.0, -0.5, -0.25])
ROWS = st.lists(
    st.tuples(
        VALUES, VALUES, st.integers(0, 30), st.sampled_from(["books", "code", "logs"]),
        st.integers(0, 2),
    ),
    min_size=2, max_size=40,
).map(lambda fields: [Row(3 * index, *each) for index, each in enumerate(fields)])  # fmt: skip
RATIOS = st.floats(0.05, 0.95)
CONFIGS = st.one_of(
    st.builds(
        lambda policy, ratio, within: {"policy": policy, "ratio": ratio, "within": within},
        st.sampled_from(
            ["top_ratio", "sample", "random", "teacher_only", "reference_only", "perplexity_band"]
        ),
        RATIOS,
        st.sampled_from(["corpus", "domain", "group"]),
    ),
    st.builds(
        lambda policy, tokens, within: {"policy": policy, "tokens": tokens, "within": within},
        st.sampled_from(["token_budget", "sample", "random", "teacher_only", "quota"]),
        st.integers(40, 400),
        st.sampled_from(["corpus", "domain", "group"]),
    ),
    st.builds(
        lambda low, width: {"policy": "threshold", "min_score": low, "max_score": low + width},
        st.sampled_from([-2.0, -0.5, 0.0]),
        st.sampled_from([0.0, 0.5, 2.0]),
    ),
    st.builds(
        lambda skip, ratio: {"policy": "band", "skip_top": skip, "ratio": ratio * (1 - skip)},
        st.floats(0.0, 0.5),
        RATIOS,
    ),
    st.builds(lambda ratio: {"policy": "quota", "ratio": ratio}, RATIOS),
    st.builds(
        lambda part, ratio: {"policy": "quota", "floor": part * ratio, "ratio": ratio},
        st.floats(0.01, 1.0),
        RATIOS,
    ),
    st.builds(
        lambda floor, tokens: {"policy": "quota", "floor": floor, "tokens": tokens},
        st.floats(0.01, 0.9),
        st.integers(40, 400),
    ),
    st.builds(
        lambda names, one, other, ratio: {
            "policy": "quota", "shares": dict(zip(names[1:], (one, other), strict=True)),
            "ratio": ratio, "within": names[0],
        },
        st.sampled_from([("corpus", "books", "code"), ("group", "group 0", "group 2")]),
        st.floats(0.0, 0.5),
        st.floats(0.0, 0.5),
        RATIOS,
    ),
)  # fmt: skip


@settings(max_examples=150)
@given(ROWS, CONFIGS, st.booleans(), st.integers(1, 5), st.randoms())
def test_every_policy_keeps_what_the_rule_spelt_out_keeps(
    tmp_path_factory, rows, config, one_per_cluster, num_shards, random
):
    if one_per_cluster:
        rows = in_clusters(rows, [random.randrange(len(rows)) for _ in rows])
        config = {**config, "one_per_cluster": True}
    expected = simple_selection(rows, SelectionConfig(**config))
    random.shuffle(rows)
    folder = tmp_path_factory.mktemp("candidates")
    groups = config.get("within") == "group"
    there = {f"group {row.group}" if groups else row.domain for row in rows}
    if any(name not in there for name in config.get("shares", {})):
        with pytest.raises((ConfigError, ArtefactError), match=r"there is no|has a score under"):
            select(folder, rows, num_shards, **config)
        return
    if not expected:
        with pytest.raises(ArtefactError, match=r"keeps none of|no sequence has a score"):
            select(folder, rows, num_shards, **config)
        return
    _, table = select(folder, rows, num_shards, **config)
    assert set(table["sequence_id"].to_pylist()) == expected


def in_clusters(rows, numbers):
    """The same rows, those of one number in one cluster, named by its smallest id."""
    smallest = {}
    for number, row in zip(numbers, rows, strict=True):
        smallest[number] = min(row.id, smallest.get(number, row.id))
    return [
        replace(row, cluster=smallest[number]) for number, row in zip(numbers, rows, strict=True)
    ]


def many_rows(count=3000, seed=0):
    generator = np.random.default_rng(seed)
    return [
        Row(
            index,
            -2 - generator.random(),
            -3 - 2 * generator.random(),
            int(generator.integers(1, 60)),
            str(generator.choice(["books", "code", "logs"], p=[0.7, 0.25, 0.05])),
        )
        for index in range(count)
    ]


def kept_rows(rows, table):
    kept = set(table["sequence_id"].to_pylist())
    return [row for row in rows if row.id in kept]


def count_by_domain(rows):
    domains = sorted({row.domain for row in rows})
    return {domain: sum(row.domain == domain for row in rows) for domain in domains}


@pytest.mark.parametrize("policy", ["token_budget", "sample", "random", "teacher_only"])
def test_a_budget_is_met_within_one_row(tmp_path, policy):
    rows = many_rows()
    outcome, _ = select(tmp_path, rows, 3, policy=policy, tokens=20_000)
    assert 20_000 - 60 < outcome.num_tokens <= 20_000


def test_given_shares_are_met(tmp_path):
    rows = many_rows()
    shares = {"books": 0.2, "code": 0.4}
    outcome, table = select(tmp_path, rows, 3, policy="quota", ratio=0.2, shares=shares)
    found = count_by_domain(kept_rows(rows, table))
    logs = count_by_domain(rows)["logs"]
    assert found == {"books": 120, "code": 240, "logs": min(240, logs)}
    assert outcome.facts["warnings"] == [
        f"All that is of no domain named in shares is too little: {logs} are kept where its share "
        "of 40% is 240."
    ]


def test_a_share_that_a_domain_cannot_fill_is_told(tmp_path):
    rows = many_rows(300)
    shares = {"logs": 0.5}
    outcome, table = select(tmp_path, rows, 2, policy="quota", ratio=0.5, shares=shares)
    sizes = count_by_domain(rows)
    assert count_by_domain(kept_rows(rows, table))["logs"] == sizes["logs"]
    (short,) = outcome.facts["warnings"]
    assert short == (
        f"Domain 'logs' is too little: {sizes['logs']} are kept where its share of 50% is 75."
    )
    with pytest.raises(ConfigError, match=r"no domain 'boks'; did you mean 'books'\? there are"):
        select(tmp_path, rows, policy="quota", ratio=0.5, shares={"boks": 0.1})


def test_a_floor_of_tokens_is_reached(tmp_path):
    rows = [Row(index, -1.0, -3.0, 40, "dumps") for index in range(50)]
    rows += [Row(50 + index, -2.0, -2.5, 40, "prose") for index in range(2)]
    rows += many_rows(200)[60:]
    _, table = select(tmp_path, rows, 3, policy="quota", tokens=3_000, floor=0.25)
    kept = kept_rows(rows, table)
    for domain in {row.domain for row in rows}:
        held = sum(row.num_tokens for row in rows if row.domain == domain)
        assert sum(row.num_tokens for row in kept if row.domain == domain) >= 0.25 * held
    outcome, _ = select(tmp_path, rows, 3, policy="quota", tokens=500, floor=0.25)
    assert "more than the 500 asked for" in outcome.facts["warnings"][-1]


def test_a_budget_above_what_there_is_is_told(tmp_path):
    rows = many_rows(100)
    outcome, table = select(tmp_path, rows, 2, policy="token_budget", tokens=10**9)
    assert table.num_rows == 100
    (warning,) = outcome.facts["warnings"]
    assert warning.startswith(f"{outcome.num_tokens:,} tokens are kept of the 1,000,000,000 that")


def test_a_floor_keeps_some_of_every_domain(tmp_path):
    rows = [
        Row(index, -1.0 - (index % 3 == 0), -3.0, 10, "prose" if index % 3 == 0 else "dumps")
        for index in range(300)
    ]
    _, raw = select(tmp_path, rows, 2, ratio=0.5)
    assert count_by_domain(kept_rows(rows, raw)) == {"dumps": 150}
    _, table = select(tmp_path, rows, 2, policy="quota", ratio=0.5, floor=0.25)
    assert count_by_domain(kept_rows(rows, table)) == {"dumps": 125, "prose": 25}


@pytest.mark.parametrize("within", ["corpus", "domain"])
def test_drawn_with_replacement_counts_add_up_and_are_near_what_is_expected(tmp_path, within):
    rows, tables = many_rows(1000), []
    for num_shards in (1, 4):
        outcome, table = select(
            tmp_path / f"{num_shards}", rows, num_shards,
            policy="sample", ratio=0.6, temperature=0.3, replacement=True, within=within,
        )  # fmt: skip
        tables.append(table)
        assert outcome.counts["drawn"] == sum(table["repeats"].to_pylist())
        assert outcome.counts["kept"] == table.num_rows
    assert tables[0].equals(tables[1])
    repeats = dict(
        zip(*(table[name].to_pylist() for name in ("sequence_id", "repeats")), strict=True)
    )
    strata = [rows]
    if within == "domain":
        strata = [[row for row in rows if row.domain == each] for each in ("books", "code", "logs")]
    for part in strata:
        weights = np.exp(np.array([row.difference for row in part]) / 0.3)
        wanted = num_kept(len(part), 0.6)
        drawn = np.array([repeats.get(row.id, 0) for row in part])
        assert drawn.sum() == wanted
        assert np.abs(drawn - wanted * weights / weights.sum()).max() < 1 + 1e-6
        assert drawn.max() > 1


def test_draws_without_replacement_come_by_chance_of_their_weights():
    scores, hits = np.array([0.0, 1.0, 2.0]), np.zeros(3)
    uniform = np.random.default_rng(0).random((20_000, 3))
    for row in uniform:
        hits[np.argmax(gumbel_values(scores, 0.5, row))] += 1
    expected = np.exp(scores / 0.5) / np.exp(scores / 0.5).sum()
    np.testing.assert_allclose(hits / len(uniform), expected, atol=0.01)


def test_pareto_sampling_holds_each_row_with_its_own_chance():
    chances = np.array([0.1, 0.5, 0.9, 0.3, 0.2])  # two of five
    uniform, hits = np.random.default_rng(0).random((20_000, 5)), np.zeros(5)
    for row in uniform:
        hits[np.argsort(-pareto_values(chances, row))[:2]] += 1
    np.testing.assert_allclose(hits / len(uniform), chances, atol=0.02)


def test_a_domain_that_a_schedule_loses_is_told(tmp_path):
    rows = [
        Row(index, -1.0 - (index % 2), -3.0, 10, "prose" if index % 2 else "dumps")
        for index in range(200)
    ]
    schedule = [{"until": 0.3, "ratio": 1.0}, {"until": 1.0, "ratio": 0.5}]
    outcome, _ = select(tmp_path, rows, 2, schedule=schedule)
    assert outcome.counts["kept"] == 200
    assert outcome.counts["kept_to_the_end"] == 100
    prose = outcome.facts["domains"]["prose"]
    assert (prose["num_kept"], prose["num_counted"]) == (100, 0)
    (warning,) = outcome.facts["warnings"]
    assert warning.startswith("Domain 'prose' all but vanishes: 0 of 100 sequences are kept (0.0%")


def test_what_chance_alone_would_do_is_no_warning(tmp_path):
    rows = [Row(index, -1.0, -2.0, 5, f"domain-{index % 60}") for index in range(600)]
    outcome, _ = select(tmp_path, rows, 2, policy="random", ratio=0.05)
    assert outcome.facts["warnings"] == []


def test_repeats_count_in_the_shares_of_domains(tmp_path):
    rows = many_rows(400)
    outcome, table = select(
        tmp_path, rows, 2, policy="sample", ratio=0.5, temperature=0.2, replacement=True
    )
    repeats = dict(zip(*(table[n].to_pylist() for n in ("sequence_id", "repeats")), strict=True))
    for domain, counts in outcome.facts["domains"].items():
        drawn = {row: repeats.get(row.id, 0) for row in rows if row.domain == domain}
        assert counts["num_counted"] == sum(drawn.values())
        tokens = sum(row.num_tokens * times for row, times in drawn.items())
        assert counts["num_tokens_counted"] == tokens


@pytest.mark.parametrize(
    "config",
    [
        {"schedule": [{"until": 0.5, "ratio": 1.0}, {"until": 1.0, "ratio": 0.5}]},
        {"policy": "sample", "replacement": True, "ratio": 0.5},
    ],
)
def test_an_empty_shard_has_the_columns_of_the_others(tmp_path, config):
    rows = many_rows(6)
    _, table = select(tmp_path, rows, 8, **config)
    assert table.column_names[-1] in ("repeats", "until")
    (out,) = tmp_path.glob("selection-*")
    columns = {tuple(pq.read_schema(path).names) for path in out.glob("data_*.parquet")}
    assert len(columns) == 1


def test_the_threshold_is_told_only_where_it_says_it_all(tmp_path):
    rows = many_rows(100)
    best = sorted((row.difference for row in rows), reverse=True)
    thresholds = {
        "half": ({"ratio": 0.5}, best[49]),
        "all": ({"ratio": 1.0}, None),
        "lowest": ({"policy": "threshold", "min_score": 0.5}, 0.5),
        "highest": ({"policy": "threshold", "max_score": 1.5}, None),
        "range": ({"policy": "threshold", "min_score": 0.5, "max_score": 1.5}, None),
        "domains": ({"within": "domain"}, None),
    }
    for config, expected in thresholds.values():
        outcome, _ = select(tmp_path, rows, 2, **config)
        assert outcome.facts["threshold"] == (None if expected is None else pytest.approx(expected))


def test_a_selection_of_other_scores_is_not_taken_for_this_one(tmp_path):
    rows = many_rows(300)
    config = {"policy": "threshold", "min_score": 0.0, "calibration": "residual"}
    _, before = select(tmp_path / "a", rows, 2, **config)
    others = [replace(row, teacher=1.7 * row.teacher) if row.id % 2 else row for row in rows]
    write_candidates(tmp_path / "b", others, 2)
    write_row_tables(tmp_path / "b", others)
    shutil.copytree(next((tmp_path / "a").glob("selection-*")), tmp_path / "b/out")
    again = select_into(tmp_path / "b", tmp_path / "b/out", **config)
    fresh = select_into(tmp_path / "b", tmp_path / "b/fresh", **config)
    assert again.equals(fresh)
    assert not again.equals(before)


def test_a_schedule_narrows(tmp_path):
    rows = many_rows(400)
    phases = {0.25: 1.0, 0.5: 0.5, 1.0: 0.1}
    schedule = [{"until": until, "ratio": ratio} for until, ratio in phases.items()]
    _, table = select(tmp_path, rows, 3, schedule=schedule)
    names = ("sequence_id", "until")
    ends = dict(zip(*(table[name].to_pylist() for name in names), strict=True))
    assert len(ends) == 400
    for until, ratio in phases.items():
        takes_part = {index for index, end in ends.items() if end >= until}
        _, alone = select(tmp_path, rows, 3, ratio=ratio)
        assert takes_part == set(alone["sequence_id"].to_pylist())


@pytest.mark.parametrize(
    ("config", "message"),
    [
        ({"policy": "random", "temperature": 2}, "temperature is given, which random"),
        ({"policy": "token_budget"}, "token_budget takes tokens"),
        ({"policy": "token_budget", "tokens": 5, "ratio": 0.1}, "give ratio or tokens, not both"),
        ({"policy": "threshold"}, "threshold takes min_score, max_score or both"),
        ({"policy": "threshold", "min_score": 2, "max_score": 1}, "min_score 2 is above"),
        ({"policy": "band", "skip_top": 0.6, "ratio": 0.5}, "are more than all"),
        ({"policy": "quota", "shares": {"a": 0.7, "b": 0.6}}, "1 together at most"),
        ({"policy": "quota", "shares": {"a": 0.7}, "floor": 0.1}, "shares or a floor, not both"),
        ({"schedule": [{"until": 0.5, "ratio": 1}]}, "until has to rise to 1"),
        (
            {"schedule": [{"until": 0.5, "ratio": 0.5}, {"until": 1, "ratio": 0.6}]},
            "ratio may not grow",
        ),
        ({"policy": "sample", "tokens": 5, "replacement": True}, "takes a ratio, not tokens"),
        ({"policy": "teacher_only", "calibration": "residual"}, "calibration is given"),
        (
            {"policy": "threshold", "min_score": 1, "within": "domain"},
            "within is given, which threshold does not read",
        ),
        ({"policy": "quota", "floor": 0.8, "ratio": 0.1}, "floor 0.8 is above ratio 0.1"),
    ],
)  # fmt: skip
def test_dials_that_do_not_go_together_are_refused(config, message):
    content = {
        "corpus": {"source": "embedded"},
        "teacher": {"shape": {}, "training": {"budget": {"steps": 1}}},
        "reference": {"shape": {}, "training": {"budget": {"steps": 1}}},
        "selections": {"refined": config},
    }
    with pytest.raises(ConfigError, match=r"selections\.refined") as caught:
        make_recipe(content, "a recipe")
    assert message in str(caught.value)


def test_a_dial_that_is_not_read_is_no_part_of_the_fingerprint():
    one, other = SelectionConfig(policy="token_budget", tokens=5), SelectionConfig(ratio=0.5)
    assert "ratio" not in one.fingerprinted()
    assert set(other.fingerprinted()) == {
        "policy",
        "ratio",
        "within",
        "calibration",
        "normalization",
    }
