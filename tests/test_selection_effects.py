import dataclasses
import json

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy import stats

from conftest import random_rows, write_rows
from miniplm.data.chance import uniform_by_id
from miniplm.data.parquet import ColumnFile, write_parquet
from miniplm.data.shards import Shard, open_shards, shard_prefixes, write_shard
from miniplm.errors import ArtefactError
from miniplm.runtime.executors import serial, threads
from miniplm.selection import effects, text_sample
from miniplm.selection.agreement import (
    ScoredRows,
    chance_of_more,
    describe_agreement,
    spearman,
)
from miniplm.selection.compression import BLOCK_BYTES, block_ratio, compressed_sizes
from miniplm.selection.config import SelectionConfig
from miniplm.selection.diversity import distinct_shares, ngram_hashes, self_similarity
from miniplm.selection.effect_facts import EFFECTS_NAME
from miniplm.selection.effect_warnings import CompressionGain, compression_gains, effect_warnings
from miniplm.selection.effects import describe_selection
from miniplm.selection.kept_rows import read_kept_rows
from miniplm.selection.mix import Extent, add_mixes, mix_by_domain
from miniplm.selection.ngram_model import NgramModel, Trigrams
from miniplm.selection.selector import select_sequences
from test_selection import reference_log_prob, setup, write_tables

V = 7
TOKEN_TEXTS = [b"", *(bytes([97 + i % 26]) * (1 + i % 3) for i in range(127))]

# ---- the trigram model ---------------------------------------------------------------------------


def trigrams(rows, eos_id=0):
    return Trigrams.of([np.array(row) for row in rows], V, eos_id)


def probability(model, u, v, w):
    one = (np.array([value]) for value in (u, v, w, 0))
    return float(np.exp(-model.losses(Trigrams(*one))[0]))


def test_targets_have_the_two_ids_before_them_and_none_follows_eos():
    targets = trigrams([[1, 2, 3], [4, 0, 5, 6], [2]])
    found = list(zip(*(column.tolist() for column in dataclasses.astuple(targets)), strict=True))
    assert found == [(V, 1, 2, 0), (1, 2, 3, 0), (V, 4, 0, 1), (0, 5, 6, 1)]


def test_kneser_ney_by_hand():
    # trigrams (V is the beginning): V12 twice, 123, 124, V56; bigrams 12, 23, 24, 56
    model = NgramModel(trigrams([[1, 2, 3], [1, 2, 4], [5, 6]]), V)
    # of the counts 2 1 1 1 three are 1 and one is 2; all others are 1, which gives the bound
    d3, d2, d1 = 3 / 5, 0.9, 0.9
    word = (1 - d1) / 4 + d1 * 4 / 4 / V  # 3 is one of four words, each after one other
    pair = (1 - d2) / 2 + d2 * 2 / 2 * word  # 2 was followed by 3 and by 4
    assert probability(model, 1, 2, 3) == pytest.approx((1 - d3) / 2 + d3 * 2 / 2 * pair)
    assert probability(model, 6, 2, 3) == pytest.approx(pair)  # 6 2 was never seen
    assert probability(model, 6, 6, 3) == pytest.approx(word)
    assert probability(model, 6, 6, 1) == pytest.approx(d1 / V)


@given(st.lists(st.lists(st.integers(0, V - 1), min_size=2, max_size=12), min_size=1, max_size=8))
@settings(max_examples=25, deadline=None)
def test_probabilities_sum_to_one_in_every_context(rows):
    targets = trigrams(rows)
    if len(targets.w_N) == 0:
        return
    model, words = NgramModel(targets, V), np.arange(V)
    for u in range(V + 1):
        for v in range(1, V):
            same = np.ones(V, dtype=np.int64)
            losses = model.losses(Trigrams(u * same, v * same, words, same))
            assert np.exp(-losses).sum() == pytest.approx(1.0, abs=1e-12)


# ---- text: n-grams, likeness, compression --------------------------------------------------------


@given(st.lists(st.lists(st.integers(0, 4), max_size=9), max_size=6), st.integers(1, 4))
@settings(max_examples=40, deadline=None)
def test_ngrams_are_those_of_each_row(rows, n):
    hashes, numbers = ngram_hashes([np.array(row, dtype=np.uint16) for row in rows], n)
    plain = [
        (place, tuple(row[i : i + n]))
        for place, row in enumerate(rows)
        for i in range(len(row) - n + 1)
    ]
    assert numbers.tolist() == [place for place, _ in plain]
    assert len(np.unique(hashes)) == len({ngram for _, ngram in plain})


def test_distinct_shares_are_taken_at_equal_numbers():
    before = [np.array([1, 2, 3, 4]), np.array([1, 2, 3, 4])]
    assert distinct_shares(before, [np.array([5, 6])], 1) == (1.0, 1.0, 2)
    assert distinct_shares(before, before, 2) == (0.5, 0.5, 6)
    assert distinct_shares(before, [], 1) == (1.0, 1.0, 0)


def test_self_similarity_is_the_mean_over_all_pairs():
    generator = np.random.default_rng(0)
    rows = [generator.integers(0, 5, generator.integers(2, 30)) for _ in range(12)]
    counts = np.zeros((12, 25))
    for place, row in enumerate(rows):
        np.add.at(counts[place], 5 * row[:-1] + row[1:], 1)
    unit = counts / np.linalg.norm(counts, axis=1, keepdims=True)
    cosines = (unit @ unit.T)[~np.eye(12, dtype=bool)]
    assert self_similarity(rows) == pytest.approx(cosines.mean())
    assert self_similarity([np.array([1, 2, 3]), np.array([4])]) is None


def test_blocks_show_what_rows_repeat_of_each_other():
    random = np.random.default_rng(0).bytes(BLOCK_BYTES)
    assert block_ratio([random, random[:100]]) == pytest.approx(1.0, abs=0.01)
    row = random[:512]
    assert compressed_sizes([row])[0] >= 512
    assert block_ratio([row] * (BLOCK_BYTES // 512)) > 30
    assert block_ratio([row]) is None


# ---- agreement -----------------------------------------------------------------------------------


def scored(kept, seed=0, count=200):
    generator = np.random.default_rng(seed)
    teacher, reference = -generator.random(count), -generator.random(count)
    lengths = generator.integers(2, 9, count)
    return ScoredRows(np.arange(count), teacher, reference, lengths, kept(teacher, reference))


def test_correlation_and_preference_agree_with_scipy():
    rows = scored(lambda teacher, _: teacher > -0.3)
    lengths = rows.num_tokens.astype(float)
    assert spearman(rows.teacher, lengths) == pytest.approx(
        stats.spearmanr(rows.teacher, lengths).statistic
    )
    kept, dropped = lengths[rows.is_kept], lengths[~rows.is_kept]
    assert chance_of_more(lengths, rows.is_kept) == pytest.approx(
        stats.mannwhitneyu(kept, dropped).statistic / (len(kept) * len(dropped))
    )
    assert spearman(rows.teacher, np.ones(200)) is None
    assert chance_of_more(lengths, np.ones(200, dtype=bool)) is None


def test_a_baseline_agrees_with_itself_and_its_opposite_with_nothing():
    def top(values):
        return values >= np.sort(values)[-50]

    found = describe_agreement(scored(lambda teacher, _: top(teacher)))["baselines"]
    assert found["teacher_only"] == {"overlap": 1.0, "jaccard": 1.0}
    assert found["random"] == {"overlap": 0.25, "jaccard": pytest.approx(0.25 / 1.75)}
    found = describe_agreement(scored(lambda _, reference: top(reference)))
    assert found["baselines"]["reference_only"]["overlap"] == 0.0
    assert found["follows"]["reference_loss"]["kept_has_more"] == 0.0
    middle = describe_agreement(
        scored(lambda _, reference: top(-np.abs(stats.rankdata(reference) - 100.5)))
    )
    assert middle["baselines"]["perplexity_band"]["overlap"] == 1.0


# ---- warnings ------------------------------------------------------------------------------------


def record(size, kept_size, ratio, kept_ratio):
    return {
        "candidates": {"num_bytes": size, "block_compression": ratio},
        "kept": {"num_bytes": kept_size, "block_compression": kept_ratio},
    }


def test_gains_add_up_to_what_compression_gained():
    domains = {
        "prose": record(600, 100, 2.0, 2.2),
        "dumps": record(400, 300, 8.0, 10.0),
    }
    gains = {gain.domain: gain for gain in compression_gains(domains)}
    before, after = 0.6 / 2.0 + 0.4 / 8.0, 0.25 / 2.2 + 0.75 / 10.0
    assert sum(gain.total for gain in gains.values()) == pytest.approx(before - after)
    assert gains["dumps"].words() == "'dumps' growing from 40.0% to 75.0%"
    assert gains["prose"].words() == "'prose' shrinking from 60.0% to 25.0%"
    own = CompressionGain("code", (0.1, 0.1), (2.0, 4.0), 0.5)
    assert own.words() == "what is kept of 'code' (4.00 to 1, all of it 2.00 to 1)"
    vanished = compression_gains({"a": record(500, 100, 2.0, 2.0), "b": record(500, 0, 4.0, None)})
    assert vanished[1].own == 0.0
    assert vanished[1].total < 0 < -vanished[1].total


def facts(compression, distinct, num_sampled=1000):
    first, second = (
        {"num_sampled": num_sampled, "block_compression": ratio, "distinct": [0, 0, share, 0]}
        for ratio, share in zip(compression, distinct, strict=True)
    )
    return {
        "overall": {"candidates": first, "kept": second},
        "domains": {"dumps": record(400, 300, 8.0, 10.0), "prose": record(600, 300, 2.0, 2.0)},
    }


def test_warnings_come_beyond_their_bounds_only():
    assert effect_warnings(facts((2.0, 2.09), (0.5, 0.47))) == []
    (warning,) = effect_warnings(facts((2.0, 2.3), (0.5, 0.6)))
    assert warning.startswith("Formulaic text gains: the kept text compresses 2.30 to 1")
    assert "'dumps' growing from 40.0% to 50.0%" in warning
    (warning,) = effect_warnings(facts((2.0, 1.5), (0.5, 0.4)))
    assert "40.0% are distinct in the kept text, 50.0%" in warning
    assert effect_warnings(facts((2.0, 2.3), (0.5, 0.4), num_sampled=50)) == []
    assert effect_warnings(facts((None, None), (None, None))) == []


# ---- counting ------------------------------------------------------------------------------------


@given(st.lists(st.tuples(st.integers(1, 12), st.integers(0, 3)), max_size=30))
@settings(max_examples=40, deadline=None)
def test_lengths_are_those_of_the_corpus_with_its_repeats(rows):
    lengths = np.array([length for length, _ in rows], dtype=np.int64)
    copies = np.array([copy for _, copy in rows], dtype=np.int64)
    extent = Extent.of(lengths, 10 * lengths, copies)
    written = np.repeat(lengths, copies)
    assert (extent.num_rows, extent.num_tokens) == (len(written), written.sum())
    assert extent.num_bytes == 10 * written.sum()
    for share in (0.1, 0.5, 0.9, 1.0):
        wanted = np.quantile(written, share, method="inverted_cdf") if len(written) else None
        assert extent.length_quantile(share) == wanted


# ---- the stage -----------------------------------------------------------------------------------


@pytest.fixture
def selected(tmp_path):
    """Four hundred rows, scored and selected, and text held apart."""
    setup(tmp_path, per_shard=400, count=400, shuffled=False)
    write_rows(tmp_path / "apart", random_rows(60, seed=9))
    return select_into(tmp_path, "selection")


def select_into(root, name, shards="shards", **config):
    teacher, reference = root / "teacher", root / "reference"
    select_sequences(
        root / shards, teacher, reference, SelectionConfig(**config), 1, root / name, serial
    )
    return root


def describe(root, shards="shards", selection="selection", seed=1, executor=threads):
    out = root / f"described-{len(list(root.iterdir()))}"
    outcome = describe_selection(
        root / shards, root / selection, root / "apart", TOKEN_TEXTS, seed, out, executor
    )
    return outcome, out


def rewrite_selection(root, change):
    """The selection's files again, their columns changed."""
    for path in (root / "selection").glob("data_*.parquet"):
        file = ColumnFile(path)
        write_parquet(path, change(file.table()), file.metadata)


def test_the_stage_counts_and_measures(selected):
    outcome, folder = describe(selected)
    overall = outcome.facts["overall"]
    (shard,) = open_shards(selected / "shards")
    kept = set(pq.read_table(selected / "selection/data_0.parquet")["sequence_id"].to_pylist())
    lengths = shard.lengths[[i in kept for i in shard.sequence_ids]]
    assert overall["candidates"]["num_tokens"] == shard.num_ids
    assert overall["kept"]["num_tokens"] == lengths.sum()
    assert overall["kept"]["num_bytes"] == 3 * lengths.sum()
    assert overall["kept"]["num_rows"] == overall["num_distinct_rows"] == 200
    assert set(outcome.facts["domains"]) == {"even", "odd"}
    # all rows are in the sample, so the measures are those of the corpus
    assert overall["candidates"]["num_sampled"] == 400
    text = [b"".join(TOKEN_TEXTS[i] for i in shard.row(place)) for place in range(400)]
    sizes = sum(compressed_sizes(text))
    assert overall["candidates"]["row_compression"] == sum(map(len, text)) / sizes
    rows = [shard.row(place) for place in range(400)]
    assert overall["candidates"]["self_similarity"] == pytest.approx(self_similarity(rows))
    (apart,) = open_shards(selected / "apart")
    model = NgramModel(Trigrams.of([apart.row(i) for i in range(60)], 128, 0), 128)
    losses = model.losses(Trigrams.of(rows, 128, 0))
    assert overall["candidates"]["loss"] == pytest.approx(losses.mean())
    assert json.loads(json.dumps(outcome.facts, allow_nan=False)) == outcome.facts
    table = pq.read_table(folder / EFFECTS_NAME).to_pylist()
    assert [(line["domain"], line["part"]) for line in table] == [
        (domain, part) for domain in (None, "even", "odd") for part in ("candidates", "kept")
    ]
    assert table[1]["loss"] == overall["kept"]["loss"]
    assert table[1]["length_p50"] == overall["kept"]["length"]["p50"]


def test_agreement_is_that_of_all_rows(selected):
    found = describe(selected)[0].facts["agreement"]
    assert (found["num_rows"], found["num_kept"]) == (400, 200)
    assert found["baselines"]["top_ratio"] == {"overlap": 1.0, "jaccard": 1.0}
    select_into(selected, "by-teacher", policy="teacher_only")
    found = describe(selected, selection="by-teacher")[0].facts["agreement"]
    assert found["baselines"]["teacher_only"]["overlap"] == 1.0
    assert found["follows"]["teacher_loss"]["kept_has_more"] == pytest.approx(0.0, abs=0.05)


def test_shards_and_workers_have_no_say(tmp_path, monkeypatch):
    monkeypatch.setattr(text_sample, "SAMPLE_TOKENS", 4000)
    monkeypatch.setattr(text_sample, "DOMAIN_TOKENS", 1500)
    monkeypatch.setattr(effects, "MODEL_TOKENS", 1000)
    outcomes = []
    for per_shard, executor in ((400, serial), (400, threads), (70, threads), (3, serial)):
        root = tmp_path / f"{per_shard}-{executor.__name__}"
        setup(root, per_shard=per_shard, count=200, shuffled=False)
        write_rows(root / "apart", random_rows(60, seed=9), per_shard=per_shard)
        select_into(root, "selection")
        outcomes.append(describe(root, executor=executor)[0])
    assert outcomes[0].counts["sampled"] < 200
    assert outcomes[1] == outcomes[0]
    for outcome in outcomes[2:]:
        assert flat(outcome) == pytest.approx(flat(outcomes[0]), rel=1e-12)


def test_text_apart_is_drawn_whatever_else_the_seed_drew(tmp_path, monkeypatch):
    """As where its rows are what chance with this seed left over."""
    write_rows(tmp_path, random_rows(400, seed=9))
    shard = Shard(tmp_path / "data_0")
    left_over = np.flatnonzero(uniform_by_id(shard.sequence_ids, 5) > 0.5)
    write_shard(
        tmp_path / "apart/data_0", [shard.row(place) for place in left_over],
        shard.sidecar.take(left_over), vocab_size=128, eos_id=0, max_length=64,
    )  # fmt: skip
    monkeypatch.setattr(effects, "MODEL_TOKENS", shard.num_ids // 8)
    assert effects.count_apart(tmp_path / "apart", 5) is not None


def flat(value, name=""):
    """All numbers of a result by their places in it."""
    if dataclasses.is_dataclass(value):
        value = {"counts": value.counts, "num_tokens": value.num_tokens, "facts": value.facts}
    if isinstance(value, dict | list | tuple):
        items = value.items() if isinstance(value, dict) else enumerate(value)
        return {k: v for key, item in items for k, v in flat(item, f"{name}/{key}").items()}
    return {name: value} if isinstance(value, int | float) else {}


def test_another_seed_draws_another_sample_and_counts_the_same(selected, monkeypatch):
    monkeypatch.setattr(text_sample, "SAMPLE_TOKENS", 4000)
    first, second = (describe(selected, seed=seed)[0].facts["overall"] for seed in (1, 2))
    assert first["kept"]["num_tokens"] == second["kept"]["num_tokens"]
    assert first["kept"]["loss"] != second["kept"]["loss"]
    assert 90 < first["candidates"]["num_sampled"] < 160  # 4000 tokens, some 33 in a row


def test_repeats_count_as_often_as_they_are(selected):
    plain = describe(selected)[0].facts["overall"]
    rewrite_selection(
        selected,
        lambda table: table.append_column("repeats", pa.array(np.full(len(table), 3, np.int32))),
    )
    again = describe(selected)[0].facts["overall"]
    for name in ("num_rows", "num_tokens", "num_bytes"):
        assert again["kept"][name] == 3 * plain["kept"][name]
    assert again["kept"]["length"] == plain["kept"]["length"]
    assert again["num_distinct_rows"] == plain["num_distinct_rows"] == 200
    assert again["kept"]["num_sampled"] == 600
    assert again["kept"]["loss"] == pytest.approx(plain["kept"]["loss"])
    assert again["candidates"]["num_rows"] == 400
    assert again["kept"]["distinct"][3] < 0.7 * plain["kept"]["distinct"][3]


def test_a_selection_that_lost_a_domain_is_described(selected):
    def without_odd(table):
        return table.filter(pa.array(table["sequence_id"].to_numpy() % 2 == 0))

    rewrite_selection(selected, without_odd)
    domains = describe(selected)[0].facts["domains"]
    assert domains["odd"]["kept"]["num_rows"] == domains["odd"]["kept"]["num_sampled"] == 0
    assert domains["odd"]["kept"]["loss"] is None
    assert domains["odd"]["kept"]["distinct"] == [None] * 4
    assert domains["even"]["kept"]["num_rows"] > 0


def test_a_selection_of_nothing_is_described(selected):
    rewrite_selection(selected, lambda table: table.slice(0, 0))
    outcome, _ = describe(selected)
    assert outcome.facts["overall"]["kept"]["num_rows"] == 0
    assert outcome.facts["overall"]["kept"]["length"] == {"p10": None, "p50": None, "p90": None}
    assert outcome.facts["warnings"] == []
    assert outcome.facts["agreement"]["baselines"]["top_ratio"]["overlap"] == 0.0


def test_formulaic_text_that_gains_is_warned_of(tmp_path):
    generator = np.random.default_rng(0)
    phrase = generator.integers(1, 128, 64).tolist()
    rows = [generator.integers(1, 128, 65).tolist() if i % 2 else [1 + i % 100, *phrase]
            for i in range(2400)]  # fmt: skip
    setup(tmp_path, count=2400)
    write_rows(tmp_path / "shards", rows)
    write_rows(tmp_path / "apart", rows[:50])
    write_tables(tmp_path / "shards", tmp_path / "teacher", lambda i: -1.0 - i % 2 + i * 1e-5)
    write_tables(tmp_path / "shards", tmp_path / "reference", reference_log_prob)
    select_into(tmp_path, "selection", ratio=0.6)
    warnings = describe(tmp_path)[0].facts["warnings"]
    assert [warning.partition(":")[0] for warning in warnings] == [
        "Formulaic text gains", "The text gets less varied",
    ]  # fmt: skip
    assert "'even' growing from 50" in warnings[0]


def test_a_selection_of_other_shards_is_refused(selected, tmp_path):
    write_rows(tmp_path / "others", random_rows(400, seed=5))
    with pytest.raises(ArtefactError, match="selects from another token shard"):
        describe(selected, shards="others")
    rewrite_selection(
        selected, lambda table: table.set_column(0, "sequence_id", pa.array(np.arange(900, 1100)))
    )
    with pytest.raises(ArtefactError, match="does not hold"):
        describe(selected)


def test_what_is_drawn_does_not_depend_on_what_was_drawn_to_select(selected):
    select_into(selected, "random", policy="random")
    overall = describe(selected, selection="random")[0].facts["overall"]
    assert overall["kept"]["num_sampled"] == 200
    rows = [read_kept_rows(prefix, selected / "random") for prefix in
            shard_prefixes(selected / "shards")]  # fmt: skip
    mixes = add_mixes(map(mix_by_domain, rows))
    limits = dict.fromkeys(text_sample.sample_limits(mixes), 0.25)
    drawn = text_sample.draw_rows(
        shard_prefixes(selected / "shards")[0], rows[0], limits, 1, TOKEN_TEXTS, None
    )
    assert 0.3 < np.mean([row.is_kept for row in drawn]) < 0.7
