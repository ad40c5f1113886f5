import dataclasses
import doctest

import numpy as np
import pyarrow as pa
import pytest
import torch
from scipy.sparse import csr_matrix
from scipy.stats import spearmanr
from sklearn.metrics import cohen_kappa_score

from conftest import random_rows, tiny_model, write_rows
from miniplm.data.loader import SequenceStore
from miniplm.data.parquet import ColumnFile
from miniplm.data.shards import open_shards
from miniplm.errors import ArtefactError
from miniplm.scoring import agreement, proxy_bar
from miniplm.scoring.agreement import (
    agreement_by_chance,
    agreement_within,
    bootstrap,
    kappa,
    selection_agreement,
    spearman,
    top_rows,
)
from miniplm.scoring.config import ScoringConfig
from miniplm.scoring.proxy import score_by_proxy
from miniplm.scoring.proxy_bar import Comparison, judge, require_agreement, shown_judgements
from miniplm.scoring.proxy_config import ProxyConfig
from miniplm.scoring.proxy_features import NGRAM_BUCKETS, ngram_features
from miniplm.scoring.proxy_head import fit_head
from miniplm.scoring.proxy_held_out import HELD_OUT_NAME, HeldOut
from miniplm.scoring.proxy_sample import SampleChoice
from miniplm.scoring.row_scores import score_rows
from miniplm.scoring.scorer import score_shards
from miniplm.scoring.scoring_model import ScoringModel
from miniplm.scoring.tables import SCORE_SCHEMA, read_score_info, read_scores, states_of
from miniplm.selection import predicted
from miniplm.selection.config import SelectionConfig
from miniplm.selection.predicted import require_to_select
from miniplm.selection.scores import scored_shards
from miniplm.training.scores import ScoreTables

TOKEN_BYTES_V = np.arange(128, dtype=np.int64) % 7 + 1

# Agreement


def test_spearman_is_that_of_scipy_with_ties():
    generator = np.random.default_rng(0)
    one, other = generator.integers(0, 9, (2, 200)).astype(float)
    assert spearman(one, one + other) == pytest.approx(spearmanr(one, one + other).statistic)
    assert spearman(one, np.ones(200)) == 0


def test_agreement_counts_the_top_rows_that_both_keep():
    true, predicted = np.array([5.0, 4.0, 3.0, 2.0, 1.0]), np.array([1.0, 5.0, 4.0, 9.0, 0.0])
    assert top_rows(true, 0.4).tolist() == [True, True, False, False, False]
    assert selection_agreement(true, predicted, 0.4) == 0.5  # the second row, of the first two
    assert selection_agreement(true, -predicted, 0.2) == 0
    assert top_rows(np.zeros(4), 0.5).tolist() == [True, True, False, False]  # ties: first rows


def test_agreement_within_groups_does_not_see_what_is_between_them():
    groups = np.array([0, 0, 1, 1])
    true, predicted = np.array([1.0, 2.0, 11.0, 12.0]), np.array([2.0, 1.0, 11.0, 12.0])
    assert selection_agreement(true, predicted) == 1
    assert agreement_within(true, predicted, groups) == 0.5


@pytest.mark.parametrize("ratio", [0.25, 0.5, 0.9])
def test_kappa_is_that_of_scikit_learn(ratio):
    generator = np.random.default_rng(0)
    true = generator.normal(size=400)
    predicted = true + generator.normal(size=400)
    by_chance = agreement_by_chance(np.zeros(400, dtype=int), ratio)
    assert by_chance == pytest.approx(ratio)
    assert kappa(selection_agreement(true, predicted, ratio), by_chance) == pytest.approx(
        cohen_kappa_score(top_rows(true, ratio), top_rows(predicted, ratio))
    )


def test_chance_is_counted_as_it_is_in_small_groups():
    generator = np.random.default_rng(0)
    groups = np.arange(60) // 3  # of three rows one is kept, and not one and a half
    pairs = generator.normal(size=(300, 2, 60))
    mean = np.mean([agreement_within(*pair, groups) for pair in pairs])
    assert agreement_by_chance(groups) == pytest.approx(1 / 3)
    assert mean == pytest.approx(1 / 3, abs=0.01)


def test_examples_in_docstrings_hold():
    for module in (agreement, predicted, proxy_bar):
        failed, tried = doctest.testmod(module)
        assert failed == 0
        assert tried > 0


@pytest.mark.parametrize(
    ("selection", "compared"),
    [
        ({}, Comparison(0.5, "per_token")),
        ({"normalization": "per_byte", "ratio": 0.1}, Comparison(0.1, "per_byte")),
        ({"policy": "quota", "ratio": 0.2}, Comparison(0.2, "per_token", "domain")),
        ({"policy": "token_budget", "tokens": 9}, Comparison(0.5, "per_token")),
        ({"policy": "threshold", "min_score": 0.0}, Comparison(0.5, "per_token")),
        ({"within": "group"}, Comparison(0.5, "per_token", "group")),
        ({"policy": "quota", "within": "group"}, Comparison(0.5, "per_token", "group")),
        (
            {"policy": "teacher_only", "ratio": 0.3},
            Comparison(0.3, "per_token", by="teacher"),
        ),
        ({"calibration": "residual"}, Comparison(0.5, "per_token", by="residual")),
        ({"calibration": "zscore"}, Comparison(0.5, "per_token", "domain", "zscore")),
        (
            {"calibration": "zscore", "within": "group"},
            Comparison(0.5, "per_token", "group", "zscore"),
        ),
        (
            {"policy": "quota", "calibration": "zscore", "floor": 0.1},
            Comparison(0.5, "per_token", "domain", "zscore"),
        ),
        ({"policy": "reference_only"}, None),
    ],
)
def test_what_a_selection_asks_of_predicted_scores(selection, compared):
    assert predicted.comparison_for(SelectionConfig(**selection)) == compared


def test_a_bootstrap_interval_holds_the_figure_and_narrows_with_rows():
    generator = np.random.default_rng(0)
    wide, narrow = (
        bootstrap(
            selection_agreement, [x := generator.normal(size=n), x + generator.normal(size=n)], 3
        )
        for n in (50, 5000)
    )
    assert wide.low < wide.value < wide.high
    assert narrow.high - narrow.low < (wide.high - wide.low) / 3


# Features and head


def test_ngrams_are_counted_by_bucket_and_normalised():
    loss = np.array([1.5, 2.5, 0.5], dtype=np.float32)
    rows = [np.array(ids) for ids in ([7, 8, 7, 8], [8, 7], [7, 8])]
    features = ngram_features(rows, loss).toarray()
    assert features.shape == (3, NGRAM_BUCKETS + 1)
    assert features[:, -1].tolist() == [1.5, 2.5, 0.5]
    grams = features[:, :-1]
    np.testing.assert_allclose((grams**2).sum(axis=1), 1, rtol=1e-5)
    # 7, 8 and the pairs 78 (twice) and 87 (once) in the first, single ones in the others
    twice, once = np.log(3), np.log(2)
    expected = np.sort([twice, twice, twice, once]) / np.sqrt(3 * twice**2 + once**2)
    np.testing.assert_allclose(np.sort(grams[0][grams[0] > 0]), expected, rtol=1e-5)
    assert (grams[1] > 0).sum() == (grams[2] > 0).sum() == 3
    assert ((grams[1] > 0) & (grams[2] > 0)).sum() == 2  # the ids, not their order


def test_a_head_finds_a_linear_map_of_any_scale():
    generator = np.random.default_rng(1)
    features = generator.normal(size=(300, 6)) * np.array([1e-3, 1, 10, 1, 1, 0]) + 5
    weights = np.array([500.0, 1.0, -0.2, 0.0, 2.0, 0.0])
    head = fit_head(features[:200], features[:200] @ weights + 3)
    np.testing.assert_allclose(
        head.predict(features[200:]), features[200:] @ weights + 3, atol=1e-3
    )


def test_a_head_reads_sparse_features_and_shrinks_what_is_only_noise():
    generator = np.random.default_rng(1)
    dense = (generator.random((400, 30)) < 0.2).astype(np.float32)
    loss = generator.normal(3, 0.1, 400).astype(np.float32)
    signal = 2 * dense[:, 0] - dense[:, 3] + 5 * loss
    sparse = csr_matrix(np.column_stack([dense, loss]))
    head = fit_head(sparse[:300], signal[:300])
    assert np.corrcoef(head.predict(sparse[300:]), signal[300:])[0, 1] > 0.99
    noise = fit_head(sparse[:300], generator.normal(size=300))
    assert noise.penalty > head.penalty


# The hidden states of the pass that scores


def test_states_are_the_mean_over_targets_of_the_last_hidden_states(tmp_path):
    rows = [[5, 6, 0, 7, 8], [9, 1, 2], [0, 9]]
    write_rows(tmp_path / "shards", rows)
    model = tiny_model("llama")
    scorer = ScoringModel(model, "tiny", "f", "float32")
    config = ScoringConfig(dtype="float32")
    for name in ("plain", "states"):
        score_shards(
            scorer, tmp_path / "shards", TOKEN_BYTES_V, config, tmp_path / name,
            states=name == "states",
        )  # fmt: skip
    (shard,) = open_shards(tmp_path / "shards")
    plain, table = (
        read_scores(tmp_path / name / "data_0.parquet", shard.info.shard_hash)
        for name in ("plain", "states")
    )
    names = SCORE_SCHEMA.names  # without the mean, which is NaN for a row without a target
    assert table.select(names).equals(plain.select(names))
    found = states_of(table)
    for row, inputs in enumerate([[0, 1, 3], [0, 1]]):  # positions with a target
        ids = torch.tensor(rows[row])[None, :-1]
        with torch.no_grad():
            output = model.base_model(input_ids=ids, use_cache=False)
        expected = output.last_hidden_state[0, inputs].mean(dim=0)
        np.testing.assert_allclose(found[row], expected, rtol=2e-3, atol=2e-3)
    assert not found[2].any()


# The stage


def models():
    teacher = ScoringModel(tiny_model("llama", seed=7), "teacher", "t", "float32")
    return teacher, ScoringModel(tiny_model(seed=3), "reference", "r", "float32")


def config(**changes):
    proxy = ProxyConfig(**{"share": 0.4, "features": "hidden", **changes})
    return ScoringConfig(dtype="float32", proxy=proxy)


@pytest.fixture(scope="module")
def scored(tmp_path_factory):
    """Candidates in four shards with the true scores of both models."""
    folder = tmp_path_factory.mktemp("proxy")
    write_rows(folder / "shards", random_rows(240, seed=4, longest=20), per_shard=64)
    for scorer in models():
        score_shards(
            scorer, folder / "shards", TOKEN_BYTES_V, config(), folder / scorer.name, states=True
        )
    return folder


def predict(scored, folder, reference="reference", **changes):
    teacher, _ = models()
    return score_by_proxy(
        teacher, scored / "shards", scored / reference, TOKEN_BYTES_V, config(**changes), 5,
        folder / "scores", folder / "sample",
    )  # fmt: skip


def tables(scored, folder):
    return pa.concat_tables(
        read_scores(folder / f"{shard.prefix.name}.parquet", shard.info.shard_hash)
        for shard in open_shards(scored / "shards")
    )


@pytest.mark.parametrize("features", ["hidden", "ngrams"])
def test_tables_hold_true_scores_of_the_sample_and_predictions_elsewhere(
    features, scored, tmp_path
):
    outcome = predict(scored, tmp_path, features=features)
    table, true = tables(scored, tmp_path / "scores"), tables(scored, scored / "teacher")
    reference = tables(scored, scored / "reference")
    sampled = ~table["predicted"].to_numpy()
    expected = SampleChoice(0.4, 5, 0.2).sampled(np.arange(240))
    assert sampled.tolist() == expected.tolist()
    for name in ("sequence_id", "num_tokens", "num_bytes"):
        assert table[name].equals(true[name])
    difference = table["log_prob"].to_numpy() - true["log_prob"].to_numpy()
    assert np.abs(difference[sampled]).max() < 1e-3
    assert np.median(np.abs(difference[~sampled])) > 0.1  # they are predicted
    # predictions are nearer to the truth than the reference with the mean difference on top
    tokens = true["num_tokens"].to_numpy()
    gain = (true["log_prob"].to_numpy() - reference["log_prob"].to_numpy()) / np.maximum(tokens, 1)
    guess = (difference / np.maximum(tokens, 1))[~sampled & (tokens > 0)]
    assert (guess**2).mean() < 1.05 * gain[~sampled & (tokens > 0)].var()
    assert outcome.counts == {
        "sequences": 240, "scored": int(sampled.sum()), "predicted": int((~sampled).sum()),
    }  # fmt: skip


def test_what_tables_and_manifest_say_of_the_proxy(scored, tmp_path):
    outcome = predict(scored, tmp_path)
    info = read_score_info(tmp_path / "scores/data_0.parquet")
    facts, held_out = outcome.facts["proxy"], HeldOut.read(tmp_path / "scores" / HELD_OUT_NAME)
    assert info.proxy["features"] == "hidden"
    assert (info.proxy["teacher"], info.proxy["reference"]) == ("t", "r")
    assert (
        info.proxy["agreement"]
        == facts["agreement"]["value"]
        == held_out.ranked().agreement().value
    )
    assert facts["held_out"] == len(held_out.true_R) == info.proxy["held_out"]
    assert sum(domain["held_out"] for domain in facts["domains"].values()) == facts["held_out"]
    choice = SampleChoice(0.4, 5, 0.2)
    assert choice.is_held_out(held_out.sequence_ids).all()
    true, reference = tables(scored, scored / "teacher"), tables(scored, scored / "reference")
    gain = true["mean_log_prob"].to_numpy() - reference["mean_log_prob"].to_numpy()
    np.testing.assert_allclose(held_out.true_R, gain[held_out.sequence_ids], atol=1e-4)
    by_reference = reference["mean_log_prob"].to_numpy()[held_out.sequence_ids]
    np.testing.assert_allclose(held_out.reference_R, by_reference, rtol=1e-12)
    flops = facts["flops"]
    assert outcome.flops == flops["teacher"] + flops["head"]
    assert 0.25 < flops["teacher"] / flops["teacher_on_everything"] < 0.55


def test_the_number_of_shards_and_of_blocks_has_no_say(scored, tmp_path, monkeypatch):
    write_rows(tmp_path / "shards", random_rows(240, seed=4, longest=20))
    _, reference = models()
    score_shards(
        reference, tmp_path / "shards", TOKEN_BYTES_V, config(), tmp_path / "reference", states=True
    )
    predict(scored, tmp_path / "four")
    monkeypatch.setattr("miniplm.scoring.proxy_inputs._BLOCK_ROWS", 50)
    predict(tmp_path, tmp_path / "one")
    four = tables(scored, tmp_path / "four/scores")
    one = tables(tmp_path, tmp_path / "one/scores")
    assert one["predicted"].equals(four["predicted"])
    np.testing.assert_allclose(
        one["log_prob"].to_numpy(), four["log_prob"].to_numpy(), rtol=1e-3, atol=1e-2
    )


def counting(monkeypatch, most=10**9):
    """How many rows the teacher scores in each call; after `most` calls it is killed."""
    calls = []

    def counted(models, rows, *arguments, **options):
        if len(calls) == most:
            raise KeyboardInterrupt
        calls.append(len(rows))
        return score_rows(models, rows, *arguments, **options)

    monkeypatch.setattr("miniplm.scoring.shard_scorer.score_rows", counted)
    return calls


def test_a_killed_proxy_goes_on_where_it_was_with_the_same_bytes(scored, tmp_path, monkeypatch):
    predict(scored, tmp_path / "straight")
    counting(monkeypatch, most=2)
    with pytest.raises(KeyboardInterrupt):
        predict(scored, tmp_path / "killed")
    calls = counting(monkeypatch)
    predict(scored, tmp_path / "killed")
    assert len(calls) == 2  # of four shards
    for path in sorted((tmp_path / "straight/scores").iterdir()):
        assert path.read_bytes() == (tmp_path / "killed/scores" / path.name).read_bytes()


def test_raising_the_share_scores_only_what_is_missing(scored, tmp_path, monkeypatch):
    predict(scored, tmp_path, share=0.3)
    calls = counting(monkeypatch)
    predict(scored, tmp_path / "straight", share=0.6)
    straight = sum(calls)
    calls.clear()
    (tmp_path / "more").mkdir()
    (tmp_path / "sample").rename(tmp_path / "more/sample")
    predict(scored, tmp_path / "more", share=0.6)
    assert 0 < sum(calls) < straight
    lower = SampleChoice(0.3, 5, 0.2).sampled(np.arange(240)).sum()
    assert sum(calls) == straight - lower
    calls.clear()
    predict(scored, tmp_path / "more", share=0.3)  # and lowering it scores nothing
    assert calls == []


def test_a_sample_of_another_teacher_is_not_used(scored, tmp_path, monkeypatch):
    predict(scored, tmp_path)
    calls = counting(monkeypatch)
    teacher = ScoringModel(tiny_model("llama", seed=8), "other", "o", "float32")
    score_by_proxy(
        teacher, scored / "shards", scored / "reference", TOKEN_BYTES_V, config(), 5,
        tmp_path / "other", tmp_path / "sample",
    )  # fmt: skip
    assert sum(calls) == SampleChoice(0.4, 5, 0.2).sampled(np.arange(240)).sum()


def test_what_is_missing_is_said(scored, tmp_path):
    with pytest.raises(ArtefactError, match=r"too few .*Raise scoring.proxy.share"):
        predict(scored, tmp_path, share=0.01)
    _, reference = models()
    score_shards(
        reference, scored / "shards", TOKEN_BYTES_V, ScoringConfig(dtype="float32"),
        tmp_path / "stateless",
    )  # fmt: skip
    with pytest.raises(ArtefactError, match="has no hidden states"):
        score_by_proxy(
            models()[0], scored / "shards", tmp_path / "stateless", TOKEN_BYTES_V, config(), 5,
            tmp_path / "scores", tmp_path / "sample",
        )  # fmt: skip


def held_out(noise, size=2000):
    generator = np.random.default_rng(0)
    true = generator.normal(size=size)
    groups = (np.arange(size) % 3).astype(np.int32)
    return HeldOut(
        np.arange(size), ("a", "b", "c"), groups, true + 5 * groups,
        true + noise * generator.normal(size=size) + 5 * groups,
        np.full(size, 4, dtype=np.int32), np.full(size, 9), "token",
    )  # fmt: skip


def test_selecting_is_refused_under_the_bar_and_allowed_when_told_so(tmp_path, caplog):
    held_out(noise=3.0).write(tmp_path / HELD_OUT_NAME)
    proxy = ProxyConfig(min_kappa=0.95)
    refusal = (
        r"top 50% of the whole corpus, .* kappa 0.6\d, the bar 0.95 \(scoring.proxy.min_kappa\)"
    )
    with pytest.raises(ArtefactError, match=refusal + ".*Raise scoring.proxy.share"):
        require_agreement(tmp_path, proxy)
    with pytest.raises(ArtefactError, match=r"inside each domain.*min_kappa_within"):
        require_to_select(tmp_path, ProxyConfig(), SelectionConfig(within="domain"), None)
    easy = ProxyConfig(min_kappa=0.5)  # as it is across domains
    require_agreement(tmp_path, easy)
    assert "rank too unlike" not in caplog.text
    allowed = ProxyConfig(min_kappa=0.95, allow_low_agreement=True)
    require_agreement(tmp_path, allowed)
    assert "rank too unlike" in caplog.text


def test_across_and_inside_domains_have_bars_of_their_own():
    rows, proxy = held_out(noise=1.0), ProxyConfig()
    inside = judge(rows.ranked(within_domains=True), proxy, Comparison(within="domain"))
    across = judge(rows.ranked(), proxy, Comparison())
    assert (across.bar, inside.bar) == (0.7, 0.5)
    assert 0.4 < inside.kappa.value < 0.6 < across.kappa.value
    assert inside.agreement.value == pytest.approx((1 + inside.kappa.value) / 2, abs=0.001)
    easier = ProxyConfig(min_kappa_within_domains=0.4)
    assert judge(rows.ranked(within_domains=True), easier, inside.comparison).passes
    assert [
        (found.comparison.ratio, found.comparison.within) for found in shown_judgements(rows, proxy)
    ] == [(0.5, "corpus"), (0.5, "domain"), (0.25, "corpus"), (0.25, "domain")]


def test_a_few_rows_that_agree_by_luck_do_not_pass():
    few = dataclasses.replace(held_out(noise=0, size=10), true_R=LUCKY, predicted_R=np.arange(10.0))
    found = judge(few.ranked(), ProxyConfig(min_kappa=0), Comparison())
    assert found.kappa.value == pytest.approx(0.6)
    assert found.kappa.low <= 0
    assert not found.passes


LUCKY = np.array([9.0, 0.0, 1.0, 2.0, 3.0, 4.0, 5.0, 6.0, 7.0, 8.0])
"""Of the top half, one is another than by rank."""


def test_held_out_rows_come_back_and_know_other_normalizations(tmp_path):
    rows = held_out(noise=0.5)
    rows.write(tmp_path / HELD_OUT_NAME)
    again = HeldOut.read(tmp_path / HELD_OUT_NAME)
    assert again.domains == rows.domains
    for name, column in vars(rows).items():
        assert np.array_equal(getattr(again, name), column), name
    for normalization, factor in {"per_token": 1, "sum": 4, "per_byte": 4 / 9}.items():
        np.testing.assert_allclose(again.scores(normalization)[1], rows.predicted_R * factor)


def test_predicted_tables_are_selected_from_and_not_taken_for_losses(scored, tmp_path):
    predict(scored, tmp_path)
    shards = scored_shards(
        scored / "shards", tmp_path / "scores", scored / "reference", "per_token"
    )
    blocks = [block for shard in shards for block in shard.open().blocks()]
    assert sum(len(block.sequence_ids) for block in blocks) == 240
    store = SequenceStore(open_shards(scored / "shards"))
    folders = {"teacher": tmp_path / "scores", "reference": scored / "reference"}
    found = ScoreTables(folders)
    assert np.isfinite(found.differences(store)).sum() > 200
    with pytest.raises(ArtefactError, match="dynamic compares the student"):
        found.refuse_predicted(store, "dynamic")
    found = ScoreTables({**folders, "teacher": scored / "teacher"})
    found.refuse_predicted(store, "dynamic")


def test_sampled_scores_keep_what_was_counted(scored, tmp_path):
    predict(scored, tmp_path)
    positions = sum(
        ColumnFile(path).origin["positions"] for path in (tmp_path / "sample").iterdir()
    )
    sampled = SampleChoice(0.4, 5, 0.2).sampled(np.arange(240))
    lengths = np.concatenate([shard.lengths for shard in open_shards(scored / "shards")])
    assert positions == (lengths - 1)[sampled].sum()
