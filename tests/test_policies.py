"""Policies: the stage against the rule spelt out, and what every policy promises."""

from dataclasses import dataclass
from fractions import Fraction

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from miniplm.data.chance import uniform_by_id
from miniplm.data.shards import make_sidecar, open_shards, write_shard
from miniplm.errors import ArtefactError, ConfigError
from miniplm.recipe import make_recipe
from miniplm.scoring.tables import ScoreInfo, write_scores
from miniplm.selection.amounts import num_kept
from miniplm.selection.config import SelectionConfig
from miniplm.selection.ranking import gumbel_values, pareto_values
from miniplm.selection.selector import select_sequences

SEED = 5


@dataclass(frozen=True)
class Row:
    id: int
    teacher: float
    reference: float
    num_tokens: int
    domain: str

    @property
    def difference(self):
        return self.teacher - self.reference


def write_candidates(folder, rows, num_shards):
    """Shards and score tables of rows, dealt out in turn."""
    for number in range(num_shards):
        part = rows[number::num_shards]
        prefix = folder / "shards" / f"data_{number}"
        sidecar = make_sidecar(
            np.array([row.id for row in part], np.int64),
            [row.domain for row in part],
            np.array([row.num_tokens + 1 for row in part], np.int32),
            np.array([3 * row.num_tokens for row in part], np.int64),
            [[f"source-{row.id}"] for row in part],
        )
        ids = [np.ones(row.num_tokens + 1, np.int32) for row in part]
        write_shard(prefix, ids, sidecar, vocab_size=10, eos_id=0, max_length=64)
    for role in ("teacher", "reference"):
        by_id = {row.id: row for row in rows}
        for shard in open_shards(folder / "shards"):
            part = [by_id[index] for index in shard.sequence_ids.tolist()]
            table = pa.table(
                {
                    "sequence_id": shard.sequence_ids,
                    "log_prob": [getattr(row, role) * row.num_tokens for row in part],
                    "num_tokens": np.array([row.num_tokens for row in part], np.int32),
                    "num_bytes": np.array([3 * row.num_tokens for row in part], np.int64),
                }
            )
            info = ScoreInfo("m", "f", "float32", shard.info.shard_hash)
            write_scores(folder / role / f"{shard.prefix.name}.parquet", table, info)


def select(folder, rows, num_shards=1, seed=SEED, **config):
    """Outcome, and the selection as a table in the order of ids."""
    if not (folder / "shards").exists():
        write_candidates(folder, rows, num_shards)
    out = folder / f"selection-{len(list(folder.iterdir()))}"
    outcome = select_sequences(
        folder / "shards", folder / "teacher", folder / "reference", SelectionConfig(**config),
        seed, out,
    )  # fmt: skip
    tables = [pq.read_table(path) for path in sorted(out.glob("data_*.parquet"))]
    return outcome, pa.concat_tables(tables).sort_by("sequence_id")


def simple_values(rows, config):
    """What rows are ranked by, spelt out."""
    by_policy = {
        "teacher_only": lambda row: row.teacher,
        "reference_only": lambda row: -row.reference,
        "perplexity_band": lambda row: -row.reference,
    }
    if config.policy == "random":
        chance = uniform_by_id(np.array([row.id for row in rows]), SEED)
        return dict(zip([row.id for row in rows], chance.tolist(), strict=True))
    if config.policy == "sample":
        ids = np.array([row.id for row in rows])
        scores = np.array([row.difference for row in rows])
        noisy = gumbel_values(scores, config.temperature, uniform_by_id(ids, SEED))
        return dict(zip(ids.tolist(), noisy.tolist(), strict=True))
    value = by_policy.get(config.policy, lambda row: row.difference)
    return {row.id: value(row) for row in rows}


def ranked(rows, values):
    return sorted(rows, key=lambda row: (-values[row.id], row.id))


def up_to(rows, limit, size):
    """The first rows that together are no larger than the limit."""
    found = []
    for row in rows:
        if sum(size(each) for each in found) + size(row) > limit:
            break
        found.append(row)
    return found


def simple_selection(rows, config):
    """Ids that a policy keeps, spelt out."""
    values = simple_values(rows, config)
    if config.policy == "threshold":
        low = -np.inf if config.min_score is None else config.min_score
        high = np.inf if config.max_score is None else config.max_score
        return {row.id for row in rows if low <= values[row.id] <= high}
    in_domains = config.within == "domain" or config.policy == "quota"
    by_tokens = config.tokens is not None

    def size(row):
        return row.num_tokens if by_tokens else 1

    def total(part):
        return sum(size(row) for row in part)

    def whole(part):
        share = total(part) / total(rows)
        if by_tokens:
            return int(Fraction(config.tokens * total(part), total(rows)))
        assert share <= 1
        return num_kept(len(part), config.ratio)

    domains = {row.domain for row in rows}
    if config.shares:
        kept, budget = [], whole(rows)
        for domain in config.shares:
            part = [row for row in rows if row.domain == domain]
            limit = min(total(part), int(config.shares[domain] * budget + 1e-9))
            kept += up_to(ranked(part, values), limit, size)
        part = [row for row in rows if row.domain not in config.shares]
        limit = int((1 - sum(config.shares.values())) * budget + 1e-9)
        return {row.id for row in kept + up_to(ranked(part, values), limit, size)}
    if config.floor:
        kept = []
        for domain in domains:
            part = [row for row in rows if row.domain == domain]
            limit = int(np.ceil(config.floor * total(part) - 1e-9))
            kept += up_to(ranked(part, values), limit, size)
        others = [row for row in rows if row not in kept]
        return {
            row.id for row in kept + up_to(ranked(others, values), whole(rows) - total(kept), size)
        }
    strata = [[row for row in rows if row.domain == each] for each in domains]
    kept = []
    for part in strata if in_domains else [rows]:
        order = ranked(part, values)
        skip = {"band": config.skip_top, "perplexity_band": (1 - config.ratio) / 2}
        order = order[int(skip.get(config.policy, 0) * len(order) + 1e-9) :]
        kept += up_to(order, whole(part), size)
    return {row.id for row in kept}


VALUES = st.sampled_from([-3.0, -2.5, -2.0, -1.0, -0.5, -0.25])
ROWS = st.lists(
    st.tuples(VALUES, VALUES, st.integers(1, 30), st.sampled_from(["books", "code", "logs"])),
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
        st.sampled_from(["corpus", "domain"]),
    ),
    st.builds(
        lambda policy, tokens, within: {"policy": policy, "tokens": tokens, "within": within},
        st.sampled_from(["token_budget", "sample", "random", "teacher_only", "quota"]),
        st.integers(40, 400),
        st.sampled_from(["corpus", "domain"]),
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
        lambda floor, ratio: {"policy": "quota", "floor": floor, "ratio": ratio},
        st.floats(0.01, 0.9),
        RATIOS,
    ),
    st.builds(
        lambda floor, tokens: {"policy": "quota", "floor": floor, "tokens": tokens},
        st.floats(0.01, 0.9),
        st.integers(40, 400),
    ),
    st.builds(
        lambda books, code, ratio: {
            "policy": "quota", "shares": {"books": books, "code": code}, "ratio": ratio,
        },
        st.floats(0.0, 0.5),
        st.floats(0.0, 0.5),
        RATIOS,
    ),
)  # fmt: skip


@settings(max_examples=150)
@given(ROWS, CONFIGS, st.integers(1, 5), st.randoms())
def test_every_policy_keeps_what_the_rule_spelt_out_keeps(
    tmp_path_factory, rows, config, num_shards, random
):
    expected = simple_selection(rows, SelectionConfig(**config))
    random.shuffle(rows)
    folder = tmp_path_factory.mktemp("candidates")
    if not expected:
        with pytest.raises(ArtefactError, match="keeps none of"):
            select(folder, rows, num_shards, **config)
        return
    _, table = select(folder, rows, num_shards, **config)
    assert set(table["sequence_id"].to_pylist()) == expected


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
    assert outcome.facts["warnings"] == []


def test_a_share_that_a_domain_cannot_fill_is_told(tmp_path):
    rows = many_rows(300)
    shares = {"logs": 0.5, "boks": 0.1}
    outcome, table = select(tmp_path, rows, 2, policy="quota", ratio=0.5, shares=shares)
    sizes = count_by_domain(rows)
    assert count_by_domain(kept_rows(rows, table))["logs"] == sizes["logs"]
    whole, missing = outcome.facts["warnings"]
    assert whole.startswith(f"Domain 'logs' is kept whole ({sizes['logs']} sequences)")
    assert missing == "There is no domain 'boks', for which shares asks 10%."


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
