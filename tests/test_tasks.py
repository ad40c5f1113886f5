"""The nine tasks: our numbers are the harness's, item by item, and nothing is done twice."""

import json
import math
import socket
import subprocess
import sys
from importlib import metadata

import pytest
import torch

from conftest import tiny_model
from made_up_tasks import ask_harness, asked, tokenizer_for_tasks, write_task, write_tasks
from made_up_tokenizers import sentencepiece_like
from miniplm.data.tokenizer import load_tokenizer, put_no_marks
from miniplm.errors import ArtefactError, DocumentError, ModelError
from miniplm.evaluation import tasks
from miniplm.evaluation.config import NINE
from miniplm.evaluation.harness_model import HarnessModel
from miniplm.evaluation.task_results import TaskResults
from miniplm.evaluation.task_tables import items_path, read_items
from miniplm.evaluation.tasks import evaluate_tasks
from miniplm.scoring.scoring_model import ScoringModel

MAX_LENGTH = 96


@pytest.fixture(scope="module")
def tokenizer(tmp_path_factory):
    return tokenizer_for_tasks(tmp_path_factory.mktemp("tokenizer"))


@pytest.fixture(scope="module")
def model(tokenizer):
    return tiny_model("qwen2", len(tokenizer), MAX_LENGTH)


@pytest.fixture(scope="module")
def rows(tmp_path_factory):
    return write_tasks(tmp_path_factory.mktemp("rows"))


def scorer(model):
    return ScoringModel(model, "tiny", "fingerprint", "float32")


def check_equal(folder, outcome, harness, names):
    """Our items and results against what `simple_evaluate` returned."""
    ours = {result["task"]: result for result in outcome.facts["tasks"]["tasks"]}
    for name in names:
        items = read_items(items_path(folder, name))
        theirs = sorted(harness["samples"][name], key=lambda sample: sample["doc_id"])
        assert items["item"].to_list() == [sample["doc_id"] for sample in theirs]
        assert items["item_hash"].to_list() == [sample["doc_hash"] for sample in theirs]
        for row, sample in zip(items.to_dicts(), theirs, strict=True):
            answered = sample["filtered_resps"]
            assert row["log_probs"] == pytest.approx([pair[0] for pair in answered], abs=1e-4)
            assert row["is_greedy"] == [pair[1] for pair in answered]
            assert row["acc"] == sample["acc"]
            assert row["acc_norm"] == sample.get("acc_norm")
        result, summary = ours[name], harness["results"][name]
        metric = result["metric"]
        assert metric == ("acc_norm" if "acc_norm,none" in summary else "acc")
        assert result["accuracy"] == pytest.approx(summary[f"{metric},none"])
        assert result["standard_error"] == pytest.approx(summary[f"{metric}_stderr,none"])


@pytest.mark.parametrize("num_fewshot", [0, 2])
def test_our_numbers_are_the_harness_own(model, tokenizer, rows, tmp_path, num_fewshot):
    outcome = evaluate_tasks(
        scorer(model), tokenizer, asked("all", rows, num_fewshot), tmp_path / "ours"
    )
    theirs = ask_harness(model, tokenizer, NINE, rows, tmp_path / "theirs", num_fewshot)
    check_equal(tmp_path / "ours", outcome, theirs, NINE)
    assert bool(outcome.counts["cut"]) == (num_fewshot > 0)


@pytest.mark.parametrize("family", ["mamba", "gpt_neox"])
def test_so_they_are_for_other_families(family, tokenizer, rows, tmp_path):
    names, model = ["lambada_openai", "arc_challenge"], tiny_model(family, len(tokenizer), 96)
    config = asked(names, rows, 1, limit=4)
    outcome = evaluate_tasks(scorer(model), tokenizer, config, tmp_path / "ours")
    theirs = ask_harness(model, tokenizer, names, rows, tmp_path / "theirs", 1, limit=4)
    check_equal(tmp_path / "ours", outcome, theirs, names)


@pytest.mark.shared_data
@pytest.mark.parametrize("num_fewshot", [0, 1])
def test_so_they_are_on_the_real_items(shared_data, tmp_path, num_fewshot):
    folder, names = shared_data / "tasks", [name for name in NINE if name != "storycloze"]
    tokenizer = load_tokenizer(shared_data / "tokenizers" / "gpt-neox-20b")
    model = tiny_model("llama", len(tokenizer), 160)
    config = asked("all", folder, num_fewshot, limit=6)
    outcome = evaluate_tasks(scorer(model), tokenizer, config, tmp_path / "ours")
    assert set(outcome.facts["tasks"]["left_out"]) == {"storycloze"}
    theirs = ask_harness(model, tokenizer, names, folder, tmp_path / "theirs", num_fewshot, limit=6)
    check_equal(tmp_path / "ours", outcome, theirs, names)


@pytest.mark.parametrize("marks", [True, False])
def test_a_mark_is_in_front_where_the_tokenizer_puts_one(rows, tmp_path, marks):
    tokenizer = load_tokenizer(sentencepiece_like(tmp_path / "tokenizer", bos=True))
    if not marks:
        put_no_marks(tokenizer)  # as a student's saved tokenizer
    model = tiny_model("llama", len(tokenizer), 400)
    found = HarnessModel(model, tokenizer).tok_encode("the cat")
    assert (found[0] == tokenizer.bos_token_id) == marks
    outcome = evaluate_tasks(
        scorer(model), tokenizer, asked(["winogrande"], rows), tmp_path / "ours"
    )
    theirs = ask_harness(model, tokenizer, ["winogrande"], rows, tmp_path / "theirs", 0)
    check_equal(tmp_path / "ours", outcome, theirs, ["winogrande"])


def test_a_tokenizer_of_another_model_is_refused(rows, tmp_path, tokenizer):
    small = tiny_model("llama", 64)
    with pytest.raises(ModelError, match="embeddings of 64: they do not belong together"):
        evaluate_tasks(scorer(small), tokenizer, asked(["piqa"], rows), tmp_path)


def test_damaged_weights_are_told(tokenizer, rows, tmp_path):
    broken = tiny_model("llama", len(tokenizer))
    with torch.no_grad():
        broken.model.embed_tokens.weight[:] = float("nan")
    with pytest.raises(ModelError, match="not finite"):
        evaluate_tasks(scorer(broken), tokenizer, asked(["piqa"], rows), tmp_path)


def results_of(folder, outcome):
    items = {path.name: path.read_bytes() for path in sorted(folder.rglob("*.parquet"))}
    return items, outcome


def test_a_stopped_evaluation_goes_on_with_the_task_it_was_at(
    model, tokenizer, rows, tmp_path, monkeypatch
):
    config, ask = asked(["piqa", "arc_easy", "winogrande"], rows), tasks.ask_items
    begun = []

    def stopped(*given):
        begun.append(given[2])
        if len(begun) == 2:
            raise KeyboardInterrupt
        return ask(*given)

    monkeypatch.setattr(tasks, "ask_items", stopped)
    with pytest.raises(KeyboardInterrupt):
        evaluate_tasks(scorer(model), tokenizer, config, tmp_path / "stopped")
    resumed = evaluate_tasks(scorer(model), tokenizer, config, tmp_path / "stopped")
    assert begun == ["winogrande", "arc_easy", "arc_easy", "piqa"]
    straight = evaluate_tasks(scorer(model), tokenizer, config, tmp_path / "straight")
    assert results_of(tmp_path / "stopped", resumed) == results_of(tmp_path / "straight", straight)


def test_items_are_asked_again_where_anything_they_depend_on_changed(
    model, tokenizer, tmp_path, monkeypatch
):
    rows, begun, ask = write_tasks(tmp_path / "rows", ["piqa", "arc_easy"]), [], tasks.ask_items
    monkeypatch.setattr(tasks, "ask_items", lambda *given: begun.append(given[2]) or ask(*given))

    def evaluate(fingerprint="fingerprint", **changes):
        begun.clear()
        config = asked(["piqa", "arc_easy"], rows).model_copy(update=changes)
        named = ScoringModel(model, "tiny", fingerprint, "float32")
        evaluate_tasks(named, tokenizer, config, tmp_path / "out")
        return list(begun)

    assert evaluate() == ["arc_easy", "piqa"]
    assert evaluate() == []
    assert evaluate(tasks_limit=3) == ["arc_easy", "piqa"]
    assert evaluate(num_fewshot=1) == ["arc_easy", "piqa"]
    write_task(rows, "arc_easy", split="validation", seed=5)
    assert evaluate(num_fewshot=1) == ["arc_easy"]
    assert evaluate("another", num_fewshot=1) == ["arc_easy", "piqa"]


def test_nothing_goes_to_the_network_and_nothing_is_said(
    model, tokenizer, rows, tmp_path, monkeypatch, capfd
):
    def refuse(*given):
        raise AssertionError(f"the network is asked for: {given}")

    for name in ("create_connection", "getaddrinfo"):
        monkeypatch.setattr(socket, name, refuse)
    monkeypatch.setattr(socket.socket, "connect", refuse)
    evaluate_tasks(scorer(model), tokenizer, asked("all", rows, 1), tmp_path)
    assert capfd.readouterr() == ("", "")


def test_the_harness_is_imported_only_where_tasks_are_asked():
    code = (
        "import sys, miniplm.cli, miniplm.pipeline, miniplm.evaluation.measure\n"
        "import miniplm.evaluation.task_tables\n"
        "print('lm_eval' in sys.modules)"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout.strip() == "False"


@pytest.mark.parametrize(
    ("label", "told"), [(2, "its answer is 2 and it has 2 choices"), (-1, "its answer is -1")]
)
def test_an_answer_that_is_no_choice_is_an_error(model, tokenizer, tmp_path, label, told):
    row = {"goal": "a", "sol1": "the cat", "sol2": "a dog", "label": 0}
    lines = [json.dumps(row), json.dumps({**row, "label": label})]
    (tmp_path / "piqa.jsonl").write_text("\n".join(lines))
    with pytest.raises(DocumentError, match=f"piqa, item 1: {told}"):
        evaluate_tasks(scorer(model), tokenizer, asked(["piqa"], tmp_path), tmp_path / "out")


def test_items_that_the_prompts_cannot_use_are_told(model, tokenizer, tmp_path):
    row = {"question": "a", "choices": ["b", "c"], "answerKey": "A"}
    (tmp_path / "arc_easy.jsonl").write_text(json.dumps(row))
    with pytest.raises(DocumentError, match=r"arc_easy.jsonl: its items are not what"):
        evaluate_tasks(scorer(model), tokenizer, asked(["arc_easy"], tmp_path), tmp_path / "out")
    path = write_task(tmp_path, "winogrande", 2)
    first, second = path.read_text().splitlines()
    path.write_text("\n".join([first, second.replace("_", "")]))
    with pytest.raises(DocumentError, match="winogrande, item 1: substring not found"):
        evaluate_tasks(scorer(model), tokenizer, asked(["winogrande"], tmp_path), tmp_path / "o")


def hub_of(rows):
    """What `datasets.load_dataset` gives of the hub, made of local rows."""
    from datasets import Dataset, DatasetDict

    def load(path, **_):
        task = path.split("/")[1]
        read = [json.loads(line) for line in (rows / f"{task}.jsonl").read_text().splitlines()]
        splits = ("train", "validation") if task == "hellaswag" else ("test",)
        return DatasetDict({split: Dataset.from_list(read) for split in splits})

    return load


def test_without_a_folder_items_are_those_of_the_hub(model, tokenizer, rows, tmp_path, monkeypatch):
    monkeypatch.setattr("datasets.load_dataset", hub_of(rows))
    names = ["hellaswag", "lambada_openai"]
    hub = evaluate_tasks(scorer(model), tokenizer, asked(names), tmp_path / "hub")
    local = evaluate_tasks(scorer(model), tokenizer, asked(names, rows), tmp_path / "local")
    assert hub == local
    solved = evaluate_tasks(scorer(model), tokenizer, asked(names, None, 1), tmp_path / "solved")
    assert [task["examples_from"] for task in solved.facts["tasks"]["tasks"]] == ["hub", "hub"]


def test_a_hub_out_of_reach_is_told(model, tokenizer, tmp_path, monkeypatch):
    def unreachable(*_, **__):
        raise ConnectionError("offline")

    monkeypatch.setattr("datasets.load_dataset", unreachable)
    with pytest.raises(DocumentError, match=r"Rowan/hellaswag\) from the hub: offline. Give a fol"):
        evaluate_tasks(scorer(model), tokenizer, asked(["hellaswag"]), tmp_path)


def test_a_damaged_file_of_items_is_asked_again(model, tokenizer, rows, tmp_path):
    config = asked(["piqa"], rows)
    first = evaluate_tasks(scorer(model), tokenizer, config, tmp_path)
    path = items_path(tmp_path, "piqa")
    path.write_bytes(path.read_bytes()[:100])
    with pytest.raises(ArtefactError):
        read_items(path)
    assert evaluate_tasks(scorer(model), tokenizer, config, tmp_path) == first


def test_results_are_plain_numbers(model, tokenizer, rows, tmp_path):
    outcome = evaluate_tasks(scorer(model), tokenizer, asked("all", rows), tmp_path)
    fact = json.loads(json.dumps(outcome.facts["tasks"], allow_nan=False))
    assert TaskResults(**fact).harness == metadata.version("lm_eval")
    assert outcome.counts == {"items": 63, "tasks": 9, "tasks_left_out": 0, "cut": 0}
    assert math.isfinite(outcome.flops)
