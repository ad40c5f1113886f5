import ast
import json
import os
import subprocess
import sys
import zipfile
from collections import Counter
from hashlib import sha256
from pathlib import Path

import pytest

from miniplm.data.documents import (
    CorpusConfig,
    Document,
    DocumentTally,
    corpus_fingerprint,
    estimate_bytes,
    read_documents,
)
from miniplm.data.embedded import (
    PythonInstall,
    embedded_bytes,
    embedded_documents,
    embedded_fingerprint,
)
from miniplm.data.embedded_text import (
    MAX_CHARACTERS,
    bytecode_listing,
    character_lines,
    help_topics,
    separate,
    split_text,
)
from miniplm.errors import DocumentError

LOW_VALUE = {"tables", "unicode-names", "bytecode"}

MODULE = '''#!/usr/bin/env python
"""Do things.

Well:
    Indented.
"""

# A note over
# two lines.
import os  # for paths


class Thing(object):
    "A thing."

    def run(self, x="# no comment", y={"a":
            "no docstring"}):
        r"""Run \\d."""

    def stop(self): "one line"


PATTERN = \\
    """no docstring either"""
'''


# --- taking source apart -----------------------------------------------------------------------


def test_source_is_taken_apart_into_prose_and_code():
    prose, code = separate(MODULE)
    assert prose.split("\n\n") == [
        "Do things.",
        "Well:\n    Indented.",
        "A note over\ntwo lines.",
        "for paths",
        "class Thing(object)",
        "A thing.",
        'def run(self, x="# no comment", y={"a"',
        "Run \\d.\n",
    ]
    assert (
        code
        == '''import os


class Thing(object):

    def run(self, x="# no comment", y={"a":
            "no docstring"}):
        pass

    def stop(self): "one line"


PATTERN = \\
    """no docstring either"""
'''
    )


@pytest.mark.parametrize(
    "source",
    [
        "def f():\n    'doc'",
        "def f():  # why\n    'doc'\n    # more\n\nx = 1\n",
        "class A:\n    'doc'\n    def f(self):\n        '''doc'''\n    x = 1\n",
        "if x:\n    'a string'\nelse:\n    'another'\n",
        "x = ('a'\n'b')\n",
        "x = '''\n# no comment\n'''\n",
    ],
)
def test_code_without_prose_still_means_the_same(source):
    _, code = separate(source)
    assert _without_docstrings(code) == _without_docstrings(source)
    assert "doc" not in code


def _without_docstrings(source):
    tree = ast.parse(source)
    for node in ast.walk(tree):
        for name in ("body", "orelse"):
            if isinstance(body := getattr(node, name, None), list):
                body[:] = [item for item in body if not isinstance(item, (ast.Expr, ast.Pass))]
    return ast.dump(tree)


def test_source_that_is_no_python_is_taken_apart_all_the_same():
    assert separate("") == ("", "\n")
    assert separate("print 'x' ''' # unfinished\n")[1].startswith("print 'x'")
    assert separate(")))\n'prose'\n")[1] == ")))\n'prose'\n"


def test_a_long_text_is_cut_at_line_ends_and_lost_nowhere():
    text = "".join(f"line {n}\n" for n in range(1000)) + "x" * 700 + "\nend"
    pieces = split_text(text, 300)
    assert "".join(pieces) == text
    assert max(map(len, pieces)) <= 300
    assert all(piece.endswith("\n") for piece in pieces if "line" in piece)
    assert split_text("short") == ["short"]


def test_a_listing_shows_no_addresses_and_sorts_what_has_no_order():
    source = b"def f(x):\n    return x in {'b', 'a', 1}\ny = lambda: 0\n"
    listing = bytecode_listing(source, "m.py")
    assert "frozenset({'a', 'b', 1})" in listing
    assert "Disassembly of <module>:" in listing
    assert "Disassembly of f:" in listing
    assert " at 0x" not in listing


def test_a_character_line_holds_code_point_name_category_and_decomposition():
    assert character_lines([0x41, 0xE9, 0, 0x4E00, 0xAC00, 0xD800]) == (
        "A  U+0041  LATIN CAPITAL LETTER A  Lu\n"
        "é  U+00E9  LATIN SMALL LETTER E WITH ACUTE  Ll  0065 0301\n"
    )


def test_help_topics_are_read_without_running_the_module():
    assert help_topics(b"# x\ntopics = {'a': 'one' 'two'}\n") == {"a": "onetwo"}
    for source in (b"", b"import os\n", b"topics = open('x')\n", b"topics = 5"):
        with pytest.raises((ValueError, TypeError)):
            help_topics(source)


# --- an installation made up for the tests -----------------------------------------------------


@pytest.fixture
def install(tmp_path):
    stdlib, include = tmp_path / "lib", tmp_path / "include"
    code = "".join(f"def function_{n}(x):\n    return x + {n}\n\n\n" for n in range(100))
    files = {
        "json/decoder.py": MODULE + code,
        "json/__init__.py": "",
        "long.py": "\n".join(f"# Comment {n} on nothing.\nx = {n}" for n in range(6000)),
        "encodings/cp0.py": "decoding_table = (\n" + "    'x'\n" * 20 + ")\n",
        "html/entities.py": "html5 = {\n" + "    'a': 'b',\n" * 20 + "}\n",
        "pydoc_data/topics.py": f"topics = {{'assert': {'Assert. ' * 20!r}}}\n",
        "test/test_json.py": "# A test.\n" + code,
        "test/bad_coding.py": "# -*- coding: nothing-like-it -*-\n" + code,
        "lib2/tests/latin.py": "# -*- coding: latin-1 -*-\r\n# \xe9" + "x" * 80,
        "site-packages/other.py": code + "# of another package",
        "dist-packages/other.py": code + "# of another package",
        "sitecustomize.py": code + "# of this machine",
        "_sysconfigdata__linux.py": code + "# of this machine",
        "__pycache__/json.py": code + "# a cache",
    }
    for name, text in files.items():
        path = stdlib / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_bytes(text.encode("latin-1"))
    (stdlib / "test" / "bytes.py").write_bytes(b"x = '\xff'\n" * 20)
    header = "/* A header. */\n" * 10
    for name in ("Python.h", "cpython/code.h", "numpy/other.h"):
        (include / name).parent.mkdir(parents=True, exist_ok=True)
        (include / name).write_text(header)
    bundled = stdlib / "ensurepip" / "_bundled"
    bundled.mkdir(parents=True)
    with zipfile.ZipFile(bundled / "pip-1.0-py3-none-any.whl", "w") as wheel:
        for name in ("pip/a.py", "pip/_vendor/tomli/b.py", "pip/c.txt"):
            wheel.writestr(name, code)
    return PythonInstall(stdlib, include)


def test_an_installation_gives_its_own_parts_and_nothing_else(install):
    tally = DocumentTally()
    documents = list(embedded_documents(tally, install=install))
    made = [document for document in documents if document.domain != "unicode-names"]
    assert [(document.domain, document.id) for document in made] == [
        ("docstrings", "long.py#docs-001"),
        ("docstrings", "long.py#docs-002"),
        ("docstrings", "long.py#docs-003"),
        ("library-code", "long.py#code"),
        ("tables", "encodings/cp0.py#table"),
        ("tables", "html/entities.py#table"),
        ("docstrings", "json/decoder.py#docs"),
        ("library-code", "json/decoder.py#code"),
        ("bytecode", "json/decoder.py#bytecode"),
        ("help-topics", "pydoc_data/topics/assert"),
        ("library-tests", "lib2/tests/latin.py"),
        ("library-tests", "test/test_json.py"),
        ("c-headers", "include/Python.h"),
        ("c-headers", "include/cpython/code.h"),
        ("vendored-code", "pip/a.py"),
    ]
    assert tally.dropped == {"not text in its declared encoding": 2}
    assert tally.places == {
        "not text in its declared encoding": [
            str(install.stdlib / "test" / name) for name in ("bad_coding.py", "bytes.py")
        ]
    }
    assert tally.num_documents == len(documents)
    assert tally.num_bytes == sum(len(document.text.encode()) for document in documents)


def test_declared_encodings_and_line_ends_are_read(install):
    documents = embedded_documents(DocumentTally(), 1.0, install)
    texts = {document.id: document.text for document in documents}
    assert texts["lib2/tests/latin.py"].startswith("# -*- coding: latin-1 -*-\n# \xe9x")


def test_a_damaged_wheel_and_damaged_topics_are_counted(install):
    wheel = next((install.stdlib / "ensurepip" / "_bundled").iterdir())
    topics = install.stdlib / "pydoc_data" / "topics.py"
    wheel.write_bytes(b"no zip")
    topics.write_text("topics = open('x')\n")
    tally = DocumentTally()
    domains = {document.domain for document in embedded_documents(tally, install=install)}
    assert not domains & {"vendored-code", "help-topics"}
    assert tally.places["cannot be read"] == [str(topics), str(wheel)]


def test_the_fingerprint_follows_the_files(install):
    first = embedded_fingerprint(install)
    assert first == embedded_fingerprint(install)
    (install.stdlib / "site-packages" / "more.py").write_text("x = 1")
    assert first == embedded_fingerprint(install)
    (install.stdlib / "more.py").write_text("x = 1")
    assert first != embedded_fingerprint(install)


def test_a_python_without_source_is_refused(tmp_path):
    with pytest.raises(DocumentError, match="carries no library source"):
        next(embedded_documents(DocumentTally(), install=PythonInstall(tmp_path, tmp_path)))


# --- the running Python ------------------------------------------------------------------------


@pytest.fixture(scope="module")
def whole():
    tally = DocumentTally()
    return list(read_documents(CorpusConfig(source="embedded"), tally)), tally


def test_the_corpus_is_large_and_varied(whole):
    documents, tally = whole
    num_bytes = Counter()
    for document in documents:
        num_bytes[document.domain] += len(document.text.encode())
    assert sum(num_bytes.values()) == tally.num_bytes >= 10_000_000
    assert len(num_bytes) >= 5
    assert set(num_bytes) >= LOW_VALUE | {"docstrings", "library-code", "help-topics"}
    assert max(num_bytes.values()) <= 0.42 * tally.num_bytes
    low = sum(num_bytes[domain] for domain in LOW_VALUE)
    assert 0.1 < low / tally.num_bytes < 0.5
    assert tally.num_dropped < 0.01 * tally.num_documents
    assert embedded_bytes() == pytest.approx(tally.num_bytes, rel=0.1)
    assert estimate_bytes(CorpusConfig(source="embedded")) == embedded_bytes()


def test_documents_are_of_bounded_length_and_their_ids_unique(whole):
    documents, _ = whole
    assert max(len(document.text) for document in documents) <= MAX_CHARACTERS
    assert len({document.id for document in documents}) == len(documents)
    assert all(document.id.count("#") <= 1 for document in documents)
    assert all(document.text.strip() for document in documents)


def test_all_that_is_made_of_a_module_has_one_source(whole):
    documents, _ = whole
    domains = {}
    for document in documents:
        domains.setdefault(document.id.partition("#")[0], set()).add(document.domain)
    assert domains["json/decoder.py"] >= {"docstrings", "library-code"}
    together = {"docstrings", "library-code", "bytecode"}
    assert all(found <= together for found in domains.values() if len(found) > 1)


def test_docstrings_are_not_in_the_code_again(whole):
    documents, _ = whole
    texts = {document.id: document.text for document in documents}
    sentence = "Deserialize ``s`` (a ``str``, ``bytes`` or ``bytearray`` instance"
    assert sentence in texts["json/__init__.py#docs"]
    assert sentence not in texts["json/__init__.py#code"]


def test_a_slice_is_part_of_the_whole_and_the_same_in_every_process(whole):
    documents, _ = whole
    config = CorpusConfig(source="embedded", share=0.05)
    part = list(read_documents(config, DocumentTally()))
    assert 0 < len(part) < 0.15 * len(documents)
    positions = {document: number for number, document in enumerate(documents)}
    places = [positions[document] for document in part]
    assert places == sorted(places)
    program = (
        "import sys, test_embedded as t; print(t.digest(t.CorpusConfig.model_validate_json("
        "sys.argv[1])))"
    )
    seed = "1" if os.environ.get("PYTHONHASHSEED") != "1" else "2"
    result = subprocess.run(
        [sys.executable, "-c", program, config.model_dump_json()],
        cwd=Path(__file__).parent,
        env={**os.environ, "PYTHONHASHSEED": seed},
        capture_output=True,
        text=True,
        check=True,
    )
    assert result.stdout.strip() == digest(config)


def digest(config):
    """Hash over a corpus and its fingerprint, to compare between processes."""
    documents = [
        [document.id, document.domain, document.text]
        for document in read_documents(config, DocumentTally())
    ]
    return sha256(json.dumps([documents, corpus_fingerprint(config)]).encode()).hexdigest()


def test_the_fingerprint_of_a_slice_is_its_own():
    configs = [CorpusConfig(source="embedded", share=share) for share in (0.5, 1.0)]
    assert len(set(map(corpus_fingerprint, configs))) == 2


def test_a_document_is_small_and_hashable():
    assert len({Document("a", "b", "c"), Document("a", "b", "c")}) == 1
