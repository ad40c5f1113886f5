import numpy as np
import pytest
import torch

from conftest import FAMILIES, random_rows, tiny_model, write_rows
from miniplm.data.loader import SequenceStore
from miniplm.data.shards import Shard, open_shards
from miniplm.errors import ArtefactError, ConfigError, ModelError
from miniplm.export.exporter import export_corpus
from miniplm.generation.batching import best_batch_size, bytes_per_row
from miniplm.generation.config import GenerationConfig, num_new_tokens
from miniplm.generation.cost import generation_cost
from miniplm.generation.decoding import continue_prompts
from miniplm.generation.generator import NEW_COLUMN, generate_corpus
from miniplm.generation.sampling import Sampling, choose, draws
from miniplm.model_size import size_of
from miniplm.runtime.executors import serial
from miniplm.scoring.scorer import ScoringModel
from test_export import write_selections

TOKEN_BYTES_V = np.arange(128, dtype=np.int64) % 7
EOS = 0
LENGTH = 64
PROMPT = 8


def teacher(family="qwen2", **changes):
    model = tiny_model(family, **changes)
    return ScoringModel(model, f"tiny {family}", f"fingerprint of {family}", "float32")


def settings(**changes):
    return GenerationConfig(**{"prompt_tokens": PROMPT, **changes})


def generate(shards, folder, scorer=None, seed=5, **changes):
    config = settings(**changes)
    return generate_corpus(scorer or teacher(), shards, TOKEN_BYTES_V, config, folder, seed)


def rows_of(folder):
    return [s.row(i).tolist() for s in open_shards(folder / "shards") for i in range(len(s))]


@pytest.fixture
def prompts(tmp_path):
    rows = [row for row in random_rows(60, seed=4) if len(row) > PROMPT][:20]
    return write_rows(tmp_path / "prompts", rows, per_shard=8)


def stretched(model, factor):
    """The same model with sharper or flatter predictions."""
    with torch.no_grad():
        model.get_output_embeddings().weight.mul_(factor)
    return model


# --- sampling


def test_tokens_are_drawn_as_often_as_they_are_likely():
    probs = torch.tensor([0.5, 0.0, 0.3, 0.2])
    logits = probs.log().expand(20_000, 4)
    numbers = draws(range(20_000), 1, seed=0)[:, 0]
    counts = torch.bincount(choose(logits, numbers, Sampling()), minlength=4) / 20_000
    torch.testing.assert_close(counts, probs, atol=0.015, rtol=0)
    assert counts[1] == 0
    sharper = torch.bincount(choose(logits, numbers, Sampling(temperature=0.5)), minlength=4)
    expected = probs**2 / (probs**2).sum()
    torch.testing.assert_close(sharper / 20_000, expected, atol=0.015, rtol=0)
    nucleus = torch.bincount(choose(logits, numbers, Sampling(top_p=0.75)), minlength=4)
    expected = torch.tensor([0.625, 0.0, 0.375, 0.0])
    torch.testing.assert_close(nucleus / 20_000, expected, atol=0.015, rtol=0)


@pytest.mark.parametrize("top_p", [0.1, 0.5, 0.9, 0.99])
def test_top_p_keeps_the_tokens_that_transformers_keeps(top_p):
    from transformers import TopPLogitsWarper

    logits = torch.randn(30, 50, generator=torch.Generator().manual_seed(1)) * 3
    kept = TopPLogitsWarper(top_p)(None, logits).isfinite()
    numbers = (torch.arange(5000, dtype=torch.float64) / 5000).expand(30, -1)
    found = torch.zeros_like(kept)
    for column in numbers.T:
        found |= torch.nn.functional.one_hot(
            choose(logits, column, Sampling(top_p=top_p)), 50
        ).bool()
    assert not (found & ~kept).any()
    probs = torch.softmax(logits.masked_fill(~kept, -torch.inf), dim=-1)
    assert (found | ~kept | (probs < 1 / 5000)).all()


def test_the_largest_number_draws_a_token_that_can_be_drawn():
    logits = torch.tensor([[1.0, 2.0, -torch.inf]])
    last = torch.tensor([1 - 2**-53], dtype=torch.float64)
    assert choose(logits, last, Sampling()).tolist() == [1]
    assert choose(logits, last, Sampling(top_p=0.99)).tolist() == [0]
    assert choose(logits, last, Sampling(top_p=0.5)).tolist() == [1]


def test_numbers_belong_to_seed_and_sequence():
    both = draws([7, 2**40], 5, seed=1)
    assert torch.equal(draws([2**40, 7], 5, seed=1), both.flip(0))
    assert not torch.equal(draws([7, 2**40], 5, seed=2), both)
    assert ((both >= 0) & (both < 1)).all()


# --- decoding


GREEDY = Sampling(temperature=0.0)


def continuations(model, prompts_BP, num_new, sampling=GREEDY, ids=None):
    ids = range(len(prompts_BP)) if ids is None else ids
    return continue_prompts(
        model, prompts_BP, draws(ids, num_new, seed=3), eos_id=EOS, vocab_size=128,
        sampling=sampling,
    )  # fmt: skip


@pytest.mark.parametrize("family", FAMILIES)
def test_greedy_text_is_that_of_transformers_row_by_row(family):
    model = tiny_model(family)
    prompts_BP = torch.randint(1, 128, (24, PROMPT), generator=torch.Generator().manual_seed(2))
    made = continuations(model, prompts_BP, 40)
    for prompt_P, new in zip(prompts_BP, made, strict=True):
        expected = model.generate(
            prompt_P[None], attention_mask=torch.ones(1, PROMPT, dtype=torch.int64),
            max_new_tokens=40, do_sample=False, eos_token_id=EOS, pad_token_id=EOS, use_cache=True,
        )  # fmt: skip
        assert new.tolist() == expected[0, PROMPT:].tolist()


@pytest.mark.parametrize("family", ["mistral", "gpt2", "gemma3_text"])
def test_other_families_keep_their_windows_and_positions(family):
    from transformers import AutoConfig, AutoModelForCausalLM

    fields = {"n_embd": 32, "n_layer": 2, "n_head": 4} if family == "gpt2" else {
        "hidden_size": 32, "intermediate_size": 64, "num_hidden_layers": 2, "head_dim": 8,
        "num_attention_heads": 4, "num_key_value_heads": 2, "sliding_window": 12,
    }  # fmt: skip
    torch.manual_seed(0)
    config = AutoConfig.for_model(family, vocab_size=128, initializer_range=0.3, **fields)
    model = AutoModelForCausalLM.from_config(config).eval()
    prompts_BP = torch.randint(1, 128, (4, PROMPT), generator=torch.Generator().manual_seed(2))
    for prompt_P, new in zip(prompts_BP, continuations(model, prompts_BP, 30), strict=True):
        ids = prompt_P
        with torch.no_grad():
            while len(ids) < PROMPT + len(new):  # without any cache
                best = model(input_ids=ids[None], use_cache=False).logits[0, -1].argmax()
                ids = torch.cat([ids, best[None]])
        assert new.tolist() == ids[PROMPT:].tolist()


@pytest.mark.parametrize("family", ["qwen2", "mamba"])
@pytest.mark.parametrize("top_p", [1.0, 0.8])
def test_sampled_text_does_not_depend_on_the_batch(family, top_p):
    model = stretched(tiny_model(family), 0.3).double()
    prompts_BP = torch.randint(1, 128, (24, PROMPT), generator=torch.Generator().manual_seed(2))
    sampling = Sampling(temperature=0.9, top_p=top_p)
    together = continuations(model, prompts_BP, 40, sampling)
    assert len({len(new) for new in together}) > 1  # rows leave the batch at different steps
    for row in range(24):
        (alone,) = continuations(model, prompts_BP[row : row + 1], 40, sampling, ids=[row])
        assert alone.tolist() == together[row].tolist()


def test_text_stops_at_the_end_of_text_and_holds_it_once():
    model = stretched(tiny_model(), 0.1)
    prompts_BP = torch.randint(1, 128, (64, PROMPT), generator=torch.Generator().manual_seed(2))
    made = continuations(model, prompts_BP, 50, Sampling())
    ended = [new for new in made if EOS in new]
    assert 5 < len(ended) < 60
    assert all(new.tolist().index(EOS) == len(new) - 1 for new in ended)
    assert all(len(new) == 50 for new in made if EOS not in new)


def test_a_batch_that_ends_at_once_ends():
    model = tiny_model("llama")
    with torch.no_grad():
        model.get_output_embeddings().weight.zero_()  # all tokens are as likely; the first is eos
    made = continuations(model, torch.ones(3, PROMPT, dtype=torch.int64), 30)
    assert [new.tolist() for new in made] == [[EOS]] * 3


def test_ids_beyond_the_tokenizer_are_never_drawn():
    model = stretched(tiny_model(vocab_size=100), 0.1)  # padded to 128
    prompts_BP = torch.randint(1, 100, (16, PROMPT), generator=torch.Generator().manual_seed(2))
    made = continue_prompts(
        model, prompts_BP, draws(range(16), 40, seed=3), eos_id=EOS, vocab_size=100,
        sampling=Sampling(),
    )  # fmt: skip
    assert max(new.max() for new in made) == 99


# --- cost


@pytest.mark.parametrize("family", ["qwen2", "llama", "gpt_neox"])
def test_flops_are_those_that_torch_counts(family):
    from torch.utils.flop_counter import FlopCounterMode

    model = stretched(tiny_model(family), 0.1)
    model.set_attn_implementation("eager")  # torch counts products, not its fused kernel on a CPU
    prompts_BP = torch.randint(1, 128, (16, PROMPT), generator=torch.Generator().manual_seed(2))
    with FlopCounterMode(display=False) as counter:
        made = continuations(model, prompts_BP, 50, Sampling())
    lengths = np.array([len(new) for new in made])
    assert len(set(lengths)) > 2
    counted = generation_cost(size_of(model, 0)).flops(PROMPT, lengths)
    assert counted == pytest.approx(counter.get_total_flops(), rel=0.02)


def test_one_new_token_costs_a_forward_pass_over_the_prompt():
    model = tiny_model("llama")
    cost = generation_cost(size_of(model, 0))
    assert cost.head == 2 * 128 * 32
    assert cost.attention == 4 * 32 * 2  # width of all heads, two layers
    assert cost.flops(8, np.array([1])) == 8 * cost.body + cost.head + 64 * cost.attention


# --- the stage


def test_rows_are_prompts_with_their_continuation(prompts, tmp_path):
    outcome = generate(prompts, tmp_path / "out", temperature=0.0, new_tokens=20)
    sources, made = open_shards(prompts), open_shards(tmp_path / "out/shards")
    assert [len(shard) for shard in made] == [8, 8, 4]
    for source, shard in zip(sources, made, strict=True):
        prompts_BP = torch.tensor(np.stack([source.row(i)[:PROMPT] for i in range(len(source))]))
        expected = continuations(teacher().model, prompts_BP, 20)
        for place, new in enumerate(expected):
            row = shard.row(place)
            assert row.tolist() == [*prompts_BP[place].tolist(), *new.tolist()]
            assert shard.sidecar["num_bytes"][place].as_py() == TOKEN_BYTES_V[row].sum()
            assert shard.sidecar[NEW_COLUMN][place].as_py() == len(new)
        for name in ("sequence_id", "domain", "source_ids"):
            assert shard.sidecar[name].to_pylist() == source.sidecar[name].to_pylist()
        assert shard.info.vocab_size == source.info.vocab_size
    lengths = [len(row) - PROMPT for row in rows_of(tmp_path / "out")]
    assert outcome.num_tokens == sum(lengths)
    assert outcome.counts["sequences"] == 20
    assert outcome.facts["mean_new_tokens"] == sum(lengths) / 20
    ended = sum(row[-1] == EOS for row in rows_of(tmp_path / "out"))
    assert outcome.facts["share_ended"] == ended / 20
    assert outcome.facts["tokens_per_second"] > 0
    cost = generation_cost(size_of(teacher().model, 0))
    assert outcome.flops == pytest.approx(cost.flops(PROMPT, np.array(lengths)))


def test_a_student_can_open_what_the_teacher_wrote(prompts, tmp_path):
    generate(prompts, tmp_path / "out")
    store = SequenceStore(open_shards(tmp_path / "out/shards"))
    batch = store.batch(range(len(store)))
    assert len(store) == 20
    assert store.max_length == LENGTH
    assert batch.input_ids_BT.shape[1] <= LENGTH
    assert int(store.lengths.max()) == LENGTH + 1  # null: up to the length of a row
    assert (batch.num_tokens_B > 0).all()


def test_without_the_prompt_all_that_is_trained_on_is_the_teachers(prompts, tmp_path):
    generate(prompts, tmp_path / "with", new_tokens=10)
    generate(prompts, tmp_path / "without", new_tokens=10, keep_prompt=False)
    whole = [row[PROMPT - 1 :] for row in rows_of(tmp_path / "with")]
    assert rows_of(tmp_path / "without") == whole


def test_the_text_depends_on_the_seed_and_not_on_batches_or_shards(tmp_path):
    rows = [row for row in random_rows(60, seed=4) if len(row) > PROMPT][:20]
    scorer = teacher()
    stretched(scorer.model, 0.3).double()
    for name, per_shard, batch_size, seed in (
        ("one", 8, 3, 5), ("other", 20, 64, 5), ("seed", 8, 3, 6),
    ):  # fmt: skip
        shards = write_rows(tmp_path / f"{name}-prompts", rows, per_shard=per_shard)
        generate(shards, tmp_path / name, scorer, seed, batch_size=batch_size, new_tokens=12)
    assert rows_of(tmp_path / "one") == rows_of(tmp_path / "other")
    assert rows_of(tmp_path / "one") != rows_of(tmp_path / "seed")


@pytest.mark.parametrize("batch_size", [1, 5, 64])
def test_the_budget_is_overshot_by_less_than_a_row_whatever_the_batch(
    prompts, tmp_path, batch_size
):
    scorer = teacher()
    stretched(scorer.model, 0.1).double()
    outcome = generate(
        prompts, tmp_path / "out", scorer, tokens=200, new_tokens=20, batch_size=batch_size
    )
    everything = generate(prompts, tmp_path / "all", scorer, new_tokens=20)
    last = len(rows_of(tmp_path / "out")[-1]) - PROMPT
    assert 200 <= outcome.num_tokens < 200 + last
    rows = rows_of(tmp_path / "out")
    assert rows == rows_of(tmp_path / "all")[: len(rows)]
    assert outcome.counts["dropped"]["after_the_budget"] == 20 - len(rows)
    assert [len(shard) for shard in open_shards(tmp_path / "out/shards")][-1] == 0
    assert everything.num_tokens > 200


def test_too_few_prompts_for_the_budget_are_told(prompts, tmp_path, caplog, monkeypatch):
    monkeypatch.setattr("miniplm.runtime.log.logger.propagate", True)
    outcome = generate(prompts, tmp_path / "out", tokens=10_000, new_tokens=4)
    assert outcome.counts["sequences"] == 20
    assert any("of the 10000 asked for" in message for message in caplog.messages)


def test_rows_shorter_than_a_prompt_are_counted(tmp_path):
    rows = [[1, 2, 3], [*range(1, 9)], [4, 5], [*range(1, 30)]]
    shards = write_rows(tmp_path / "prompts", rows)
    outcome = generate(shards, tmp_path / "out", new_tokens=3)
    assert [row[:PROMPT] for row in rows_of(tmp_path / "out")] == [[*range(1, 9)]] * 2
    assert Shard(tmp_path / "out/shards/data_0").sequence_ids.tolist() == [1, 3]
    assert outcome.counts["dropped"] == {"shorter_than_a_prompt": 2, "after_the_budget": 0}


def test_killed_generation_keeps_finished_shards(prompts, tmp_path, monkeypatch):
    straight = generate(prompts, tmp_path / "straight", new_tokens=12, tokens=150, batch_size=4)
    calls = []

    def dies_at_fourth(*arguments, **others):
        if len(calls) == 3:
            raise KeyboardInterrupt
        calls.append(1)
        return continue_prompts(*arguments, **others)

    monkeypatch.setattr("miniplm.generation.teacher.continue_prompts", dies_at_fourth)
    with pytest.raises(KeyboardInterrupt):
        generate(prompts, tmp_path / "killed", new_tokens=12, tokens=150, batch_size=4)
    done = {p.name: p.stat().st_mtime_ns for p in (tmp_path / "killed/shards").iterdir()}
    assert sorted(done) == ["data_0.bin", "data_0.idx", "data_0.parquet"]
    monkeypatch.undo()
    again = generate(prompts, tmp_path / "killed", new_tokens=12, tokens=150, batch_size=4)
    for path in (tmp_path / "straight/shards").iterdir():
        there = tmp_path / "killed/shards" / path.name
        assert there.read_bytes() == path.read_bytes()
        assert done.get(path.name) in (None, there.stat().st_mtime_ns)
    assert (again.counts, again.num_tokens, again.flops) == (
        straight.counts, straight.num_tokens, straight.flops,
    )  # fmt: skip
    finished = generate(prompts, tmp_path / "killed", new_tokens=12, tokens=150, batch_size=4)
    assert "tokens_per_second" not in finished.facts  # nothing was left to do


@pytest.mark.parametrize(
    "changes",
    [{"temperature": 0.5}, {"top_p": 0.5}, {"new_tokens": 11}, {"tokens": 30}, {"seed": 6},
     {"scorer": teacher("llama")}, {"keep_prompt": False}, {"prompt_tokens": 9}],
    ids=lambda changes: next(iter(changes)),
)  # fmt: skip
def test_what_was_made_otherwise_is_made_again(prompts, tmp_path, changes):
    changes = {"new_tokens": 12, **changes}
    generate(prompts, tmp_path / "out", new_tokens=12)
    generate(prompts, tmp_path / "out", **changes)
    generate(prompts, tmp_path / "fresh", **changes)
    assert rows_of(tmp_path / "out") == rows_of(tmp_path / "fresh")


def test_the_batch_size_alone_makes_nothing_again(prompts, tmp_path):
    generate(prompts, tmp_path / "out", new_tokens=6, batch_size=2)
    done = {p.name: p.stat().st_mtime_ns for p in (tmp_path / "out/shards").iterdir()}
    generate(prompts, tmp_path / "out", new_tokens=6, batch_size=7)
    assert done == {p.name: p.stat().st_mtime_ns for p in (tmp_path / "out/shards").iterdir()}


def test_prompts_may_come_from_a_refined_corpus(prompts, tmp_path):
    kept = [1, 2, 9, 17]
    selection = write_selections(prompts, tmp_path / "selection", kept)
    export_corpus(prompts, selection, tmp_path / "refined", serial)
    generate(tmp_path / "refined/shards", tmp_path / "out", new_tokens=6)
    generate(prompts, tmp_path / "all", new_tokens=6)
    ids = [i for s in open_shards(tmp_path / "out/shards") for i in s.sequence_ids.tolist()]
    assert ids == kept
    everything = rows_of(tmp_path / "all")
    assert rows_of(tmp_path / "out") == [everything[index] for index in kept]
    names = Shard(tmp_path / "out/shards/data_0").sidecar.column_names
    assert "difference_score" not in names  # it was that of the row the prompt was cut from


def test_batches_are_halved_when_memory_runs_out(prompts, tmp_path, monkeypatch):
    most = 3

    def limited(model, prompts_BP, *arguments, **others):
        if len(prompts_BP) > most:
            raise torch.OutOfMemoryError("CUDA out of memory")
        return continue_prompts(model, prompts_BP, *arguments, **others)

    scorer = teacher()
    scorer.model.double()
    generate(prompts, tmp_path / "free", scorer, new_tokens=6)
    monkeypatch.setattr("miniplm.generation.teacher.continue_prompts", limited)
    outcome = generate(prompts, tmp_path / "limited", scorer, new_tokens=6)
    assert outcome.facts["batch_size"] == 2
    assert rows_of(tmp_path / "limited") == rows_of(tmp_path / "free")
    most = 0
    with pytest.raises(ModelError, match="no memory to continue a single prompt by 6 tokens"):
        generate(prompts, tmp_path / "none", new_tokens=6)


# --- refusals


def test_rows_too_short_for_any_prompt_are_refused(tmp_path):
    shards = write_rows(tmp_path / "prompts", [[1, 2, 3], [4, 5]])
    with pytest.raises(ArtefactError, match=r"none of its 2 rows has the 8 ids .*nothing was gen"):
        generate(shards, tmp_path / "out")
    assert not (tmp_path / "out").exists()


def test_prompts_that_leave_no_room_are_refused(prompts, tmp_path):
    with pytest.raises(ConfigError, match=r"prompt_tokens 60 and new_tokens 6 make 66 ids; .* 65"):
        generate(prompts, tmp_path / "out", prompt_tokens=60, new_tokens=6)
    assert num_new_tokens(64, None, 64, "generation") == 1
    with pytest.raises(ConfigError, match="make 66 ids"):
        num_new_tokens(65, None, 64, "generation")


def test_teachers_that_do_not_fit_are_refused(prompts, tmp_path):
    with pytest.raises(ModelError, match=r"serves 32 positions.*up to 64"):
        generate(prompts, tmp_path / "out", teacher(max_length=32))
    with pytest.raises(ModelError, match=r"64 rows.*ids up to 127"):
        generate(prompts, tmp_path / "out", teacher(vocab_size=64))


def test_logits_that_are_not_finite_are_refused(tmp_path):
    shards = write_rows(tmp_path / "prompts", [[*range(20, 28)], [*range(90, 98)]])
    scorer = teacher("llama")
    with torch.no_grad():
        scorer.model.get_input_embeddings().weight[92] = float("nan")
    with pytest.raises(ModelError, match="not finite"):
        generate(shards, tmp_path / "out", scorer)
    assert not (tmp_path / "out/shards/data_0.parquet").exists()


def test_a_batch_fits_the_memory():
    model = tiny_model()
    assert bytes_per_row(model, 64) == 2 * 2 * 2 * 8 * 64 * 4 + 32 * 128
    assert best_batch_size(model, 64) == 64
    assert best_batch_size(model, 10**12) == 1
    assert bytes_per_row(tiny_model("mamba"), 64) > 0
