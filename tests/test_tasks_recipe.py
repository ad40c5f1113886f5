"""Tasks in a run and in its plan, and several models measured with one command."""

import json
import re
import shutil

import pytest
from click.testing import CliRunner

from conftest import tiny_model, tiny_recipe
from made_up_tasks import asked, tokenizer_for_tasks, write_tasks
from miniplm.cli import main
from miniplm.errors import ConfigError, ModelError
from miniplm.evaluation import tasks
from miniplm.evaluation.measure import RESULTS_NAME, add_results, measure_tasks
from miniplm.evaluation.measured_models import measured_models, short_names
from miniplm.evaluation.task_results import read_task_results
from miniplm.evaluation.task_tables import items_path, read_items
from miniplm.pipeline import run
from miniplm.planning import make_plan
from miniplm.planning.tasks import tasks_cost
from miniplm.preflight import preflight
from miniplm.recipe import make_recipe
from miniplm.road.road import Road

NAMES = ["winogrande", "piqa"]


@pytest.fixture(scope="module")
def rows(tmp_path_factory):
    return write_tasks(tmp_path_factory.mktemp("rows"), NAMES)


def recipe(corpus_folder, run_dir, rows, **evaluation):
    content = tiny_recipe(corpus_folder, run_dir)
    content["evaluation"] = {"tasks": NAMES, "tasks_dir": str(rows), **evaluation}
    return make_recipe(content, "test")


@pytest.fixture(scope="module")
def finished(corpus_folder, rows, tmp_path_factory):
    made = recipe(corpus_folder, tmp_path_factory.mktemp("run") / "tiny", rows)
    run(made)
    return made


def test_every_model_is_asked_and_the_road_ends_with_the_report(finished):
    road = Road(finished)
    assert all(step.is_complete for step in road.steps)
    asked_steps = [step for step in road.steps if step.name.startswith("tasks/")]
    assert [step.instance for step in asked_steps] == [
        "teacher", "reference", "plain", "miniplm",
    ]  # fmt: skip
    assert {step.kind for step in asked_steps} == {"evaluate"}
    for step in asked_steps:
        results = read_task_results(step.folder)
        assert [task.task for task in results.tasks] == NAMES
        assert (results.chance, results.num_fewshot, results.limit) == (0.5, 0, None)
        items = read_items(items_path(step.folder, "piqa"))
        assert items["acc_norm"].mean() == pytest.approx(results.tasks[1].accuracy)
    assert read_task_results(road.run_dir / "tasks/nobody") is None


def test_a_report_shows_the_tasks_that_its_recipe_asks(finished, corpus_folder, rows, tmp_path):
    """What was asked for an earlier recipe, perhaps of other students, is not shown."""
    run_dir = shutil.copytree(finished.run_dir, tmp_path / "run")
    asked_then = json.loads((run_dir / "report/results.json").read_text())["tasks"]
    assert {each["task"] for each in asked_then["results"]} == {*NAMES, "average of 2"}
    run(recipe(corpus_folder, run_dir, rows, tasks=[]))
    assert (run_dir / "tasks/plain/manifest.json").exists()
    assert json.loads((run_dir / "report/results.json").read_text())["tasks"] is None


def test_a_single_item_has_no_standard_error_on_the_page(finished, corpus_folder, rows, tmp_path):
    run_dir = shutil.copytree(finished.run_dir, tmp_path / "run")
    run(recipe(corpus_folder, run_dir, rows, tasks=["piqa"], tasks_limit=1))
    shown = json.loads((run_dir / "report/results.json").read_text())["tasks"]
    assert {each["standard_error"] for each in shown["results"]} == {None}
    assert shown["differences"] == []


def states(made):
    return {step.name: step.state for step in make_plan(made).steps}


def test_what_is_asked_changes_no_other_stage(finished, corpus_folder, rows):
    unchanged = recipe(corpus_folder, finished.run_dir, rows, tasks_dir=str(rows))
    assert set(states(unchanged).values()) == {"complete"}
    again = recipe(corpus_folder, finished.run_dir, rows, num_fewshot=1)
    redone = {name for name, state in states(again).items() if state == "again"}
    assert redone == {*(f"tasks/{name}" for name in again.students), "report",
                      "tasks/teacher", "tasks/reference"}  # fmt: skip
    fewer = recipe(corpus_folder, finished.run_dir, rows, tasks=["piqa"], tasks_limit=3)
    assert states(fewer)["tasks/plain"] == "again"
    none = recipe(corpus_folder, finished.run_dir, rows, tasks=[])
    assert {name for name, state in states(none).items() if state != "complete"} == {"report"}


def test_a_folder_may_move_with_its_files(finished, corpus_folder, rows, tmp_path):
    moved = tmp_path / "moved"
    shutil.copytree(rows, moved)  # with their times
    made = recipe(corpus_folder, finished.run_dir, moved)
    assert states(made)["tasks/plain"] == "complete"
    (moved / "piqa.jsonl").write_text((moved / "piqa.jsonl").read_text() + "\n")
    assert states(made)["tasks/plain"] == "again"


def test_one_model_is_asked_alone(finished, corpus_folder, rows):
    made = recipe(corpus_folder, finished.run_dir, rows, tasks_limit=2)
    manifests = run(made, kinds=["evaluate"], only="plain")
    assert [manifest.stage for manifest in manifests] == ["evaluate/plain", "tasks/plain"]
    assert manifests[1].counts["items"] == 4
    run(finished)  # what was there comes back


def test_faults_are_told_before_any_work(corpus_folder, rows, tmp_path):
    made = recipe(corpus_folder, tmp_path, rows, tasks=["piqa", "hellaswag"])
    with pytest.raises(ConfigError, match=r"hellaswag: no hellaswag\.jsonl in") as error:
        preflight(made)
    assert "there: winogrande, piqa" in str(error.value)
    with pytest.raises(ConfigError, match="did you mean 'piqa'"):
        recipe(corpus_folder, tmp_path, rows, tasks=["piq"])


def test_a_released_teacher_needs_a_tokenizer_of_its_own(corpus_folder, rows, tmp_path):
    tiny_model(vocab_size=384, max_length=64).save_pretrained(tmp_path / "teacher")
    tokenizer_for_tasks(tmp_path / "tokenizer")
    content = tiny_recipe(corpus_folder, tmp_path / "run")
    content |= {
        "teacher": {"name": str(tmp_path / "teacher")},
        "tokenizer": {"name": str(tmp_path / "tokenizer")},
        "evaluation": {"tasks": NAMES, "tasks_dir": str(rows)},
    }
    with pytest.raises(ConfigError, match="teacher, for tasks: cannot load the tokenizer"):
        preflight(make_recipe(content, "test"))
    shutil.copytree(tmp_path / "tokenizer", tmp_path / "teacher", dirs_exist_ok=True)
    made = make_recipe(content, "test")
    preflight(made)
    step = Road(made).step("tasks/teacher")
    assert step.needs == ()  # it can be asked before anything else is done
    outcome = step.work(tmp_path / "asked")
    assert outcome.counts["items"] == 14


def test_a_plan_grows_with_what_is_asked(corpus_folder, rows, tmp_path):
    from miniplm.planning.basis import Basis

    def cost(**evaluation):
        made = recipe(corpus_folder, tmp_path, rows, **evaluation)
        return tasks_cost(Basis(made, Road(made)), "plain")

    whole = cost()
    assert whole.note.startswith("14 items of 2 tasks")
    assert whole.flops > 0
    assert cost(tasks_limit=1).num_tokens == pytest.approx(whole.num_tokens / 7)
    longest = 14 * 2 * 64  # choices, cut to what the model serves
    assert whole.num_tokens <= cost(num_fewshot=5).num_tokens == longest
    hub = cost(tasks="all", tasks_dir=None)
    assert hub.num_tokens > 100 * whole.num_tokens


@pytest.fixture(scope="module")
def models(tmp_path_factory):
    folder = tmp_path_factory.mktemp("models")
    for seed, name in enumerate(("a", "b")):
        tokenizer = tokenizer_for_tasks(folder / name / "model")
        tiny_model("qwen2", len(tokenizer), 96, seed).save_pretrained(folder / name / "model")
    return [str(folder / name / "model") for name in ("a", "b")]


def call(*words):
    return CliRunner().invoke(main, ["measure", *map(str, words)])


def test_models_are_measured_side_by_side_and_not_twice(models, rows, tmp_path, monkeypatch):
    words = [*models, "--tasks", "all", "--tasks-dir", rows, "--out", tmp_path, "--limit", 5]
    first = call(*words)
    assert first.exit_code == 0, first.output
    accuracies, differences = first.output.split("Points more than a on the same items")
    table = {line.split("│")[1].strip(): line for line in accuracies.splitlines() if "│" in line}
    assert [task in differences for task in table] == [True] * 3
    assert list(table) == ["winogrande", "piqa", "average of 2"]
    assert re.search(r"│\s+50\.0 │$", table["piqa"])  # chance
    assert re.search(r"┃\s+a ┃\s+b ┃ chance ┃", first.output)
    kept = json.loads((tmp_path / RESULTS_NAME).read_text())["tasks"]
    assert list(kept) == models
    assert set(kept[models[0]]["left_out"]) >= {"hellaswag", "storycloze"}
    assert len(list(tmp_path.rglob("*.parquet"))) == 4

    monkeypatch.setattr(tasks, "ask_items", None)  # nobody is asked again
    again = call(*words)
    assert again.exit_code == 0
    assert again.output.endswith(first.output[first.output.index("┏") :])
    assert json.loads((tmp_path / RESULTS_NAME).read_text())["tasks"] == kept


def test_measuring_is_stopped_and_goes_on(models, rows, tmp_path, monkeypatch):
    config, ask, begun = asked(NAMES, rows), tasks.ask_items, []

    def stopped(*given):
        begun.append(given[2])
        if len(begun) == 2:
            raise KeyboardInterrupt
        return ask(*given)

    monkeypatch.setattr(tasks, "ask_items", stopped)
    with pytest.raises(KeyboardInterrupt):
        measure_tasks(measured_models(models), config, tmp_path / "stopped")
    resumed = measure_tasks(measured_models(models), config, tmp_path / "stopped")
    assert begun == ["winogrande", "piqa", "piqa", "winogrande", "piqa"]
    assert resumed == measure_tasks(measured_models(models), config, tmp_path / "straight")


def test_a_task_more_is_asked_alone_and_one_less_leaves_no_items(
    models, rows, tmp_path, monkeypatch
):
    ask, begun = tasks.ask_items, []
    monkeypatch.setattr(tasks, "ask_items", lambda *given: begun.append(given[2]) or ask(*given))
    [model] = measured_models(models[:1])
    few = measure_tasks([model], asked(["piqa"], rows), tmp_path)
    both = measure_tasks([model], asked(NAMES, rows), tmp_path)
    assert begun == ["piqa", "winogrande"]
    [kept] = [each for each in both[model.name].tasks if each.task == "piqa"]
    assert (kept,) == few[model.name].tasks
    folder = tmp_path / "tasks" / model.folder_name
    measure_tasks([model], asked(["winogrande"], rows), tmp_path)
    assert begun == ["piqa", "winogrande"]
    assert [path.stem for path in (folder / "items").iterdir()] == ["winogrande"]
    measure_tasks([model], asked(NAMES, rows), tmp_path)  # comes back from where it was set aside
    assert len(list((folder / "items").iterdir())) == 2
    measure_tasks([model], asked(["piqa"], rows, limit=3), tmp_path)
    assert begun == ["piqa", "winogrande", "piqa"]


def test_figures_of_other_measurements_stay(tmp_path):
    add_results(tmp_path, "text", {"a": 1})
    add_results(tmp_path, "tasks", {"a": 2})
    add_results(tmp_path, "tasks", {"b": 3})
    assert json.loads((tmp_path / RESULTS_NAME).read_text()) == {
        "text": {"a": 1}, "tasks": {"a": 2, "b": 3},
    }  # fmt: skip


def test_mistakes_are_told_plainly(models, rows, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    assert "say what to measure" in call(models[0]).output
    assert "did you mean 'piqa'" in call(models[0], "--tasks", "pika").output
    assert not list(tmp_path.iterdir())  # no folder of results for a question that was none
    options = ("--tasks", "piqa", "--tasks-dir", rows, "--out", tmp_path)
    assert "cannot read the config of 'nobody/nothing'" in call("nobody/nothing", *options).output
    assert not list(tmp_path.rglob("*.parquet"))
    with pytest.raises(ModelError):
        measured_models([str(tmp_path)])


def test_short_names_tell_models_apart():
    assert short_names(["x/a/model", "x/b/model"]) == ["a", "b"]
    assert short_names(["x/a/model", "b"]) == ["x/a/model", "b"]
    assert short_names(["gpt2"]) == ["gpt2"]
    assert short_names(["x/a", "x/a/b", "x/b"]) == ["a", "a/b", "b"]
