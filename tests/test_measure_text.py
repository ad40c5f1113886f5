"""`miniplm measure --text`: models side by side on any text, without a recipe."""

import json

import numpy as np
import pytest
import torch
from click.testing import CliRunner

from conftest import FAMILIES, sentences
from miniplm.cli import main
from miniplm.data.documents import CorpusConfig
from miniplm.data.tokenizer import load_tokenizer, train_tokenizer
from miniplm.evaluation.averages import AVERAGE
from miniplm.evaluation.measured_models import measured_models
from miniplm.evaluation.texts import measure_texts
from miniplm.model import ModelConfig, build_model, model_config

LENGTH = 16


@pytest.fixture(scope="module")
def text_file(tmp_path_factory):
    path = tmp_path_factory.mktemp("text") / "some.jsonl"
    generator = np.random.default_rng(0)
    rows = [
        {"text": sentences(generator, 1 + n % 3), "id": f"d{n}", "kind": "noise" if n % 3 else "a"}
        for n in range(12)
    ]
    path.write_text("\n".join(json.dumps(row) for row in rows), encoding="utf-8")
    return path


@pytest.fixture(scope="module")
def folders(tmp_path_factory, text_file):
    """Two models with one tokenizer."""
    root = tmp_path_factory.mktemp("models")
    texts = [json.loads(line)["text"] for line in text_file.read_text().splitlines()]
    train_tokenizer(texts * 3, 300, root / "tokenizer")
    tokenizer = load_tokenizer(root / "tokenizer")
    shape = model_config(ModelConfig(shape=FAMILIES["qwen2"]), len(tokenizer), LENGTH)
    for seed, name in enumerate(("one", "other")):
        model = build_model(shape, seed)
        with torch.no_grad():
            for parameter in model.parameters():
                if parameter.dim() >= 2:
                    parameter.mul_(6.0)
        model.save_pretrained(root / name)
        tokenizer.save_pretrained(root / name)
    return [root / "one", root / "other"]


def measure(*words):
    return CliRunner().invoke(main, ["measure", *map(str, words)])


def test_models_are_measured_and_compared_on_the_same_documents(folders, text_file, tmp_path):
    options = ["--text", text_file, "--domain-field", "kind", "--set-apart", "noise"]
    result = measure(*folders, *options, "--out", tmp_path / "out")
    assert result.exit_code == 0, result.output
    assert "average of domains, less one" in result.output
    written = json.loads((tmp_path / "out/results.json").read_text())["text"]
    assert list(written) == [str(folder) for folder in folders]
    for model in measured_models([str(folder) for folder in folders]):
        corpus = CorpusConfig(
            source="files", paths=[str(text_file)], domain_from="field", domain_field="kind"
        )
        wanted = measure_texts(
            model.load("float32"), model.tokenizer(), corpus, set_apart=["noise"]
        )
        lines = {line["domain"]: line["bits_per_byte"] for line in written[model.name]}
        assert lines == {line.domain: line.bits_per_byte for line in wanted.lines}
        assert lines[AVERAGE] == lines["a"]


def test_what_was_measured_is_not_measured_again(folders, text_file, tmp_path):
    options = ["--text", text_file, "--out", tmp_path / "out"]
    assert measure(folders[0], *options).exit_code == 0
    manifest = next((tmp_path / "out/text").glob("*/manifest.json"))
    before = manifest.stat().st_mtime_ns
    assert measure(*folders, *options).exit_code == 0
    assert manifest.stat().st_mtime_ns == before
    # another stride is another measurement; the first one is set aside, not lost
    assert measure(folders[0], *options, "--stride", 4).exit_code == 0
    assert manifest.stat().st_mtime_ns != before
    assert any((tmp_path / "out/superseded").iterdir())


def test_the_text_may_be_in_another_field(folders, text_file, tmp_path):
    rows = [json.loads(line) for line in text_file.read_text().splitlines()]
    renamed = [{"content": row.pop("text"), **row} for row in rows]
    other = tmp_path / "other.jsonl"
    other.write_text("".join(json.dumps(row) + "\n" for row in renamed))
    found = []
    for path, field in ((text_file, "text"), (other, "content")):
        out = tmp_path / field
        words = ["--text", path, "--text-field", field, "--domain-field", "kind", "--out", out]
        result = measure(folders[0], *words)
        assert result.exit_code == 0, result.output
        found.append(json.loads((out / "results.json").read_text()))
    assert found[0] == found[1]


@pytest.mark.parametrize(
    ("options", "said"),
    [
        ([], "say what to measure"),
        (["--text", "nowhere.jsonl"], "nowhere.jsonl"),
        (["--text", "TEXT", "--window", 8, "--stride", 9], "more than the 8 tokens"),
        (["--text", "TEXT", "--domain-field", "knd"], "knd"),
        (["--text", "TEXT", "--window", 99], "serves 16; give that or less"),
        (["--text", "TEXT", "--domain-field", "kind", "--set-apart", "*"], "every domain"),
        (["--text", "TEXT", "--stride", 17], "--stride"),
    ],
)
def test_mistakes_are_told(folders, text_file, tmp_path, options, said):
    words = [text_file if word == "TEXT" else word for word in options]
    result = measure(folders[0], *words, "--out", tmp_path / "out")
    assert result.exit_code != 0
    assert said in result.output + str(result.exception)


def test_a_folder_beside_a_model_is_told(folders, text_file, tmp_path):
    (tmp_path / "model").symlink_to(folders[0])
    said = measure(tmp_path, "--text", text_file).output
    assert f"Did you mean {tmp_path / 'model'}?" in said
    said = measure(tmp_path / "nowhere", "--text", text_file).output
    assert f"There is no folder {tmp_path / 'nowhere'}." in said
