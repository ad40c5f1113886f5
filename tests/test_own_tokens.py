"""A teacher and a reference with different tokenizers score the same text."""

from dataclasses import replace

import numpy as np
import polars as pl
import pyarrow as pa
import pytest
import torch

from conftest import sentences, tiny_model, tiny_recipe, write_rows
from made_up_candidates import Row, select, write_candidates
from miniplm.data.parquet import ColumnFile
from miniplm.data.shards import open_shards
from miniplm.data.tokenizer import load_tokenizer, token_table, train_tokenizer
from miniplm.errors import ArtefactError, ConfigError, ModelError
from miniplm.evaluation.averages import OVERALL
from miniplm.evaluation.held_out import evaluate_model
from miniplm.pipeline import run
from miniplm.recipe import make_recipe
from miniplm.scoring.config import ScoringConfig
from miniplm.scoring.reencoding import OwnTokens, windows
from miniplm.scoring.scorer import score_shards
from miniplm.scoring.scoring_model import ScoringModel
from miniplm.scoring.tables import SEGMENT_COLUMNS, read_score_info, read_scores, write_scores
from miniplm.selection.scores import scored_shards

CONFIG = ScoringConfig(dtype="float32")
SENTENCES = [sentences(np.random.default_rng(seed), 3) for seed in range(30)]
HARD = ["naïve café — 漢字 🙂\r\n\ttabs", "  two  spaces\n\n\nlines\x00", "x" * 40, ""]


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    """Rows in the run's ids, and two tokenizers: the run's, and a model's own."""
    folder = tmp_path_factory.mktemp("own")
    train_tokenizer(SENTENCES * 3, 300, folder / "run")
    train_tokenizer(["1 22 333 cat dog the old house. " * 9, *SENTENCES[:9]], 290, folder / "own")
    run = load_tokenizer(folder / "run")
    texts = [*SENTENCES[:12], *HARD]
    encoded = [run(text)["input_ids"] for text in texts]
    eos = [run.eos_token_id]
    rows = [
        encoded[0] + eos + encoded[1],
        encoded[2] + eos,
        eos + encoded[3] + eos + eos + encoded[4],
        *([*ids, *eos] for ids in encoded[5:]),
    ]
    info = {"vocab_size": len(run), "eos_id": run.eos_token_id, "max_length": 256}
    write_rows(folder / "shards", rows, per_shard=8, **info)
    return folder


@pytest.fixture(scope="module")
def tokenizers(folder):
    return load_tokenizer(folder / "run"), load_tokenizer(folder / "own")


def own_model(length=512):
    return tiny_model("llama", vocab_size=320, max_length=length, seed=2)


def scorer(tokenizers, model=None, **changes):
    run, own = tokenizers
    tokens = OwnTokens(run, changes.pop("own", own), **changes)
    return ScoringModel(model or own_model(), "own", "f", "float32", tokens)


def table_of(scoring_model, folder, out):
    num_bytes_V = token_table(load_tokenizer(folder / "run")).num_bytes_V
    outcome = score_shards(scoring_model, folder / "shards", num_bytes_V, CONFIG, out)
    found = [
        read_scores(out / f"{shard.prefix.name}.parquet", shard.info.shard_hash)
        for shard in open_shards(folder / "shards")
    ]
    columns = ("log_prob", "num_tokens", "num_bytes")
    return outcome, {
        name: np.concatenate([table[name].to_numpy() for table in found]) for name in columns
    }


def texts_of(folder, run):
    """The texts between end-of-text of each row, and whether the row ends with one."""
    for shard in open_shards(folder / "shards"):
        for place in range(len(shard)):
            ids = shard.row(place).tolist()
            pieces, piece = [], []
            for token in ids:
                if token == run.eos_token_id:
                    pieces.append(piece)
                    piece = []
                else:
                    piece.append(token)
            ends = ids[-1] == run.eos_token_id
            if not ends:
                pieces.append(piece)
            yield [run.decode(each, skip_special_tokens=False) for each in pieces], ends


def direct(model, own, texts, ends, bos=()):
    """Plain transformers: log-probability, tokens and bytes of a row's text in own tokens."""
    ids = []
    for text in texts:
        ids += [*bos, *own(text, add_special_tokens=False)["input_ids"], own.eos_token_id]
    ids = torch.tensor(ids if ends else ids[:-1])
    if len(ids) < 2:
        return 0.0, 0, 0
    with torch.no_grad():
        logits = model(input_ids=ids[None, :-1], use_cache=False).logits[0].double()
    picked = torch.log_softmax(logits, -1).gather(1, ids[1:, None]).squeeze(1)
    counted = ~torch.isin(ids[:-1], torch.tensor([own.eos_token_id, *bos]))
    num_bytes = sum(
        len(own.decode([token]).encode())
        for token in ids[1:][counted].tolist()
        if token != own.eos_token_id
    )
    return float(picked[counted].sum()), int(counted.sum()), num_bytes


def test_scores_are_those_of_transformers_on_the_decoded_text(folder, tokenizers, tmp_path):
    run, own = tokenizers
    outcome, found = table_of(scorer(tokenizers), folder, tmp_path)
    expected = [direct(own_model(), own, *row) for row in texts_of(folder, run)]
    sums, counts, num_bytes = map(np.array, zip(*expected, strict=True))
    assert found["num_tokens"].tolist() == counts.tolist()
    np.testing.assert_allclose(found["log_prob"], sums, atol=2e-3)
    ascii_rows = slice(0, 10)  # where each id is decoded by itself to whole characters
    assert found["num_bytes"][ascii_rows].tolist() == num_bytes[ascii_rows].tolist()
    assert outcome.num_tokens == counts.sum()
    assert outcome.counts["sequences"] == len(counts)
    assert outcome.counts["in_windows"] == outcome.counts["with_replaced_characters"] == 0


def test_every_byte_but_those_of_first_tokens_is_counted(folder, tokenizers, tmp_path):
    run, own = tokenizers
    _, found = table_of(scorer(tokenizers), folder, tmp_path)
    lengths = token_table(own).num_bytes_V
    for num_bytes, (texts, _) in zip(
        found["num_bytes"].tolist(), texts_of(folder, run), strict=True
    ):
        ids = [own(text, add_special_tokens=False)["input_ids"] for text in texts]
        first = sum(int(lengths[each[0]]) for each in ids if each)
        assert num_bytes == sum(len(text.encode()) for text in texts) - first


def test_the_same_tokenizer_gives_the_scores_of_the_ids_themselves(folder, tokenizers, tmp_path):
    run, _ = tokenizers
    straight = ScoringModel(own_model(), "own", "f", "float32")
    _, expected = table_of(straight, folder, tmp_path / "ids")
    _, found = table_of(scorer(tokenizers, own=run), folder, tmp_path / "text")
    assert found["num_tokens"].tolist() == expected["num_tokens"].tolist()
    assert found["num_bytes"].tolist() == expected["num_bytes"].tolist()
    np.testing.assert_allclose(found["log_prob"], expected["log_prob"], atol=1e-3)


def test_windows_score_every_target_once():
    for num_ids in range(1, 40):
        for most in range(1, 12):
            targets = [
                target
                for begin, end, known in windows(num_ids, most)
                for target in range(begin + 1 + known, end)
            ]
            assert targets == list(range(1, num_ids))
            assert all(end - begin - 1 <= most for begin, end, _ in windows(num_ids, most))


def test_rows_that_a_model_does_not_serve_are_scored_in_windows(folder, tokenizers, tmp_path):
    run, own = tokenizers
    model = own_model()
    outcome, found = table_of(scorer(tokenizers, model, served=32), folder, tmp_path / "windows")
    _, whole = table_of(scorer(tokenizers, model), folder, tmp_path / "whole")
    assert found["num_tokens"].tolist() == whole["num_tokens"].tolist()
    assert found["num_bytes"].tolist() == whole["num_bytes"].tolist()
    assert 0 < outcome.counts["in_windows"] < outcome.counts["sequences"]
    row = 1  # one document and its end
    (text,), _ = list(texts_of(folder, run))[row]
    ids = torch.tensor([*own(text, add_special_tokens=False)["input_ids"], own.eos_token_id])
    expected = 0.0
    for begin in range(0, len(ids), 16):
        end = min(len(ids), begin + 33)
        with torch.no_grad():
            logits = model(input_ids=ids[None, begin : end - 1], use_cache=False).logits[0]
        log_probs = torch.log_softmax(logits.double(), -1)
        picked = log_probs.gather(1, ids[begin + 1 : end, None]).squeeze(1)
        expected += float(picked[16 if begin else 0 :].sum())
        if end == len(ids):
            break
    assert found["log_prob"][row] == pytest.approx(expected, abs=1e-3)


def test_a_family_that_begins_texts_with_bos_gets_it_before_every_piece(
    folder, tokenizers, tmp_path
):
    from tokenizers.processors import TemplateProcessing

    run, _ = tokenizers
    own = load_tokenizer(folder / "own")
    own.add_special_tokens({"bos_token": "<s>"})
    own.backend_tokenizer.post_processor = TemplateProcessing(
        single="<s> $A", special_tokens=[("<s>", own.bos_token_id)]
    )
    tokens = OwnTokens(run, own)
    assert tokens.bos_id == own.bos_token_id
    _, found = table_of(scorer(tokenizers, own=own), folder, tmp_path / "bos")
    expected = [
        direct(own_model(), own, *row, bos=[own.bos_token_id]) for row in texts_of(folder, run)
    ]
    np.testing.assert_allclose(found["log_prob"], [row[0] for row in expected], atol=2e-3)
    assert found["num_tokens"].tolist() == [row[1] for row in expected]
    _, plain = table_of(scorer(tokenizers), folder, tmp_path / "plain")
    assert found["num_bytes"].tolist() == plain["num_bytes"].tolist()  # the same targets


def test_text_that_ids_do_not_spell_in_full_is_counted(folder, tokenizers, tmp_path):
    run, _ = tokenizers
    ids = run("🙂 a")["input_ids"]
    write_rows(tmp_path / "shards", [ids[1:], ids], vocab_size=len(run), eos_id=run.eos_token_id)
    (tmp_path / "run").symlink_to(folder / "run")
    outcome, found = table_of(scorer(tokenizers), tmp_path, tmp_path / "scores")
    assert outcome.counts["with_replaced_characters"] == 1
    assert np.isfinite(found["log_prob"]).all()


def test_only_bytes_compare_tables_of_different_tokenizers(folder, tokenizers, tmp_path):
    table_of(scorer(tokenizers), folder, tmp_path / "teacher")
    reference = ScoringModel(own_model(), "reference", "r", "float32")
    table_of(reference, folder, tmp_path / "reference")
    info = read_score_info(tmp_path / "teacher/data_0.parquet")
    assert info.normalization == "per_byte"
    assert info.tokenizer != read_score_info(tmp_path / "reference/data_0.parquet").tokenizer
    for normalization in ("per_token", "sum"):
        (shard, *_) = scored_shards(
            folder / "shards", tmp_path / "teacher", tmp_path / "reference", normalization
        )
        with pytest.raises(ArtefactError, match=r"own tokenizer.*Set normalization: per_byte"):
            shard.open()
    (shard, *_) = scored_shards(
        folder / "shards", tmp_path / "teacher", tmp_path / "reference", "per_byte"
    )
    (block,) = shard.open().blocks()
    assert np.isfinite(block.teacher - block.reference).all()


def test_a_model_with_fewer_rows_than_its_tokenizer_is_refused(folder, tokenizers, tmp_path):
    model = tiny_model("llama", vocab_size=128, max_length=512)
    with pytest.raises(ModelError, match="its vocabulary has 128 rows"):
        table_of(scorer(tokenizers, model), folder, tmp_path)


def test_held_out_text_is_measured_in_own_tokens(folder, tokenizers, tmp_path):
    run, own = tokenizers
    num_bytes_V = token_table(run).num_bytes_V
    outcome = evaluate_model(scorer(tokenizers), folder / "shards", num_bytes_V, tmp_path)
    found = {line["domain"]: line for line in outcome.facts["held_out"]}[OVERALL]
    rows = [direct(own_model(), own, *row) for row in texts_of(folder, run)]
    assert found["num_tokens"] == sum(row[1] for row in rows)
    assert found["loss"] == pytest.approx(-sum(row[0] for row in rows) / found["num_tokens"])


def test_pieces_of_rows_are_the_same_however_rows_are_cut_into_windows(
    folder, tokenizers, tmp_path
):
    run, own = tokenizers
    pieces = {}
    for name, served in (("whole", None), ("windows", 7)):
        scores = tmp_path / name
        outcome = score_shards(
            scorer(tokenizers, served=served), folder / "shards", np.empty(0, np.int64), CONFIG,
            scores, segments=True,
        )  # fmt: skip
        tables = [pl.read_parquet(path) for path in sorted(scores.glob("*.parquet"))]
        pieces[name] = pl.concat(tables)
        for total, part in zip(
            ("log_prob", "num_tokens", "num_bytes"), SEGMENT_COLUMNS, strict=True
        ):
            sums = pieces[name][part].list.sum().to_numpy()
            np.testing.assert_allclose(sums, pieces[name][total].to_numpy(), rtol=1e-12)
    assert outcome.counts["in_windows"] > 5
    for column in SEGMENT_COLUMNS[1:]:
        assert pieces["whole"][column].to_list() == pieces["windows"][column].to_list()
    found = pieces["whole"]["segment_num_tokens"].to_list()
    for (texts, ends), counts in zip(texts_of(folder, run), found, strict=True):
        lengths = [len(own(text, add_special_tokens=False)["input_ids"]) for text in texts]
        # less the first of each piece, and with end-of-text behind all but an open last one
        assert counts == [
            max(0, length - 1) + (length > 0 and (ends or place < len(texts) - 1))
            for place, length in enumerate(lengths)
        ]


# Recipes


@pytest.fixture(scope="module")
def released(folder):
    """A released teacher with a tokenizer of its own."""
    own_model().save_pretrained(folder / "released")
    load_tokenizer(folder / "own").save_pretrained(folder / "released")
    return folder / "released"


def mixed_recipe(corpus_folder, run_dir, released, **changes):
    """A released teacher with its own tokenizer, a reference from scratch with the run's."""
    content = tiny_recipe(corpus_folder, run_dir)
    content["teacher"] = {"name": str(released), "tokenizer": "own"}
    content["splits"]["teacher"] = 0
    content["selections"] = {"refined": {"normalization": "per_byte"}}
    return {**content, **changes}


def test_a_recipe_with_a_teacher_of_another_tokenizer(corpus_folder, tmp_path, released):
    content = mixed_recipe(corpus_folder, tmp_path / "run", released)
    manifests = {each.stage: each for each in run(make_recipe(content, "mixed"))}
    assert manifests["select/refined"].counts["kept"] > 10
    tables = tmp_path / "run/score"
    assert read_score_info(tables / "teacher/data_0.parquet").normalization == "per_byte"
    assert read_score_info(tables / "reference/data_0.parquet").normalization is None
    held_out = manifests["evaluate/teacher"].facts["held_out"]
    assert held_out[-1]["bits_per_byte"] > 0


def test_a_proxy_over_tables_of_different_tokenizers(corpus_folder, tmp_path, released):
    proxy = {"share": 0.6, "allow_low_agreement": True}
    content = mixed_recipe(corpus_folder, tmp_path / "run", released)
    content |= {"scoring": {"dtype": "float32", "proxy": proxy}, "students": {}}
    manifests = {each.stage: each for each in run(make_recipe(content, "mixed"))}
    facts = manifests["score/teacher"].facts["proxy"]
    assert facts["unit"] == "byte"
    info = read_score_info(tmp_path / "run/score/teacher/data_0.parquet")
    assert info.normalization == "per_byte"
    assert manifests["select/refined"].counts["kept"] > 10
    counted = kept = 0
    for path in sorted((tmp_path / "run/select/refined").glob("data_*.parquet")):
        of_run = ColumnFile(tmp_path / "run/score/reference" / path.name)
        there = np.isin(of_run.sequence_ids(), ColumnFile(path).sequence_ids())
        kept += int(there.sum())
        counted += int(of_run.array("num_tokens")[there].sum())
    assert kept == manifests["select/refined"].counts["kept"]
    assert counted == manifests["select/refined"].num_tokens


def count_own_tokens(folder, role, *, tokenizer="abc"):
    """Score tables again as of a model whose tokens are four times as long as the run's."""
    for path in (folder / role).iterdir():
        table = read_scores(path, read_score_info(path).shard_hash).drop_columns("mean_log_prob")
        place, counted = table.column_names.index("num_tokens"), table["num_tokens"].to_numpy()
        table = table.set_column(place, "num_tokens", pa.array(counted // 4))
        own = {"tokenizer": tokenizer, "normalization": "per_byte"}
        write_scores(path, table, replace(read_score_info(path), **own))


BUDGET = {"policy": "token_budget", "tokens": 400, "normalization": "per_byte"}
ROWS = [Row(i, -1.0 - (7 * i % 100) / 100, -3.0, 12 + 8 * (i % 2), "books") for i in range(100)]


@pytest.mark.parametrize("own", [("teacher",), ("reference",), ("teacher", "reference")])
def test_budgets_and_lengths_are_in_tokens_of_the_run(own, tmp_path):
    write_candidates(tmp_path, ROWS, 3)
    expected, kept = select(tmp_path, ROWS, **BUDGET)
    _, by_length = select(
        tmp_path, ROWS, policy="top_ratio", calibration="zscore", normalization="per_byte"
    )
    for role in own:
        count_own_tokens(tmp_path, role)
    outcome, again = select(tmp_path, ROWS, **BUDGET)
    assert 380 < outcome.num_tokens == expected.num_tokens <= 400
    assert again.equals(kept)
    assert outcome.facts == expected.facts
    found, again = select(
        tmp_path, ROWS, policy="top_ratio", calibration="zscore", normalization="per_byte"
    )
    assert again.equals(by_length)
    assert 12 <= found.facts["calibration"]["length_edges"][0] <= 20


def test_predicted_counts_of_the_other_models_tokens_are_not_taken(tmp_path):
    """Teacher with the run's tokens, reference with its own: predicted rows have the latter."""
    write_candidates(tmp_path, ROWS, 1)
    expected, _ = select(tmp_path, ROWS, **BUDGET)
    count_own_tokens(tmp_path, "reference")
    count_own_tokens(tmp_path, "teacher", tokenizer="run")
    outcome, _ = select(tmp_path, ROWS, **BUDGET)
    assert outcome.num_tokens == expected.num_tokens


FAULTS = [
    ({"selections": {"refined": {}}}, "per_byte compares them, per_token does not"),
    ({"students": {"s": {"training": {"method": "vanilla_kd"}}}}, "vanilla_kd compares"),
    ({"students": {"s": {"training": {"reweighting": {"kind": "static"}}}}},
     "reweighting.normalization: teacher read text"),
    ({"students": {"s": {"training": {"reweighting": {"kind": "dynamic_tokens"}}}}},
     "dynamic_tokens compares tokens"),
    ({"scoring": {"per_token": True}}, "scoring.per_token: keeps scores of the run's tokens"),
    ({"captures": {"c": {}}}, "captures.c: the teacher would give ids"),
    ({"generations": {"g": {}}}, "generations.g: the teacher would give ids"),
    ({"teacher": {"tokenizer": "run"}}, "or set teacher.tokenizer: own"),
    ({"reference": {"tokenizer": "own"}}, "a reference from scratch learns the run's ids"),
    ({"scoring": {"per_token": True, "proxy": {}}}, "predicts scores of sequences, not of tokens"),
    ({"scoring": {"proxy": {}},
      "students": {"s": {"training": {"reweighting": {"kind": "dynamic"}}}}},
     "use static or repeats, which go by differences"),
]  # fmt: skip


@pytest.mark.parametrize(
    ("changes", "message"), FAULTS, ids=[message[:30] for _, message in FAULTS]
)
def test_what_does_not_go_together_is_said_at_load(
    changes, message, corpus_folder, tmp_path, released
):
    content = mixed_recipe(corpus_folder, tmp_path, released)
    shape = content["students"]["plain"]["shape"]
    for section, fields in changes.items():
        if section == "students":
            content[section] = {name: {"shape": shape, **given} for name, given in fields.items()}
        elif section == "selections":
            content[section] = fields
        else:
            content[section] = {**content.get(section, {}), **fields}
    with pytest.raises(ConfigError) as caught:
        make_recipe(content, "faulty")
    assert any(message in fault for fault in caught.value.faults)
