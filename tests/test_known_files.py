"""Files by name, size and time, and copies of them by what they hold."""

import json
import os
import shutil

import pytest

from conftest import tiny_recipe
from miniplm import known_files
from miniplm.errors import ArtefactError
from miniplm.known_files import KNOWN_NAME, KnownFiles, fingerprint_files
from miniplm.pipeline import run
from miniplm.recipe import make_recipe
from miniplm.road.road import Road


@pytest.fixture
def files(tmp_path):
    folder = tmp_path / "files"
    folder.mkdir()
    for name in "ab":
        (folder / name).write_text(f"what {name} holds")
    return sorted(folder.iterdir())


def copied(files, folder):
    """Copies of another time."""
    folder.mkdir()
    for path in files:
        shutil.copyfile(path, folder / path.name)
        os.utime(folder / path.name, (7, 7))
    return sorted(folder.iterdir())


def remembered(files, path):
    known = KnownFiles(path)
    with known.in_use():
        found = fingerprint_files(files)
    known.remember()
    return found


def asked(files, path):
    with KnownFiles(path).in_use():
        return fingerprint_files(files)


def test_files_count_by_name_size_and_time(files, tmp_path):
    before = fingerprint_files(files)
    assert asked(files, tmp_path / "nothing") == before
    files[0].write_text("longer than before")
    assert fingerprint_files(files) != before
    with pytest.raises(ArtefactError, match="missing: cannot be read"):
        fingerprint_files([tmp_path / "missing"])


def test_a_copy_counts_as_what_it_is_a_copy_of(files, tmp_path):
    memory = tmp_path / KNOWN_NAME
    before = remembered(files, memory)
    assert before == fingerprint_files(files)
    copies = copied(files, tmp_path / "copies")
    assert fingerprint_files(copies) != before
    assert asked(copies, memory) == before
    copies[1].write_text("what b HOLDS")  # as long as before
    changed = asked(copies, memory)
    assert changed != before
    assert changed == remembered(copies, memory)
    assert asked(files, memory) == before  # both are remembered
    assert len(json.loads(memory.read_text())["files"]) == 3


def test_a_copy_is_read_once(files, tmp_path, monkeypatch):
    memory, read = tmp_path / KNOWN_NAME, []
    digest = known_files._digest
    monkeypatch.setattr(known_files, "_digest", lambda path: read.append(path) or digest(path))
    before = remembered(files, memory)
    assert sorted(read) == files
    copies = copied(files, tmp_path / "copies")
    assert remembered(copies, memory) == before
    assert sorted(read) == [*copies, *files]
    assert remembered(copies, memory) == remembered(files, memory) == before
    assert len(read) == 4


def test_too_much_to_read_counts_by_time(files, tmp_path, monkeypatch):
    monkeypatch.setattr(known_files, "MOST_BYTES", 10)
    before = remembered(files, tmp_path / KNOWN_NAME)
    assert not (tmp_path / KNOWN_NAME).exists()
    assert asked(copied(files, tmp_path / "copies"), tmp_path / KNOWN_NAME) != before


def test_what_changes_while_it_is_read_is_not_remembered(files, tmp_path):
    known = KnownFiles(tmp_path / KNOWN_NAME)
    with known.in_use():
        fingerprint_files(files)
    files[0].write_text("other words")
    files[1].unlink()
    known.remember()
    assert not (tmp_path / KNOWN_NAME).exists()


@pytest.mark.parametrize("content", ["", "{", "[]", '{"files": [{"name": 3}]}', '{"files": 2}'])
def test_a_damaged_memory_is_none(files, tmp_path, content):
    (tmp_path / KNOWN_NAME).write_text(content)
    assert remembered(files, tmp_path / KNOWN_NAME) == fingerprint_files(files)
    assert asked(copied(files, tmp_path / "copies"), tmp_path / KNOWN_NAME) == fingerprint_files(
        files
    )


def test_a_run_goes_on_over_copies_of_its_corpus_elsewhere(corpus_folder, tmp_path):
    def done():
        return {step.name for step in Road(made).steps if step.is_complete}

    shutil.copytree(corpus_folder, tmp_path / "before")
    made = make_recipe(tiny_recipe(tmp_path / "before", tmp_path / "run"), "test")
    (tokenized,) = run(made, kinds=["tokenize"])
    assert tokenized.facts["corpus"]["paths"] == [str(tmp_path / "before")]
    run(made, kinds=["train"], only="reference")
    (tmp_path / "elsewhere").mkdir()
    copied(sorted((tmp_path / "before").iterdir()), tmp_path / "elsewhere" / "corpus")
    shutil.rmtree(tmp_path / "before")
    made = make_recipe(tiny_recipe(tmp_path / "elsewhere" / "corpus", tmp_path / "run"), "test")
    assert done() == {"tokenize", "train/reference"}
    run(made, kinds=["tokenize"])
    assert not (tmp_path / "run/superseded").exists()
    (tmp_path / "run" / KNOWN_NAME).unlink()
    assert done() == set()
