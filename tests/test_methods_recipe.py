"""Every method through a recipe: one run, one table, and what a recipe cannot ask for."""

import json
from collections import Counter

import pytest

from conftest import tiny_recipe
from miniplm.errors import ConfigError
from miniplm.pipeline import run
from miniplm.preflight import preflight
from miniplm.presets import methods
from miniplm.recipe import make_recipe
from miniplm.road.road import Road

FLOPS = 1.2e9
"""Some ten steps of plain training."""


def content(corpus_folder, run_dir):
    """The tiny recipe with the students, captures and generations of the preset."""
    made, preset = tiny_recipe(corpus_folder, run_dir), methods()
    shape = made["students"]["plain"]["shape"]
    made["training"] = {**made["training"], "budget": {"flops": FLOPS}}
    made["scoring"] = {"dtype": "float32", "per_token": True}
    made["captures"] = {
        name: {**capture, "entries": 8} for name, capture in preset["captures"].items()
    }
    made["generations"] = {
        "written": {"prompts": "candidates", "prompt_tokens": 16, "tokens": 2_000}
    }
    made["students"] = {
        name: {**student, "shape": shape} for name, student in preset["students"].items()
    }
    made["students"]["minillm"]["training"] = {
        "method": "minillm", "on_policy": {"prompt_tokens": 48, "new_tokens": 16}
    }  # fmt: skip
    return made


@pytest.fixture(scope="module")
def finished(corpus_folder, tmp_path_factory):
    run_dir = tmp_path_factory.mktemp("methods") / "run"
    recipe = make_recipe(content(corpus_folder, run_dir), "test")
    return recipe, run(recipe)


def metrics(recipe, student):
    path = f"{recipe.run_dir}/train/{student}/metrics.jsonl"
    with open(path, encoding="utf-8") as file:  # noqa: PTH123
        return [json.loads(line) for line in file]


def test_all_start_from_the_same_weights_and_have_the_same_training_flops(finished):
    recipe, manifests = finished
    flops = {m.stage: m.flops for m in manifests if m.stage.startswith("train/")}
    starts = {metrics(recipe, student)[0]["held_out_loss"] for student in recipe.students}
    assert len(starts) == 1
    for student in recipe.students:
        steps = metrics(recipe, student)[-1]["step"]
        assert steps > 1
        assert abs(flops[f"train/{student}"] - FLOPS) <= 0.51 * FLOPS / (steps - 0.5) + 0.03 * FLOPS
    assert Counter(recipe.student_training(s).method for s in recipe.students)["plain"] == 6


def test_a_second_run_skips_everything(finished):
    recipe, manifests = finished
    assert run(recipe) == manifests


def test_the_table_has_every_student_with_its_costs(finished):
    recipe, manifests = finished
    heading, *lines = manifests[-1].facts["models"]
    assert {
        "model", "tokens", "training FLOPs", "total FLOPs", "time", "bits per byte"
    } <= set(heading)  # fmt: skip
    rows = {line[0]: dict(zip(heading, line, strict=True)) for line in lines}
    assert set(recipe.students) < set(rows)
    assert rows["seqkd-mixed"]["trained on"] == "70% all candidates and 30% generation 'written'"
    assert rows["miniplm-sparse-kd"]["trained on"] == "selection 'refined', sparse_kd"
    assert rows["dynamic"]["trained on"] == "all candidates, dynamic weights"
    flops = {manifest.stage: manifest.flops or 0.0 for manifest in manifests}
    score = flops["score/teacher"] + flops["score/reference"] + flops["train/reference"]
    builds_on = {
        "plain": 0.0,
        "vanilla-kd": 0.0,
        "minillm": 0.0,
        "miniplm": score,
        "sparse-kd": flops["capture/all"],
        "miniplm-sparse-kd": score + flops["capture/kept"],
        "seqkd": flops["generate/written"],
        "dynamic": flops["score/teacher"],
    }
    for student, before in builds_on.items():
        total = before + flops[f"train/{student}"]
        assert rows[student]["total FLOPs"] == f"{total:.3g}", student


def test_what_students_share_is_divided_among_them(finished):
    recipe, manifests = finished
    flops = {manifest.stage: manifest.flops or 0.0 for manifest in manifests}
    with open(f"{recipe.run_dir}/report/results.json", encoding="utf-8") as file:  # noqa: PTH123
        rows = {model["name"]: model for model in json.load(file)["models"]}
    assert rows["sparse-kd"]["shared_preparation_flops"] == flops["capture/all"]  # alone in it
    written = flops["generate/written"]
    for student in ("seqkd", "seqkd-mixed"):
        assert rows[student]["shared_preparation_flops"] == pytest.approx(written / 2)
    shared = sum(rows[student]["shared_preparation_flops"] for student in recipe.students)
    stages = {stage for student in recipe.students for stage in Road(recipe).foundations(student)}
    assert shared == pytest.approx(sum(flops[stage] for stage in stages))


@pytest.mark.parametrize(
    ("field", "value", "stale"),
    [
        ("kd_ratio", 0.3, {"vanilla-kd", "sparse-kd", "minillm", "miniplm-vanilla-kd",
                           "miniplm-sparse-kd"}),
        ("on_policy", {"prompt_tokens": 48, "new_tokens": 16, "long_term": False}, set()),
        ("decay_share", 0.5, set()),
        ("reweighting", {"temperature": 2.0}, {"static", "repeats", "dynamic"}),
        ("reweighting", {"token_share": 0.5}, {"dynamic-tokens"}),
    ],
)  # fmt: skip
def test_a_dial_redoes_the_students_that_read_it(finished, corpus_folder, field, value, stale):
    recipe, _ = finished
    changed = content(corpus_folder, recipe.run_dir)
    changed["training"][field] = value
    if field == "on_policy":
        stale = {"minillm"}
        changed["students"]["minillm"]["training"]["on_policy"] = value
    road = Road(make_recipe(changed, "test"))
    found = {s.instance for s in road.steps if s.kind == "train" and not s.is_complete}
    assert found == stale


FAULTS = [
    ({"vanilla-kd": {"method": "vanila_kd"}}, "students.vanilla-kd.training.method"),
    ({"vanilla-kd": {"method": "vanilla_kd", "capture": "all"}},
     "training.capture: only sparse_kd read it, and the method is vanilla_kd"),
    ({"plain": {"on_policy": {"prompt_tokens": 9}}}, "training.on_policy: only minillm read it"),
    ({"sparse-kd": {"method": "sparse_kd"}}, "sparse_kd needs a capture; given None, there is all"),
    ({"sparse-kd": {"method": "sparse_kd", "capture": "kept"}},
     "'kept' belongs to the corpus 'refined', the student is trained on candidates; use all"),
    ({"plain": {"method": "seqkd"}}, r"name a generation in its corpus \(there is writ"),
    ({"seqkd": {"method": "seqkd", "reweighting": {"kind": "static"}}},
     "static goes by scores, which only candidates and selections have"),
    ({"minillm": {"method": "minillm", "parallel": "fsdp"}}, "needs all of it; use ddp"),
    ({"minillm": {"method": "minillm", "reweighting": {"kind": "dynamic"}}},
     "dynamic goes by scores of rows, and minillm writes its own; remove it"),
    ({"dynamic-tokens": {"reweighting": {"kind": "dynamic_tokens", "normalization": "per_byte"}}},
     "single tokens are compared as they are"),
    ({"plain": {"budget": {"tokens": 10, "flops": 10}}}, "found tokens and flops"),
]  # fmt: skip


@pytest.mark.parametrize(("trainings", "message"), FAULTS)
def test_what_a_student_cannot_ask_for_is_told(corpus_folder, tmp_path, trainings, message):
    made = content(corpus_folder, tmp_path)
    for student, training in trainings.items():
        made["students"][student]["training"] = training
    with pytest.raises(ConfigError, match=message):
        make_recipe(made, "test")


@pytest.mark.parametrize(
    ("section", "value", "message"),
    [
        ("scoring", {"per_token": False}, "set scoring.per_token: true"),
        ("scoring", {"placement": "spread", "per_token": True},
         "minillm runs the teacher on the student's device"),
        ("generations", {"written": {"prompts": "written"}}, "there is no 'written'; choose one"),
        ("generations", {"refined": {}, "written": {}}, "there is a selection of this name"),
        ("captures", {"all": {"corpus": "other"}, "kept": {}}, "captures.all.corpus: there is no"),
    ],
)  # fmt: skip
def test_what_the_sections_cannot_ask_for_is_told(corpus_folder, tmp_path, section, value, message):
    with pytest.raises(ConfigError, match=message):
        make_recipe({**content(corpus_folder, tmp_path), section: value}, "test")


@pytest.mark.parametrize(
    ("corpus", "message"),
    [
        ({"written": 0.5, "candidates": 0.4}, "add up to 1"),
        ({"written": 0.00004, "candidates": 0.99996}, r"at least 0\.0001"),
        ("nothing", "there is no 'nothing'; choose one of candidates, refined, written"),
    ],
)
def test_mixtures_are_whole(corpus_folder, tmp_path, corpus, message):
    made = content(corpus_folder, tmp_path)
    made["students"]["seqkd-mixed"]["corpus"] = corpus
    with pytest.raises(ConfigError, match=message):
        make_recipe(made, "test")


def test_prompts_have_to_leave_room_before_any_work(corpus_folder, tmp_path):
    made = content(corpus_folder, tmp_path)
    made["students"]["minillm"]["training"]["on_policy"] = {"prompt_tokens": 65}
    made["generations"]["written"] = {"prompt_tokens": 60, "new_tokens": 10}
    with pytest.raises(ConfigError) as caught:
        preflight(make_recipe(made, "test"))
    first, second = caught.value.faults
    assert "students.minillm.training.on_policy: prompt_tokens 65 and at least one new" in first
    assert "generations.written: prompt_tokens 60 and new_tokens 10 make 70 ids" in second
