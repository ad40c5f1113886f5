"""Near-duplicates and groups on the road: what is left out, what is ranked, what is redone."""

import json
import shutil

import pytest

from conftest import tiny_recipe
from miniplm.data.shards import open_shards
from miniplm.errors import ConfigError
from miniplm.pipeline import run
from miniplm.planning import make_plan
from miniplm.recipe import make_recipe
from miniplm.road.road import Road
from miniplm.selection.cluster_tables import read_clusters
from miniplm.selection.scored_run import find_scored_run
from miniplm.selection.selector import select_sequences
from miniplm.selection.tables import read_selection

GROUPING = {"num_groups": 3, "num_components": 8, "sample_rows": 100}


@pytest.fixture(scope="module")
def corpus_with_copies(corpus_folder, tmp_path_factory):
    """The corpus of two domains, and a domain that says the same over and over."""
    folder = tmp_path_factory.mktemp("copies") / "corpus"
    shutil.copytree(corpus_folder, folder)
    with (folder / "copies-000.jsonl").open("w", encoding="utf-8") as file:
        for index in range(60):
            record = {"text": "the same line again\n" * 16, "id": f"copies/{index}"}
            file.write(json.dumps(record) + "\n")
    return folder


def recipe_with(corpus, run_dir, selection=None, **sections):
    content = {**tiny_recipe(corpus, run_dir), **sections}
    content["selections"] = {"refined": selection or {}}
    del content["students"]["plain"]
    return make_recipe(content, "tiny")


@pytest.fixture(scope="module")
def with_tables(corpus_with_copies, tmp_path_factory):
    """A finished run that ranks within groups and keeps one row of each cluster."""
    run_dir = tmp_path_factory.mktemp("tables") / "run"
    recipe = recipe_with(
        corpus_with_copies, run_dir, {"within": "group", "one_per_cluster": True, "ratio": 0.4},
        near_duplicates={}, grouping=GROUPING,
    )  # fmt: skip
    return run_dir, {manifest.stage: manifest for manifest in run(recipe)}


def test_one_row_of_a_cluster_is_kept(with_tables):
    run_dir, manifests = with_tables
    counts = manifests["duplicates"].counts
    assert counts["redundant"] > 10
    assert manifests["select/refined"].counts["near_duplicates"] == counts["redundant"]
    kept = []
    for shard in open_shards(run_dir / "tokenize/candidates"):
        name = f"{shard.prefix.name}.parquet"
        clusters = read_clusters(run_dir / "duplicates" / name, shard.info.shard_hash)
        of_row = dict(zip(clusters.sequence_ids.tolist(), clusters.clusters.tolist(), strict=True))
        selected = read_selection(run_dir / "select/refined" / name, shard.info.shard_hash)
        kept += [of_row[row] for row in selected.sequence_ids.tolist()]
    assert len(kept) == len(set(kept)) > 10


def test_the_same_share_of_every_group_is_kept(with_tables):
    _, manifests = with_tables
    facts = manifests["select/refined"].facts
    described = manifests["describe/refined"].facts["groups"]
    for name, each in facts["groups"].items():
        assert {kind: each[kind] for kind in ("num_sequences", "num_kept")} == {
            kind: described[name][kind] for kind in ("num_sequences", "num_kept")
        }
    groups = manifests["group"].facts["groups"]
    assert {name: each["num_sequences"] for name, each in facts["groups"].items()} == {
        f"group {each['group']}": each["num_sequences"] for each in groups
    }
    redundant = manifests["duplicates"].counts["redundant"]
    for each in facts["groups"].values():
        most = each["num_sequences"]
        assert int(0.4 * (most - redundant)) <= each["num_kept"] <= max(1, int(0.4 * most))


def test_the_page_names_groups_and_near_duplicates(with_tables):
    run_dir, manifests = with_tables
    page = (run_dir / "report/index.html").read_text(encoding="utf-8")
    assert "Near-duplicates" in page
    assert "the same line again" in page
    share = manifests["select/refined"].facts["groups"]["group 0"]
    assert f"{share['num_kept'] / share['num_sequences']:.0%}" in page


def test_near_duplicates_are_left_out_before_scoring(corpus_with_copies, tmp_path):
    run_dir = tmp_path / "run"
    recipe = recipe_with(corpus_with_copies, run_dir, near_duplicates={"keep": "first"})
    manifests = {manifest.stage: manifest for manifest in run(recipe)}
    found = manifests["duplicates"]
    assert found.counts["dropped"]["near-duplicate"] == found.counts["redundant"] > 10
    assert manifests["score/teacher"].counts["sequences"] == found.counts["kept"]
    assert manifests["select/refined"].counts["sequences"] == found.counts["kept"]
    assert manifests["describe/refined"].counts["sequences"] == found.counts["kept"]
    ids = [
        row
        for shard in open_shards(run_dir / "export/refined/shards")
        for row in shard.sequence_ids.tolist()
    ]
    assert len(ids) == manifests["select/refined"].counts["kept"]
    assert find_scored_run(run_dir).shards_folder == run_dir / "duplicates/shards"


def specs(recipe):
    return {step.name: step.spec.fingerprint for step in Road(recipe).steps}


def test_what_is_redone(corpus_folder, tmp_path):
    plain, looked, dropped, grouped = (
        specs(recipe_with(corpus_folder, tmp_path, **sections))
        for sections in (
            {},
            {"near_duplicates": {}},
            {"near_duplicates": {"keep": "first"}},
            {"grouping": GROUPING},
        )
    )
    models = ("train/teacher", "train/reference")
    scores = ("score/teacher", "score/reference")
    assert all(plain[step] == other[step] for other in (looked, dropped) for step in models)
    assert all(plain[step] == looked[step] == grouped[step] != dropped[step] for step in scores)
    assert plain["select/refined"] == looked["select/refined"] == grouped["select/refined"]
    assert plain["train/miniplm"] == grouped["train/miniplm"]
    assert plain["describe/refined"] != grouped["describe/refined"]
    within = specs(recipe_with(corpus_folder, tmp_path, {"within": "group"}, grouping=GROUPING))
    assert within["select/refined"] != grouped["select/refined"]
    best = specs(
        recipe_with(corpus_folder, tmp_path, {"one_per_cluster": True}, near_duplicates={})
    )
    assert best["select/refined"] != looked["select/refined"]


@pytest.mark.parametrize(
    ("selection", "sections", "message"),
    [
        ({"within": "group"}, {}, r"refined\.within: group, but nothing is grouped; give a"),
        ({"one_per_cluster": True}, {}, r"refined\.one_per_cluster: near-duplicates are not"),
        (
            {"one_per_cluster": True},
            {"near_duplicates": {"keep": "first"}},
            "leaves one of each cluster before anything is scored; remove one of the two",
        ),
    ],
)
def test_what_is_not_looked_for_cannot_be_asked_for(
    corpus_folder, tmp_path, selection, sections, message
):
    with pytest.raises(ConfigError, match=message):
        recipe_with(corpus_folder, tmp_path, selection, **sections)


def test_a_selection_without_its_tables_is_refused(tmp_path):
    from miniplm.selection.config import SelectionConfig

    config = SelectionConfig(within="group", one_per_cluster=True)
    with pytest.raises(ConfigError, match="2 faults"):
        select_sequences(tmp_path, tmp_path, tmp_path, config, 1, tmp_path / "out")


def test_a_stage_that_the_recipe_does_not_have_is_named(corpus_folder, tmp_path):
    with pytest.raises(ConfigError, match="has no duplicates stage; its stages: tokenize, "):
        run(recipe_with(corpus_folder, tmp_path / "run"), kinds=["duplicates"])


def test_a_plan_knows_what_is_left(corpus_with_copies, tmp_path):
    sections = {"near_duplicates": {"keep": "first"}, "grouping": GROUPING}
    recipe = recipe_with(corpus_with_copies, tmp_path / "run", **sections)
    run(recipe, kinds=["tokenize"])
    before = {step.name: step for step in make_plan(recipe).steps}
    assert before["group"].num_tokens == before["duplicates"].num_tokens
    (found,) = run(recipe, kinds=["duplicates"])
    after = {step.name: step for step in make_plan(recipe).steps}
    assert after["duplicates"].num_tokens == before["duplicates"].num_tokens
    left = [after[name].num_tokens for name in ("group", "score/teacher", "score/reference")]
    assert left == [found.num_tokens] * 3 < [before["group"].num_tokens] * 3
