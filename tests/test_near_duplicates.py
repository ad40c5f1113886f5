from collections import Counter
from functools import partial
from itertools import combinations

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy.sparse import coo_array
from scipy.sparse.csgraph import connected_components

from conftest import random_rows, write_rows
from miniplm.data.shards import Shard, make_sidecar, open_shards, write_shard
from miniplm.data.tokenizer import train_tokenizer
from miniplm.errors import ArtefactError
from miniplm.export.exporter import export_corpus
from miniplm.runtime.executors import processes, serial, threads
from miniplm.selection.cluster_tables import keep_one, read_clusters
from miniplm.selection.clustering import _CENTRES
from miniplm.selection.duplicates_config import NearDuplicatesConfig
from miniplm.selection.minhash import Bands, signatures
from miniplm.selection.near_duplicates import find_near_duplicates
from miniplm.selection.shingles import Shingles, jaccard
from miniplm.selection.tables import write_selection
from miniplm.selection.token_rows import TokenRows, row_blocks

CONFIG = NearDuplicatesConfig()


def shingle_set(row, size=CONFIG.ngram):
    return {tuple(row[begin : begin + size]) for begin in range(len(row) - size + 1)}


def brute_jaccard(first, second):
    return len(first & second) / len(first | second) if first | second else 0.0


def shingles_of(rows, size):
    flat = np.concatenate([np.array(row, dtype=np.int64) for row in rows])
    return Shingles.of(flat, np.array([len(row) for row in rows]), size)


def planted(seed=0, originals=60, vocab_size=500):
    """Rows of which some are copies of others with a few ids changed, cut off or put in."""
    generator = np.random.default_rng(seed)
    rows = [
        generator.integers(1, vocab_size, generator.integers(60, 200)).tolist()
        for _ in range(originals)
    ]
    for original in list(rows[: originals // 2]):
        for _ in range(generator.integers(1, 4)):
            copy = list(original)
            for place in generator.integers(0, len(copy), generator.integers(0, 6)):
                copy[place] = int(generator.integers(1, vocab_size))
            rows.append(copy[generator.integers(0, 4) :])
    generator.shuffle(rows)
    return rows


def clusters_of(folder, shards):
    """Cluster by sequence id."""
    found = {}
    for shard in open_shards(shards):
        table = read_clusters(folder / f"{shard.prefix.name}.parquet", shard.info.shard_hash)
        found |= dict(zip(table.sequence_ids.tolist(), table.clusters.tolist(), strict=True))
    return found


@given(
    st.lists(st.lists(st.integers(0, 4), max_size=12), min_size=2, max_size=6),
    st.integers(1, 4),
)
@settings(max_examples=60, deadline=None)
def test_jaccard_is_that_of_sets(rows, size):
    shingles = shingles_of(rows, size)
    first, second = np.array(list(combinations(range(len(rows)), 2))).T
    sets = [shingle_set(row, size) for row in rows]
    expected = [brute_jaccard(sets[a], sets[b]) for a, b in zip(first, second, strict=True)]
    assert jaccard(shingles.take(first), shingles.take(second)).tolist() == expected


def test_signatures_estimate_the_similarity():
    rows = planted()
    signed = signatures(shingles_of(rows, 5), 1024)
    sets = [shingle_set(row) for row in rows]
    pairs = [(a, b) for a, b in combinations(range(len(rows)), 2) if sets[a] & sets[b]]
    errors = [(signed[a] == signed[b]).mean() - brute_jaccard(sets[a], sets[b]) for a, b in pairs]
    assert len(pairs) > 50
    assert abs(np.mean(errors)) < 0.005
    assert np.std(errors) < 0.02  # sqrt(0.25 / 1024) is 0.016


@pytest.mark.parametrize("similarity", [0.3, 0.5, 0.7, 0.8, 0.9, 1.0])
def test_bands_are_the_longest_that_find_nine_of_ten(similarity):
    bands = Bands.for_similarity(similarity, 128)
    assert bands.num_hashes <= 128
    assert bands.recall(similarity) >= 0.9
    longer = Bands(128 // (bands.num_rows + 1), bands.num_rows + 1)
    assert longer.num_hashes == 0 or longer.recall(similarity) < 0.9


@pytest.mark.parametrize("seed", range(4))
def test_clusters_against_brute_force(tmp_path, seed):
    rows = planted(seed)
    shards = write_rows(tmp_path / "shards", rows, per_shard=40, vocab_size=500, max_length=256)
    outcome = find_near_duplicates(shards, CONFIG, tmp_path / "found", serial)
    found = clusters_of(tmp_path / "found", shards)
    sets = [shingle_set(row) for row in rows]
    pairs = [
        pair
        for pair in combinations(range(len(rows)), 2)
        if brute_jaccard(sets[pair[0]], sets[pair[1]]) >= 0.8
    ]
    together = [pair for pair in pairs if found[pair[0]] == found[pair[1]]]
    assert len(pairs) > 20
    assert len(together) >= 0.95 * len(pairs)
    first, second = np.array(pairs).T
    graph = coo_array((np.ones(len(pairs)), (first, second)), shape=(len(rows), len(rows)))
    components = connected_components(graph, directed=False)[1]
    for a, b in combinations(range(len(rows)), 2):
        assert found[a] != found[b] or components[a] == components[b]
    sizes = Counter(found.values())
    assert all(min(i for i in found if found[i] == c) == c for c in sizes)
    assert outcome.counts["clusters"] == sum(size > 1 for size in sizes.values())
    assert outcome.counts["in_clusters"] == sum(size for size in sizes.values() if size > 1)
    assert outcome.counts["redundant"] == len(rows) - len(sizes)
    domains = outcome.facts["domains"]
    assert sum(counts["redundant"] for counts in domains.values()) == outcome.counts["redundant"]
    assert [c["num_sequences"] for c in domains.values()] == [-(-len(rows) // 2), len(rows) // 2]


def write_shuffled(folder, rows, order, per_shard):
    """Shards of rows in some order; a row's id is its place in `rows` plus 7."""
    for number, begin in enumerate(range(0, len(order), per_shard)):
        part = order[begin : begin + per_shard]
        lengths = np.array([len(rows[i]) for i in part], dtype=np.int32)
        sidecar = make_sidecar(
            np.array(part) + 7,
            ["x"] * len(part),
            lengths,
            lengths.astype(np.int64),
            [[]] * len(part),
        )
        write_shard(
            folder / f"data_{number}", [np.array(rows[i]) for i in part], sidecar,
            vocab_size=500, eos_id=0, max_length=256,
        )  # fmt: skip
    return folder


@given(st.data())
@settings(max_examples=12, deadline=None)
def test_clusters_do_not_depend_on_sharding(tmp_path_factory, data):
    tmp_path = tmp_path_factory.mktemp("clusters")
    rows = planted(data.draw(st.integers(0, 3), "rows"), originals=16)
    order = data.draw(st.permutations(range(len(rows))), "order")
    per_shard = data.draw(st.integers(3, len(rows)), "per_shard")
    straight = write_shuffled(tmp_path / "straight", rows, range(len(rows)), len(rows))
    shuffled = write_shuffled(tmp_path / "shuffled", rows, order, per_shard)
    find_near_duplicates(straight, CONFIG, tmp_path / "a", serial)
    find_near_duplicates(shuffled, CONFIG, tmp_path / "b", partial(threads, num_workers=3))
    assert clusters_of(tmp_path / "a", straight) == clusters_of(tmp_path / "b", shuffled)


def test_workers_do_not_change_a_byte(tmp_path):
    shards = write_rows(tmp_path / "shards", planted(), per_shard=50, vocab_size=500)
    executors = {"serial": serial, "threads": threads, "processes": processes}
    for name, executor in executors.items():
        find_near_duplicates(shards, CONFIG, tmp_path / name, executor)
        for path in sorted((tmp_path / name).glob("data_*")):
            assert path.read_bytes() == (tmp_path / "serial" / path.name).read_bytes()


def test_finished_shards_are_not_done_again(tmp_path):
    def dies_at_third(function, tasks):
        for count, task in enumerate(tasks):
            if count == 2:
                raise KeyboardInterrupt
            yield function(task)

    shards = write_rows(tmp_path / "shards", planted(), per_shard=30, vocab_size=500)
    with pytest.raises(KeyboardInterrupt):
        find_near_duplicates(shards, CONFIG, tmp_path / "found", dies_at_third)
    done = {p: p.stat().st_mtime_ns for p in (tmp_path / "found/bands").iterdir()}
    assert len(done) == 2
    find_near_duplicates(shards, CONFIG, tmp_path / "found", serial)
    assert all(path.stat().st_mtime_ns == changed for path, changed in done.items())
    find_near_duplicates(shards, CONFIG, tmp_path / "straight", serial)
    assert clusters_of(tmp_path / "found", shards) == clusters_of(tmp_path / "straight", shards)
    other = NearDuplicatesConfig(ngram=3)
    find_near_duplicates(shards, other, tmp_path / "found", serial)
    assert all(path.stat().st_mtime_ns != changed for path, changed in done.items())


def test_copies_cost_one_comparison_each(tmp_path):
    row = list(range(1, 60))
    shards = write_rows(tmp_path / "shards", [row] * 500, per_shard=100)
    outcome = find_near_duplicates(shards, CONFIG, tmp_path / "found", serial)
    assert set(clusters_of(tmp_path / "found", shards).values()) == {0}
    assert outcome.counts["compared"] == outcome.counts["confirmed"] == 499
    assert outcome.facts["largest"][0] == {
        "cluster": 0, "size": 500, "domains": {"even": 250, "odd": 250},
    }  # fmt: skip


def test_the_work_in_a_bucket_is_bounded(tmp_path):
    """Rows that fill in one template agree in bands without being near-duplicates."""
    template = list(range(1, 60))
    rows = [[*template, *range(100 + 40 * i, 120 + 40 * i)] for i in range(300)]
    shards = write_rows(tmp_path / "shards", rows, per_shard=100, vocab_size=20_000)
    config = NearDuplicatesConfig(similarity=0.8, num_hashes=16)
    outcome = find_near_duplicates(shards, config, tmp_path / "found", serial)
    num_bands = outcome.facts["bands"]["num_bands"]
    assert outcome.counts["clusters"] == 0
    assert 300 < outcome.counts["compared"] <= num_bands * _CENTRES * 300


def test_rows_without_a_shingle_are_alone(tmp_path):
    shards = write_rows(tmp_path / "shards", [[1, 2, 3], [1, 2, 3], [5, 6, 7, 8, 9]] * 2)
    outcome = find_near_duplicates(shards, CONFIG, tmp_path / "found", serial)
    assert clusters_of(tmp_path / "found", shards) == {0: 0, 1: 1, 2: 2, 3: 3, 4: 4, 5: 2}
    assert outcome.counts == {
        "sequences": 6, "clusters": 1, "in_clusters": 2, "redundant": 1, "compared": 1,
        "confirmed": 1,
    }  # fmt: skip


def test_a_corpus_without_duplicates_and_one_with_an_empty_shard(tmp_path):
    shards = write_rows(tmp_path / "shards", random_rows(20))
    write_rows(tmp_path / "empty", [[1, 2]])
    for path in (tmp_path / "empty").iterdir():
        path.rename(shards / path.name.replace("data_0", "data_1"))
    empty = make_sidecar(np.empty(0, int), [], np.empty(0, np.int32), np.empty(0, int), [])
    write_shard(shards / "data_2", [], empty, vocab_size=128, eos_id=0, max_length=64)
    outcome = find_near_duplicates(shards, CONFIG, tmp_path / "found", serial)
    assert outcome.counts["clusters"] == outcome.counts["in_clusters"] == 0
    assert outcome.facts["largest"] == []


def test_the_largest_clusters_show_their_text(tmp_path):
    texts = ["The cat sat on the mat and saw one big dog run to its red house."] * 5
    train_tokenizer(texts, 300, tmp_path / "tokenizer")
    from miniplm.data.tokenizer import load_tokenizer

    rows = load_tokenizer(tmp_path / "tokenizer")(texts)["input_ids"]
    shards = write_rows(tmp_path / "shards", rows, vocab_size=300)
    outcome = find_near_duplicates(
        shards, CONFIG, tmp_path / "found", serial, tmp_path / "tokenizer"
    )
    assert outcome.facts["largest"][0]["example"] == texts[0]


def test_clusters_of_other_shards_are_refused(tmp_path):
    shards = write_rows(tmp_path / "shards", random_rows(10))
    find_near_duplicates(shards, CONFIG, tmp_path / "found", serial)
    other = write_rows(tmp_path / "other", random_rows(10, seed=1))
    with pytest.raises(ArtefactError, match="clusters of another token shard"):
        keep_one(other, tmp_path / "found", tmp_path / "kept", serial)
    with pytest.raises(ArtefactError, match="no such file"):
        read_clusters(tmp_path / "nowhere.parquet", "")


def test_one_of_each_cluster_is_exported_and_can_be_selected_from_again(tmp_path):
    rows = planted()
    shards = write_rows(tmp_path / "shards", rows, per_shard=40, vocab_size=500)
    find_near_duplicates(shards, CONFIG, tmp_path / "found", serial)
    outcome = keep_one(shards, tmp_path / "found", tmp_path / "kept", threads)
    kept = sorted(set(clusters_of(tmp_path / "found", shards).values()))
    assert outcome.counts["kept"] == len(kept) < len(rows)
    assert outcome.counts["dropped"] == {"near-duplicate": len(rows) - len(kept)}
    export_corpus(shards, tmp_path / "kept", tmp_path / "unique", serial)
    unique = open_shards(tmp_path / "unique/shards")
    assert np.concatenate([shard.sequence_ids for shard in unique]).tolist() == kept
    assert unique[0].row(1).tolist() == rows[kept[1]]
    again = find_near_duplicates(tmp_path / "unique/shards", CONFIG, tmp_path / "again", serial)
    assert again.counts["clusters"] == 0

    for shard in unique:
        ids = shard.sequence_ids[:2]
        write_selection(
            tmp_path / f"second/{shard.prefix.name}.parquet",
            ids,
            np.array([0.25, 0.5], np.float32)[: len(ids)],
            {},
            {"shard_hash": shard.info.shard_hash},
        )
    export_corpus(tmp_path / "unique/shards", tmp_path / "second", tmp_path / "refined", serial)
    refined = Shard(tmp_path / "refined/shards/data_0")
    assert refined.sidecar.column_names.count("difference_score") == 1
    assert refined.sidecar["difference_score"].to_pylist() == [0.25, 0.5]


@pytest.mark.parametrize("at_once", [1, 150, 10**6])
def test_blocks_of_rows_are_the_rows(tmp_path, monkeypatch, at_once):
    monkeypatch.setattr("miniplm.selection.token_rows._IDS_AT_ONCE", at_once)
    rows = random_rows(30)
    shard = Shard(write_rows(tmp_path / "shards", rows) / "data_0")
    found = []
    for ids, lengths in row_blocks(shard):
        found += [part.tolist() for part in np.split(ids, np.cumsum(lengths)[:-1])]
    assert found == rows


def test_rows_by_place(tmp_path):
    rows = random_rows(30)
    table = TokenRows(open_shards(write_rows(tmp_path / "shards", rows, per_shard=7)))
    places = np.array([0, 6, 7, 20, 29])
    ids, lengths = table.ids(places)
    assert [part.tolist() for part in np.split(ids, np.cumsum(lengths)[:-1])] == [
        rows[place] for place in places
    ]
    assert table.sequence_ids(places).tolist() == places.tolist()
    assert len(table) == 30
