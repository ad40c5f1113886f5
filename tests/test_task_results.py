"""Accuracies, their standard errors and the table, worked by hand."""

import polars as pl
import pyarrow as pa
import pytest

from miniplm.errors import ArtefactError
from miniplm.evaluation.task_results import TaskResult, task_result, task_results
from miniplm.evaluation.task_table import difference_lines, task_lines
from miniplm.evaluation.task_tables import ITEM_SCHEMA, items_path, write_items


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


def write_answers(folder, task, acc, *, hashes=None):
    rows = [
        {"task": task, "item": place, "item_hash": (hashes or "abcdef")[place], "acc": value}
        for place, value in enumerate(acc)
    ]
    write_items(items_path(folder, task), pa.Table.from_pylist(rows, schema=ITEM_SCHEMA), "made")


def test_differences_are_over_the_same_items(tmp_path):
    one, other = tmp_path / "a", tmp_path / "b"
    write_answers(one, "arc_easy", [1.0, 0.0] * 3)
    write_answers(other, "arc_easy", [1.0] * 6)
    for folder in (one, other):
        write_answers(folder, "piqa", [1.0, 0.0, 1.0])
    results = some_results(some_result("arc_easy", 0.5, 0.1), some_result("piqa", 0.5, 0.1))
    found = {"runs/a/model": results, "runs/b/model": results}
    folders = {"runs/a/model": one, "runs/b/model": other}
    heading, arc, piqa, average = difference_lines(found, folders)
    assert heading == ["task", "b"]
    assert arc == ["arc_easy", "+50.0 [+16.7, +83.3]"]
    assert piqa == ["piqa", "+0.0"]  # too few items for an interval
    assert average == ["average of 2", "+25.0 [+8.3, +41.7]"]
    write_answers(other, "piqa", [1.0, 0.0, 1.0], hashes="abx")
    with pytest.raises(ArtefactError, match="were asked other items of piqa"):
        difference_lines(found, folders)
