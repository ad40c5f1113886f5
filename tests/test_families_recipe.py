"""Students of another tokenizer and family through a recipe."""

import json
from collections import Counter
from itertools import chain
from pathlib import Path

import numpy as np
import pytest

from conftest import tiny_recipe
from foreign_formats import MegatronReader
from made_up_tokenizers import sentencepiece_like
from miniplm.corpus_sizes import CorpusSizes
from miniplm.data.documents import CorpusConfig
from miniplm.data.packing import PackingConfig
from miniplm.data.shards import open_shards
from miniplm.data.splits import SplitsConfig
from miniplm.data.tokenization import TokenizationConfig, tokenize_corpus
from miniplm.data.tokenizer import TokenizerConfig, load_tokenizer
from miniplm.errors import ConfigError
from miniplm.evaluation.documents import read_documents
from miniplm.evaluation.paired import paired_documents
from miniplm.export.row_text import RowText
from miniplm.model import ModelConfig, model_config
from miniplm.model_size import model_size
from miniplm.pipeline import run
from miniplm.planning import make_plan
from miniplm.presets import preset
from miniplm.publishing.parcel import corpus_parcel
from miniplm.recipe import make_recipe
from miniplm.road.road import Road

LLAMA = {"family": "llama", "hidden_size": 16, "intermediate_size": 32, "num_layers": 1,
         "num_heads": 2}  # fmt: skip
MAMBA = {"family": "mamba", "hidden_size": 16, "num_layers": 1, "extra": {"state_size": 4}}


def content(corpus_folder, run_dir, tokenizer):
    made = tiny_recipe(corpus_folder, run_dir)
    made["export"] = {"forms": ["megatron", "jsonl"]}
    made["retokenizations"] = {
        "refined-new": {"corpus": "refined", "tokenizer_of": "plain-new"},
        "plain-new": {"corpus": "candidates", "tokenizer": {"vocab_size": 400}},
        "pieces": {"corpus": "refined", "tokenizer": {"name": str(tokenizer)}, "max_length": 96},
    }
    made["students"] |= {
        "llama-plain": {"shape": LLAMA, "corpus": "plain-new"},
        "llama-miniplm": {"shape": LLAMA, "corpus": "refined-new"},
        "mamba": {"shape": MAMBA, "corpus": "pieces"},
        "dynamic": {"shape": LLAMA, "corpus": "plain-new", "training": {
            "reweighting": {"kind": "dynamic", "normalization": "per_byte"}}},
        "static": {"shape": LLAMA, "corpus": "refined-new", "training": {
            "reweighting": {"kind": "static"}}},
    }  # fmt: skip
    return made


@pytest.fixture(scope="module")
def tokenizer(tmp_path_factory):
    return sentencepiece_like(tmp_path_factory.mktemp("tokenizer"), "first", bos=True)


@pytest.fixture(scope="module")
def finished(corpus_folder, tmp_path_factory, tokenizer):
    run_dir = tmp_path_factory.mktemp("families") / "run"
    recipe = make_recipe(content(corpus_folder, run_dir, tokenizer), "test")
    return recipe, run(recipe), run_dir


def text_of(shards_folder, tokenizer_folder, *, overlapping=False):
    """What all rows spell, by their original row; parts of a row share one id."""
    text = RowText(load_tokenizer(tokenizer_folder))
    spelt: dict[int, bytes] = {}
    for shard in open_shards(shards_folder):
        for place, sequence_id in enumerate(shard.sequence_ids):
            original = int(sequence_id) & ((1 << 40) - 1)
            ids = shard.row(place)
            if original in spelt and overlapping:
                ids = ids[1:]
            spelt[original] = spelt.get(original, b"") + text.spelt(ids)
    return spelt


def test_each_student_has_its_tokenizer_and_says_what_it_read(finished):
    recipe, manifests, run_dir = finished
    vocabularies = {
        name: len(load_tokenizer(run_dir / f"train/{name}/model")) for name in recipe.students
    }
    assert vocabularies["plain"] == vocabularies["miniplm"] == 320
    assert {vocabularies[f"llama-{kind}"] for kind in ("plain", "miniplm")} == {400}
    own = load_tokenizer(run_dir / "train/mamba/model")
    assert len(own) == vocabularies["mamba"] < 320
    assert own("the cat")["input_ids"][0] != own.bos_token_id  # which it was never shown
    heading, *lines = manifests[-1].facts["models"]
    rows = {line[0]: dict(zip(heading, line, strict=True)) for line in lines}
    assert rows["llama-miniplm"]["trained on"] == "selection 'refined', retokenised"
    assert rows["dynamic"]["trained on"] == "all candidates, retokenised, dynamic weights"


@pytest.mark.parametrize("name", ["plain-new", "pieces"])
def test_held_out_text_is_whole_in_other_tokens(finished, name):
    _, _, run_dir = finished
    before = text_of(run_dir / "tokenize/held_out", run_dir / "tokenize/tokenizer")
    after = text_of(
        run_dir / f"held_out/{name}/shards",
        run_dir / f"retokenize/{name}/tokenizer",
        overlapping=True,
    )
    if name == "plain-new":
        assert after == before
    else:  # the tokenizer's own spaces in front of documents
        assert {key: text.replace(b" ", b"") for key, text in after.items()} == {
            key: text.replace(b" ", b"") for key, text in before.items()
        }
    assert not (run_dir / "held_out/refined-new").exists()  # is that of plain-new


def test_refined_corpora_go_out_in_other_tokens_as_well(finished):
    _, manifests, run_dir = finished
    written = {manifest.stage for manifest in manifests}
    assert {"retokenize-megatron/refined-new", "retokenize-megatron/pieces"} <= written
    assert not {"retokenize-megatron/plain-new", "retokenize-jsonl/pieces"} & written
    for name, length, entries in (("refined-new", 64, 400), ("pieces", 96, 278)):
        shards = [s for s in open_shards(run_dir / f"retokenize/{name}/shards") if len(s)]
        folder = run_dir / f"retokenize-megatron/{name}"
        for number, shard in enumerate(shards):
            eos_id = shard.info.eos_id
            rows = [shard.row(place).tolist() for place in range(len(shard))]
            items = MegatronReader(folder / f"{name}_{number}_text_document")
            assert [*items] == [row if row[-1] == eos_id else [*row, eos_id] for row in rows]
        tokenizer = load_tokenizer(folder / "tokenizer")
        assert len(tokenizer) == entries
        card = (folder / "README.md").read_text()
        assert f"of up to {length} predicted tokens" in card
        assert f"({entries} entries)" in card or f"BPE of {entries} entries" in card
        assert "selected in the tokens of | a byte-level BPE of 320 entries" in card
        assert f"end-of-text (id {tokenizer.eos_token_id})" in card
        counts = next(m.counts for m in manifests if m.stage == f"retokenize/{name}")
        share = 100 * counts["cut_bytes"] / counts["bytes_encoded"]
        assert f"text cut off by retokenising | {share:.2f} %" in card
        parcel = corpus_parcel(run_dir, name)
        assert "data_args.txt" in parcel.names


def test_text_of_a_refined_corpus_is_tokenised_afresh_without_a_loss(finished, tmp_path, tokenizer):
    """Also where a row would become too long to be retokenised whole."""
    _, _, run_dir = finished
    folder = run_dir / "export-jsonl/refined"
    config = TokenizationConfig(
        corpus=CorpusConfig(
            paths=(f"{folder}/data_*.jsonl.zst",), domain_from="field", id_field="source_id"
        ),
        splits=SplitsConfig(reference=0.1, held_out=0.1),
        tokenizer=TokenizerConfig(name=str(tokenizer)),
        packing=PackingConfig(max_length=100_000),
        seed=1,
    )
    outcome = tokenize_corpus(config, tmp_path / "afresh")
    assert outcome.counts["dropped"] == {}
    assert outcome.counts["documents"] > 50
    before, after = Counter(), Counter()
    texts = RowText(load_tokenizer(run_dir / "tokenize/tokenizer"))
    for shard in open_shards(run_dir / "export/refined/shards"):
        for place, domain in enumerate(shard.sidecar["domain"].to_pylist()):
            pieces = texts.decode(shard.row(place)).pieces
            before.update((domain, text) for text in pieces if text)
    own = RowText(load_tokenizer(tokenizer))
    splits = [tmp_path / "afresh" / name for name in ("candidates", "reference", "held_out")]
    for shard in chain.from_iterable(map(open_shards, splits)):
        for place, domain in enumerate(shard.sidecar["domain"].to_pylist()):
            first, *others = own.decode(shard.row(place)).pieces
            after.update((domain, text) for text in (first.removeprefix(" "), *others))
    assert after == before


def test_models_are_compared_on_the_same_bytes(finished):
    """But for the first token of rows and documents, which is longer or shorter."""
    recipe, _, run_dir = finished
    with (run_dir / "report/results.json").open() as file:
        results = json.load(file)
    assert {row["name"] for row in results["models"]} == {"teacher", "reference", *recipe.students}
    scored = {}
    for name in recipe.students:
        manifest = json.loads((run_dir / f"evaluate/{name}/manifest.json").read_text())
        lines = {line["domain"]: line for line in manifest["facts"]["held_out"]}
        scored[name] = lines["all text"]["num_bytes"]
        assert lines["all text"]["bits_per_byte"] > 0
    assert scored["llama-plain"] == scored["llama-miniplm"]
    assert max(scored.values()) < 1.05 * min(scored.values())


def test_models_are_compared_document_by_document_whatever_they_read(finished):
    recipe, _, run_dir = finished
    documents = {
        name: read_documents(run_dir / f"evaluate/{name}/documents.parquet")
        for name in recipe.students
    }
    with (run_dir / "report/results.json").open() as file:
        rows = {row["domain"]: row["documents_digest"] for row in json.load(file)["held_out"]}
    for name in ("llama-plain", "mamba"):
        assert documents[name].unit == "documents"
        digests = documents[name].digests()
        assert len(digests) > 1
        assert rows == {**dict.fromkeys(rows), **digests}
        found = paired_documents([(documents[name], documents["plain"])])
        with (run_dir / "report/results.json").open() as file:
            bits = {row["name"]: row["bits_per_byte"] for row in json.load(file)["models"]}
        assert found["average of domains"].value == pytest.approx(bits[name] - bits["plain"])


def test_the_page_compares_students_of_one_shape_and_tokenizer(finished):
    _, manifests, _ = finished
    first = [sentence.split(":")[0] for sentence in manifests[-1].facts["verdict"]]
    text = " ".join(first)
    assert "miniplm" in text
    assert "one run with one seed" in first[-1]
    assert sum("one run with one seed" in sentence for sentence in first) == 1
    assert "mamba" not in text  # there is no other of its shape


def test_a_second_run_skips_everything_and_a_plan_counts_the_tokens(finished):
    recipe, manifests, _ = finished
    assert run(recipe) == manifests
    plan = {step.name: step for step in make_plan(recipe).steps}
    made = {manifest.stage: manifest for manifest in manifests}
    assert all(step.state == "complete" for step in plan.values())
    retokenized = [name for name in plan if name.startswith(("retokenize/", "held_out/"))]
    assert len(retokenized) == 5
    for name in retokenized:
        assert plan[name].num_tokens == made[name].num_tokens


def test_a_command_without_anything_to_do_says_so(finished, caplog):
    recipe, _, _ = finished
    assert run(recipe, kinds=["generate"]) == []
    assert "nothing to do: the recipe has no generate step" in caplog.text
    with pytest.raises(ConfigError, match=r"choose one of plain-new, pieces, refined-new$"):
        run(recipe, kinds=["retokenize"], only="new")


def test_the_held_out_text_is_not_planned_as_large_as_its_corpus(corpus_folder, tmp_path):
    content = tiny_recipe(corpus_folder, tmp_path)
    content["retokenizations"] = {"new": {"corpus": "candidates", "tokenizer": {"vocab_size": 400}}}
    plan = {step.name: step for step in make_plan(make_recipe(content, "test")).steps}
    corpus, held_out = plan["retokenize/new"], plan["held_out/new"]
    shares = content["splits"]["held_out"], 1 - sum(content["splits"].values())
    assert held_out.num_tokens / corpus.num_tokens == pytest.approx(shares[0] / shares[1])
    assert held_out.num_bytes / corpus.num_bytes == pytest.approx(shares[0] / shares[1])


def test_tokens_are_estimated_before_anything_is_done(corpus_folder, tmp_path, tokenizer):
    recipe = make_recipe(content(corpus_folder, tmp_path, tokenizer), "test")
    sizes = CorpusSizes(recipe, Road(recipe))
    assert 0 < sizes.of("refined-new") == sizes.of("plain-new") / 2
    assert sizes.of("plain-new") < sizes.of("candidates")  # a larger vocabulary
    assert sizes.held_out("plain-new") < sizes.held_out()
    assert sizes.vocab_size("refined-new") == 400
    assert sizes.vocab_size("pieces") < 320
    assert sizes.mean_length("pieces") <= 96


@pytest.mark.parametrize(
    ("change", "stale"),
    [
        ({"tokenizer": {"vocab_size": 410}, "corpus": "candidates"},
         {"plain-new", "refined-new", "llama-plain", "llama-miniplm", "dynamic", "static"}),
        ({"max_length": 60, "corpus": "candidates", "tokenizer": {"vocab_size": 400}},
         {"plain-new", "refined-new", "llama-plain", "llama-miniplm", "dynamic", "static"}),
    ],
)  # fmt: skip
def test_another_tokenizer_redoes_what_reads_it(finished, corpus_folder, tokenizer, change, stale):
    _, _, run_dir = finished
    made = content(corpus_folder, run_dir, tokenizer)
    made["retokenizations"]["plain-new"] = change
    if "max_length" in change:
        made["retokenizations"]["refined-new"]["max_length"] = 60
    road = Road(make_recipe(made, "test"))
    found = {step.instance for step in road.steps if not step.is_complete and step.name != "report"}
    assert found == stale


FAULTS = [
    ({"retokenizations": {"new": {"corpus": "nothing"}}},
     "retokenizations.new.corpus: there is no 'nothing'; choose one of candidates, refined"),
    ({"retokenizations": {"new": {"corpus": "new"}}}, "there is no 'new'"),
    ({"retokenizations": {"refined": {"corpus": "refined"}}}, "another corpus of this name"),
    ({"retokenizations": {"a": {"corpus": "refined", "tokenizer_of": "b"}}},
     "'b' is no retokenization with a tokenizer of its own; there is none"),
    ({"retokenizations": {"a": {"corpus": "refined", "tokenizer_of": "b", "tokenizer": {}},
                          "b": {"corpus": "refined"}}}, "give one of tokenizer and tokenizer_of"),
    ({"retokenizations": {"a": {}}}, "retokenizations.a.corpus: is required"),
    ({"captures": {"c": {"corpus": "plain-new"}}}, "captures.c.corpus: there is no 'plain-new'"),
]  # fmt: skip


@pytest.mark.parametrize(("sections", "message"), FAULTS)
def test_what_retokenizations_cannot_ask_for_is_told(corpus_folder, tmp_path, sections, message):
    made = {**tiny_recipe(corpus_folder, tmp_path), **sections}
    with pytest.raises(ConfigError, match=message):
        make_recipe(made, "test")


METHODS = [
    ({"method": "vanilla_kd"}, "vanilla_kd takes the teacher's probabilities of single tokens"),
    ({"method": "minillm"}, "minillm takes the teacher's probabilities of single tokens"),
    ({"method": "sparse_kd"}, "sparse_kd takes the teacher's .* those of 'plain-new' are another"),
    ({"reweighting": {"kind": "dynamic_tokens"}}, "use dynamic, with normalization: per_byte"),
    ({"reweighting": {"kind": "dynamic"}}, "so losses compare per byte only; set per_byte"),
    ({"method": "seqkd"}, "seqkd trains on text that the teacher wrote"),
]


@pytest.mark.parametrize(("training", "message"), METHODS)
def test_methods_that_take_the_teachers_tokens_are_refused(
    corpus_folder, tmp_path, tokenizer, training, message
):
    made = content(corpus_folder, tmp_path, tokenizer)
    made["students"]["llama-plain"]["training"] = training
    with pytest.raises(ConfigError, match=message):
        make_recipe(made, "test")


def test_a_student_has_one_tokenizer(corpus_folder, tmp_path, tokenizer):
    made = content(corpus_folder, tmp_path, tokenizer)
    made["students"]["llama-plain"]["corpus"] = {"plain-new": 0.5, "pieces": 0.5}
    with pytest.raises(ConfigError, match="its corpora differ in tokenizer or length"):
        make_recipe(made, "test")
    made["students"]["llama-plain"]["corpus"] = {"plain-new": 0.5, "refined-new": 0.5}
    make_recipe(made, "test")


def test_text_of_the_teacher_goes_to_other_families(corpus_folder, tmp_path, tokenizer):
    made = content(corpus_folder, tmp_path, tokenizer)
    made["generations"] = {"written": {"prompts": "candidates"}}
    made["retokenizations"]["written-new"] = {"corpus": "written", "tokenizer_of": "plain-new"}
    made["students"]["llama-plain"] |= {"corpus": "written-new", "training": {"method": "seqkd"}}
    road = Road(make_recipe(made, "test"))
    assert "generate/written" in road.foundations("llama-plain")


def test_bytes_of_targets_by_hand(tmp_path):
    from conftest import write_rows
    from miniplm.data.loader import SequenceStore

    write_rows(tmp_path, [[3, 4, 0, 5, 6], [0, 7], [8, 9, 10]], per_shard=2, vocab_size=11)
    store = SequenceStore(open_shards(tmp_path))
    num_bytes_V = np.array([0, 1, 1, 1, 2, 4, 8, 16, 32, 64, 128])
    assert store.num_scored_bytes(num_bytes_V).tolist() == [2 + 8, 0, 64 + 128]


def test_the_papers_pair_is_trained_as_in_the_paper():
    recipe = preset("paper_cross_family")
    common = {"beta1": 0.9, "eps": 1e-6, "max_grad_norm": 1.0, "min_lr_ratio": 0.1,
              "global_batch_size": 512}  # fmt: skip
    llama = {"lr": 6e-4, "weight_decay": 0.01, "beta2": 0.98, "warmup_steps": 2000}
    mamba = {"lr": 2e-3, "weight_decay": 0.1, "beta2": 0.95, "warmup_steps": 10_000}
    for name, (own, tokenizer) in {
        "llama-212m": (llama, "meta-llama/Llama-3.1-8B"),
        "mamba-130m": (mamba, "EleutherAI/gpt-neox-20b"),
    }.items():
        for kind, source in (("plain", "candidates"), ("miniplm", "refined")):
            training = recipe.student_training(f"{kind}-{name}")
            assert training.budget.steps == 100_000
            found = training.model_dump(include={*common, *own})
            assert found == {**common, **own}
            (corpus,) = recipe.students[f"{kind}-{name}"].corpora
            assert recipe.taken_from(corpus) == source
            owner = recipe.retokenizations[recipe.tokenizer_of(corpus)]
            assert owner.tokenizer.name == tokenizer
            assert recipe.max_length_of(corpus) == 1024
    assert recipe.teacher.name == recipe.tokenizer.name == "Qwen/Qwen1.5-1.8B"
    assert recipe.selections["refined"].ratio == 0.5


def test_sizes_of_the_papers_pair_are_those_of_its_names():
    recipe = preset("paper_cross_family")
    sizes = {}
    for name, vocab_size in (("plain-llama-212m", 128_256), ("plain-mamba-130m", 50_277)):
        shape = ModelConfig(shape=recipe.students[name].shape)
        sizes[name] = model_size(model_config(shape, vocab_size, 1024), 1024).num_params
    assert round(sizes["plain-llama-212m"] / 1e6) == 212
    assert round(sizes["plain-mamba-130m"] / 1e6, -1) == 130


def test_the_example_is_the_preset():
    from miniplm.presets import PRESETS
    from miniplm.recipe_text import commented_recipe

    text = Path(__file__).resolve().parents[1].joinpath("examples/cross_family.yaml").read_text()
    assert text.endswith(commented_recipe(PRESETS["cross_family"]()))
