import errno
import json
import os
import random
import shutil
import signal
import subprocess
import sys
import time

import pytest

from conftest import tiny_recipe
from miniplm.errors import ArtefactError, ConfigError, StageNotReadyError
from miniplm.pipeline import run
from miniplm.planning import make_plan
from miniplm.preflight import preflight
from miniplm.recipe import load_recipe, make_recipe
from miniplm.road.road import Road

STAGES = [
    "tokenize", "train/teacher", "train/reference", "score/teacher", "score/reference",
    "select/refined", "describe/refined", "export/refined", "evaluate/teacher",
    "evaluate/reference", "train/plain", "evaluate/plain", "train/miniplm", "evaluate/miniplm",
    "report",
]  # fmt: skip
TIMES = {
    "seconds", "finished", "versions", "training_seconds", "seconds_waiting_for_data",
}  # fmt: skip


def recipe(corpus_folder, run_dir, **changes):
    return make_recipe({**tiny_recipe(corpus_folder, run_dir), **changes}, "test")


def results(run_dir):
    """Content of every file but the page, without the times that some of them hold."""
    return {
        str(path.relative_to(run_dir)): content_of(path)
        for path in sorted(run_dir.rglob("*"))
        if path.is_file()
        and path.name not in ("index.html", ".lock", "used_recipe.yaml")
        and "superseded" not in path.parts
    }


def content_of(path):
    if path.name in ("manifest.json", "results.json"):
        return without_times(json.loads(path.read_text()))
    if path.name == "metrics.jsonl":
        return [without_times(json.loads(line)) for line in path.read_text().splitlines()]
    return path.read_bytes()


def without_times(value):
    if isinstance(value, dict):
        return {k: without_times(v) for k, v in value.items() if k not in TIMES}
    return [without_times(v) for v in value] if isinstance(value, list) else value


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
    assert manifests[-1].facts["verdict"][0].split(":")[0] in page
    lines = manifests[-1].facts["models"]
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
         {"select/refined", "describe/refined", "export/refined", "train/miniplm",
          "evaluate/miniplm", "report"}),
        ({"evaluation": {"dtype": "bfloat16"}},
         {"evaluate/teacher", "evaluate/reference", "evaluate/plain", "evaluate/miniplm",
          "report"}),
        ({"scoring": {"dtype": "float32", "memory_gb": 0.1}}, {"report"}),  # which shows it
        ({"name": "another title"}, {"report"}),
        ({"export": {"forms": ["jsonl"]}}, {"export-jsonl/refined", "report"}),
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
    assert {name for name in after if after[name] != before.get(name)} == redone
    run(made)
    assert {name: times(run_dir)[name] for name in STAGES} == before
    found = results(run_dir)
    assert {name: found[name] for name in original} == original


def test_why_a_step_is_done_again_is_said(corpus_folder, tmp_path, caplog):
    shutil.copytree(corpus_folder, tmp_path / "corpus")
    made = recipe(tmp_path / "corpus", tmp_path / "run")

    def walk():
        run(made, kinds=["tokenize"])
        run(made, kinds=["train"], only="reference")

    walk()
    table = tmp_path / "corpus/tables-000.jsonl"
    table.write_text(table.read_text().replace("1", "2"))
    caplog.set_level("INFO", "miniplm")
    walk()
    assert "tokenize             again, since what it reads changed: corpus" in caplog.text
    assert "train/reference      again, since what it reads changed: tokenize" in caplog.text


def test_the_order_of_students_decides_the_baseline(finished, corpus_folder):
    _, run_dir, _ = finished
    content = tiny_recipe(corpus_folder, run_dir)
    content["students"] = dict(reversed(content["students"].items()))
    stale = {s.name for s in Road(make_recipe(content, "test")).steps if not s.is_complete}
    assert stale == {"report"}


def test_how_often_training_is_looked_at_changes_no_weights(finished, corpus_folder):
    _, run_dir, _ = finished
    content = tiny_recipe(corpus_folder, run_dir)
    for section in (content["teacher"], content):
        section["training"] = {
            **section["training"], "log_every_steps": 7, "eval_every_steps": 9,
        }  # fmt: skip
    stale = {s.name for s in Road(make_recipe(content, "test")).steps if not s.is_complete}
    assert stale == {"report"}


def test_another_held_out_corpus_spares_scores(corpus_folder, tmp_path):
    (tmp_path / "held.jsonl").write_text(json.dumps({"text": "Held out. " * 40, "id": "h"}))
    content = tiny_recipe(corpus_folder, tmp_path / "run")
    content["splits"] = {**content["splits"], "held_out": 0}
    stale = []
    for name in ("held.jsonl", "other.jsonl"):
        (tmp_path / name).write_text(json.dumps({"text": f"{name} is held out. " * 40, "id": "h"}))
        content["held_out_corpus"] = {"source": "files", "paths": [str(tmp_path / name)]}
        made = make_recipe(content, "test")
        stale.append({step.name for step in Road(made).steps if not step.is_complete})
        run(made)
    spared = {"train/teacher", "train/reference", "score/teacher", "score/reference",
              "select/refined", "describe/refined", "export/refined"}  # fmt: skip
    assert stale[1] == stale[0] - spared


def test_models_of_different_splits_have_different_fingerprints(finished):
    made, _, _ = finished
    road = Road(made)
    prints = [step.spec.fingerprint for step in road.steps]
    assert len(set(prints)) == len(prints)


def test_a_recipe_in_the_run_folder_is_not_overwritten(corpus_folder, tmp_path):
    mine = tmp_path / "recipe.yaml"
    mine.write_text(json.dumps(tiny_recipe(corpus_folder, tmp_path)))
    with pytest.raises(StageNotReadyError):
        run(load_recipe(mine), kinds=["select"])
    run(load_recipe(mine), kinds=["tokenize"])
    assert json.loads(mine.read_text()) == tiny_recipe(corpus_folder, tmp_path)


def test_a_run_folder_that_is_a_file_is_refused(corpus_folder, tmp_path):
    (tmp_path / "file").write_text("mine")
    for place in ("file", "file/deeper"):
        with pytest.raises(ConfigError, match="is, or lies in, a file; give a folder"):
            run(recipe(corpus_folder, tmp_path / place))


def test_a_released_teacher_of_another_tokenizer_is_refused(finished, corpus_folder, tmp_path):
    from miniplm.data.tokenizer import train_tokenizer

    _, done, _ = finished
    train_tokenizer(["quite other words than those " * 9] * 9, 320, tmp_path / "other")
    content = tiny_recipe(corpus_folder, tmp_path / "run")
    content |= {
        "teacher": {"name": str(done / "train/teacher/model")},
        "tokenizer": {"name": str(tmp_path / "other")},
    }
    content["splits"] = {**content["splits"], "teacher": 0}
    with pytest.raises(ConfigError, match=r"teacher: .* has another tokenizer than the corpus"):
        run(make_recipe(content, "test"))


def test_a_released_model_that_is_not_there_is_found_before_any_work(corpus_folder, tmp_path):
    content = tiny_recipe(corpus_folder, tmp_path / "run")
    content |= {"teacher": {"name": "/nonexistent"}, "tokenizer": {"name": "/nonexistent"}}
    content["splits"] = {**content["splits"], "teacher": 0}
    with pytest.raises(ConfigError) as caught:
        run(make_recipe(content, "test"))
    found = "\n".join(caught.value.faults)
    assert "teacher: cannot read the config of '/nonexistent'" in found
    assert "tokenizer: cannot load the tokenizer '/nonexistent'" in found
    assert not (tmp_path / "run").exists()


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


def test_a_full_disk_is_told_with_the_stage_and_what_to_do(corpus_folder, tmp_path, monkeypatch):
    def full(*_):
        raise OSError(errno.ENOSPC, "Error writing bytes to file. Detail: [errno 28]")

    monkeypatch.setattr("miniplm.road.tokenized.tokenize_corpus", full)
    with pytest.raises(ArtefactError, match=r"tokenize: no room left on the disk of .* MB free"):
        run(recipe(corpus_folder, tmp_path / "run"))


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
    assert "not a multiple of num_heads 3" in found
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
    assert all(step.hours > 0 and step.memory > 0 for step in fresh.steps)
    seconds = {manifest.stage: manifest.seconds for manifest in manifests}
    assert {step.name: step.hours * 3600 for step in done.steps} == pytest.approx(seconds)
    assert not (tmp_path / "fresh").exists()


def finished_stages(run_dir):
    return [name for name in STAGES if (run_dir / name / "manifest.json").exists()]


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
    found_unfinished = 0
    for _ in range(4):
        process = subprocess.Popen(
            command, env=environment, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL
        )
        before = finished_stages(tmp_path / "run")
        while process.poll() is None and finished_stages(tmp_path / "run") == before:
            time.sleep(0.01)  # until the first stage of this try is done
        time.sleep(chance.uniform(0, 1.0))
        process.send_signal(signal.SIGKILL)
        process.wait()
        found_unfinished += any(tmp_path.glob("run/**/partial.json"))
    assert found_unfinished >= 1
    done = subprocess.run(command, env=environment, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
    ours, theirs = results(tmp_path / "run"), results(straight)
    ours.pop("report/manifest.json")  # it holds the recipe, which names the folder
    theirs = {
        n: v for n, v in theirs.items() if n in ours or not n.startswith(("export-", "report/"))
    }
    assert set(ours) == set(theirs)
    assert [name for name in ours if ours[name] != theirs[name]] == []
