import json

import pytest
from click.testing import CliRunner

from conftest import tiny_recipe
from miniplm.cli import main
from miniplm.pipeline import KINDS
from miniplm.presets import PRESETS


def call(*arguments):
    return CliRunner().invoke(main, [str(argument) for argument in arguments])


COMMANDS = {*KINDS, "demo", "run", "plan", "init", "inspect", "push", "measure", "scaling"}


def test_help_names_every_command():
    assert {name for name, each in main.commands.items() if not each.hidden} == COMMANDS
    result = call("--help")
    assert result.exit_code == 0
    for command in COMMANDS:
        assert f"  {command} " in result.output
        page = call(command, "--help")
        assert page.exit_code == 0
        assert "Usage" in page.output


@pytest.mark.parametrize("name", PRESETS)
def test_init_writes_a_recipe_with_a_comment_on_every_field(name, tmp_path):
    printed = call("init", "--preset", name).output
    assert call("init", "--preset", name, "-o", tmp_path / "r.yaml").exit_code == 0
    assert (tmp_path / "r.yaml").read_text() == printed
    assert "# selection ratio: share of the candidate sequences to keep" in printed


def test_init_shows_the_central_dials():
    printed = call("init").output
    for piece in (
        "# policy: top_ratio",
        "# normalization: per_token",
        "# dtype: bfloat16",
        "# forms: []",
    ):
        assert piece in printed


def test_init_into_a_folder_that_is_not_there(tmp_path):
    result = call("init", "-o", tmp_path / "nowhere/r.yaml")
    assert result.exit_code != 0
    assert "cannot be written" in result.output
    assert "Traceback" not in result.output


def test_init_does_not_overwrite(tmp_path):
    path = tmp_path / "r.yaml"
    path.write_text("mine")
    result = call("init", "-o", path)
    assert result.exit_code != 0
    assert "exists" in result.output
    assert path.read_text() == "mine"


def test_mistakes_get_one_plain_message(tmp_path):
    path = tmp_path / "r.yaml"
    path.write_text("corpus: {source: embeded}\n")
    result = call("run", path, "trainin.lr=1", "nonsense")
    assert result.exit_code == 1
    assert "override 'nonsense': expected key=value" in result.output
    result = call("run", path, "trainin.lr=1")
    assert result.exit_code == 1
    for piece in (
        "error: ", "corpus.source", "'embeded'", "did you mean 'training'?",
        "teacher: is required", "reference: is required",
    ):  # fmt: skip
        assert piece in result.output
    assert "Traceback" not in result.output


def test_a_missing_recipe_and_an_unknown_preset():
    assert "no such file" in call("run", "nowhere.yaml").output
    assert "choose one of demo, methods, cross_fam" in call("init", "--preset", "x").output


def test_plan_and_stage_commands(corpus_folder, tmp_path):
    path = tmp_path / "r.yaml"
    path.write_text(json.dumps(tiny_recipe(corpus_folder, tmp_path / "run")))
    result = call("plan", path)
    assert result.exit_code == 0, result.output
    for piece in ("tokenize", "train/teacher", "warning: ", "assumed: "):
        assert piece in result.output
    result = call("tokenize", path)
    assert result.exit_code == 0, result.output
    assert str(tmp_path / "run/tokenize") in result.output
    result = call("score", path)
    assert result.exit_code == 1
    assert "error: score/teacher builds on train/teacher" in result.output
    assert "complete" in call("plan", path).output
