import numpy as np
import pyarrow as pa
import pytest
import torch

from conftest import FAMILIES, random_rows, tiny_model, write_rows
from miniplm.data.loader import padded_width
from miniplm.data.shards import Shard, open_shards, write_shard
from miniplm.errors import ArtefactError, ModelError
from miniplm.model import load_model
from miniplm.model_checks import check_causal_head
from miniplm.runtime.devices import place
from miniplm.scoring import causal_attention as causal_attention_module
from miniplm.scoring.attention import NAME, use_blocked_attention
from miniplm.scoring.attention import _attend_once as attend_once
from miniplm.scoring.batches import length_buckets
from miniplm.scoring.causal_attention import causal_attention
from miniplm.scoring.config import ScoringConfig
from miniplm.scoring.forward import token_log_probs
from miniplm.scoring.log_probs import TILES, target_log_probs
from miniplm.scoring.scorer import ScoringModel, score_rows, score_shards, score_with_models
from miniplm.scoring.tables import read_score_info, read_scores
from miniplm.scoring.tuning import Tuning, can_compile, tune

TOKEN_BYTES_V = np.arange(128, dtype=np.int64) % 7


def scored(model, shard, batch_tokens=4096):
    tuning = Tuning(batch_tokens=batch_tokens, compiled=False)
    return score_rows([model], shard, TOKEN_BYTES_V, tuning, lambda *_, **__: None)[0]


def plain_log_probs(model, shard):
    """The reference implementation: one row at a time, full logits, log-softmax in float64."""
    sums, counts, num_bytes = [], [], []
    for index in range(len(shard)):
        ids = torch.from_numpy(shard.row(index))
        with torch.no_grad():
            logits = model(input_ids=ids[None, :-1], use_cache=False).logits[0].double()
        log_probs = torch.log_softmax(logits, dim=-1)
        picked = log_probs.gather(1, ids[1:, None]).squeeze(1)
        counted = ids[:-1] != shard.info.eos_id
        sums.append(float(picked[counted].sum()))
        counts.append(int(counted.sum()))
        num_bytes.append(int(TOKEN_BYTES_V[ids[1:][counted].numpy()].sum()))
    return np.array(sums), np.array(counts), np.array(num_bytes)


@pytest.mark.parametrize("family", FAMILIES)
def test_scores_equal_full_logits_in_float64(family, tmp_path):
    write_rows(tmp_path, random_rows(12))
    shard = Shard(tmp_path / "data_0")
    model = tiny_model(family)
    table = scored(model, shard)
    sums, counts, num_bytes = plain_log_probs(model, shard)
    assert table["num_tokens"].to_pylist() == counts.tolist()
    assert table["num_bytes"].to_pylist() == num_bytes.tolist()
    per_token = np.abs(table["log_prob"].to_numpy() - sums) / np.maximum(counts, 1)
    assert per_token.max() < 1e-4
    assert sums.std() > 1  # the models do tell rows apart


OTHER_FAMILIES = {
    "gpt2": {"n_embd": 32, "n_layer": 2, "n_head": 4, "n_positions": 64},
    "opt": {"hidden_size": 32, "num_hidden_layers": 2, "num_attention_heads": 4, "ffn_dim": 64,
            "word_embed_proj_dim": 32},
    "bloom": {"hidden_size": 32, "n_layer": 2, "n_head": 4},
    "mistral": {"sliding_window": 16},
    "qwen3": {"head_dim": 8},
    "gemma": {"head_dim": 8},
    "gemma3_text": {"head_dim": 8, "sliding_window": 16},
    "phi": {}, "phi3": {"pad_token_id": 0}, "olmo2": {}, "starcoder2": {}, "stablelm": {},
}  # fmt: skip


@pytest.mark.parametrize("dtype", ["float32", "bfloat16"])
@pytest.mark.parametrize("family", OTHER_FAMILIES)
def test_scores_equal_full_logits_in_other_families(family, dtype, tmp_path, monkeypatch):
    from transformers import AutoConfig, AutoModelForCausalLM

    monkeypatch.setattr("torch.cpu._is_amx_tile_supported", lambda: False)
    fields = {
        "hidden_size": 32, "intermediate_size": 64, "num_hidden_layers": 2,
        "num_attention_heads": 4, "num_key_value_heads": 2, "max_position_embeddings": 64,
    }  # fmt: skip
    known = AutoConfig.for_model(family).to_dict()
    fields = {name: value for name, value in fields.items() if name in known}
    torch.manual_seed(0)
    fields |= OTHER_FAMILIES[family]
    config = AutoConfig.for_model(family, vocab_size=128, **fields)
    model = AutoModelForCausalLM.from_config(config).to(getattr(torch, dtype)).eval()
    write_rows(tmp_path / "shards", random_rows(12))
    shard = Shard(tmp_path / "shards/data_0")
    run_scoring(ScoringModel(model, family, "f", dtype), tmp_path / "shards", tmp_path / "scores")
    table = read_scores(tmp_path / "scores/data_0.parquet", shard.info.shard_hash)
    sums, counts, _ = plain_log_probs(model.float(), shard)
    per_token = np.abs(table["log_prob"].to_numpy() - sums) / np.maximum(counts, 1)
    assert per_token.max() < (1e-4 if dtype == "float32" else 0.05)


@pytest.mark.parametrize("family", FAMILIES)
def test_scores_do_not_depend_on_the_batch_size(family, tmp_path):
    write_rows(tmp_path, random_rows(20, seed=3))
    shard = Shard(tmp_path / "data_0")
    model = tiny_model(family)
    one_by_one, together = scored(model, shard, 1), scored(model, shard, 10**6)
    counts = np.maximum(one_by_one["num_tokens"].to_numpy(), 1)
    difference = np.abs(one_by_one["log_prob"].to_numpy() - together["log_prob"].to_numpy())
    assert (difference / counts).max() < 1e-5


@pytest.mark.parametrize("family", FAMILIES)
def test_bfloat16_scores_are_near_float32(family, tmp_path):
    write_rows(tmp_path, random_rows(20, seed=5))
    shard = Shard(tmp_path / "data_0")
    exact = scored(tiny_model(family), shard)
    low = ScoringModel(tiny_model(family).to(torch.bfloat16), "low", "f", "bfloat16")
    run_scoring(low, tmp_path, tmp_path / "scores")
    rough = read_scores(tmp_path / "scores/data_0.parquet", shard.info.shard_hash)
    counts = np.maximum(exact["num_tokens"].to_numpy(), 1)
    difference = (exact["log_prob"].to_numpy() - rough["log_prob"].to_numpy()) / counts
    assert np.abs(difference).max() < 0.3
    assert np.abs(difference).mean() < 0.1
    assert rough["log_prob"].to_numpy().dtype == np.float64


def test_tiles_do_not_change_log_probs(monkeypatch):
    generator = torch.Generator().manual_seed(0)
    hidden = torch.randn(37, 16, generator=generator)
    weight, bias = torch.randn(50, 16, generator=generator), torch.randn(50, generator=generator)
    targets = torch.randint(0, 50, (37,), generator=generator)
    whole = target_log_probs(hidden, weight, targets, bias)
    for tile in ((4, 7), (37, 50), (1, 1), (100, 3)):
        monkeypatch.setitem(TILES, "cpu", tile)
        torch.testing.assert_close(target_log_probs(hidden, weight, targets, bias), whole)
    expected = torch.log_softmax((hidden @ weight.T + bias).double(), -1)
    picked = expected.gather(1, targets[:, None]).squeeze(1)
    torch.testing.assert_close(whole.double(), picked, atol=1e-5, rtol=1e-5)


def test_first_token_after_eos_is_not_scored(tmp_path):
    write_rows(tmp_path, [[5, 6, 0, 7, 8], [0, 9]])
    table = scored(tiny_model(), Shard(tmp_path / "data_0"))
    # targets 6 and 0 (from 5 and 6), not 7 (its input is eos), 8; and none in the second row
    assert table["num_tokens"].to_pylist() == [3, 0]
    assert table["log_prob"].to_pylist()[1] == 0
    assert table["num_bytes"].to_pylist() == [6 % 7 + 0 + 8 % 7, 0]


def test_padding_does_not_reach_the_scores(tmp_path):
    rows = [[1, 2, 3], list(range(1, 60))]
    write_rows(tmp_path / "both", rows)
    write_rows(tmp_path / "alone", rows[:1])
    both = scored(tiny_model(), Shard(tmp_path / "both/data_0"))
    alone = scored(tiny_model(), Shard(tmp_path / "alone/data_0"))
    assert both["log_prob"][0].as_py() == pytest.approx(alone["log_prob"][0].as_py(), abs=1e-5)


def scorer(**changes):
    model = tiny_model(**changes)
    return ScoringModel(model, "tiny", "fingerprint", "float32")


def run_scoring(scoring_model, shards, folder):
    return score_shards(
        scoring_model, shards, TOKEN_BYTES_V, ScoringConfig(dtype="float32"), folder
    )


def test_score_tables_do_not_depend_on_the_number_of_shards(tmp_path):
    rows = random_rows(30, seed=9)
    write_rows(tmp_path / "one", rows, per_shard=100)
    write_rows(tmp_path / "four", rows, per_shard=8)
    tables = {}
    for name in ("one", "four"):
        run_scoring(scorer(), tmp_path / name, tmp_path / f"{name}-scores")
        parts = [
            read_scores(tmp_path / f"{name}-scores/{s.prefix.name}.parquet", s.info.shard_hash)
            for s in open_shards(tmp_path / name)
        ]
        tables[name] = pa.concat_tables(parts)
    assert len(open_shards(tmp_path / "four")) == 4
    assert tables["one"]["sequence_id"].equals(tables["four"]["sequence_id"])
    np.testing.assert_allclose(
        tables["one"]["log_prob"].to_numpy(), tables["four"]["log_prob"].to_numpy(), atol=1e-4
    )


def test_scoring_resumes_between_shards_with_the_same_bytes(tmp_path, monkeypatch):
    write_rows(tmp_path / "shards", random_rows(30, seed=2), per_shard=8)
    run_scoring(scorer(), tmp_path / "shards", tmp_path / "straight")
    calls = []

    def dies_at_third(*arguments, **options):
        if len(calls) == 2:
            raise KeyboardInterrupt
        calls.append(1)
        return score_rows(*arguments, **options)

    monkeypatch.setattr("miniplm.scoring.scorer.score_rows", dies_at_third)
    with pytest.raises(KeyboardInterrupt):
        run_scoring(scorer(), tmp_path / "shards", tmp_path / "killed")
    done = {path.name: path.stat().st_mtime_ns for path in (tmp_path / "killed").iterdir()}
    assert sorted(done) == ["data_0.parquet", "data_1.parquet"]
    monkeypatch.undo()
    run_scoring(scorer(), tmp_path / "shards", tmp_path / "killed")
    for path in (tmp_path / "straight").iterdir():
        again = tmp_path / "killed" / path.name
        assert again.read_bytes() == path.read_bytes()
        assert done.get(path.name) in (None, again.stat().st_mtime_ns)


def test_a_table_names_model_dtype_and_shard(tmp_path):
    write_rows(tmp_path / "shards", random_rows(3))
    run_scoring(scorer(), tmp_path / "shards", tmp_path / "scores")
    info = read_score_info(tmp_path / "scores/data_0.parquet")
    shard = Shard(tmp_path / "shards/data_0")
    assert info.shard_hash == shard.info.shard_hash
    assert (info.model, info.model_fingerprint, info.dtype) == ("tiny", "fingerprint", "float32")


def test_scores_of_other_shards_are_refused(tmp_path):
    write_rows(tmp_path / "shards", random_rows(3))
    write_rows(tmp_path / "others", random_rows(3, seed=1))
    run_scoring(scorer(), tmp_path / "shards", tmp_path / "scores")
    with pytest.raises(ArtefactError, match="another token shard"):
        read_scores(
            tmp_path / "scores/data_0.parquet", Shard(tmp_path / "others/data_0").info.shard_hash
        )


def test_a_vocabulary_smaller_than_the_ids_is_refused(tmp_path):
    write_rows(tmp_path / "shards", random_rows(3, vocab_size=300), vocab_size=300)
    with pytest.raises(ModelError, match=r"128 rows.*ids up to 299.*tokenizer"):
        run_scoring(scorer(), tmp_path / "shards", tmp_path / "scores")


def test_a_padded_vocabulary_is_handled(tmp_path):
    write_rows(tmp_path / "shards", random_rows(8, vocab_size=100), vocab_size=100)
    model = scorer(vocab_size=100)  # padded to 128
    assert model.model.get_input_embeddings().weight.shape[0] == 128
    run_scoring(model, tmp_path / "shards", tmp_path / "scores")
    shard = Shard(tmp_path / "shards/data_0")
    table = read_scores(tmp_path / "scores/data_0.parquet", shard.info.shard_hash)
    sums, _, _ = plain_log_probs(model.model, shard)
    np.testing.assert_allclose(table["log_prob"].to_numpy(), sums, atol=1e-3)


def test_families_that_change_their_logits_are_refused():
    from transformers import AutoConfig, AutoModelForCausalLM

    config = AutoConfig.for_model(
        "gemma2", vocab_size=64, hidden_size=32, intermediate_size=64, num_hidden_layers=1,
        num_attention_heads=2, num_key_value_heads=2, head_dim=16, final_logit_softcapping=30.0,
    )  # fmt: skip
    model = AutoModelForCausalLM.from_config(config).eval()
    with pytest.raises(ModelError, match=r"gemma2 changes its logits .*final_logit_softcapping"):
        check_causal_head(model)


def test_models_that_change_their_logits_unannounced_are_refused():
    model = tiny_model()
    with torch.no_grad():
        expected = model.lm_head.forward
        model.lm_head.forward = lambda states: 2 * expected(states)
    with pytest.raises(ModelError, match="changes its logits behind the output layer"):
        check_causal_head(model)


def test_models_that_look_ahead_are_refused():
    from transformers import BertConfig, BertLMHeadModel

    torch.manual_seed(0)
    bert = BertLMHeadModel(
        BertConfig(
            vocab_size=64, hidden_size=32, num_hidden_layers=2, num_attention_heads=2,
            intermediate_size=64,
        )
    ).eval()  # fmt: skip
    with pytest.raises(ModelError):
        check_causal_head(bert)


def test_a_model_of_fewer_positions_is_refused(tmp_path):
    write_rows(tmp_path / "shards", random_rows(3), max_length=64)
    with pytest.raises(ModelError, match=r"serves 32 positions.*up to 64"):
        run_scoring(scorer(max_length=32), tmp_path / "shards", tmp_path / "scores")


def test_scores_that_are_not_finite_are_refused(tmp_path):
    write_rows(tmp_path / "shards", [[5, 6, 7], [20, 9, 4]])
    model = scorer(family="llama")
    with torch.no_grad():
        model.model.get_input_embeddings().weight[20] = float("nan")
    with pytest.raises(ModelError, match=r"1 sequences have no finite log-probability \(ids \[1\]"):
        run_scoring(model, tmp_path / "shards", tmp_path / "scores")
    with torch.no_grad():
        model.model.get_output_embeddings().weight[20] = float("nan")
    with pytest.raises(ModelError, match="not finite; its weights are damaged"):
        run_scoring(model, tmp_path / "shards", tmp_path / "scores")


def test_length_buckets_cover_every_row_once_and_fit():
    lengths = np.array([5, 9, 3, 9, 2, 65], dtype=np.int32)
    buckets = list(length_buckets(lengths, 64, 48))
    assert sorted(index for bucket in buckets for index in bucket) == list(range(6))
    for bucket in buckets:
        width = padded_width(int(lengths[bucket].max()) - 1, 48)
        assert width * len(bucket) <= 64 or len(bucket) == 1
    assert buckets[0].tolist() == [5]


def test_log_probs_of_any_size_neither_overflow_nor_vanish():
    hidden = torch.tensor([[300.0], [-300.0]])
    weight = torch.tensor([[1.0], [-1.0], [0.0]])
    found = target_log_probs(hidden, weight, torch.tensor([0, 0]))
    assert found.tolist() == [0.0, -600.0]


def test_memory_does_not_grow_with_the_vocabulary(monkeypatch):
    monkeypatch.setitem(TILES, "cpu", (8, 16))
    sizes = []
    monkeypatch.setattr(
        "miniplm.scoring.log_probs.tile_log_sum_exp",
        lambda logits, scratch: sizes.append(logits.shape) or torch.logsumexp(logits, 1),
    )
    target_log_probs(torch.randn(20, 4), torch.randn(1000, 4), torch.zeros(20, dtype=torch.int64))
    assert max(rows * columns for rows, columns in sizes) == 8 * 16
    assert sum(rows * columns for rows, columns in sizes) == 20 * 1000


@pytest.mark.parametrize(("length", "heads"), [(1, 3), (127, 2), (128, 9), (300, 5), (1024, 10)])
def test_blocked_attention_equals_causal_attention_in_float64(length, heads):
    generator = torch.Generator().manual_seed(length)
    query, key, value = torch.randn(3, heads, length, 16, generator=generator)
    found = causal_attention(query, key, value, 0.3)
    expected = torch.nn.functional.scaled_dot_product_attention(
        query.double(), key.double(), value.double(), is_causal=True, scale=0.3
    )
    torch.testing.assert_close(found.double(), expected, atol=1e-5, rtol=1e-4)


@pytest.mark.parametrize("kept_length", [0, 1024])
@pytest.mark.parametrize(("length", "heads"), [(1, 3), (127, 2), (128, 9), (300, 5), (1024, 10)])
def test_gradients_of_blocked_attention_equal_those_of_autograd(
    length, heads, kept_length, monkeypatch
):
    monkeypatch.setattr(causal_attention_module, "KEPT_LENGTH", kept_length)
    generator = torch.Generator().manual_seed(length)
    query, key, value, grad = torch.randn(4, heads, length, 16, generator=generator)
    given = [each.requires_grad_() for each in (query, key, value)]
    found = torch.autograd.grad(causal_attention(*given, 0.3), given, grad)
    exact = [each.detach().double().requires_grad_() for each in given]
    expected = torch.nn.functional.scaled_dot_product_attention(*exact, is_causal=True, scale=0.3)
    for mine, theirs in zip(
        found, torch.autograd.grad(expected, exact, grad.double()), strict=True
    ):
        torch.testing.assert_close(mine.double(), theirs, atol=1e-5, rtol=1e-4)


@pytest.mark.parametrize("keep", [False, True])
def test_blocked_attention_keeps_the_contract_of_an_operator(keep):
    query, key, value = (each.requires_grad_() for each in torch.randn(3, 2, 140, 8))
    operator = torch.ops.miniplm.causal_attention.default
    torch.library.opcheck(operator, (query, key, value, 0.3, keep))


def test_weights_are_kept_for_the_gradients_of_short_sequences_only(monkeypatch):
    monkeypatch.setattr(causal_attention_module, "KEPT_LENGTH", 140)

    def kept(length):
        query = torch.randn(2, length, 8, requires_grad=True)
        sizes = []
        with torch.autograd.graph.saved_tensors_hooks(
            lambda tensor: sizes.append(tensor.numel()) or tensor, lambda tensor: tensor
        ):
            causal_attention(query, query.detach(), query.detach(), 0.3)
        return max(sizes)

    assert kept(140) == 2 * (128 * 128 + 12 * 140)
    assert kept(141) == 2 * 141 * 8


def test_blocked_attention_learns_under_autocast_as_the_fused_one_does(monkeypatch):
    monkeypatch.setattr("torch.cpu._is_amx_tile_supported", lambda: False)
    ids = torch.arange(1, 61).view(2, 30)

    def gradients(way):
        model = tiny_model()
        if way == "blocked":
            use_blocked_attention(model, torch.bfloat16)
            assert model.config._attn_implementation == NAME
        with torch.autocast("cpu", torch.bfloat16, enabled=way != "exact"):
            model(input_ids=ids, labels=ids, use_cache=False).loss.backward()
        return torch.cat([each.grad.flatten() for each in model.parameters()])

    exact, fused, blocked = (gradients(way) for way in ("exact", "fused", "blocked"))
    assert (fused - exact).norm() > 0
    assert (blocked - exact).norm() < 1.5 * (fused - exact).norm()


@pytest.mark.parametrize("family", ["qwen2", "llama", "gpt_neox"])
def test_blocked_attention_serves_whole_models(family, monkeypatch):
    monkeypatch.setattr("torch.cpu._is_amx_tile_supported", lambda: False)
    model = tiny_model(family).to(torch.bfloat16)
    ids = torch.arange(1, 61).view(2, 30)
    with torch.inference_mode():
        fused = model(input_ids=ids, use_cache=False).logits
        use_blocked_attention(model)
        assert model.config._attn_implementation == NAME
        calls = []
        monkeypatch.setattr(
            "miniplm.scoring.attention.causal_attention",
            lambda *arguments: calls.append(1) or causal_attention(*arguments),
        )
        blocked = model(input_ids=ids, use_cache=False).logits
    assert len(calls) == model.config.num_hidden_layers
    assert (fused - blocked).abs().mean() < 0.02 * fused.abs().mean()


@pytest.mark.parametrize("num_kv_heads", [6, 2, 1])
def test_the_last_position_attends_to_all(num_kv_heads):
    query, key = torch.randn(3, 6, 1, 8), torch.randn(3, num_kv_heads, 11, 8)
    value = torch.randn_like(key)
    expected = torch.nn.functional.scaled_dot_product_attention(
        query, key, value, scale=0.3, enable_gqa=True
    )
    torch.testing.assert_close(attend_once(query, key, value, 0.3), expected.transpose(1, 2))


@pytest.mark.parametrize("num_kv_heads", [4, 2, 1])
def test_blocked_attention_goes_on_from_a_cache(num_kv_heads, monkeypatch):
    from transformers import AutoConfig, AutoModelForCausalLM, DynamicCache

    monkeypatch.setattr("torch.cpu._is_amx_tile_supported", lambda: False)
    config = AutoConfig.for_model(
        "qwen2", vocab_size=64, hidden_size=32, intermediate_size=64, num_hidden_layers=2,
        num_attention_heads=4, num_key_value_heads=num_kv_heads, initializer_range=0.3,
    )  # fmt: skip
    torch.manual_seed(0)
    model = AutoModelForCausalLM.from_config(config, dtype=torch.float32).eval()
    ids = torch.arange(1, 61).view(2, 30)
    with torch.inference_mode():
        exact = model(input_ids=ids, use_cache=False).logits[:, -1]
        model.to(torch.bfloat16)
        use_blocked_attention(model)
        calls = []
        monkeypatch.setattr(
            "miniplm.scoring.attention._attend_once",
            lambda *arguments: calls.append(1) or attend_once(*arguments),
        )
        cache = DynamicCache(config=config)
        model(input_ids=ids[:, :-1], past_key_values=cache, use_cache=True)
        found = model(input_ids=ids[:, -1:], past_key_values=cache, use_cache=True).logits[:, -1]
    assert len(calls) == 2
    assert (found - exact).norm() < 0.05 * exact.norm()


def test_a_sliding_window_is_kept(monkeypatch):
    from transformers import AutoConfig, AutoModelForCausalLM

    monkeypatch.setattr("torch.cpu._is_amx_tile_supported", lambda: False)
    config = AutoConfig.for_model(
        "mistral", vocab_size=64, hidden_size=32, intermediate_size=64, num_hidden_layers=1,
        num_attention_heads=2, num_key_value_heads=2, sliding_window=4,
    )  # fmt: skip
    torch.manual_seed(0)
    model = AutoModelForCausalLM.from_config(config, dtype=torch.bfloat16).eval()
    ids = torch.arange(1, 33)[None]
    with torch.inference_mode():
        expected = model(input_ids=ids, use_cache=False).logits
        use_blocked_attention(model)
        found = model(input_ids=ids, use_cache=False).logits
    torch.testing.assert_close(found, expected)


def test_float32_models_keep_their_attention():
    model = tiny_model()
    use_blocked_attention(model)
    assert model.config._attn_implementation == "sdpa"


@pytest.mark.filterwarnings("ignore:.torch.jit:DeprecationWarning")  # of torch, in torch
@pytest.mark.skipif(not can_compile(torch.device("cpu")), reason="there is no C++ compiler")
def test_compiled_scores_equal_plain_ones(tmp_path, monkeypatch):
    write_rows(tmp_path, random_rows(12))
    run_scoring(scorer(), tmp_path, tmp_path / "plain")
    monkeypatch.setattr("miniplm.scoring.tuning.COMPILING_PAYS_FROM", 0.0)
    outcome = run_scoring(scorer(), tmp_path, tmp_path / "compiled")
    assert outcome.facts["compiled"]
    assert outcome.facts["compile_seconds"] > 0
    shard = Shard(tmp_path / "data_0")
    plain, compiled = (
        read_scores(tmp_path / name / "data_0.parquet", shard.info.shard_hash)
        for name in ("plain", "compiled")
    )
    np.testing.assert_allclose(plain["log_prob"], compiled["log_prob"], rtol=1e-5, atol=1e-4)


def test_several_models_in_one_pass_score_as_they_do_alone(tmp_path):
    write_rows(tmp_path / "shards", random_rows(30, seed=4), per_shard=8)
    models = {
        tmp_path / family: ScoringModel(tiny_model(family), family, family, "float32")
        for family in ("qwen2", "gpt_neox")
    }
    config = ScoringConfig(dtype="float32")
    outcomes = score_with_models(models, tmp_path / "shards", TOKEN_BYTES_V, config)
    for folder, model in models.items():
        alone = tmp_path / "alone" / model.name
        outcome = run_scoring(model, tmp_path / "shards", alone)
        assert outcomes[folder].num_tokens == outcome.num_tokens
        assert outcomes[folder].flops == outcome.flops
        for shard in open_shards(tmp_path / "shards"):
            name = f"{shard.prefix.name}.parquet"
            ours, theirs = (
                read_scores(place / name, shard.info.shard_hash) for place in (folder, alone)
            )
            np.testing.assert_allclose(ours["log_prob"], theirs["log_prob"], atol=1e-4)
            assert read_score_info(folder / name) == read_score_info(alone / name)


def test_memory_limits_the_batch_and_nothing_else():
    model = tiny_model()
    free = tune(model, flops=1.0)
    limited = tune(model, flops=1.0, memory_gb=1e-4)
    assert free.batch_tokens > limited.batch_tokens >= 1
    assert tune(model, flops=1.0, memory_gb=1e6) == free
    assert not free.compiled


@pytest.mark.parametrize("tied", [True, False])
def test_a_model_larger_than_memory_scores_from_disk(tied, tmp_path):
    write_rows(tmp_path / "shards", random_rows(12))
    model = tiny_model("qwen2" if tied else "llama")
    model.save_pretrained(tmp_path / "model")
    places = {"model.embed_tokens": "cpu", "model.layers.0": "cpu", "model.layers.1": "disk"}
    places |= {"model.norm": "cpu", "model.rotary_emb": "cpu", "lm_head": "cpu" if tied else "disk"}
    spread = load_model(tmp_path / "model", device_map=places)
    assert spread.model.layers[1].mlp.up_proj.weight.is_meta
    shard = Shard(tmp_path / "shards/data_0")
    place(spread)
    np.testing.assert_allclose(
        scored(spread, shard)["log_prob"], scored(model, shard)["log_prob"], atol=1e-5
    )
    run_scoring(ScoringModel(spread, "spread", "f", "float32"), tmp_path / "shards", tmp_path / "s")


def test_auto_placement_scores_the_same(tmp_path):
    write_rows(tmp_path / "shards", random_rows(12))
    model = tiny_model()
    model.save_pretrained(tmp_path / "model")
    spread = place(load_model(tmp_path / "model", device_map="auto"))
    shard = Shard(tmp_path / "shards/data_0")
    np.testing.assert_allclose(
        scored(spread, shard)["log_prob"], scored(model, shard)["log_prob"], atol=1e-5
    )


def test_an_empty_shard_gives_an_empty_table(tmp_path):
    rows = random_rows(4)
    write_rows(tmp_path / "shards", rows)
    write_rows(tmp_path / "none", [rows[0]])
    empty = Shard(tmp_path / "none/data_0")
    write_shard(
        tmp_path / "shards/data_1", [], empty.sidecar.slice(0, 0),
        vocab_size=128, eos_id=0, max_length=64,
    )  # fmt: skip
    outcome = run_scoring(scorer(), tmp_path / "shards", tmp_path / "scores")
    assert outcome.counts["sequences"] == 4
    shard = Shard(tmp_path / "shards/data_1")
    assert read_scores(tmp_path / "scores/data_1.parquet", shard.info.shard_hash).num_rows == 0


def test_a_compiler_that_fails_is_done_without(tmp_path, monkeypatch, caplog):
    monkeypatch.setattr("miniplm.scoring.tuning.COMPILING_PAYS_FROM", 0.0)
    monkeypatch.setattr("miniplm.scoring.tuning.can_compile", lambda _: True)

    def fail(*_, **__):
        raise RuntimeError("Python.h: No such file or directory")

    monkeypatch.setattr("torch.nn.Module.compile", fail)
    monkeypatch.setattr("miniplm.runtime.log.logger.propagate", True)
    write_rows(tmp_path / "shards", random_rows(4))
    outcome = run_scoring(scorer(), tmp_path / "shards", tmp_path / "scores")
    assert not outcome.facts["compiled"]
    assert any("Python.h" in message for message in caplog.messages)
    assert (tmp_path / "scores/data_0.parquet").exists()


def test_batches_are_halved_when_memory_runs_out(tmp_path, monkeypatch):
    write_rows(tmp_path / "shards", random_rows(20))
    sizes = []

    def limited(model, input_ids_BT, targets_BT, **others):
        sizes.append(input_ids_BT.numel())
        if input_ids_BT.numel() > most:
            raise torch.OutOfMemoryError("CUDA out of memory")
        return token_log_probs(model, input_ids_BT, targets_BT, **others)

    monkeypatch.setattr("miniplm.scoring.row_scores.token_log_probs", limited)
    most = 200
    outcome = run_scoring(scorer(), tmp_path / "shards", tmp_path / "scores")
    assert outcome.facts["batch_tokens"] <= most < max(sizes)
    most = 10
    with pytest.raises(ModelError, match="no memory for a single row of"):
        run_scoring(scorer(), tmp_path / "shards", tmp_path / "again")


def test_nothing_is_compiled_when_every_table_is_there(tmp_path, monkeypatch):
    write_rows(tmp_path / "shards", random_rows(4))
    run_scoring(scorer(), tmp_path / "shards", tmp_path / "scores")
    monkeypatch.setattr("miniplm.scoring.tuning.COMPILING_PAYS_FROM", 1e-12)
    monkeypatch.setattr("torch.nn.Module.compile", None)
    outcome = run_scoring(scorer(), tmp_path / "shards", tmp_path / "scores")
    assert not outcome.facts["compiled"]
