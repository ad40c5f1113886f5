import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from hypothesis import given
from hypothesis import strategies as st

from conftest import random_rows, write_rows
from miniplm.data.shards import make_sidecar, open_shards, write_shard
from miniplm.errors import ArtefactError
from miniplm.runtime.executors import serial, threads
from miniplm.scoring.tables import ScoreInfo, read_score_info, write_scores
from miniplm.selection.amounts import CORPUS, Share, num_kept
from miniplm.selection.config import SelectionConfig
from miniplm.selection.cut import Ranked, Tally, find_cuts
from miniplm.selection.difference import normalized_log_prob
from miniplm.selection.ranking import ranking_values
from miniplm.selection.sample import SAMPLE_ROWS, in_sample, read_sample
from miniplm.selection.selector import select_sequences
from miniplm.selection.totals import Totals


def write_tables(shards_folder, folder, log_prob_of, *, shuffled=True):
    """Score tables in which a row's log-probability follows from its id and tokens."""
    order = slice(None, None, -1 if shuffled else 1)  # joined by id, so any order will do
    for shard in open_shards(shards_folder):
        counts = np.maximum(shard.lengths - 1, 1)
        table = pa.table(
            {
                "sequence_id": shard.sequence_ids[order],
                "log_prob": np.array(
                    [
                        log_prob_of(int(i)) * n
                        for i, n in zip(shard.sequence_ids, counts, strict=True)
                    ]
                )[order],
                "num_tokens": counts[order].astype(np.int32),
                "num_bytes": (2 * counts + shard.sequence_ids)[order].astype(np.int64),
            }
        )
        info = ScoreInfo("m", "f", "float32", shard.info.shard_hash)
        write_scores(folder / f"{shard.prefix.name}.parquet", table, info)


def teacher_log_prob(index):
    return -1.0 - (index * 7 % 10) / 10


def reference_log_prob(index):
    return -2.0 - (index * 3 % 10) / 10


def setup(tmp_path, per_shard=1000, count=40, *, shuffled=True):
    write_rows(tmp_path / "shards", random_rows(count, seed=4), per_shard=per_shard)
    write_tables(tmp_path / "shards", tmp_path / "teacher", teacher_log_prob, shuffled=shuffled)
    reference = tmp_path / "reference"
    write_tables(tmp_path / "shards", reference, reference_log_prob, shuffled=shuffled)
    return tmp_path


def read_selection_folder(folder):
    paths = sorted(folder.glob("data_*.parquet"), key=lambda path: int(path.stem[5:]))
    return pa.concat_tables([pq.read_table(path) for path in paths]).combine_chunks()


def select(root, seed=1, executor=threads, **config):
    out = root / f"selection-{len(list(root.iterdir()))}"
    outcome = select_sequences(
        root / "shards", root / "teacher", root / "reference", SelectionConfig(**config), seed,
        out, executor,
    )  # fmt: skip
    return outcome, read_selection_folder(out)


def simple_top(values, ids, ratio):
    """The rule, spelt out: sort everything."""
    usable = [i for i, value in enumerate(values) if not np.isnan(value)]
    ranked = sorted(usable, key=lambda i: (-values[i], ids[i]))
    return {ids[i] for i in ranked[: num_kept(len(usable), ratio)]}


def test_normalisation_by_hand():
    log_prob, units = np.array([-6.0, -6.0, 0.0]), np.array([12, 3, 0])
    per_byte = normalized_log_prob([log_prob, units], "per_byte")
    np.testing.assert_array_equal(per_byte, [-0.5, -2.0, np.nan])
    in_sum = normalized_log_prob([log_prob, units], "sum")
    np.testing.assert_array_equal(in_sum, [-6.0, -6.0, np.nan])
    np.testing.assert_array_equal(normalized_log_prob([log_prob], "per_token"), log_prob)


def test_the_papers_examples_keep_their_order():
    # reference loss - teacher loss of boilerplate, news, JavaScript, spam (paper, table 6)
    reference = -np.array([1.28, 3.86, 2.73, 4.20])
    teacher = -np.array([1.24, 2.83, 0.16, 1.26])
    difference = teacher - reference
    values = ranking_values(SelectionConfig(), teacher, reference, difference, np.arange(4), 0)
    np.testing.assert_allclose(values, [0.04, 1.03, 2.57, 2.94], atol=1e-9)
    assert kept_by_cut(values, np.arange(4), 0.75) == {1, 2, 3}


def kept_by_cut(values, ids, ratio, look=None, block=7):
    """Ids kept by a cut that is found block by block, as the stage does."""

    def count(brackets):
        parts = [slice(i, i + block) for i in range(0, len(values), block)]
        bracket, step = brackets[CORPUS], brackets.step
        return {
            CORPUS: Tally.total(Tally.of(values[part], ids[part], bracket, step) for part in parts)
        }

    seen = slice(0, look or len(values))
    usable = ~np.isnan(values[seen])
    ones = np.ones(np.count_nonzero(usable), np.int64)
    sample = Ranked(values[seen][usable], ids[seen][usable], ones)
    cuts = find_cuts(count, {CORPUS: sample}, Share(ratio), len(usable) / len(values))
    return set(ids[cuts[CORPUS].reached(values, ids)].tolist())


@given(
    st.lists(st.sampled_from([-1.0, -0.0, 0.0, 0.5, 2.0, np.inf, np.nan]), min_size=1, max_size=60),
    st.floats(0.01, 1.0),
    st.randoms(),
    st.integers(1, 60),
)
def test_the_cut_is_that_of_sorting_everything(values, ratio, random, look):
    ids = list(range(0, 3 * len(values), 3))
    random.shuffle(ids)
    values, ids = np.array(values), np.array(ids)
    assert kept_by_cut(values, ids, ratio, look) == simple_top(values, ids, ratio)


@pytest.mark.parametrize("order", ["shuffled", "ascending", "descending", "equal"])
@pytest.mark.parametrize("ratio", [0.001, 0.5, 0.999])
def test_a_look_at_the_first_rows_decides_the_cost_and_not_the_cut(order, ratio):
    values = np.random.default_rng(3).standard_normal(20_000)
    values = {
        "shuffled": values, "ascending": np.sort(values), "descending": -np.sort(values),
        "equal": np.zeros(len(values)),
    }[order]  # fmt: skip
    ids = np.random.default_rng(4).permutation(len(values))
    assert kept_by_cut(values, ids, ratio, look=500, block=1000) == simple_top(values, ids, ratio)


def test_few_rows_are_held_while_the_cut_is_found():
    values = np.random.default_rng(3).standard_normal(200_000)
    ids = np.arange(len(values))
    held = []

    def count(brackets):
        tally = Tally.of(values, ids, brackets[CORPUS], brackets.step)
        held.append(len(tally.inside))
        return {CORPUS: tally}

    look = Ranked(values[:50_000], ids[:50_000], np.ones(50_000, np.int64))
    find_cuts(count, {CORPUS: look}, Share(0.5), 0.25)
    assert len(held) == 1
    assert held[0] < 10_000


def test_selection_by_hand(tmp_path):
    outcome, table = select(setup(tmp_path), ratio=0.25)
    difference = {i: teacher_log_prob(i) - reference_log_prob(i) for i in range(40)}
    best = sorted(difference, key=lambda i: (-round(difference[i], 9), i))[:10]
    assert table["sequence_id"].to_pylist() == sorted(best)
    for index, score in zip(*(table[c].to_pylist() for c in table.column_names[:2]), strict=True):
        assert score == pytest.approx(difference[index])
    assert table.column_names == ["sequence_id", "difference_score"]
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


def totals(values, domains, num_tokens=None, kept=None):
    return Totals.of(
        ["a", "b"],
        np.array(domains, dtype=np.int32),
        np.ones(len(values), np.int32) if num_tokens is None else np.array(num_tokens),
        np.array(values),
        np.zeros(len(values), bool) if kept is None else np.array(kept),
    )


def test_totals_by_hand():
    values = [1.0, 3.0, 5.0, 7.0, np.nan]  # total 20; means of the domains 2 and 6, between 16
    found = totals(values, [0, 0, 1, 1, 1], [10, 20, 30, 40, 50], [False, True, True, False, False])
    assert found.variance_between_domains == pytest.approx(0.8)
    assert found.scores.count == 4
    assert found.scores.mean == 4.0
    assert found.by_domain() == {
        "a": {"num_sequences": 2, "num_kept": 1, "num_tokens": 30, "num_tokens_kept": 20,
              "num_counted": 1, "num_tokens_counted": 20,
              "mean_score": 2.0},
        "b": {"num_sequences": 3, "num_kept": 1, "num_tokens": 120, "num_tokens_kept": 30,
              "num_counted": 1, "num_tokens_counted": 30,
              "mean_score": 6.0},
    }  # fmt: skip
    assert totals([2.0, 2.0], [0, 1]).variance_between_domains == 0.0


def test_totals_add_up_however_rows_are_divided():
    generator = np.random.default_rng(5)
    values, domains = 50 + generator.standard_normal(1000), generator.integers(0, 2, 1000)
    whole = totals(values, domains)
    parts = Totals.total(
        [totals(values[i : i + 37], domains[i : i + 37]) for i in range(0, 1000, 37)]
    )
    assert parts.by_domain()["a"]["num_sequences"] == whole.by_domain()["a"]["num_sequences"]
    for name in ("count", "mean", "squares"):
        assert getattr(parts.scores, name) == pytest.approx(getattr(whole.scores, name), rel=1e-12)
    assert parts.variance_between_domains == pytest.approx(whole.variance_between_domains, rel=1e-9)


@pytest.mark.parametrize("policy", ["top_ratio", "random", "teacher_only", "reference_only"])
@pytest.mark.parametrize("normalization", ["per_token", "sum", "per_byte"])
def test_the_stage_keeps_what_the_simple_way_keeps(tmp_path, policy, normalization):
    root = setup(tmp_path, per_shard=7, shuffled=policy == "top_ratio")
    _, table = select(root, policy=policy, normalization=normalization, ratio=0.3)
    scores = {
        role: pa.concat_tables([pq.read_table(p) for p in sorted((root / role).iterdir())])
        for role in ("teacher", "reference")
    }
    rows = {role: {row["sequence_id"]: row for row in scores[role].to_pylist()} for role in scores}
    unit = {"per_token": "num_tokens", "per_byte": "num_bytes", "sum": None}[normalization]
    ids = np.arange(40)

    def mean(role, index):
        row = rows[role][index]
        return row["log_prob"] / (row[unit] if unit else 1)

    teacher = np.array([mean("teacher", index) for index in ids])
    reference = np.array([mean("reference", index) for index in ids])
    config = SelectionConfig(policy=policy)
    values = ranking_values(config, teacher, reference, teacher - reference, ids, 1)
    kept = sorted(simple_top(values, ids, 0.3))
    assert table["sequence_id"].to_pylist() == kept
    expected = (teacher - reference)[kept].astype(np.float32)
    np.testing.assert_array_equal(table["difference_score"].to_numpy(), expected)


def test_workers_do_not_change_a_byte(tmp_path):
    root = setup(tmp_path, per_shard=3)
    outcomes = [select(root, executor=executor)[0] for executor in (serial, threads)]
    assert outcomes[0] == outcomes[1]
    first, second = sorted(root.glob("selection-*"))
    for path in first.iterdir():
        assert (second / path.name).read_bytes() == path.read_bytes()


def test_a_selection_is_written_again_only_where_it_is_another(tmp_path):
    root = setup(tmp_path, per_shard=20)
    out = root / "again"

    def run(ratio):
        select_sequences(
            root / "shards", root / "teacher", root / "reference", SelectionConfig(ratio=ratio),
            1, out,
        )  # fmt: skip
        return {path.name: path.stat().st_mtime_ns for path in out.glob("data_*")}

    first = run(0.5)
    (out / "data_1.parquet").unlink()
    second = run(0.5)
    assert second["data_0.parquet"] == first["data_0.parquet"]
    assert set(second) == {"data_0.parquet", "data_1.parquet"}
    assert run(0.25)["data_0.parquet"] != first["data_0.parquet"]


def test_a_score_table_that_lacks_a_sequence_is_refused(tmp_path):
    root = setup(tmp_path)
    path = root / "teacher/data_0.parquet"
    info, table = read_score_info(path), pq.read_table(path)
    write_scores(path, table.slice(1).drop_columns("mean_log_prob"), info)
    with pytest.raises(ArtefactError, match="has no score for some sequences"):
        select(root)


def test_a_table_sorted_by_others_is_joined_by_id(tmp_path):
    root = setup(tmp_path, shuffled=False)
    _, expected = select(root)
    path = root / "teacher/data_0.parquet"
    table = pq.read_table(path).sort_by("log_prob")
    notes = pq.ParquetFile(path).metadata.metadata
    pq.write_table(table.replace_schema_metadata(notes), path)  # with our notes, in another order
    assert select(root)[1].equals(expected)


def test_the_sample_is_a_matter_of_the_id(tmp_path):
    ids = np.random.default_rng(0).permutation(3 * SAMPLE_ROWS)
    chosen = ids[in_sample(ids, len(ids))]
    assert len(chosen) == pytest.approx(SAMPLE_ROWS, rel=0.01)
    np.testing.assert_array_equal(np.sort(chosen), in_sample(np.arange(len(ids)), len(ids)))
    root = setup(tmp_path, per_shard=7)
    select(root)
    sample = read_sample(next(root.glob("selection-*")))
    assert sample["sequence_id"].to_pylist() == list(range(40))
    assert sample["shard"].to_pylist() == [f"data_{index // 7}" for index in range(40)]


def test_a_refined_corpus_can_be_selected_from_again(tmp_path):
    """With shards of which nothing was kept, and domains that vanished from it."""
    from miniplm.export.exporter import export_corpus

    root = setup(tmp_path / "first", per_shard=5)
    out = root / "selection"
    config = SelectionConfig(ratio=0.1)
    select_sequences(root / "shards", root / "teacher", root / "reference", config, 1, out)
    export_corpus(root / "shards", out, tmp_path / "second")
    shards = open_shards(tmp_path / "second/shards")
    kept = [int(index) for shard in shards for index in shard.sequence_ids]
    assert [] in [shard.sequence_ids.tolist() for shard in shards]
    second = tmp_path / "second"
    write_tables(second / "shards", second / "teacher", teacher_log_prob)
    write_tables(second / "shards", second / "reference", reference_log_prob)
    outcome, table = select(second, ratio=0.5)
    assert outcome.counts["sequences"] == len(kept) == 4
    assert outcome.counts["kept"] == table.num_rows == 2
    domains = outcome.facts["domains"]
    assert set(domains) == {"even" if index % 2 == 0 else "odd" for index in kept}
    assert all(counts["num_sequences"] for counts in domains.values())


def test_shards_without_a_row_are_refused_with_the_reason(tmp_path):
    root = setup(tmp_path, count=1)
    (shard,) = open_shards(root / "shards")
    from miniplm.data.shards import write_shard

    write_shard(
        root / "none/data_0", [], shard.sidecar.slice(0, 0), vocab_size=128, eos_id=0, max_length=64
    )
    for role in ("teacher", "reference"):
        write_tables(root / "none", root / "no" / role, teacher_log_prob)
    with pytest.raises(ArtefactError, match="no sequence has a score under both models"):
        select_sequences(
            root / "none", root / "no/teacher", root / "no/reference", SelectionConfig(), 1,
            root / "out",
        )  # fmt: skip


def test_shards_without_rows_select_nothing(tmp_path):
    root = setup(tmp_path, per_shard=20)
    none = np.empty(0, dtype=np.int64)
    sidecar = make_sidecar(none, [], none.astype(np.int32), none, [])
    write_shard(root / "shards/data_2", [], sidecar, vocab_size=128, eos_id=0, max_length=64)
    for role, log_prob in (("teacher", teacher_log_prob), ("reference", reference_log_prob)):
        write_tables(root / "shards", root / role, log_prob)
    outcome, table = select(root)
    assert (outcome.counts["kept"], len(table)) == (20, 20)
    assert pq.read_metadata(next(root.glob("selection-*")) / "data_2.parquet").num_rows == 0


def test_a_sidecar_of_other_rows_is_refused(tmp_path):
    root = setup(tmp_path, per_shard=20)
    write_rows(tmp_path / "others", random_rows(30), per_shard=20)
    (tmp_path / "others/data_1.parquet").replace(root / "shards/data_1.parquet")
    with pytest.raises(ArtefactError, match="do not belong together"):
        select(root)
