"""What the documents say is held against the code."""

import re
from pathlib import Path
from typing import get_args, get_origin

import pytest
import yaml

import miniplm
from miniplm.cli import main
from miniplm.config import Config, parse_overrides
from miniplm.model import ModelConfig, ShapeConfig, model_config
from miniplm.model_checks import check_shape
from miniplm.presets import PRESETS
from miniplm.recipe import Recipe, load_recipe
from miniplm.recipe_text import commented_recipe

ROOT = Path(__file__).resolve().parents[1]
DOCUMENTS = [ROOT / "README.md", ROOT / "CONTRIBUTING.md", *sorted((ROOT / "docs").glob("*.md"))]


def blocks(path, language):
    return re.findall(rf"^```{language}\n(.*?)^```", path.read_text(), re.MULTILINE | re.DOTALL)


@pytest.mark.parametrize("path", DOCUMENTS, ids=lambda path: path.name)
def test_commands_exist_and_their_overrides_are_fields(path):
    for block in blocks(path, ""):
        for line in block.splitlines():
            words = re.sub(r"\s+#.*", "", line).split()
            if words and words[0].endswith("miniplm"):
                assert words[1] in main.commands, line
                overrides = [word for word in words[2:] if re.match(r"[a-z_.]+=", word)]
                for section in parse_overrides(overrides):
                    assert section in Recipe.model_fields, line


def test_python_blocks_import_public_names():
    for path in DOCUMENTS:
        for block in blocks(path, "python"):
            compile(block, str(path), "exec")
            for names in re.findall(r"from miniplm import (.*)", block):
                assert set(re.split(r",\s*", names)) <= set(miniplm.__all__)


def test_names_in_the_readme_are_public():
    text = (ROOT / "README.md").read_text()
    (names,) = re.findall(r"`from miniplm import ([^`]*)`", text)
    assert set(re.split(r",\s*", names)) <= set(miniplm.__all__)


def test_yaml_blocks_are_recipes():
    for path in DOCUMENTS:
        for block in blocks(path, "yaml"):
            assert set(yaml.safe_load(block)) <= set(Recipe.model_fields)


def test_shapes_in_yaml_blocks_can_be_trained():
    shapes = [
        student["shape"]
        for path in DOCUMENTS
        for block in blocks(path, "yaml")
        for student in yaml.safe_load(block).get("students", {}).values()
        if student.get("shape")
    ]
    assert any(shape["family"] == "mamba2" for shape in shapes)
    for shape in shapes:
        check_shape(model_config(ModelConfig(shape=ShapeConfig(**shape)), 2048, 256))


@pytest.mark.parametrize("path", sorted((ROOT / "examples").glob("*.yaml")), ids=lambda p: p.name)
def test_examples_are_right(path):
    recipe, text = load_recipe(path), path.read_text()
    assert len(recipe.students) >= 2
    assert text.endswith(commented_recipe(yaml.safe_load(text)))  # its comments are of today
    assert f"examples/{path.name}" in (ROOT / "README.md").read_text()


def test_the_example_of_all_methods_is_the_preset():
    text = (ROOT / "examples/methods.yaml").read_text()
    assert text.endswith(commented_recipe(PRESETS["methods"]()))


def configs_in(annotation):
    if isinstance(annotation, type):
        return [annotation] if issubclass(annotation, Config) else []
    return [found for part in get_args(annotation) for found in configs_in(part)]


def is_field(sections, parts):
    """Whether a dotted name leads to a field; in sections by name, past any name."""
    if not parts or not sections:
        return True
    for section in sections:
        if field := section.model_fields.get(parts[0]):
            inner, rest = configs_in(field.annotation), parts[1:]
            named = get_origin(field.annotation) is dict
            if is_field(inner, rest) or (named and is_field(inner, rest[1:])):
                return True
    return False


def test_fields_that_documents_name_are_there():
    help_texts = [command.help for command in main.commands.values()]
    for text in [*(path.read_text() for path in DOCUMENTS), *help_texts]:
        for name in re.findall(r"(?<![\w./-])[a-z_]+(?:\.[a-z_]+)+(?=: |=)", text):
            parts = name.split(".")
            if parts[0] in Recipe.model_fields:
                assert is_field([Recipe], parts), name


def test_files_that_documents_name_are_there():
    for path in DOCUMENTS:
        for target in re.findall(r"\]\(([^)#]+)\)", path.read_text()):
            if "://" not in target:
                assert (path.parent / target).exists(), f"{path.name}: {target}"


def test_the_map_of_the_architecture_names_every_package():
    text = (ROOT / "docs/architecture.md").read_text()
    package = Path(miniplm.__file__).parent
    for folder in package.iterdir():
        if folder.is_dir() and folder.name != "__pycache__":
            assert f"`{folder.name}/`" in text
    for place, _ in re.findall(r"`((?:[a-z_]+\.)+[a-zA-Z_]+)` \|( )", text):
        if place.endswith(".yaml"):
            continue
        module, _, name = place.rpartition(".")
        parts = module.split(".")
        source = package.joinpath(*parts[:2]).with_suffix(".py")
        if not source.exists():
            source = package.joinpath(*parts[:1]).with_suffix(".py")
        if source.exists():
            assert re.search(rf"\b{name}\b", source.read_text()), place
        else:
            assert (package / module.replace(".", "/") / f"{name}.py").exists(), place
