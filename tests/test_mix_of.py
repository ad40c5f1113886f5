"""Random rows with the domain mix of another selection."""

import json

import polars as pl
import pytest

from conftest import tiny_recipe
from miniplm.errors import ArtefactError, ConfigError
from miniplm.pipeline import run
from miniplm.recipe import make_recipe
from miniplm.road.road import Road
from miniplm.selection.config import SelectionConfig
from miniplm.selection.mix_of import with_mix

MIXED = {"policy": "random", "mix_of": "refined"}


def recipe(corpus_folder, run_dir, **selections):
    content = tiny_recipe(corpus_folder, run_dir) | {"students": {}}
    return make_recipe(content | {"selections": {"refined": {"ratio": 0.4}, **selections}}, "test")


def test_as_many_rows_of_each_domain_are_kept_and_others(corpus_folder, tmp_path):
    made = recipe(corpus_folder, tmp_path / "run", mixed=MIXED)
    run(made, kinds=["tokenize", "train", "score", "select"])
    found = {}
    for name in ("refined", "mixed"):
        folder = tmp_path / "run/select" / name
        domains = json.loads((folder / "manifest.json").read_text())["facts"]["domains"]
        ids = pl.read_parquet(sorted(folder.glob("data_*.parquet")))["sequence_id"].to_list()
        found[name] = {d: facts["num_kept"] for d, facts in domains.items()}, ids
    (counts, ids), (mixed_counts, mixed_ids) = found["refined"], found["mixed"]
    assert mixed_counts == counts
    assert len(mixed_ids) == len(ids)
    assert set(mixed_ids) != set(ids)


def test_it_follows_the_selection_whose_mix_it_takes(corpus_folder, tmp_path):
    made = recipe(corpus_folder, tmp_path, mixed=MIXED, plain={"policy": "random", "ratio": 0.4})
    other = recipe(
        corpus_folder, tmp_path, refined={"ratio": 0.3}, mixed=MIXED,
        plain={"policy": "random", "ratio": 0.4},
    )  # fmt: skip
    before, after = Road(made), Road(other)
    for name, same in (("mixed", False), ("plain", True)):
        step = f"select/{name}"
        prints = before.step(step).spec.fingerprint, after.step(step).spec.fingerprint
        assert (prints[0] == prints[1]) == same


def test_shares_and_ratio_follow_from_the_counts():
    domains = {
        "a": {"num_kept": 30, "num_sequences": 60},
        "b": {"num_kept": 0, "num_sequences": 40},
    }
    config = with_mix(SelectionConfig(**MIXED), domains)
    assert (config.ratio, config.shares) == (0.3, {"a": 1.0, "b": 0.0})
    assert config.policy == "random"
    with pytest.raises(ArtefactError, match="keeps nothing"):
        with_mix(SelectionConfig(**MIXED), {"b": domains["b"]})


@pytest.mark.parametrize(
    ("selections", "message"),
    [
        ({"mixed": {"policy": "random", "mix_of": "refned"}}, "names a selection above it; there "),
        ({"mixed": {"policy": "random", "mix_of": "mixed"}}, "names a selection above it"),
        ({"mixed": {"policy": "random", "mix_of": "refined", "ratio": 0.2}}, "remove ratio"),
        ({"mixed": {**MIXED, "one_per_cluster": True}}, "remove one_per_cluster"),
        (
            {
                "narrow": {"schedule": [{"until": 0.5, "ratio": 1.0}, {"until": 1, "ratio": 0.3}]},
                "mixed": {**MIXED, "mix_of": "narrow"},
            },
            "'narrow' has a schedule",
        ),
        (
            {
                "drawn": {"policy": "sample", "replacement": True, "ratio": 0.5},
                "mixed": {**MIXED, "mix_of": "drawn"},
            },
            "'drawn' has a schedule or repeats rows",
        ),
        ({"mixed": {"mix_of": "refined"}}, "mix_of is given, which top_ratio does not read"),
    ],
)
def test_faults(corpus_folder, tmp_path, selections, message):
    with pytest.raises(ConfigError, match=message):
        recipe(corpus_folder, tmp_path, **selections)
