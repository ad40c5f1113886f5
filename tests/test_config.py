import pytest

from miniplm.config import merge_into, parse_overrides, read_yaml
from miniplm.errors import ConfigError
from miniplm.presets import PRESETS, preset
from miniplm.recipe import load_recipe, make_recipe, override_recipe
from miniplm.recipe_text import commented_recipe

MINIMAL = """
corpus: {source: embedded}
teacher: {name: some/teacher}
reference: {name: some/reference}
tokenizer: {name: some/teacher}
"""


def write(tmp_path, text):
    path = tmp_path / "recipe.yaml"
    path.write_text(text, encoding="utf-8")
    return path


def faults(tmp_path, text, *overrides):
    with pytest.raises(ConfigError) as caught:
        load_recipe(write(tmp_path, text), overrides)
    return caught.value.faults


def test_a_minimal_recipe_loads_with_the_papers_defaults(tmp_path):
    recipe = load_recipe(write(tmp_path, MINIMAL))
    assert recipe.selections["refined"].ratio == 0.5
    assert recipe.selections["refined"].normalization == "per_token"
    assert (recipe.training.beta2, recipe.training.eps) == (0.98, 1e-6)


def test_an_unknown_key_names_the_nearest_right_one(tmp_path):
    found = faults(tmp_path, MINIMAL + "training: {learning_rat: 1, warmup_step: 3}\n")
    assert "training.learning_rat: unknown key" in found[0]
    assert found[1] == "training.warmup_step: unknown key; did you mean 'warmup_steps'?"


def test_all_faults_are_listed_at_once(tmp_path):
    found = faults(
        tmp_path,
        MINIMAL + "splits: {reference: 1.5}\nselections: {refined: {rato: 0.5}}\nbogus: 1\n",
        "training.lr=fast",
    )
    assert len(found) == 4
    assert any(fault.startswith("splits.reference: ") and "1.5" in fault for fault in found)
    assert "selections.refined.rato: unknown key; did you mean 'ratio'?" in found
    assert any(fault.startswith("training.lr: ") and "'fast'" in fault for fault in found)
    assert any(fault.startswith("bogus: unknown key") for fault in found)


def test_faults_between_fields_are_listed_at_once(tmp_path):
    text = """
corpus: {source: embedded}
teacher: {shape: {hidden_size: 32, num_layers: 1}}
reference: {name: a, training: {lr: 1.0}, leave_out: ["noise-*"]}
splits: {held_out: 0}
students:
  teacher: {shape: {hidden_size: 32, num_layers: 1}}
  a/b: {name: released, corpus: nowhere}
"""
    found = "\n".join(faults(tmp_path, text))
    for piece in (
        "teacher.training.budget: a teacher from scratch has to be trained",
        "splits.teacher: is 0",
        "reference.training: a released model is not trained",
        "reference.leave_out: a released model is not trained",
        "students.teacher: this name is taken",
        "students.a/b: becomes a folder",
        "students.a/b.name: students are pre-trained from scratch",
        "students.a/b.corpus: there is no 'nowhere'; choose one of candidates, refined",
        "students.a/b.training.budget: give tokens",
        "tokenizer.name: a released teacher",
        "splits.held_out: give a share",
    ):
        assert piece in found


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("a: [1\n", "not valid YAML"),
        ("- a\n- b\n", "holds a list; expected a mapping"),
        ("seed: 1\nseed: 2\n", "'seed' is given twice"),
        ("", "holds a NoneType"),
    ],
)
def test_files_that_are_no_recipe(tmp_path, text, message):
    with pytest.raises(ConfigError, match=message):
        read_yaml(write(tmp_path, text))


def test_a_missing_file_says_how_to_start(tmp_path):
    with pytest.raises(ConfigError, match="no such file; `miniplm init`"):
        load_recipe(tmp_path / "nothing.yaml")


def test_overrides():
    assert parse_overrides(["a.b=3e-4", "a.c=[x, y]", "d=null", "e="]) == {
        "a": {"b": "3e-4", "c": ["x", "y"]}, "d": None, "e": "",
    }  # fmt: skip
    with pytest.raises(ConfigError) as caught:
        parse_overrides(["lr", "=3", "a..b=1", "x=[1"])
    assert len(caught.value.faults) == 4


def test_overrides_find_names_with_dots():
    content = {"sizes": {"0.5B": {"lr": 1}, "0": {"5B": 2}}}
    assert parse_overrides(["sizes.0.5B.lr=2"], content) == {"sizes": {"0.5B": {"lr": 2}}}
    assert parse_overrides(["sizes.0.7B.lr=2"], content) == {"sizes": {"0": {"7B": {"lr": 2}}}}
    both = ["new={1.5B: {}}", "new.1.5B.lr=3"]
    assert parse_overrides(both, content) == {"new": {"1.5B": {"lr": 3}}}
    assert content == {"sizes": {"0.5B": {"lr": 1}, "0": {"5B": 2}}}


def test_an_empty_override_empties():
    base = {"selections": {"raw": {"ratio": 0.3}}, "training": {"lr": 1e-3}}
    merge_into(base, {"selections": {}, "training": {"steps": 2}})
    assert base == {"selections": {}, "training": {"lr": 1e-3, "steps": 2}}


def test_an_override_changes_one_place_of_what_an_alias_repeats(tmp_path):
    content = MINIMAL + "training: &training {lr: 0.002, budget: {steps: 3}}\nstudents:\n"
    shape = "{hidden_size: 32, num_layers: 1, num_heads: 2}"
    content += f"  one: {{shape: &shape {shape}, training: *training}}\n"
    content += "  other: {shape: *shape, training: *training}\n"
    overrides = ["training.lr=5e-4", "students.one.shape.family=llama", "splits.held_out=0.1"]
    recipe = load_recipe(write(tmp_path, content), overrides)
    assert recipe.training.lr == 5e-4
    assert [student.training.lr for student in recipe.students.values()] == [0.002, 0.002]
    families = [student.shape.family for student in recipe.students.values()]
    assert families == ["llama", "qwen2"]


def test_overrides_in_scientific_notation_are_numbers(tmp_path):
    recipe = load_recipe(write(tmp_path, MINIMAL), ["training.lr=3e-4", "seed=7"])
    assert recipe.training.lr == 3e-4
    assert recipe.seed == 7


def test_a_students_training_differs_only_where_it_says_so(tmp_path):
    text = (
        MINIMAL
        + """
training: {lr: 0.5, beta2: 0.9, budget: {tokens: 100}}
students:
  a: {shape: {hidden_size: 32, num_layers: 1}, training: {lr: 0.25}}
  b: {shape: {hidden_size: 32, num_layers: 1}, training: {budget: {steps: 7}}}
"""
    )
    recipe = load_recipe(write(tmp_path, text), ["training.eps=1e-7"])
    a, b = recipe.student_training("a"), recipe.student_training("b")
    assert (a.lr, a.beta2, a.eps, a.budget.tokens) == (0.25, 0.9, 1e-7, 100)
    assert (b.lr, b.budget.tokens, b.budget.steps) == (0.5, None, 7)


def test_two_budgets_are_refused(tmp_path):
    found = faults(tmp_path, MINIMAL + "training: {budget: {tokens: 1, steps: 2}}\n")
    assert found == (
        (
            "training.budget: give one of tokens, steps and flops and set the others to null; "
            "found tokens and steps"
        ),
    )


@pytest.mark.parametrize("name", PRESETS)
def test_presets_are_right_and_written_out_in_full(name, tmp_path):
    recipe = preset(name)
    text = commented_recipe(PRESETS[name]())
    assert load_recipe(write(tmp_path, text)) == recipe


def test_the_papers_preset_has_the_papers_figures():
    recipe = preset("paper")
    shape = recipe.students["miniplm-500m"].shape
    assert (shape.hidden_size, shape.intermediate_size, shape.num_layers, shape.num_heads) == (
        1024, 2816, 24, 16,
    )  # fmt: skip
    lrs = {name: recipe.student_training(name).lr for name in recipe.students}
    assert lrs["plain-200m"] == 6e-4
    assert lrs["miniplm-500m"] == 3e-4
    assert lrs["plain-1.2b"] == 2.5e-4
    training = recipe.student_training("miniplm-200m")
    assert (training.global_batch_size, training.budget.steps) == (512, 100_000)
    assert (training.beta1, training.beta2, training.eps, training.weight_decay) == (
        0.9, 0.98, 1e-6, 0.01,
    )  # fmt: skip
    assert recipe.teacher.name == "Qwen/Qwen1.5-1.8B"
    assert recipe.reference.training.budget.tokens == 5_000_000_000


@pytest.mark.parametrize(
    ("name", "num_params"),
    [("200m", 200e6), ("500m", 463.7e6), ("1.2b", 1.16e9), ("reference", 104e6)],
)
def test_the_papers_models_have_the_papers_sizes(name, num_params):
    from miniplm.model import model_config
    from miniplm.model_size import model_size

    recipe = preset("paper")
    config = recipe.reference if name == "reference" else recipe.students[f"plain-{name}"]
    size = model_size(model_config(config, 151_646, 1024), 1024)
    assert size.num_params == pytest.approx(num_params, rel=0.02)


def test_whole_numbers_may_have_an_exponent(tmp_path):
    recipe = load_recipe(write(tmp_path, MINIMAL), ["training.budget.tokens=5e9"])
    assert recipe.training.budget.tokens == 5_000_000_000
    found = faults(tmp_path, MINIMAL, "training.budget.tokens=1.5")
    assert found[0].startswith("training.budget.tokens: expected a whole number")


def test_sections_of_the_wrong_kind_are_named_plainly(tmp_path):
    found = faults(tmp_path, MINIMAL + "students: [a, b]\nsplits: 3\n", "training.lr.x=3")
    assert "students: expected a mapping of names to fields (given: ['a', 'b'])" in found
    assert "splits: expected a mapping of fields (given: 3)" in found
    assert any(fault.startswith("training.lr: expected a number") for fault in found)


def test_override_of_a_preset():
    recipe = override_recipe(preset("demo"), ["seed=3", "training.lr=1e-2"], "demo")
    assert (recipe.seed, recipe.training.lr) == (3, 1e-2)
    with pytest.raises(ConfigError, match=r"sed: unknown key; did you mean 'seed'\?"):
        override_recipe(preset("demo"), ["sed=3"], "demo")


def test_speed_settings_are_not_fingerprinted():
    content = PRESETS["demo"]()
    content["training"] = {**content["training"], "micro_batch_size": 3}
    content["scoring"] = {"memory_gb": 7}
    content["run_dir"] = "elsewhere"
    assert make_recipe(content, "test").fingerprinted() == preset("demo").fingerprinted()


def test_a_folder_is_no_recipe(tmp_path):
    with pytest.raises(ConfigError, match="is a folder; give a recipe, such as"):
        load_recipe(tmp_path)
