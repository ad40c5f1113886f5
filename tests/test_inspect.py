import json
from dataclasses import asdict

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from click.testing import CliRunner

from conftest import tiny_recipe, write_rows
from miniplm.cli import main
from miniplm.data.parquet import ColumnFile, write_parquet
from miniplm.data.shards import Shard, open_shards
from miniplm.data.tokenizer import load_tokenizer, train_tokenizer
from miniplm.errors import ArtefactError, ConfigError, StageNotReadyError
from miniplm.manifest import StageSpec
from miniplm.report import formats
from miniplm.report.inspection_text import shown_lines
from miniplm.scoring.tables import ScoreInfo, write_scores
from miniplm.selection.config import SelectionConfig
from miniplm.selection.inspection import QUANTILES, inspect_scores, nearest, only_domain
from miniplm.selection.score_frames import frames
from miniplm.selection.score_query import collect, query
from miniplm.selection.scored_run import find_scored_run
from miniplm.selection.selector import select_sequences
from miniplm.selection.tables import write_selection
from miniplm.stage_runner import run_stage

NUM_ROWS = 90
TEXTS = [f"Row {number} has\x07 a [bold]bell[/bold]. Words follow." for number in range(NUM_ROWS)]


@pytest.fixture(scope="session")
def tokenizer_folder(tmp_path_factory):
    folder = tmp_path_factory.mktemp("tokenizer")
    train_tokenizer(TEXTS, 300, folder)
    return folder


def losses(role):
    generator = np.random.default_rng(len(role))
    return generator.uniform(1, 3, NUM_ROWS) + (role == "reference")


def write_role(folder, shards, role, *, order=None, without=(), model="m", **described):
    """Score tables of made-up losses; the fourth row has no target."""
    for shard in open_shards(shards):
        if shard.prefix.name in without:
            continue
        ids = shard.sequence_ids if order is None else shard.sequence_ids[::order]
        num_tokens = np.where(ids == 3, 0, shard.lengths[ids - shard.sequence_ids[0]] - 1)
        table = pa.table(
            {
                "sequence_id": ids,
                "log_prob": -losses(role)[ids] * num_tokens,
                "num_tokens": num_tokens.astype(np.int32),
                "num_bytes": 3 * num_tokens.astype(np.int64),
            }
        )
        info = ScoreInfo(model, "0", "float32", shard.info.shard_hash, **described)
        write_scores(folder / f"{shard.prefix.name}.parquet", table, info)


def select(run, name="refined", **fields):
    config = SelectionConfig(**fields)

    def work(folder):
        shards = run / "tokenize/candidates"
        score = run / "score"
        return select_sequences(shards, score / "teacher", score / "reference", config, 1, folder)

    spec = StageSpec(f"select/{name}", config.fingerprinted())
    return run_stage(run / "select" / name, spec, work)


@pytest.fixture
def run(tmp_path, tokenizer_folder):
    """A run with scores and without a selection."""
    rows = [[*ids, 0] for ids in load_tokenizer(tokenizer_folder)(TEXTS)["input_ids"]]
    folder = tmp_path / "run"
    shards = write_rows(folder / "tokenize/candidates", rows, per_shard=40, vocab_size=300)
    (folder / "tokenize/tokenizer").symlink_to(tokenizer_folder)
    for role in ("teacher", "reference"):
        write_role(folder / "score" / role, shards, role)
    return folder


def difference():
    score = losses("reference") - losses("teacher")
    score[3] = np.nan
    return score


def scores_of(run, selection=None):
    return frames(find_scored_run(run, selection))["scores"]


def inspect(*arguments):
    return CliRunner().invoke(main, ["inspect", *map(str, arguments)])


def test_the_table_of_scores(run):
    select(run)
    table = collect(scores_of(run)).sort("sequence_id")
    assert table["sequence_id"].to_list() == list(range(NUM_ROWS))
    assert table["shard"].to_list() == [f"data_{number // 40}" for number in range(NUM_ROWS)]
    assert table["domain"].to_list()[:2] == ["even", "odd"]
    assert table["num_bytes"].to_list() == [3 * n for n in table["num_tokens"]]
    for role in ("teacher", "reference"):
        expected = losses(role)
        expected[3] = np.nan
        np.testing.assert_allclose(table[role].fill_null(np.nan), expected, rtol=1e-12)
    np.testing.assert_allclose(table["difference_score"].fill_null(np.nan), difference())
    kept = table.filter("kept")["sequence_id"].to_list()
    selected = [
        pq.read_table(path)["sequence_id"].to_pylist()
        for path in sorted((run / "select/refined").glob("data_*"))
    ]
    assert kept == [number for part in selected for number in part]
    assert len(kept) == 44


def test_figures_are_those_of_numpy(run):
    manifest = select(run)
    found = inspect_scores(scores_of(run))
    score = difference()[~np.isnan(difference())]
    np.testing.assert_allclose(
        found.quantiles["difference_score"], np.quantile(score, QUANTILES), rtol=1e-12
    )
    assert found.quantiles["num_tokens"] != found.quantiles["num_bytes"]
    assert (found.num_sequences, found.num_scored, found.num_kept) == (NUM_ROWS, NUM_ROWS - 1, 44)
    assert found.num_sampled == NUM_ROWS
    assert found.variance_between_domains == pytest.approx(
        manifest.facts["variance_between_domains"], rel=1e-9
    )
    for domain in found.domains:
        expected = manifest.facts["domains"][domain.domain]
        own = difference()[0 if domain.domain == "even" else 1 :: 2]
        own = own[~np.isnan(own)]
        assert domain.num_sequences == expected["num_sequences"]
        assert domain.num_kept == expected["num_kept"]
        assert domain.mean == pytest.approx(expected["mean_score"])
        assert domain.median == pytest.approx(np.median(own))
        assert [domain.low, domain.high] == pytest.approx(np.quantile(own, [0.05, 0.95]))
    means = [domain.mean for domain in found.domains]
    assert means == sorted(means, reverse=True)


def test_beyond_millions_of_rows_quantiles_are_of_a_sample(run, monkeypatch):
    whole = inspect_scores(scores_of(run))
    monkeypatch.setattr("miniplm.selection.inspection._ALL_ROWS", 50)
    monkeypatch.setattr("miniplm.selection.inspection._SAMPLE_ROWS", 40)
    part = inspect_scores(scores_of(run))
    assert 30 < part.num_sampled < 50
    assert part.num_scored == whole.num_scored
    assert [d.mean for d in part.domains] == pytest.approx([d.mean for d in whole.domains])
    assert part.quantiles != whole.quantiles
    assert "of 4" in inspect(run).output.split("Quantiles ")[1][:8]


def test_rows_are_joined_by_id(run):
    straight = collect(scores_of(run)).sort("sequence_id")
    write_role(run / "score/teacher", run / "tokenize/candidates", "teacher", order=-1)
    assert collect(scores_of(run)).sort("sequence_id").equals(straight)


@pytest.mark.parametrize("normalization", ["per_token", "per_byte", "sum"])
def test_losses_are_those_of_the_selection(run, normalization):
    select(run, normalization=normalization)
    tables = frames(find_scored_run(run))
    joined = collect(tables["kept"].join(tables["scores"], on="sequence_id", suffix="_here"))
    assert len(joined) == 44
    np.testing.assert_allclose(
        joined["difference_score"], joined["difference_score_here"], rtol=1e-6
    )


def test_the_nearest_rows(run):
    found = nearest(scores_of(run), 1.0, 4)
    score = difference()
    order = np.argsort(np.abs(score - 1.0))[:4]
    assert {row["sequence_id"] for row in found} == set(order.tolist())
    shown = [row["difference_score"] for row in found]
    assert shown == sorted(shown)
    odd = nearest(only_domain(scores_of(run), "odd"), 1.0, 4)
    assert {row["domain"] for row in odd} == {"odd"}
    with pytest.raises(ConfigError, match="no sequence is of 'evn'; did you mean 'even'"):
        only_domain(scores_of(run), "evn")


def test_queries(run):
    select(run)
    tables = frames(find_scored_run(run))
    answer = query(
        tables,
        "SELECT s.domain, COUNT(*) AS n FROM scores s JOIN kept k "
        "ON s.sequence_id = k.sequence_id GROUP BY s.domain ORDER BY s.domain",
        None,
    )
    assert answer["n"].sum() == 44
    assert len(query(tables, "select * from scores", 7)) == 7
    nested = " WITH a AS (SELECT * FROM scores) SELECT * FROM a"
    assert len(query(tables, nested, None)) == NUM_ROWS


@pytest.mark.parametrize(
    "sql",
    [
        "SELECT foo FROM scores", "SELECT * FROM nothing", "SELECT FROM WHERE", "",
        "DROP TABLE scores", "CREATE TABLE a AS SELECT * FROM scores", "DELETE FROM scores",
        "SELECT 1; DROP TABLE scores",
    ],
)  # fmt: skip
def test_queries_that_cannot_be_answered_name_the_columns(run, sql):
    with pytest.raises(ConfigError, match="the table scores has sequence_id"):
        query(frames(find_scored_run(run)), sql, None)


def test_a_run_without_a_selection(run):
    result = inspect(run)
    assert result.exit_code == 0, result.output
    assert "no selection of these scores is complete" in result.output
    assert "difference score" in result.output
    assert list(frames(find_scored_run(run))) == ["scores"]


def test_a_selection_that_is_not_complete_is_not_looked_at(run):
    select(run)
    (run / "select/refined/manifest.json").unlink()
    assert find_scored_run(run).selection is None
    with pytest.raises(ConfigError, match=r"there is no 'refined' in .*; none is complete"):
        find_scored_run(run, "refined")


def test_a_selection_by_name(run):
    select(run, "half")
    select(run, "tenth", ratio=0.1)
    assert find_scored_run(run).selection == "half"
    assert inspect_scores(scores_of(run, "tenth")).num_kept == 8
    with pytest.raises(ConfigError, match="complete are half, tenth"):
        find_scored_run(run, "third")


def test_a_run_of_which_half_is_scored(run):
    for path in (run / "score/reference").iterdir():
        path.unlink()
    write_role(
        run / "score/reference", run / "tokenize/candidates", "reference", without=("data_1",)
    )
    found = inspect_scores(scores_of(run))
    assert (found.num_sequences, found.num_scored) == (NUM_ROWS, 49)
    for path in (run / "score/reference").iterdir():
        path.unlink()
    found = inspect_scores(scores_of(run))
    assert found.num_scored == 0
    assert found.variance_between_domains is None
    result = inspect(run, "--examples", 2)
    assert result.exit_code == 0, result.output
    assert "90 without a difference score" in result.output


def test_a_run_without_scores(tmp_path):
    with pytest.raises(StageNotReadyError, match="holds no scores"):
        find_scored_run(tmp_path)
    result = inspect(tmp_path)
    assert result.exit_code == 1
    assert "Run `miniplm score RECIPE` first" in result.output
    assert "no such file" in inspect(tmp_path / "nowhere.yaml").output


def test_files_of_other_shards_are_refused(run):
    select(run)
    rows = [Shard(run / "tokenize/candidates/data_0").row(i)[1:] for i in range(40)]
    write_rows(run / "tokenize/candidates", rows, vocab_size=300)
    with pytest.raises(ArtefactError, match="scores of another token shard"):
        scores_of(run)
    for role in ("teacher", "reference"):
        write_role(run / "score" / role, run / "tokenize/candidates", role)
    with pytest.raises(ArtefactError, match="selects from other token shards or scores"):
        scores_of(run, "refined")


def test_a_run_that_is_scored_again_shows_its_new_scores(run):
    """Older selections, and the scores of the role whose turn has not come, are left out."""
    select(run, "old")
    rows = [Shard(run / "tokenize/candidates/data_0").row(i)[1:] for i in range(40)]
    rows += [Shard(run / "tokenize/candidates/data_1").row(i) for i in range(40)]
    shards = write_rows(run / "tokenize/candidates", rows, per_shard=40, vocab_size=300)
    shards.joinpath("data_2.idx").unlink()
    for path in (run / "score/teacher").iterdir():
        path.unlink()
    write_role(run / "score/teacher", shards, "teacher", without=("data_0",))
    result = inspect(run)
    assert result.exit_code == 0, result.output
    for old in ("selection 'old'", "the reference's scores"):
        assert f"left out, being of other shards or scores than these: {old}" in result.output
    assert "80 candidates, 80 without a difference score" in result.output
    write_role(run / "score/teacher", shards, "teacher")
    write_role(run / "score/reference", shards, "reference")
    select(run, "z-new")
    found = find_scored_run(run)
    assert (found.selection, found.left_out) == ("z-new", ("selection 'old'",))
    assert json.loads(inspect(run, "--json").output)["left_out"] == ["selection 'old'"]
    assert "selection 'old'" in inspect(run, "--sql", "select count(*) as n from kept").output


def test_a_selection_of_scores_that_were_made_again_is_left_out(run):
    select(run)
    write_role(run / "score/teacher", run / "tokenize/candidates", "teacher", model="another")
    assert find_scored_run(run).left_out == ("selection 'refined'",)
    with pytest.raises(ArtefactError, match="or leave out --selection"):
        find_scored_run(run, "refined")


def test_scores_in_tokens_of_a_models_own_are_shown_per_byte(run):
    own = {"tokenizer": "abc", "normalization": "per_byte"}
    write_role(run / "score/teacher", run / "tokenize/candidates", "teacher", **own)
    assert "losses in nats per byte" in inspect(run).output
    table = collect(scores_of(run)).sort("sequence_id")
    np.testing.assert_allclose(table["teacher"][:3], losses("teacher")[:3] / 3)
    np.testing.assert_allclose(table["reference"][:3], losses("reference")[:3] / 3)


def test_tables_that_cannot_be_compared_as_a_selection_does_are_refused(run):
    select(run)
    found = find_scored_run(run)
    own = {"tokenizer": "abc", "normalization": "per_byte"}
    write_role(run / "score/teacher", run / "tokenize/candidates", "teacher", **own)
    with pytest.raises(ArtefactError, match="Set normalization: per_byte"):
        frames(found)


def kept_tables(run, columns_by_shard):
    """Selections of shards, written again with some columns and, if there are any, one row."""
    for number, columns in enumerate(columns_by_shard):
        path = run / f"select/refined/data_{number}.parquet"
        extra = {name: np.full(1, 2) for name in columns or []}
        ids = np.array([] if columns is None else [40 * number], np.int64)
        write_selection(path, ids, ids.astype(np.float32), extra, ColumnFile(path).metadata)


def test_a_shard_of_which_nothing_is_kept_may_lack_columns(run):
    select(run)
    kept_tables(run, [None, ["repeats"], ["repeats"]])
    sql = "select count(*) as n, sum(repeats) as drawn from kept"
    answer = query(frames(find_scored_run(run)), sql, None)
    assert answer.to_dicts() == [{"n": 2, "drawn": 4}]
    kept_tables(run, [[], ["repeats"], ["repeats"]])
    with pytest.raises(ArtefactError, match="unlike columns"):
        frames(find_scored_run(run))


def test_examples_are_printed_with_their_text(run):
    select(run)
    result = inspect(run, "--near", 0.9, "--examples", 2)
    assert result.exit_code == 0, result.output
    for row in nearest(scores_of(run), 0.9, 2):
        number = row["sequence_id"]
        assert f"sequence {number} of data_{number // 40}, {row['domain']}" in result.output
        assert f"from source-{number}" in result.output
        assert f"Row {number} has␇ a [bold]bell[/bold]." in result.output
    threshold = json.loads((run / "select/refined/manifest.json").read_text())["facts"]["threshold"]
    assert f"{threshold:.3f} = " in inspect(run, "--examples", 1).output


def test_json(run):
    select(run)
    printed = json.loads(inspect(run, "--json", "--near", 1, "--domain", "odd").output)
    found = inspect_scores(only_domain(scores_of(run), "odd"))
    assert printed["selection"] == "refined"
    assert printed["quantiles"] == found.quantiles
    assert len(printed["domains"]) == 1
    expected = asdict(found.domains[0])
    assert printed["domains"][0].keys() == expected.keys()
    assert printed["domains"][0]["median"] == expected["median"]
    assert len(printed["examples"]) == 3
    example = printed["examples"][0]
    assert example["text"] == TEXTS[example["sequence_id"]]
    assert example["source_ids"] == [f"source-{example['sequence_id']}"]
    sql = "select sequence_id, difference_score from scores order by sequence_id"
    rows = json.loads(inspect(run, "--json", "--sql", sql).output)
    assert len(rows) == NUM_ROWS
    assert rows[3] == {"sequence_id": 3, "difference_score": None}


def test_losses_that_a_proxy_predicted_are_told_apart(run):
    for path in sorted((run / "score/teacher").glob("data_*.parquet")):
        table = pq.read_table(path)
        predicted = np.arange(table.num_rows) % 4 > 0
        origin = ColumnFile(path).metadata
        path.unlink()
        write_parquet(path, table.append_column("predicted", pa.array(predicted)), origin)
    num_rows = len(collect(scores_of(run)))
    answer = inspect(run, "--sql", "SELECT sum(predicted) AS n FROM scores", "--json")
    (told,) = json.loads(answer.output)
    assert told["n"] == json.loads(inspect(run, "--json").output)["num_predicted"]
    assert told["n"] > 0.7 * num_rows
    share = formats.percent(told["n"] / num_rows)
    assert f"{share} of the teacher's losses are predicted by a proxy" in inspect(run).output
    assert inspect(run, "--domain", "even").exit_code == 0
    (run / "score/teacher/data_1.parquet").unlink()
    assert collect(scores_of(run))["predicted"].null_count() == 40


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["--sql", "SELECT 1 FROM scores", "--domain", "even"], "is a question of its own"),
        (["--sql", "SELECT 1 FROM scores", "--near", "1"], "without --near"),
        (["--near", "nan"], "takes a score, such as 0.25; given: nan"),
    ],
)
def test_questions_that_do_not_go_together(run, arguments, message):
    answer = inspect(run, *arguments)
    assert answer.exit_code == 1
    assert message in answer.output


def test_an_answer_is_cut_and_says_so(run):
    result = inspect(run, "--sql", "select sequence_id from scores order by sequence_id")
    assert result.exit_code == 0, result.output
    assert "│          49 │" in result.output
    assert "│          50 │" not in result.output
    assert "the first 50 rows" in result.output
    result = inspect(run, "--sql", "select nothing from scores")
    assert result.exit_code == 1
    assert "the table scores has" in result.output
    assert "Traceback" not in result.output
    assert "the first" not in inspect(run, "--sql", "select 1 as one from scores limit 50").output


def test_a_recipe_names_its_run(run, tmp_path, corpus_folder):
    path = tmp_path / "recipe.yaml"
    path.write_text(json.dumps(tiny_recipe(corpus_folder, run)))
    assert inspect(path).output == inspect(run).output
    assert "90 candidates" in inspect(path).output


def test_long_lines_are_wrapped_and_the_rest_is_counted():
    assert shown_lines("    word word word", 14, 2) == ["    word word", "    word"]
    assert shown_lines("x" * 50, 20, 2) == ["x" * 20, "x" * 20, "… 10 more characters"]
    assert shown_lines("\n \n", 20, 2) == []
