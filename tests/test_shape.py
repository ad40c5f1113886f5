"""The shape of the code: who imports whom, what is public, what loads fast."""

import ast
import subprocess
import sys
from pathlib import Path

import pytest

import miniplm

SOURCE = Path(miniplm.__file__).parent
# the road of docs/architecture.md: a place imports from itself and from places before it
ROAD = (
    "errors config terminal manifest known_files stage_runner model model_checks model_size "
    "runtime data scoring selection export generation training evaluation scaling study report "
    "recipe presets recipe_text road preflight at_once pipeline study_run publishing corpus_sizes "
    "calibration planning cli __main__"
).split()
MODULES = sorted(path for path in SOURCE.rglob("*.py") if path.name != "__init__.py")


def place_of(module):
    return module.split(".")[1]


def imported(path):
    for node in ast.walk(ast.parse(path.read_text(encoding="utf-8"))):
        if isinstance(node, ast.ImportFrom) and node.module and node.module.startswith("miniplm."):
            yield node.module
        if isinstance(node, ast.Import):
            yield from (a.name for a in node.names if a.name.startswith("miniplm."))


@pytest.mark.parametrize("path", MODULES, ids=lambda path: str(path.relative_to(SOURCE)))
def test_imports_point_up_the_road(path):
    here = path.relative_to(SOURCE).parts[0].removesuffix(".py")
    for module in imported(path):
        assert ROAD.index(place_of(module)) <= ROAD.index(here), f"{here} imports {module}"


def test_every_place_is_on_the_road():
    places = {path.relative_to(SOURCE).parts[0].removesuffix(".py") for path in MODULES}
    assert places == set(ROAD)


def run_python(code):
    return subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)


@pytest.mark.parametrize("what", ["miniplm", "miniplm.cli", "miniplm.recipe", "miniplm.selection"])
def test_recipes_are_checked_without_torch(what):
    code = f"import {what}, sys; print([m for m in ('torch', 'transformers') if m in sys.modules])"
    assert run_python(code).stdout.strip() == "[]"


def test_selection_has_no_torch():
    code = (
        "import miniplm.selection.selector, miniplm.selection.effects, sys\n"
        "print('torch' in sys.modules)"  # and all it needs
    )
    assert run_python(code).stdout.strip() == "False"


def test_public_names_exist_and_are_documented():
    for name in miniplm.__all__:
        assert getattr(miniplm, name).__doc__, name
    with pytest.raises(AttributeError, match="no attribute 'nothing'"):
        _ = miniplm.nothing


def test_nothing_is_pickled():
    for path in MODULES:
        text = path.read_text(encoding="utf-8")
        assert "torch.save" not in text
        assert "import pickle" not in text


def test_no_module_shadows_the_standard_library():
    taken = {"tokenize", "select", "logging", "types"}
    assert not taken & {path.stem for path in MODULES}
