"""The nine tasks: our numbers are the harness's, item by item, and nothing is done twice."""

import json
import math
import socket
import subprocess
import sys
from importlib import metadata

import numpy as np
import polars as pl
import pytest
import torch

from conftest import tiny_model
from made_up_tasks import ask_harness, tokenizer_for_tasks, write_task, write_tasks
from made_up_tokenizers import sentencepiece_like
from miniplm.data.tokenizer import load_tokenizer, put_no_marks
from miniplm.errors import ArtefactError, ConfigError, DocumentError, ModelError
from miniplm.evaluation import continuations, tasks
from miniplm.evaluation.asked_tasks import asked_tasks, check_tasks
from miniplm.evaluation.config import NINE, EvaluationConfig
from miniplm.evaluation.continuation_windows import windows_of
from miniplm.evaluation.continuations import Limits, answers
from miniplm.evaluation.harness import build_task, quiet_harness
from miniplm.evaluation.harness_model import HarnessModel
from miniplm.evaluation.task_files import TaskSource
from miniplm.evaluation.task_results import TaskResult, TaskResults, task_result, task_results
from miniplm.evaluation.task_table import task_lines
from miniplm.evaluation.task_tables import ITEM_SCHEMA, items_path, read_items
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


def asked(tasks="all", rows=None, num_fewshot=0, limit=None):
    return EvaluationConfig(
        tasks=tasks, tasks_dir=rows and str(rows), num_fewshot=num_fewshot, tasks_limit=limit
    )


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


def by_logits(model, context, continuation):
    ids = torch.tensor([[*context, *continuation]])
    with torch.no_grad():
        log_probs_TV = model(ids[:, :-1]).logits[0].log_softmax(dim=-1)
    places = range(len(context) - 1, ids.shape[1] - 1)
    picked = [log_probs_TV[place, ids[0, place + 1]].item() for place in places]
    greedy = [log_probs_TV[place].argmax() == ids[0, place + 1] for place in places]
    return sum(picked), all(greedy)


def random_pairs(count):
    generator = np.random.default_rng(3)
    lengths = generator.integers(1, 20, (count, 2))
    return [[generator.integers(1, 128, n).tolist() for n in pair] for pair in lengths]


@pytest.mark.parametrize("batch_tokens", [1, 50, 10_000])
def test_log_probabilities_are_those_of_the_logits_whatever_the_batch(batch_tokens):
    model, pairs, seen = tiny_model("llama"), random_pairs(12), []
    found = answers(model, [*pairs, pairs[0]], Limits(64, batch_tokens), seen.append)
    for answer, pair in zip(found, pairs, strict=False):
        log_prob, greedy = by_logits(model, *pair)
        assert answer.log_prob == pytest.approx(log_prob, abs=1e-4)
        assert (answer.is_greedy, answer.is_cut) == (greedy, False)
        assert answer.num_positions == len(pair[0]) + len(pair[1]) - 1
        assert answer.num_targets == len(pair[1])
    assert found[-1] == found[0]  # the very same text
    assert sum(seen) == 12


def test_a_greedy_continuation_is_known():
    model = tiny_model("llama")
    ids = [5, 9]
    for _ in range(3):
        ids.append(int(model(torch.tensor([ids])).logits[0, -1].argmax()))
    greedy, other = answers(
        model, [(ids[:2], ids[2:]), (ids[:2], [*ids[2:4], ids[4] ^ 1])], Limits(64, 100), len_of
    )
    assert (greedy.is_greedy, other.is_greedy) == (True, False)


def len_of(_):
    """Progress, not looked at."""


def test_what_does_not_fit_is_cut_on_the_left():
    model = tiny_model("llama")
    context, continuation = list(range(1, 30)), [40, 41, 42]
    (cut,) = answers(model, [(context, continuation)], Limits(16, 100), len_of)
    assert cut.is_cut
    assert cut.log_prob == pytest.approx(by_logits(model, context[-14:], continuation)[0], abs=1e-4)


def test_a_choice_longer_than_the_context_is_read_in_parts():
    model, context, continuation = tiny_model("llama"), [1, 2, 3], list(range(4, 54))
    windows = windows_of(context, continuation, 16)
    assert sum(window.num_targets for window in windows) == 50
    assert max(len(window.ids) for window in windows) == 17
    assert windows[0].ids[-8:] == tuple(range(4, 12))
    (found,) = answers(model, [(context, continuation)], Limits(16, 64), len_of)
    expected = sum(
        by_logits(model, w.ids[: -w.num_targets], w.ids[-w.num_targets :])[0] for w in windows
    )
    assert found.log_prob == pytest.approx(expected, abs=1e-3)
    assert (found.is_cut, found.num_targets) == (True, 50)


def test_batches_are_halved_where_memory_runs_out(monkeypatch):
    model, pairs, tried = tiny_model("llama"), random_pairs(8), []
    straight = answers(model, pairs, Limits(64, 1000), len_of)
    whole = continuations.hidden_states

    def small_device(model, ids_BT):
        tried.append(ids_BT.numel())
        if ids_BT.numel() > 60:
            raise torch.OutOfMemoryError
        return whole(model, ids_BT)

    monkeypatch.setattr(continuations, "hidden_states", small_device)
    for halved, answer in zip(
        answers(model, pairs, Limits(64, 1000), len_of), straight, strict=True
    ):
        assert halved.log_prob == pytest.approx(answer.log_prob, abs=1e-4)
    assert max(tried) > 60
    with pytest.raises(ModelError, match="no memory for a single item of 61 tokens"):
        answers(model, [([1], list(range(61)))], Limits(64, 1000), len_of)


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


def frame(**columns):
    defaults = {
        name: [None] * len(columns["acc"]) for name in ITEM_SCHEMA.names if name not in columns
    }
    return pl.DataFrame({**defaults, **columns, "task": ["arc_easy"] * len(columns["acc"])})


def test_results_by_hand():
    items = frame(
        acc=[1.0, 0.0, 0.0, 0.0], acc_norm=[1.0, 1.0, 0.0, 1.0], is_cut=[True, False, False, False],
        log_probs=[[0.0] * 4, [0.0] * 5, [0.0] * 3, [0.0] * 4],
    )  # fmt: skip
    result = task_result(items, "hub")
    assert (result.metric, result.accuracy, result.acc) == ("acc_norm", 0.75, 0.25)
    assert result.standard_error == pytest.approx(0.25)  # sqrt(0.75 / 3) / 2
    assert result.chance == pytest.approx((1 / 4 + 1 / 5 + 1 / 3 + 1 / 4) / 4)
    assert (result.num_items, result.num_cut) == (4, 1)
    word = task_result(frame(acc=[1.0], is_cut=[False], log_probs=[[-1.0]]), "")
    assert (word.metric, word.chance) == ("acc", 0.0)
    assert (word.standard_error, word.acc_norm) == (None, None)


def some_result(task, accuracy, error, chance=0.25, cut=0):
    return TaskResult(task, "acc", accuracy, error, chance, accuracy, None, 10, cut)


def some_results(*results):
    return task_results(results, 0, None, {}, "0")


def test_the_average_and_its_standard_error_by_hand():
    results = some_results(some_result("piqa", 0.5, 0.03), some_result("arc_easy", 0.3, 0.04, 0.35))
    assert results.average == pytest.approx(0.4)
    assert results.standard_error == pytest.approx(0.05 / 2)
    assert results.chance == pytest.approx(0.3)
    assert results.average_of == "average of 2"
    unknown = some_results(some_result("piqa", 0.5, 0.03), some_result("arc_easy", 0.3, None))
    assert unknown.standard_error is None


def test_the_table_has_a_line_for_each_task_and_the_average():
    piqa, arc = some_result("piqa", 0.5, 0.03, 0.5, cut=2), some_result("arc_easy", 0.3, 0.04)
    one = some_results(piqa, arc)
    lines = task_lines({"runs/a/model": one, "runs/b/model": one})
    assert lines[0] == ["task", "metric", "items", "a", "b", "chance"]
    assert lines[1] == ["arc_easy", "acc", "10", "30.0 ± 4.0", "30.0 ± 4.0", "25.0"]
    assert lines[3] == ["average of 2", "", "", "40.0 ± 2.5", "40.0 ± 2.5", "37.5"]
    assert lines[4] == ["prompts cut", "", "20", "2", "2", ""]


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


def faults(config):
    with pytest.raises(ConfigError) as error:
        check_tasks(config)
    return "\n".join(error.value.faults)


def test_absent_files_are_told_with_those_that_are_there(tmp_path):
    rows = write_tasks(tmp_path, ["piqa", "winogrande"])
    told = faults(asked(["piqa", "storycloze"], rows))
    assert f"storycloze: no storycloze.jsonl in {rows}; there: winogrande, piqa" in told
    assert "there is no folder" in faults(asked(["piqa"], rows / "none"))
    (tmp_path / "empty").mkdir()
    assert "none of the nine" in faults(asked("all", tmp_path / "empty"))
    some = asked_tasks(asked("all", rows))
    assert [source.task for source in some.sources] == ["winogrande", "piqa"]
    assert len(some.left_out) == 7


def test_storycloze_is_not_on_the_hub():
    assert "on request only" in faults(asked(["storycloze"]))
    assert list(asked_tasks(asked("all")).left_out) == ["storycloze"]


def test_misspelt_tasks_are_told_with_the_nearest():
    with pytest.raises(ValueError, match="did you mean 'hellaswag'"):
        asked(["hellswag"])
    with pytest.raises(ValueError, match="expected all, or a list of names"):
        asked("hellaswag")
    assert asked(["piqa", "piqa"]).tasks == ["piqa"]


def test_a_missing_harness_is_told_with_what_to_install(rows, monkeypatch):
    def missing(name):
        raise metadata.PackageNotFoundError(name)

    monkeypatch.setattr(metadata, "version", missing)
    assert "pip install 'miniplm[tasks]'" in faults(asked("all", rows))
    check_tasks(asked([]))  # no tasks, no harness


@pytest.mark.parametrize(
    ("text", "told"),
    [
        ('{"goal": "a", "sol1": "b", "sol2": "c", "label": 0}\n{oops', ":2: is not JSON"),
        ('{"goal": "a", "sol1": "b", "label": 0}', ":1: has no sol2"),
        ('["goal"]', ":1: has no goal, sol1, sol2, label"),
        ("\n", "holds no item"),
        (b"\xff", "cannot be read"),
    ],
)
def test_damaged_files_are_told(tmp_path, text, told):
    (tmp_path / "piqa.jsonl").write_bytes(text if isinstance(text, bytes) else text.encode())
    with pytest.raises(DocumentError, match=told):
        check_tasks(asked(["piqa"], tmp_path))


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


def test_solved_examples_come_from_the_best_file_there_is(tmp_path):
    write_task(tmp_path, "piqa", 4)
    own = TaskSource("piqa", tmp_path)
    assert (own.examples_from(0), own.examples_from(2)) == ("", "piqa.jsonl")
    check_tasks(asked(["piqa"], tmp_path, num_fewshot=3))
    assert "piqa.jsonl has 3 beside the item at hand" in faults(asked(["piqa"], tmp_path, 4))
    write_task(tmp_path, "piqa", 2, split="validation")
    assert TaskSource("piqa", tmp_path).examples_from(1) == "piqa-validation.jsonl"
    assert "piqa-validation.jsonl has 2;" in faults(asked(["piqa"], tmp_path, 3))
    write_task(tmp_path, "piqa", 9, split="train")
    check_tasks(asked(["piqa"], tmp_path, num_fewshot=9))


def test_an_item_is_no_example_of_itself(tmp_path):
    write_task(tmp_path, "lambada_openai", 3)
    with quiet_harness():
        task = build_task(TaskSource("lambada_openai", tmp_path), 2)
        for _, doc in task.doc_iterator():
            prompt = task.fewshot_context(doc=doc, num_fewshot=2)
            assert prompt.count(" dog\n\n") == 2
            assert doc["text"] not in prompt


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
