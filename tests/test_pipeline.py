import json
import os
import random
import signal
import subprocess
import sys
import time

import pytest

from conftest import tiny_recipe
from miniplm.errors import ArtefactError, ConfigError, StageNotReadyError
from miniplm.pipeline import Road, preflight, run
from miniplm.planning import make_plan
from miniplm.recipe import make_recipe

STAGES = [
    "tokenize", "train/teacher", "train/reference", "score/teacher", "score/reference",
    "select/refined", "export/refined", "train/plain", "train/miniplm", "evaluate/teacher",
    "evaluate/reference", "evaluate/plain", "evaluate/miniplm", "report",
]  # fmt: skip
UNSTABLE = {"manifest.json", "partial.json", "metrics.jsonl", "index.html", ".lock", "README.md"}


def recipe(corpus_folder, run_dir, **changes):
    return make_recipe({**tiny_recipe(corpus_folder, run_dir), **changes}, "test")


def results(run_dir):
    """Bytes of everything that does not hold times."""
    return {
        str(path.relative_to(run_dir)): path.read_bytes()
        for path in sorted(run_dir.rglob("*"))
        if path.is_file() and path.name not in UNSTABLE and "superseded" not in path.parts
    }


@pytest.fixture(scope="module")
def finished(corpus_folder, tmp_path_factory):
    run_dir = tmp_path_factory.mktemp("run") / "tiny"
    made = recipe(corpus_folder, run_dir)
    return made, run_dir, run(made)


def times(run_dir):
    return {
        str(path.parent.relative_to(run_dir)): path.stat().st_mtime_ns
        for path in run_dir.rglob("manifest.json")
        if "superseded" not in path.parts
    }


def test_the_whole_road_is_walked(finished):
    _, run_dir, manifests = finished
    assert [manifest.stage for manifest in manifests] == STAGES
    assert set(times(run_dir)) == set(STAGES)
    page = (run_dir / "report/index.html").read_text()
    assert "MiniPLM" in page or "miniplm" in page
    lines = [manifests[-1].facts["models"][0], *manifests[-1].facts["models"][1:]]
    assert [line[0] for line in lines[1:]] == ["teacher", "reference", "plain", "miniplm"]


def test_equal_budgets_start_from_equal_weights(finished):
    _, run_dir, _ = finished
    starts = [
        json.loads((run_dir / f"train/{name}/metrics.jsonl").read_text().splitlines()[0])
        for name in ("plain", "miniplm")
    ]
    assert starts[0]["held_out_loss"] == starts[1]["held_out_loss"]


def test_a_second_run_skips_everything(finished):
    made, run_dir, first = finished
    before = times(run_dir)
    assert run(made) == first
    assert times(run_dir) == before


@pytest.mark.parametrize(
    ("change", "redone"),
    [
        ({"selections": {"refined": {"ratio": 0.4}}},
         {"select/refined", "export/refined", "train/miniplm", "evaluate/miniplm", "report"}),
        ({"evaluation": {"dtype": "bfloat16"}},
         {"evaluate/teacher", "evaluate/reference", "evaluate/plain", "evaluate/miniplm",
          "report"}),
        ({"scoring": {"dtype": "float32", "batch_tokens": 100}}, set()),
        ({"name": "another title"}, {"report"}),
    ],
)  # fmt: skip
def test_changing_one_field_redoes_what_depends_on_it_and_going_back_nothing(
    finished, corpus_folder, change, redone
):
    made, run_dir, _ = finished
    before, original = times(run_dir), results(run_dir)
    changed = recipe(corpus_folder, run_dir, **change)
    stale = {step.name for step in Road(changed).steps if not step.is_complete}
    assert stale == redone
    run(changed)
    after = times(run_dir)
    assert {name for name in STAGES if after[name] != before[name]} == redone
    run(made)
    assert times(run_dir) == before
    assert results(run_dir) == original


def test_a_change_of_the_teacher_spares_the_reference(finished, corpus_folder):
    _, run_dir, _ = finished
    content = tiny_recipe(corpus_folder, run_dir)
    content["teacher"]["training"] = {**content["teacher"]["training"], "lr": 0.5}
    stale = {s.name for s in Road(make_recipe(content, "test")).steps if not s.is_complete}
    assert {"train/teacher", "score/teacher", "select/refined", "train/miniplm"} <= stale
    assert not stale & {"train/reference", "score/reference", "train/plain", "evaluate/plain"}


def test_a_stage_needs_the_ones_before_it(corpus_folder, tmp_path):
    made = recipe(corpus_folder, tmp_path / "run")
    with pytest.raises(StageNotReadyError, match=r"builds on tokenize.*miniplm tokenize RECIPE"):
        run(made, kinds=["score"])
    run(made, kinds=["tokenize"])
    with pytest.raises(StageNotReadyError, match=r"miniplm train RECIPE --only teacher"):
        run(made, kinds=["score"])
    run(made, kinds=["train"], only="teacher")
    run(made, kinds=["score"], only="teacher")
    with pytest.raises(ConfigError, match="there is no 'plain' here; choose one of teacher"):
        run(made, kinds=["score"], only="plain")


def test_two_runs_in_one_folder_are_refused(corpus_folder, tmp_path):
    from filelock import FileLock

    made = recipe(corpus_folder, tmp_path / "run")
    (tmp_path / "run").mkdir()
    with (
        FileLock(tmp_path / "run/.lock"),
        pytest.raises(ArtefactError, match="another miniplm is at work"),
    ):
        run(made)


def test_corpora_and_models_are_checked_before_any_work(corpus_folder, tmp_path):
    content = tiny_recipe(corpus_folder, tmp_path / "run")
    content["corpus"] = {"source": "files", "paths": [str(tmp_path / "nowhere")]}
    content["teacher"]["shape"] = {**content["teacher"]["shape"], "family": "qwen99"}
    content["students"]["plain"] = {"shape": {"hidden_size": 10, "num_layers": 1, "num_heads": 3,
                                              "intermediate_size": 16}}  # fmt: skip
    with pytest.raises(ConfigError) as caught:
        preflight(make_recipe(content, "test"))
    found = "\n".join(caught.value.faults)
    assert "nowhere" in found
    assert "teacher: cannot make a model config from 'qwen99'" in found
    assert "students.plain" in found
    assert "not a multiple of num_heads" in found
    assert not (tmp_path / "run").exists()


def test_a_released_teacher_and_reference_score_from_local_folders(
    finished, corpus_folder, tmp_path
):
    """What a hub name would be, as folders: no teacher or reference is trained."""
    _, done, _ = finished
    content = tiny_recipe(corpus_folder, tmp_path / "run")
    model = done / "train/teacher/model"
    content |= {
        "teacher": {"name": str(model)},
        "reference": {"name": str(done / "train/reference/model")},
        "tokenizer": {"name": str(model)},
        "splits": {"reference": 0.1, "held_out": 0.1},
    }
    manifests = run(make_recipe(content, "test"), kinds=["tokenize"])
    manifests = run(make_recipe(content, "test"))
    names = [manifest.stage for manifest in manifests]
    assert "train/teacher" not in names
    assert "score/teacher" in names
    assert (tmp_path / "run/report/index.html").exists()


def test_the_plan_knows_state_tokens_flops_and_regime(finished, corpus_folder, tmp_path):
    made, _, manifests = finished
    done = make_plan(made)
    assert {step.state for step in done.steps} == {"complete"}
    flops = {manifest.stage: manifest.flops for manifest in manifests}
    for step in done.steps:
        if step.flops is not None:
            assert step.flops == pytest.approx(flops[step.name], rel=0.15), step.name
    assert any("tokens per parameter" in warning for warning in done.warnings)
    fresh = make_plan(recipe(corpus_folder, tmp_path / "fresh"))
    assert {step.state for step in fresh.steps} == {"missing"}
    assert fresh.steps[0].num_tokens == pytest.approx(done.steps[0].num_tokens, rel=0.6)
    assert all(step.hours is not None for step in fresh.steps)
    assert not (tmp_path / "fresh").exists()


def test_killed_at_random_moments_the_run_ends_with_the_same_bytes(
    finished, corpus_folder, tmp_path
):
    """SIGKILL, at moments spread over the run; each time the same command goes on."""
    _, straight, _ = finished
    path = tmp_path / "recipe.yaml"
    path.write_text(json.dumps(tiny_recipe(corpus_folder, tmp_path / "run")))
    command = [sys.executable, "-m", "miniplm.cli", "run", str(path)]
    environment = {**os.environ, "PYTHONWARNINGS": "ignore"}
    chance = random.Random(11)
    for _ in range(4):
        process = subprocess.Popen(
            command, env=environment, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL
        )
        time.sleep(chance.uniform(1.5, 8))
        process.send_signal(signal.SIGKILL)
        process.wait()
    done = subprocess.run(command, env=environment, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
    ours, theirs = results(tmp_path / "run"), results(straight)
    for name in ("recipe.yaml", "report/results.json"):
        ours.pop(name, None)
        theirs.pop(name, None)
    assert set(ours) == set(theirs)
    # the two runs' corpora lie in the same place, so even fingerprints agree
    assert [name for name in ours if ours[name] != theirs[name]] == []
