"""`miniplm scaling`: from the folders of runs to what is printed."""

import json
from dataclasses import asdict

import pytest
import yaml
from click.testing import CliRunner

from conftest import random_rows, tiny_recipe, write_rows
from made_up_curves import cosine, made_up_curve
from miniplm.cli import main
from miniplm.errors import ArtefactError, ConfigError, StageNotReadyError
from miniplm.manifest import Manifest, write_json
from miniplm.pipeline import run
from miniplm.recipe import make_recipe
from miniplm.scaling.command import ScalingQuestion, find_scaling
from miniplm.scaling.held_out_values import LossKind
from miniplm.scaling.methods import curves_by_method, parse_methods
from miniplm.scaling.read_curves import read_curves
from miniplm.scaling.series import FitSettings

QUICK = FitSettings(resamples=20)


def steep(times):
    return lambda flops: 3 + 2e3 / (times * flops) ** 0.5


def manifest_of(stage, **fields):
    empty = {name: {} for name in ("config", "inputs", "counts", "facts", "versions")}
    return asdict(
        Manifest(
            **{
                **empty, "stage": stage, "fingerprint": f"of {stage}", "num_tokens": 1,
                "flops": 1.0, "seconds": 1.0, "finished": "", **fields,
            }
        )
    )  # fmt: skip


def write_student(run_dir, name, times=1.0, *, finished=True, text=None, **changes):
    """What training leaves behind: a line for the untrained model, and lines without a loss."""
    folder = run_dir / "train" / name
    folder.mkdir(parents=True)
    curve = made_up_curve(steep(times), count=40, **changes)
    lines = [{"step": 0, "num_tokens": 0, "flops": 0.0, "held_out_loss": 7.6}]
    for step, point in enumerate(curve.points, 1):
        at = {"step": 2 * step, "num_tokens": point.num_tokens, "flops": point.flops}
        lines.append({**at, "lr": point.lr, "loss": 9.9, "held_out_loss": point.loss,
                      "held_out": {"law": point.loss / 2, "news": point.loss / 4}})  # fmt: skip
        lines.append({**at, "step": 2 * step + 1, "lr": point.lr, "loss": 9.9})
    text = "\n".join(map(json.dumps, lines)) + '\n{"step": 99, "cut o'
    (folder / "metrics.jsonl").write_text(text)
    if finished:
        write_manifest(folder, name)


def write_manifest(folder, name, inputs=None, sample=64, size=100):
    fields = {
        "config": {"held_out": sample},
        "inputs": {"tokenize": "of the text", **(inputs or {})},
        "facts": {"num_params": size},
    }
    write_json(folder / "manifest.json", manifest_of(f"train/{name}", **fields))


@pytest.fixture
def run_dir(tmp_path):
    folder = tmp_path / "first"
    for name in ("teacher", "reference"):
        write_student(folder, name, 100)
    write_student(folder, "plain", 1.0, seed=1, noise=1e-4)
    write_student(folder, "better", 2.0, seed=2, noise=1e-4)
    (folder / "tokenize").mkdir()
    made = manifest_of("tokenize", fingerprint="of the text")
    write_json(folder / "tokenize" / "manifest.json", made)
    recipe = {"students": {"plain": {"corpus": "candidates"}, "better": {"corpus": "refined"}}}
    (folder / "used_recipe.yaml").write_text(yaml.safe_dump(recipe, sort_keys=False))
    return folder


@pytest.fixture
def second(run_dir):
    folder = run_dir.parent / "second"
    write_student(folder, "plain", 1.05, seed=3, noise=1e-4)
    write_student(folder, "better", 2.1, seed=4, noise=1e-4)
    return folder


def find(*run_dirs, **question):
    return find_scaling(run_dirs, ScalingQuestion(settings=QUICK, **question))


def invoke(*words):
    return CliRunner().invoke(main, ["scaling", *map(str, words)])


def test_students_are_read_in_the_recipes_order(run_dir):
    found = read_curves([run_dir, run_dir / ".." / "first"], LossKind())
    assert [curve.student for curve in found.curves] == ["plain", "better"]
    plain = found.curves[0]
    assert len(plain.points) == 40
    assert (plain.num_params, plain.run, plain.finished) == (100, "first", True)
    assert plain.flops_per_token == pytest.approx(600)


def test_a_saving_comes_out_of_folders(run_dir):
    found = find(run_dir, budgets=[1e7])
    assert found.baseline == "plain"
    (saving,) = found.measured
    assert saving.compute.value == pytest.approx(2, rel=0.02)
    assert saving.compute.interval is None
    told = found.series[1].extrapolations[0]
    assert told.loss == pytest.approx(steep(2)(6e9), abs=0.005)


def test_students_of_one_name_in_several_runs_are_one_method(run_dir, second):
    found = find(run_dir, second)
    assert [len(series.curves) for series in found.series] == [2, 2]
    assert found.measured[0].compute.interval.low < 2 < found.measured[0].compute.interval.high


def test_patterns_make_methods(run_dir, second):
    methods = ["theirs=first/*", "ours=second/*"]
    found = find(run_dir, second, methods=methods, baseline="ours")
    assert [series.method for series in found.series] == ["ours", "theirs"]
    assert {curve.run for curve in found.series[0].curves} == {"second"}
    both = find(run_dir, methods=["all=plain", "all=better"])
    assert len(both.series[0].curves) == 2


@pytest.mark.parametrize(
    ("methods", "message"),
    [
        (["plain"], "takes NAME=GLOB, such as 'plain=plain-\\*'; given: 'plain'"),
        (["=p*"], "takes NAME=GLOB"),
        (["x=nothing*"], "no student fits x=nothing\\*; there are plain, better"),
        (["x=p*", "y=plain"], "first/plain would be of x and y"),
    ],
)
def test_wrong_patterns_are_told(run_dir, methods, message):
    with pytest.raises(ConfigError, match=message):
        find(run_dir, methods=methods)


@pytest.mark.parametrize(
    ("question", "message"),
    [
        ({"baseline": "other"}, "no method 'other'; there are plain, better"),
        ({"loss": "perplexity"}, "no 'perplexity'; choose held_out_loss, bits_per_byte, or"),
        ({"loss": "bits_per_byte:a,^"}, "choose held_out_loss"),
        ({"loss": "bits_per_byte:"}, "choose held_out_loss"),
        ({"budgets": [0.0]}, "takes a number of tokens"),
        ({"budgets": [float("inf")]}, "takes a number of tokens"),
    ],
)
def test_wrong_questions_are_told(run_dir, question, message):
    with pytest.raises(ConfigError, match=message):
        find(run_dir, **question)


def test_bits_per_byte_are_read_where_they_are_logged(run_dir):
    mean = read_curves([run_dir], LossKind("bits_per_byte")).curves[0]
    news = read_curves([run_dir], LossKind("bits_per_byte:news")).curves[0]
    others = read_curves([run_dir], LossKind("bits_per_byte:^l*")).curves[0]
    plain = read_curves([run_dir], LossKind()).curves[0]
    assert others.points == news.points
    assert mean.points[-1].loss == pytest.approx(plain.points[-1].loss * 3 / 8)
    assert news.points[-1].loss == pytest.approx(plain.points[-1].loss / 4)
    with pytest.raises(StageNotReadyError, match="Use --loss held_out_loss"):
        read_curves([run_dir], LossKind("bits_per_byte:poems"))


def test_a_mean_over_domains_leaves_out_what_is_not_a_number():
    kind = LossKind("bits_per_byte")
    assert kind.value({"held_out": {}}) is None
    assert kind.value({}) is None
    assert kind.value({"held_out": {"law": float("nan")}}) is None
    assert LossKind().value({"held_out_loss": float("inf")}) is None


def test_folders_without_a_run_are_told(tmp_path):
    with pytest.raises(StageNotReadyError, match="holds no training"):
        find(tmp_path / "nowhere")
    (tmp_path / "train" / "plain").mkdir(parents=True)
    with pytest.raises(StageNotReadyError, match="Run `miniplm train` first"):
        find(tmp_path)


def test_an_unfinished_student_takes_part(run_dir):
    (run_dir / "train" / "better" / "manifest.json").unlink()
    found = find(run_dir)
    assert found.series[1].num_params == 100
    assert found.measured[0].reading == "at least"
    assert "Not trained to the end yet: better." in found.cautions


def test_an_unfinished_student_of_another_tokenizer_is_left_out(run_dir):
    (run_dir / "train" / "better" / "manifest.json").unlink()
    recipe = {
        "students": {"plain": {"corpus": "candidates"}, "better": {"corpus": {"other-4k": 1.0}}},
        "retokenizations": {"other-4k": {}},
    }
    (run_dir / "used_recipe.yaml").write_text(yaml.safe_dump(recipe, sort_keys=False))
    found = find(run_dir)
    assert [series.method for series in found.series] == ["plain"]
    assert any("first/better is not finished" in each for each in found.cautions)


def test_different_tokenizers_compare_in_bits_per_byte_only(run_dir):
    write_manifest(run_dir / "train" / "better", "better", {"held_out": "of other tokens"})
    with pytest.raises(ConfigError, match=r"read different tokenizers.*--loss bits_per_byte"):
        find(run_dir)
    assert find(run_dir, methods=["plain=plain"]).baseline is None
    found = find(run_dir, loss="bits_per_byte")
    assert found.unit == "bits per byte, mean of domains"
    assert any("made apart" in caution for caution in found.cautions)


def test_means_over_other_domains_do_not_compare(run_dir):
    path = run_dir / "train" / "better" / "metrics.jsonl"
    path.write_text(path.read_text().replace('"news"', '"songs"'))
    with pytest.raises(ConfigError, match=r"not both have news, songs\), and means"):
        find(run_dir, loss="bits_per_byte")
    assert find(run_dir, loss="bits_per_byte:law").unit == "bits per byte, mean of domains (law)"


def test_another_text_or_another_sample_does_not_compare(run_dir, second):
    for name in ("plain", "better"):
        write_manifest(second / "train" / name, name, {"tokenize": "of another text"})
    with pytest.raises(ConfigError, match="not measured on the same held-out tokens"):
        find(run_dir, second)
    for name in ("plain", "better"):
        write_manifest(second / "train" / name, name, sample=32)
    with pytest.raises(ConfigError, match="number of sequences"):
        find(run_dir, second)


def test_the_same_text_of_another_run_compares(run_dir, second):
    """Two runs with one held-out corpus: other fingerprints, the same shards."""
    rows = random_rows(6)
    for number, folder in enumerate((run_dir, second)):
        shards = folder / "tokenize" / "held_out"
        shards.mkdir(parents=True, exist_ok=True)
        write_rows(shards, rows)
        for name in ("plain", "better"):
            write_manifest(folder / "train" / name, name, {"tokenize": f"of text {number}"})
    assert [len(series.curves) for series in find(run_dir, second).series] == [2, 2]


def test_runs_of_one_name_are_told_apart(run_dir, tmp_path):
    other = tmp_path / "there" / "first"
    write_student(other, "plain", seed=5, noise=1e-4)
    found = read_curves([run_dir, other], LossKind())
    assert {curve.run for curve in found.curves} == {str(run_dir), str(other)}


def test_a_damaged_recipe_is_told(run_dir):
    (run_dir / "used_recipe.yaml").write_text("students: {")
    with pytest.raises(ArtefactError, match="is damaged"):
        find(run_dir)


def test_the_command_prints_tables_and_writes_nothing(run_dir):
    before = sorted(run_dir.rglob("*"))
    result = invoke(run_dir, "--budget-tokens", "1e7", "--budget-tokens", "1e12")
    assert result.exit_code == 0, result.output
    assert "Times less than plain, read off the curves" in result.output
    assert "Times less than plain, off the laws (not measured)" in result.output
    assert "Extrapolated, not measured" in result.output
    assert "better, 100, 1T tokens: 6e+14 FLOPs are 6.0 powers of ten beyond" in result.output
    assert "caution: Where a method has one curve only" in result.output
    assert sorted(run_dir.rglob("*")) == before


def test_json_is_what_is_written(run_dir, tmp_path):
    out = tmp_path / "scaling.json"
    result = invoke(run_dir, "--json", "--out", out, "--points", "ends", "--skip", "0.1")
    assert result.exit_code == 0, result.output
    content = json.loads(result.output)
    assert content == json.loads(out.read_text())
    assert content["series"][0]["refusals"] == ["1 points; a law of 3 constants needs 6"]
    printed = invoke(run_dir, "--out", out)
    assert f"wrote {out}" in printed.output.replace("\n", "")


def test_errors_have_no_traceback(run_dir):
    result = invoke(run_dir, "--method", "plain")
    assert result.exit_code == 1
    assert result.output.startswith("error: --method: 1 fault")
    nowhere = run_dir / "nowhere" / "out.json"
    assert (
        f"--out: 1 fault\n  - {nowhere} cannot be written"
        in invoke(run_dir, "--out", nowhere).output
    )
    assert invoke().exit_code == 2


def test_methods_keep_the_order_of_their_patterns():
    curves = [made_up_curve(steep(1), student=name) for name in ("a-1", "b-1", "a-2")]
    found = curves_by_method(curves, parse_methods(["b=b-*", "a=a-*"]))
    assert {name: [c.student for c in own] for name, own in found.items()} == {
        "b": ["b-1"], "a": ["a-1", "a-2"],
    }  # fmt: skip
    assert list(found) == ["b", "a"]


def test_falling_learning_rates_are_read_from_the_lines(tmp_path):
    write_student(tmp_path, "plain", lr=cosine)
    write_student(tmp_path, "quick", 2, lr=cosine)
    assert find(tmp_path).measured[0].reading == "at least"


@pytest.fixture(scope="module")
def real_run(corpus_folder, tmp_path_factory):
    folder = tmp_path_factory.mktemp("runs") / "real"
    recipe = tiny_recipe(corpus_folder, folder)
    del recipe["students"]["miniplm"]
    recipe["training"] = {**recipe["training"], "budget": {"steps": 12}, "eval_every_steps": 1}
    run(make_recipe(recipe, "test"), kinds=["tokenize", "train"])
    return folder


def test_a_real_run_is_read(real_run):
    found = find(real_run)
    assert [series.method for series in found.series] == ["plain"]
    for series in found.series:
        lines = (real_run / "train" / series.method / "metrics.jsonl").read_text().splitlines()
        last = json.loads(lines[-1])
        assert series.curves[0].points[-1].loss == last["held_out_loss"]
        assert series.flops_per_token == pytest.approx(last["flops"] / last["num_tokens"])
        assert series.curves[0].finished
        assert series.num_params
