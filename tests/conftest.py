"""Shared fixtures: small corpora, shards and models made on the spot, no network."""

import json
import os
from pathlib import Path

os.environ.setdefault("HF_HUB_OFFLINE", "1")
os.environ.setdefault("HF_DATASETS_OFFLINE", "1")
os.environ.setdefault("TOKENIZERS_PARALLELISM", "true")
if "PYTEST_XDIST_WORKER" in os.environ:
    os.environ.setdefault("OMP_NUM_THREADS", "1")  # a test process for every core is enough

import numpy as np
import pytest
from hypothesis import settings

from browser import chromium  # noqa: F401  (a fixture)
from miniplm.data import encoder_check
from miniplm.data.shards import make_sidecar, write_shard
from miniplm.model import ModelConfig, ShapeConfig, build_model, model_config

settings.register_profile("no-clock", deadline=None)  # a busy machine fails no test
settings.load_profile("no-clock")

SHARED_DATA = Path(__file__).resolve().parents[2] / "shared" / "data"

FAMILIES = {
    "qwen2": ShapeConfig(
        family="qwen2", hidden_size=32, intermediate_size=64, num_layers=2, num_heads=4,
        num_kv_heads=2, tie_embeddings=True,
    ),
    "llama": ShapeConfig(
        family="llama", hidden_size=32, intermediate_size=64, num_layers=2, num_heads=4
    ),
    "gpt_neox": ShapeConfig(
        family="gpt_neox", hidden_size=32, intermediate_size=64, num_layers=2, num_heads=4
    ),
    "mamba": ShapeConfig(family="mamba", hidden_size=32, num_layers=2, extra={"state_size": 8}),
}  # fmt: skip


@pytest.fixture(scope="session")
def shared_data():
    if not SHARED_DATA.is_dir():
        pytest.skip(f"the project's shared data is not at {SHARED_DATA}")
    return SHARED_DATA


_ALL_CHARACTERS = encoder_check._RANGES


@pytest.fixture(scope="session", autouse=True)
def _few_characters():
    """Encoders are proven at each start; where that is not the matter, on few characters."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(encoder_check, "_RANGES", [(0x80, 0x180), (0x1F600, 0x1F650)])
        yield


@pytest.fixture(scope="module")
def all_characters(_few_characters):
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(encoder_check, "_RANGES", _ALL_CHARACTERS)
        yield


def tiny_model(family="qwen2", vocab_size=128, max_length=64, seed=0):
    """A model of a family with random weights, large enough that its losses differ."""
    import torch

    model = build_model(
        model_config(ModelConfig(shape=FAMILIES[family]), vocab_size, max_length), seed
    )
    with torch.no_grad():
        for name, parameter in model.named_parameters():
            if parameter.dim() >= 2 and "A_log" not in name:
                parameter.mul_(6.0)
    return model.eval()


def write_rows(folder, rows, *, per_shard=1000, vocab_size=128, eos_id=0, max_length=64):
    """Token shards from lists of ids; domains alternate, each row is its own source."""
    for number, begin in enumerate(range(0, len(rows), per_shard)):
        part = [np.array(row, dtype=np.int32) for row in rows[begin : begin + per_shard]]
        ids = np.arange(begin, begin + len(part), dtype=np.int64)
        sidecar = make_sidecar(
            ids,
            ["even" if index % 2 == 0 else "odd" for index in ids],
            np.array([len(row) for row in part], dtype=np.int32),
            np.array([3 * len(row) for row in part], dtype=np.int64),
            [[f"source-{index}"] for index in ids],
        )
        write_shard(
            folder / f"data_{number}", part, sidecar,
            vocab_size=vocab_size, eos_id=eos_id, max_length=max_length,
        )  # fmt: skip
    return folder


def random_rows(count, seed=0, vocab_size=128, longest=65):
    """Rows of random lengths with an end-of-text id here and there."""
    generator = np.random.default_rng(seed)
    rows = []
    for _ in range(count):
        row = generator.integers(1, vocab_size, generator.integers(2, longest + 1))
        row[generator.random(len(row)) < 0.05] = 0
        rows.append(row.tolist())
    return rows


WORDS = (
    "the cat sat on a mat and saw one big dog run to its red house by some old tree "
    "while two birds sang in rain"
).split(" ")


def sentences(generator, count):
    lines = []
    for _ in range(count):
        words = generator.choice(WORDS, generator.integers(4, 12))
        lines.append(" ".join(words).capitalize() + ".")
    return " ".join(lines)


@pytest.fixture(scope="session")
def corpus_folder(tmp_path_factory):
    """Two domains of JSON lines: prose of a small vocabulary, and tables of numbers."""
    folder = tmp_path_factory.mktemp("corpus")
    generator = np.random.default_rng(7)
    with (folder / "prose-000.jsonl").open("w", encoding="utf-8") as file:
        for index in range(160):
            record = {"text": sentences(generator, 12), "id": f"prose/{index}"}
            file.write(json.dumps(record) + "\n")
    with (folder / "tables-000.jsonl").open("w", encoding="utf-8") as file:
        for index in range(80):
            rows = generator.integers(0, 999, (20, 4))
            text = "\n".join("\t".join(map(str, row)) for row in rows)
            file.write(json.dumps({"text": text, "id": f"tables/{index}"}) + "\n")
    return folder


def tiny_recipe(corpus_folder, run_dir):
    """A whole run in seconds, as plain values."""
    shape = {"family": "qwen2", "hidden_size": 16, "intermediate_size": 32, "num_layers": 1,
             "num_heads": 2, "tie_embeddings": True}  # fmt: skip
    training = {
        "budget": {"steps": 6}, "lr": 1e-3, "warmup_steps": 2, "global_batch_size": 4,
        "precision": "float32", "log_every_steps": 1, "checkpoint_every_steps": 2,
        "eval_every_steps": 3,
    }  # fmt: skip
    return {
        "name": "tiny",
        "run_dir": str(run_dir),
        "corpus": {"source": "files", "paths": [str(corpus_folder)]},
        "splits": {"reference": 0.2, "teacher": 0.2, "held_out": 0.15},
        "tokenizer": {"vocab_size": 320},
        "packing": {"max_length": 64, "sequences_per_shard": 50},
        "teacher": {"shape": {**shape, "hidden_size": 32}, "training": training},
        "reference": {"shape": shape, "training": training},
        "scoring": {"dtype": "float32"},
        "training": training,
        "students": {
            "plain": {"shape": shape},
            "miniplm": {"shape": shape, "corpus": "refined"},
        },
    }
