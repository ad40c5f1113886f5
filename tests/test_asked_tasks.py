"""Which tasks are asked for, where their items come from, and what is wrong with that."""

from importlib import metadata

import pytest

from made_up_tasks import asked, write_task, write_tasks
from miniplm.errors import ConfigError, DocumentError
from miniplm.evaluation.asked_tasks import asked_tasks, check_tasks
from miniplm.evaluation.harness import build_task, quiet_harness
from miniplm.evaluation.task_files import TaskSource


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


def test_a_missing_harness_is_told_with_what_to_install(tmp_path, monkeypatch):
    rows = write_tasks(tmp_path, ["piqa"])

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
