from collections import Counter
from dataclasses import replace
from functools import partial

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from sklearn.feature_extraction.text import TfidfTransformer
from sklearn.metrics import adjusted_mutual_info_score

from conftest import write_rows
from miniplm.data.chance import uniform_by_id
from miniplm.data.shards import open_shards
from miniplm.data.tokenizer import load_tokenizer, train_tokenizer
from miniplm.errors import ArtefactError
from miniplm.runtime.executors import processes, serial, threads
from miniplm.selection import grouping
from miniplm.selection.group_facts import typical_ngrams
from miniplm.selection.group_tables import read_groups
from miniplm.selection.grouper import Grouper, fit_groups
from miniplm.selection.grouping import GROUPER_NAME, group_sequences, sampled_places
from miniplm.selection.grouping_config import GroupingConfig
from miniplm.selection.ngram_counts import NUM_FEATURES, Weighting, ngram_counts
from miniplm.selection.shingles import hash_ngrams
from miniplm.selection.token_rows import TokenRows

CONFIG = GroupingConfig(num_groups=3, num_components=8, sample_rows=150)
TOPICS = 3


def topical(count, seed=0):
    """Rows about three topics, each with favourite ids, and the topic of each."""
    generator = np.random.default_rng(seed)
    topics = generator.integers(0, TOPICS, count)
    favourites = [np.arange(40 * topic + 1, 40 * topic + 41) for topic in range(TOPICS)]
    common = np.arange(200, 240)
    rows = [
        np.where(
            generator.random(60) < 0.5,
            generator.choice(favourites[topic], 60),
            generator.choice(common, 60),
        ).tolist()
        for topic in topics
    ]
    return rows, topics


def flat(rows):
    return np.concatenate([np.array(row) for row in rows]), np.array([len(row) for row in rows])


def groups_of(folder, shards):
    found = {}
    for shard in open_shards(shards):
        table = read_groups(folder / f"{shard.prefix.name}.parquet", shard.info.shard_hash)
        found |= dict(zip(table.sequence_ids.tolist(), table.groups.tolist(), strict=True))
    return found


@given(
    st.lists(st.lists(st.integers(0, 3), min_size=1, max_size=9), min_size=1, max_size=5),
    st.integers(1, 3),
)
@settings(max_examples=50, deadline=None)
def test_counts_are_those_of_a_counter(rows, longest):
    counts = ngram_counts(*flat(rows), longest).tocsr()
    for number, row in enumerate(rows):
        expected = Counter()
        for size in range(1, longest + 1):
            if len(row) >= size:
                expected.update((hash_ngrams(np.array(row), size) % NUM_FEATURES).tolist())
        part = slice(counts.indptr[number], counts.indptr[number + 1])
        found = zip(counts.indices[part].tolist(), counts.data[part].tolist(), strict=True)
        assert dict(found) == dict(expected)


def test_weights_are_those_of_scikit_learn():
    counts = ngram_counts(*flat(topical(50)[0]), 2)
    theirs = TfidfTransformer(sublinear_tf=True).fit_transform(counts.astype(np.float64))
    ours = Weighting.fit(counts).apply(counts)
    assert abs(ours - theirs).max() < 1e-6


def test_groups_are_the_topics(tmp_path):
    rows, topics = topical(400)
    shards = write_rows(tmp_path / "shards", rows, per_shard=90, vocab_size=300)
    outcome = group_sequences(shards, CONFIG, tmp_path / "groups", 1, serial)
    found = groups_of(tmp_path / "groups", shards)
    groups = [found[i] for i in range(len(rows))]
    assert adjusted_mutual_info_score(topics, groups) > 0.99
    facts = outcome.facts["groups"]
    assert [group["num_sequences"] for group in facts] == np.bincount(groups).tolist()
    assert 100 < outcome.facts["sampled"] < 200
    for group in facts:
        (topic,) = {int(topics[i]) for i in range(len(rows)) if groups[i] == group["group"]}
        words = [ngram[0] for ngram in group["typical"] if len(ngram) == 1]
        assert words
        assert all(40 * topic < word <= 40 * topic + 40 for word in words)


@given(st.data())
@settings(max_examples=8, deadline=None)
def test_groups_do_not_depend_on_sharding(tmp_path_factory, data):
    tmp_path = tmp_path_factory.mktemp("groups")
    rows, _ = topical(300, seed=data.draw(st.integers(0, 2), "rows"))
    per_shard = data.draw(st.integers(20, 300), "per_shard")
    one = write_rows(tmp_path / "one", rows, vocab_size=300)
    many = write_rows(tmp_path / "many", rows, per_shard=per_shard, vocab_size=300)
    first = group_sequences(one, CONFIG, tmp_path / "a", 1, serial)
    second = group_sequences(many, CONFIG, tmp_path / "b", 1, partial(threads, num_workers=3))
    assert groups_of(tmp_path / "a", one) == groups_of(tmp_path / "b", many)
    assert first.facts == second.facts


def test_workers_do_not_change_a_byte(tmp_path):
    shards = write_rows(tmp_path / "shards", topical(200)[0], per_shard=90, vocab_size=300)
    for name, executor in {"serial": serial, "threads": threads, "processes": processes}.items():
        group_sequences(shards, CONFIG, tmp_path / name, 1, executor)
        for path in sorted((tmp_path / name).glob("data_*")):
            assert path.read_bytes() == (tmp_path / "serial" / path.name).read_bytes()


def test_a_row_s_group_follows_from_it_alone():
    rows, _ = topical(60)
    grouper = fit_groups(*flat(rows), CONFIG, 1)
    together = grouper.assign(*flat(rows))
    assert [int(grouper.assign(*flat([row]))[0]) for row in rows] == together.tolist()


def test_the_sample_follows_from_ids(tmp_path):
    rows, _ = topical(500)
    one = TokenRows(open_shards(write_rows(tmp_path / "one", rows, vocab_size=300)))
    many = TokenRows(open_shards(write_rows(tmp_path / "many", rows, per_shard=33, vocab_size=300)))
    sample = sampled_places(one, 100, 5)
    assert 70 < len(sample) < 130
    assert sample.tolist() == sampled_places(many, 100, 5).tolist()
    assert sample.tolist() != sampled_places(many, 100, 6).tolist()
    assert len(sampled_places(many, 500, 5)) == 500


def dies_at_third(function, tasks):
    for count, task in enumerate(tasks):
        if count == 2:
            raise KeyboardInterrupt
        yield function(task)


def test_finished_shards_are_not_done_again(tmp_path):
    shards = write_rows(tmp_path / "shards", topical(200)[0], per_shard=50, vocab_size=300)
    with pytest.raises(KeyboardInterrupt):
        group_sequences(shards, CONFIG, tmp_path / "groups", 1, dies_at_third)
    done = {path: path.stat().st_mtime_ns for path in (tmp_path / "groups").iterdir()}
    assert len(done) == 2 + 1  # and what tells groups apart
    group_sequences(shards, CONFIG, tmp_path / "groups", 1, serial)
    assert all(path.stat().st_mtime_ns == changed for path, changed in done.items())
    group_sequences(shards, CONFIG, tmp_path / "groups", 2, serial)
    assert all(path.stat().st_mtime_ns != changed for path, changed in done.items())


def other_fit(ids, lengths, config, seed):
    """Groups as a library of another version might find them."""
    found = fit_groups(ids, lengths, config, seed)
    return replace(found, directions_FG=np.ascontiguousarray(found.directions_FG[:, ::-1]))


@pytest.mark.parametrize("lost", [None, "missing", "damaged"])
def test_all_shards_of_a_run_go_by_the_same_groups(tmp_path, monkeypatch, lost):
    """Killed between shards, and resumed where the same rows would now give other groups."""
    shards = write_rows(tmp_path / "shards", topical(200)[0], per_shard=50, vocab_size=300)
    group_sequences(shards, CONFIG, tmp_path / "straight", 1, serial)
    with pytest.raises(KeyboardInterrupt):
        group_sequences(shards, CONFIG, tmp_path / "groups", 1, dies_at_third)
    monkeypatch.setattr(grouping, "fit_groups", other_fit)
    if lost == "missing":
        (tmp_path / "groups" / GROUPER_NAME).unlink()
    elif lost == "damaged":
        (tmp_path / "groups" / GROUPER_NAME).write_bytes(b"damaged")
    group_sequences(shards, CONFIG, tmp_path / "groups", 1, serial)
    expected = groups_of(tmp_path / "straight", shards)
    if lost:  # then everything is done again, by what is found now
        expected = {row: CONFIG.num_groups - 1 - group for row, group in expected.items()}
    assert groups_of(tmp_path / "groups", shards) == expected


def test_what_tells_groups_apart_is_read_as_it_was_written(tmp_path):
    rows, _ = topical(60)
    found = fit_groups(*flat(rows), CONFIG, 1)
    path = tmp_path / "new/grouper"
    found.write(path, {"seed": 1})
    again = Grouper.read(path, {"seed": 1})
    assert again.digest == found.digest
    assert again.assign(*flat(rows)).tolist() == found.assign(*flat(rows)).tolist()
    assert Grouper.read(path, {"seed": 2}) is None
    assert Grouper.read(tmp_path / "nothing", {"seed": 1}) is None


def test_the_sample_is_not_what_chance_keeps(tmp_path):
    """Selections draw by the hash of id and the run's seed; the sample must not be its low end."""
    rows = TokenRows(open_shards(write_rows(tmp_path, topical(500)[0], vocab_size=300)))
    chances = uniform_by_id(sampled_places(rows, 100, 5), 5)
    assert chances.max() > 0.9
    assert 0.35 < chances.mean() < 0.65


def test_typical_ngrams_mark_a_group_and_never_span_documents():
    phrases = [[5, 6, 7], [5, 6, 7], [1, 2, 3], [1, 2, 3]]
    rows = [[*phrase, 8 + number % 2, 0, *phrase] for number, phrase in enumerate(phrases * 4)]
    groups = np.array([0, 0, 1, 1] * 4, dtype=np.int32)
    found = typical_ngrams(*flat(rows), groups, 3, 3, 0)
    assert found[0][0] == [5, 6, 7]
    assert found[1][0] == [1, 2, 3]
    assert found[2] == []
    assert not any(0 in ngram for ngrams in found for ngram in ngrams)
    assert typical_ngrams(*flat([[1], [2]]), groups[:2], 2, 3, 0) == [[], []]


def test_ngrams_are_shown_as_text(tmp_path):
    texts = ["red house and green tree"] * 60 + ["1 2 3 4 5 6 7 8 9"] * 60
    train_tokenizer(texts, 300, tmp_path / "tokenizer")
    rows = load_tokenizer(tmp_path / "tokenizer")(texts)["input_ids"]
    shards = write_rows(tmp_path / "shards", rows, vocab_size=300)
    config = GroupingConfig(num_groups=2, num_components=2)
    outcome = group_sequences(
        shards, config, tmp_path / "groups", 1, serial, tmp_path / "tokenizer"
    )
    text = {"".join(group["text"]) for group in outcome.facts["groups"]}
    assert {"house" in shown for shown in text} == {True, False}
    assert [len(group["text"]) for group in outcome.facts["groups"]] == [
        len(group["typical"]) for group in outcome.facts["groups"]
    ]


def test_too_few_rows_and_foreign_tables_are_refused(tmp_path):
    shards = write_rows(tmp_path / "shards", topical(2)[0], vocab_size=300)
    with pytest.raises(ArtefactError, match="holds 2 sequences, too few for 3 groups"):
        group_sequences(shards, CONFIG, tmp_path / "groups", 1, serial)
    shards = write_rows(tmp_path / "more", topical(30)[0], vocab_size=300)
    group_sequences(shards, CONFIG, tmp_path / "groups", 1, serial)
    with pytest.raises(ArtefactError, match="groups of another token shard"):
        read_groups(tmp_path / "groups/data_0.parquet", "another")
