import numpy as np
import pyarrow.parquet as pq
import pytest
from hypothesis import given
from hypothesis import strategies as st

from conftest import random_rows, write_rows
from miniplm.data.shards import open_shards
from miniplm.errors import ArtefactError
from miniplm.scoring.tables import ScoreInfo, write_scores
from miniplm.selection.config import SelectionConfig
from miniplm.selection.difference import normalized_log_prob, variance_between_groups
from miniplm.selection.policies import ranking_values, top_ratio, uniform_by_id
from miniplm.selection.selector import select_sequences


def write_tables(shards_folder, folder, log_prob_of):
    """Score tables in which a row's log-probability follows from its id and tokens."""
    import pyarrow as pa

    for shard in open_shards(shards_folder):
        counts = np.maximum(shard.lengths - 1, 1)
        table = pa.table(
            {
                "sequence_id": shard.sequence_ids[::-1],  # joined by id, so any order will do
                "log_prob": np.array(
                    [
                        log_prob_of(int(i)) * n
                        for i, n in zip(shard.sequence_ids, counts, strict=True)
                    ]
                )[::-1],
                "num_tokens": counts[::-1].astype(np.int32),
                "num_bytes": (2 * counts)[::-1].astype(np.int64),
            }
        )
        info = ScoreInfo("m", "f", "float32", shard.info.shard_hash)
        write_scores(folder / f"{shard.prefix.name}.parquet", table, info)


def teacher_log_prob(index):
    return -1.0 - (index * 7 % 10) / 10


def reference_log_prob(index):
    return -2.0 - (index * 3 % 10) / 10


def setup(tmp_path, per_shard=1000, count=40):
    write_rows(tmp_path / "shards", random_rows(count, seed=4), per_shard=per_shard)
    write_tables(tmp_path / "shards", tmp_path / "teacher", teacher_log_prob)
    write_tables(tmp_path / "shards", tmp_path / "reference", reference_log_prob)
    return tmp_path


def select(root, seed=1, **config):
    out = root / f"selection-{len(list(root.iterdir()))}"
    outcome = select_sequences(
        root / "shards", root / "teacher", root / "reference", SelectionConfig(**config), seed, out
    )
    return outcome, pq.read_table(out / "selection.parquet")


def test_normalisation_by_hand():
    log_prob = np.array([-6.0, -6.0, 0.0])
    tokens, num_bytes = np.array([3, 2, 0]), np.array([12, 0, 0])
    per_token = normalized_log_prob(log_prob, tokens, num_bytes, "per_token")
    np.testing.assert_array_equal(per_token, [-2.0, -3.0, np.nan])
    per_byte = normalized_log_prob(log_prob, tokens, num_bytes, "per_byte")
    np.testing.assert_array_equal(per_byte, [-0.5, np.nan, np.nan])
    in_sum = normalized_log_prob(log_prob, tokens, num_bytes, "sum")
    np.testing.assert_array_equal(in_sum, [-6.0, -6.0, np.nan])


def test_the_papers_examples_keep_their_order():
    # reference loss - teacher loss of boilerplate, news, JavaScript, spam (paper, table 6)
    reference = -np.array([1.28, 3.86, 2.73, 4.20])
    teacher = -np.array([1.24, 2.83, 0.16, 1.26])
    values = ranking_values("top_ratio", teacher, reference, np.arange(4), 0)
    np.testing.assert_allclose(values, [0.04, 1.03, 2.57, 2.94], atol=1e-9)
    assert top_ratio(values, np.arange(4), 0.75).tolist() == [False, True, True, True]


def test_ties_are_broken_by_id():
    values = np.array([1.0, 1.0, 1.0, 5.0])
    keep = top_ratio(values, np.array([40, 10, 30, 20]), 0.5)
    assert keep.tolist() == [False, True, False, True]


@given(st.lists(st.integers(-3, 3), min_size=1, max_size=40), st.floats(0.01, 1.0), st.randoms())
def test_top_ratio_does_not_depend_on_the_order_of_rows(values, ratio, random):
    ids = np.arange(len(values)) * 3
    order = list(range(len(values)))
    random.shuffle(order)
    scores = np.array(values, dtype=float)
    kept = set(ids[top_ratio(scores, ids, ratio)])
    shuffled = top_ratio(scores[order], ids[order], ratio)
    assert set(ids[order][shuffled]) == kept
    assert len(kept) == max(1, int(np.floor(ratio * len(values) + 1e-9)))
    left = [score for score, index in zip(scores, ids, strict=True) if index not in kept]
    if left:
        assert min(score for score, i in zip(scores, ids, strict=True) if i in kept) >= max(left)


def test_rows_without_a_score_are_never_kept():
    keep = top_ratio(np.array([np.nan, 1.0, np.nan, 0.0]), np.arange(4), 1.0)
    assert keep.tolist() == [False, True, False, True]


def test_chance_comes_from_id_and_seed():
    ids = np.arange(20_000)
    first = uniform_by_id(ids, 1)
    np.testing.assert_array_equal(first[100:200], uniform_by_id(ids[100:200], 1))
    assert abs(first.mean() - 0.5) < 0.01
    assert abs(np.corrcoef(first, uniform_by_id(ids, 2))[0, 1]) < 0.03


def test_selection_by_hand(tmp_path):
    outcome, table = select(setup(tmp_path), ratio=0.25)
    difference = {i: teacher_log_prob(i) - reference_log_prob(i) for i in range(40)}
    best = sorted(difference, key=lambda i: (-round(difference[i], 9), i))[:10]
    assert table["sequence_id"].to_pylist() == sorted(best)
    for index, score in zip(*(table[c].to_pylist() for c in table.column_names[:2]), strict=True):
        assert score == pytest.approx(difference[index])
    assert set(table["weight"].to_pylist()) == {1.0}
    assert outcome.facts["threshold"] == pytest.approx(difference[best[-1]])
    domains = outcome.facts["domains"]
    assert {d: v["num_sequences"] for d, v in domains.items()} == {"even": 20, "odd": 20}
    assert sum(v["num_kept"] for v in domains.values()) == 10


@pytest.mark.parametrize("policy", ["top_ratio", "random", "teacher_only", "reference_only"])
def test_selection_does_not_depend_on_the_number_of_shards(tmp_path, policy):
    tables = []
    for name, per_shard in (("one", 1000), ("many", 7)):
        outcome, table = select(setup(tmp_path / name, per_shard), policy=policy)
        assert outcome.counts["kept"] == 20
        tables.append(table)
    assert tables[0].equals(tables[1])


def test_baselines_take_one_term_each(tmp_path):
    root = setup(tmp_path)
    ids = np.arange(40)
    _, teacher = select(root, policy="teacher_only", ratio=0.1)
    assert set(teacher["sequence_id"].to_pylist()) <= {i for i in ids if i * 7 % 10 == 0}
    _, reference = select(root, policy="reference_only", ratio=0.1)
    assert set(reference["sequence_id"].to_pylist()) <= {i for i in ids if i * 3 % 10 == 9}
    _, chance = select(root, policy="random", seed=1)
    _, other_chance = select(root, policy="random", seed=2)
    assert chance["sequence_id"].to_pylist() != other_chance["sequence_id"].to_pylist()


def test_a_vanishing_domain_is_warned_of(tmp_path):
    write_rows(tmp_path / "shards", random_rows(40))
    write_tables(tmp_path / "shards", tmp_path / "reference", lambda _: -3.0)
    write_tables(tmp_path / "shards", tmp_path / "teacher", lambda i: -1.0 - (i % 2))
    outcome, _ = select(tmp_path, ratio=0.5)
    assert outcome.facts["warnings"] == [
        "Domain 'odd' all but vanishes: 0 of 20 sequences are kept (0.0%, against 50% overall)."
    ]
    assert outcome.facts["variance_between_domains"] == pytest.approx(1.0)


def test_scores_that_are_missing_or_foreign_are_refused(tmp_path):
    root = setup(tmp_path, per_shard=20)
    (root / "teacher/data_1.parquet").unlink()
    with pytest.raises(ArtefactError, match=r"data_1\.parquet: no such file"):
        select(root)
    (root / "teacher/data_0.parquet").rename(root / "teacher/data_1.parquet")
    write_tables(root / "shards", root / "again", teacher_log_prob)
    (root / "again/data_0.parquet").rename(root / "teacher/data_0.parquet")
    with pytest.raises(ArtefactError, match="another token shard"):
        select(root)


def test_variance_between_groups_by_hand():
    values = np.array([1.0, 3.0, 5.0, 7.0])  # total 20; group means 2 and 6, between 16
    assert variance_between_groups(values, np.array([0, 0, 1, 1])) == pytest.approx(0.8)
    assert variance_between_groups(np.array([2.0, 2.0]), np.array([0, 1])) == 0.0
