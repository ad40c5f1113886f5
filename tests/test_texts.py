"""Any text as an evaluation set: windows over documents that are longer than a model reads."""

import json
import math

import numpy as np
import polars as pl
import pytest
import torch

from conftest import FAMILIES, sentences, tiny_recipe
from miniplm.data.documents import CorpusConfig
from miniplm.data.records import Document
from miniplm.data.tokenizer import load_tokenizer, token_table, train_tokenizer
from miniplm.errors import ConfigError, DocumentError, ModelError
from miniplm.evaluation import texts as texts_module
from miniplm.evaluation.averages import AVERAGE, OVERALL
from miniplm.evaluation.documents import read_documents
from miniplm.evaluation.text_scorer import TextScorer
from miniplm.evaluation.texts import evaluate_texts, measure_texts
from miniplm.model import ModelConfig, build_model, model_config
from miniplm.pipeline import run
from miniplm.planning import make_plan
from miniplm.recipe import make_recipe
from miniplm.report.results import read_results
from miniplm.road.road import Road
from miniplm.scoring.reencoding import windows
from miniplm.scoring.scoring_model import ScoringModel

LENGTH = 16
TEXTS = [sentences(np.random.default_rng(seed), 1 + seed % 4) for seed in range(9)]


@pytest.fixture(scope="module")
def tokenizer(tmp_path_factory):
    folder = tmp_path_factory.mktemp("tokenizer")
    train_tokenizer(TEXTS * 3, 300, folder)
    return load_tokenizer(folder)


@pytest.fixture(scope="module")
def scorer(tokenizer):
    shape = model_config(ModelConfig(shape=FAMILIES["qwen2"]), len(tokenizer), LENGTH)
    model = build_model(shape, 0).eval()
    with torch.no_grad():
        for parameter in model.parameters():
            if parameter.dim() >= 2:
                parameter.mul_(6.0)
    return ScoringModel(model, "tiny", "0", "float32")


def documents(texts=TEXTS):
    return [
        Document(text, "even" if n % 2 == 0 else "odd", f"d{n}") for n, text in enumerate(texts)
    ]


def left_context(model, ids, most, bos=None):
    """Each token but the first, by the `most` ids before it: a forward pass for each."""
    nats = 0.0
    for place in range(1, len(ids)):
        before = ids[max(0, place - most) : place]
        if before[-1] == bos:
            continue
        with torch.no_grad():
            logits = model(input_ids=torch.tensor([before])).logits[0, -1].double()
        nats += float(torch.log_softmax(logits, -1)[ids[place]])
    return nats


def side_by_side(model, ids, most):
    """Windows one after another, each beginning with the last id of the one before."""
    nats = 0.0
    for begin in range(0, len(ids) - 1, most):
        part = torch.tensor([ids[begin : begin + most + 1]])
        with torch.no_grad():
            logits = model(input_ids=part[:, :-1]).logits[0].double()
        picked = torch.log_softmax(logits, -1).gather(1, part[0, 1:, None])
        nats += float(picked.sum())
    return nats


def test_every_token_is_scored_once_by_whole_left_context_with_a_stride_of_one(scorer, tokenizer):
    found = TextScorer(scorer, tokenizer, LENGTH, 1).score(documents())
    table = token_table(tokenizer)
    for text, line in zip(TEXTS, found.iter_rows(named=True), strict=True):
        ids = [*tokenizer(text)["input_ids"], tokenizer.eos_token_id]
        assert line["num_tokens"] == len(ids) - 1
        assert line["num_bytes"] == table.num_bytes_V[ids[1:]].sum()
        assert line["log_prob"] == pytest.approx(left_context(scorer.model, ids, LENGTH), rel=1e-4)


def test_windows_side_by_side(scorer, tokenizer):
    found = TextScorer(scorer, tokenizer, LENGTH).score(documents())
    expected = [
        side_by_side(scorer.model, [*tokenizer(text)["input_ids"], tokenizer.eos_token_id], LENGTH)
        for text in TEXTS
    ]
    np.testing.assert_allclose(found["log_prob"].to_numpy(), expected, rtol=1e-4)
    assert found["num_positions"].to_list() == found["num_tokens"].to_list()
    assert max(found["num_tokens"]) > 2 * LENGTH
    as_long = TextScorer(scorer, tokenizer, LENGTH, LENGTH).score(documents())
    assert as_long.equals(found)


@pytest.mark.parametrize("stride", [1, 3, 7, 8, 15, 16])
@pytest.mark.parametrize("num_ids", [1, 2, 17, 18, 40])
def test_windows_hold_every_target_once(num_ids, stride):
    targets = []
    for begin, end, known in windows(num_ids, LENGTH, stride):
        assert begin % stride == 0
        assert end - begin <= LENGTH + 1
        targets += range(begin + 1 + known, end)
    assert targets == list(range(1, num_ids))


def test_a_mark_in_front_of_texts_is_read_and_not_scored(scorer, tokenizer, tmp_path):
    """As of families whose tokenizer begins every text with one."""
    from tokenizers import processors

    tokenizer.save_pretrained(tmp_path)
    marking = load_tokenizer(tmp_path)
    bos, bos_id = "!", marking.convert_tokens_to_ids("!")
    marking.bos_token = bos
    marking.backend_tokenizer.post_processor = processors.TemplateProcessing(
        single=f"{bos} $A", special_tokens=[(bos, bos_id)]
    )
    found = TextScorer(scorer, marking, LENGTH, 1).score(documents(TEXTS[:3]))
    plain = TextScorer(scorer, tokenizer, LENGTH, 1).score(documents(TEXTS[:3]))
    assert found["num_tokens"].to_list() == plain["num_tokens"].to_list()
    for text, line in zip(TEXTS, found.iter_rows(named=True), strict=False):
        ids = [bos_id, *tokenizer(text)["input_ids"], tokenizer.eos_token_id]
        expected = left_context(scorer.model, ids, LENGTH, bos_id)
        assert line["log_prob"] == pytest.approx(expected, rel=1e-4)


def test_what_does_not_fit_is_refused(scorer, tokenizer):
    with pytest.raises(ConfigError, match="is 17; expected 1 to 16"):
        TextScorer(scorer, tokenizer, LENGTH, 17)
    with pytest.raises(ModelError, match="32"):
        TextScorer(scorer, tokenizer, 2 * LENGTH)


# --- files


@pytest.fixture
def files(tmp_path):
    folder = tmp_path / "texts"
    folder.mkdir()
    for kind in ("even", "odd"):
        chosen = [each for each in documents() if each.domain == kind]
        lines = [json.dumps({"text": each.text, "id": each.id}) for each in chosen]
        (folder / f"{kind}.jsonl").write_text("\n".join(lines))
    return CorpusConfig(paths=(str(folder),))


def test_files_are_measured_without_a_recipe(scorer, tokenizer, files):
    measured = measure_texts(scorer, tokenizer, files, stride=4)
    lines = {line.domain: line for line in measured.lines}
    assert list(lines) == ["even", "odd", AVERAGE, OVERALL]
    direct = TextScorer(scorer, tokenizer, LENGTH, 4).score(documents())
    bits = -direct["log_prob"].sum() / direct["num_bytes"].sum() / math.log(2)
    assert lines[OVERALL].bits_per_byte == pytest.approx(bits)
    assert lines[OVERALL].low < bits < lines[OVERALL].high
    assert lines["even"].num_documents == 5
    assert set(measured.documents.table["document"]) == {f"d{n}" for n in range(9)}
    apart = measure_texts(scorer, tokenizer, files, stride=4, set_apart=["odd"])
    averages = {line.domain: line.loss for line in apart.lines}
    assert averages[AVERAGE] == averages["even"]
    all_apart = measure_texts(scorer, tokenizer, files, stride=4, set_apart=["*"])
    assert all_apart.lines == measured.lines
    with pytest.raises(DocumentError):
        measure_texts(scorer, tokenizer, CorpusConfig(paths=("/nowhere/at/all.jsonl",)))


def test_finished_blocks_are_kept(scorer, tokenizer, files, tmp_path, monkeypatch):
    monkeypatch.setattr(texts_module, "_BLOCK_CHARACTERS", 100)
    reader, straight = TextScorer(scorer, tokenizer, LENGTH), tmp_path / "straight"
    whole = evaluate_texts(reader, {"mine": files}, straight)
    num_blocks = len(list((straight / "mine/parts").iterdir()))
    assert num_blocks > 3

    class Dying(TextScorer):
        def score(self, block):
            if len(done) == 2:
                raise KeyboardInterrupt
            done.append(block)
            return super().score(block)

    done, out = [], tmp_path / "out"
    with pytest.raises(KeyboardInterrupt):
        evaluate_texts(Dying(scorer, tokenizer, LENGTH), {"mine": files}, out)
    done = done[:1]  # so that the others may be scored
    scored = []
    reader.score = lambda block: scored.append(block) or TextScorer.score(reader, block)
    again = evaluate_texts(reader, {"mine": files}, out)
    assert len(scored) == num_blocks - 2
    assert again == whole
    assert again.obsolete == ("mine/parts",)
    assert again.counts["documents"] == again.counts["texts"]["mine"]["documents"] == 9
    first, second = (read_documents(f / "mine/documents.parquet").table for f in (straight, out))
    assert first.equals(second)
    assert again.num_tokens == first["num_tokens"].sum()


# --- in a recipe


def test_texts_are_measured_in_a_run(corpus_folder, tmp_path, files):
    content = tiny_recipe(corpus_folder, tmp_path / "run")
    content["evaluation"] = {"texts": {"mine": {"paths": list(files.paths)}}, "window_stride": 16}
    manifests = {each.stage: each for each in run(make_recipe(content, "texts"))}
    names = ("teacher", "reference", "plain", "miniplm")
    tables = []
    for name in names:
        lines = manifests[f"texts/{name}"].facts["texts"]["mine"]
        assert [line["domain"] for line in lines] == ["even", "odd", AVERAGE, OVERALL]
        folder = tmp_path / f"run/texts/{name}/mine"
        tables.append(read_documents(folder / "documents.parquet").table)
        assert not (folder / "parts").exists()
    for table in tables:
        assert table.select("document", "num_tokens").equals(
            tables[0].select("document", "num_tokens")
        )
    assert isinstance(tables[0], pl.DataFrame)
    [text] = read_results(tmp_path / "run").texts
    assert [result.model for result in text.results[::4]] == list(names)
    [found] = [each for each in text.differences if each.domain == AVERAGE]
    assert (found.model, found.baseline) == ("miniplm", "plain")
    average = {each.model: each.bits_per_byte for each in text.results if each.domain == AVERAGE}
    assert found.value == pytest.approx(average["miniplm"] - average["plain"])
    assert found.low <= found.value <= found.high
    assert '<section id="texts">' in (tmp_path / "run/report/index.html").read_text()


def test_a_plan_counts_overlapping_windows(corpus_folder, tmp_path, files):
    def tokens(**evaluation):
        content = tiny_recipe(corpus_folder, tmp_path / "run")
        content["evaluation"] = {"texts": {"mine": {"paths": list(files.paths)}}, **evaluation}
        steps = make_plan(make_recipe(content, "texts")).steps
        return next(step for step in steps if step.name == "texts/plain").num_tokens

    size = sum(len(text) for text in TEXTS)
    assert size / 8 < tokens() < size
    assert tokens(window_stride=16) == pytest.approx(4 * tokens())


def test_faults_of_texts_are_told(corpus_folder, tmp_path):
    content = tiny_recipe(corpus_folder, tmp_path / "run")
    content["evaluation"] = {
        "texts": {"my text": {"paths": ["a.jsonl"]}, "b": {"source": "tokens", "paths": ["b"]}},
        "window_stride": 65,
    }
    with pytest.raises(ConfigError) as caught:
        make_recipe(content, "texts")
    told = "\n".join(caught.value.faults)
    assert "evaluation.texts.my text: becomes a folder" in told
    assert "evaluation.texts.b.source: tokens" in told
    assert "window_stride: is 65, but a window has 64 tokens" in told


def test_texts_and_strides_redo_no_training(corpus_folder, tmp_path, files):
    def fingerprints(evaluation):
        content = tiny_recipe(corpus_folder, tmp_path / "run") | {"evaluation": evaluation}
        steps = Road(make_recipe(content, "texts")).steps
        return {step.name: (step.spec.fingerprint, step.kind) for step in steps}

    text = {"texts": {"mine": {"paths": list(files.paths)}}}
    none, some = fingerprints({}), fingerprints(text)
    assert {name for name in some if some[name] != none.get(name)} - {"report"} == {
        f"texts/{name}" for name in ("teacher", "reference", "plain", "miniplm")
    }
    assert some["texts/plain"][1] == "evaluate"
    strided = fingerprints(text | {"window_stride": 8})
    changed = {name.partition("/")[0] for name in some if some[name] != strided[name]}
    assert changed == {"texts", "report"}
