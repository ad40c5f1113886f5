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
        assert {kind: each[kind] for kind in ("num_sequences", "num_counted")} == {
            kind: described[name][kind] for kind in ("num_sequences", "num_counted")
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
    found, left = manifests["duplicates"].counts, manifests["distinct"].counts
    assert left["dropped"]["near-duplicate"] == found["redundant"] > 10
    assert left["kept"] == found["sequences"] - found["redundant"]
    for stage in ("score/teacher", "select/refined", "describe/refined"):
        assert manifests[stage].counts["sequences"] == left["kept"]
    ids = [
        row
        for shard in open_shards(run_dir / "export/refined/shards")
        for row in shard.sequence_ids.tolist()
    ]
    assert len(ids) == manifests["select/refined"].counts["kept"]
    assert find_scored_run(run_dir).shards_folder == run_dir / "distinct/shards"
    assert {path.name for path in (run_dir / "distinct").iterdir()} == {"shards", "manifest.json"}
    assert "left out before anything was scored" in (run_dir / "report/index.html").read_text()


def test_leaving_out_looks_for_nothing_again(corpus_with_copies, tmp_path, monkeypatch):
    run_dir = tmp_path / "run"
    run(recipe_with(corpus_with_copies, run_dir, near_duplicates={}), ["tokenize", "duplicates"])
    looked_again = []
    monkeypatch.setattr(
        "miniplm.selection.near_duplicates.find_near_duplicates", looked_again.append
    )
    recipe = recipe_with(corpus_with_copies, run_dir, near_duplicates={"keep": "first"})
    found, left = run(recipe, ["duplicates", "distinct"])
    assert looked_again == []
    assert left.counts["dropped"]["near-duplicate"] == found.counts["redundant"]
    assert left.num_tokens < found.num_tokens


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
    assert looked["duplicates"] == dropped["duplicates"]
    assert "distinct" not in looked
    similar = {"near_duplicates": {"keep": "first", "similarity": 0.7}}
    assert specs(recipe_with(corpus_folder, tmp_path, **similar))["distinct"] != dropped["distinct"]
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
    ("number", "stages"),
    [
        ("candidates.GROUP_FORMAT", {"group", "describe/refined", "report"}),
        ("corpora.DESCRIPTION_FORMAT", {"describe/refined", "report"}),
    ],
)
def test_what_another_format_redoes(corpus_folder, tmp_path, monkeypatch, number, stages):
    recipe = recipe_with(corpus_folder, tmp_path, grouping=GROUPING)
    before = specs(recipe)
    monkeypatch.setattr(f"miniplm.road.{number}", 99)
    after = specs(recipe)
    assert {name for name in before if before[name] != after[name]} == stages


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


def test_a_plan_knows_what_is_left(corpus_with_copies, tmp_path):
    sections = {"near_duplicates": {"keep": "first"}, "grouping": GROUPING}
    recipe = recipe_with(corpus_with_copies, tmp_path / "run", **sections)
    run(recipe, kinds=["tokenize"])
    before = {step.name: step for step in make_plan(recipe).steps}
    assert before["group"].num_tokens == before["duplicates"].num_tokens
    _, left_over = run(recipe, kinds=["duplicates", "distinct"])
    after = {step.name: step for step in make_plan(recipe).steps}
    for name in ("duplicates", "distinct"):
        assert after[name].num_tokens == before[name].num_tokens == before["group"].num_tokens
    assert before["distinct"].num_bytes > after["distinct"].num_bytes > 0
    left = [after[name].num_tokens for name in ("group", "score/teacher", "score/reference")]
    assert left == [left_over.num_tokens] * 3 < [before["group"].num_tokens] * 3
