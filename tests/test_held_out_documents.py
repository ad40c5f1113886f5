"""Sums by document, and the intervals that resampling documents gives."""

import math
from dataclasses import asdict

import numpy as np
import polars as pl
import pytest
from hypothesis import given
from hypothesis import strategies as st

from conftest import random_rows, tiny_model, write_rows
from miniplm.data.shards import make_sidecar, open_shards, write_shard
from miniplm.errors import ArtefactError
from miniplm.evaluation.averages import APART, AVERAGE, OVERALL, lines_over
from miniplm.evaluation.bootstrap import interval, resampled_domains, resampled_sums
from miniplm.evaluation.documents import (
    DOCUMENTS_NAME,
    SUMS,
    Documents,
    are_documents,
    held_out_documents,
    read_documents,
)
from miniplm.evaluation.held_out import evaluate_model
from miniplm.evaluation.paired import paired_documents
from miniplm.evaluation.summary import domain_sums, summarise
from miniplm.manifest import Manifest, write_json
from miniplm.report.model_rows import held_out_rows
from miniplm.report.run_record import RunFiles, RunRecord
from miniplm.scoring.scoring_model import ScoringModel
from miniplm.scoring.segments import segment_numbers

NUM_BYTES_V = np.arange(128) % 7
EOS = 0


def packed(folder, documents, length=20, eos_at_end=True):
    """One shard of rows of several documents in two domains, as packing makes them."""
    rows, domains, sources = [], [], []
    for domain, names in documents.items():
        ids, owners = [], []
        for name, text in names.items():
            ids += [*text, EOS]
            owners += [name] * (len(text) + 1)
        for begin in range(0, len(ids) if eos_at_end else len(ids) - 1, length + 1):
            rows.append(np.array(ids[begin : begin + length + 1], dtype=np.int32))
            domains.append(domain)
            sources.append(list(dict.fromkeys(owners[begin : begin + length + 1])))
    keep = [place for place, row in enumerate(rows) if len(row) > 1]
    rows = [rows[place] for place in keep]
    sidecar = make_sidecar(
        np.arange(len(rows)), [domains[place] for place in keep],
        np.array([len(row) for row in rows], np.int32), np.array([9 * len(row) for row in rows]),
        [sources[place] for place in keep],
    )  # fmt: skip
    write_shard(folder / "data_0", rows, sidecar, vocab_size=128, eos_id=EOS, max_length=length)
    return folder


@pytest.fixture(scope="module")
def evaluated(tmp_path_factory):
    folder = tmp_path_factory.mktemp("evaluated")
    generator = np.random.default_rng(3)
    documents = {
        domain: {
            f"{domain}/{number}": generator.integers(1, 128, generator.integers(0, 50)).tolist()
            for number in range(12)
        }
        for domain in ("books", "law")
    }
    shards = packed(folder / "shards", documents)
    scorer = ScoringModel(tiny_model(max_length=20), "tiny", "0", "float32")
    outcome = evaluate_model(scorer, shards, NUM_BYTES_V, folder / "out")
    return shards, folder / "out", outcome


def test_documents_add_up_to_their_domains(evaluated):
    shards, out, outcome = evaluated
    documents = read_documents(out / "documents.parquet")
    assert (documents.unit, outcome.facts["unit"]) == ("documents", "documents")
    lines = {line["domain"]: line for line in outcome.facts["held_out"]}
    scores = pl.read_parquet(out / "scores/data_0.parquet")
    assert documents.table["num_tokens"].sum() == scores["num_tokens"].sum()
    assert documents.table["num_bytes"].sum() == scores["num_bytes"].sum()
    domains = open_shards(shards)[0].sidecar["domain"].to_pylist()
    for domain, frame in documents.table.group_by("domain"):
        line = lines[domain[0]]
        rows = scores.filter(pl.Series([name == domain[0] for name in domains]))
        assert frame["num_tokens"].sum() == line["num_tokens"] == rows["num_tokens"].sum()
        assert frame["num_bytes"].sum() == line["num_bytes"] == rows["num_bytes"].sum()
        assert frame["log_prob"].sum() / -line["num_tokens"] == pytest.approx(line["loss"], 1e-14)
        assert frame["log_prob"].sum() == pytest.approx(rows["log_prob"].sum(), rel=1e-12)
        assert line["num_documents"] == len(frame)


def test_each_document_has_its_own_tokens(evaluated):
    """Token by token, whose document each target is of, by going through the rows."""
    from miniplm.data.loader import make_batch
    from miniplm.scoring.forward import token_log_probs

    shards, out, _ = evaluated
    (shard,) = open_shards(shards)
    model, sums = tiny_model(max_length=20), {}
    for place, names in enumerate(shard.sidecar["source_ids"].to_pylist()):
        row, left = shard.row(place), iter(names)
        batch = make_batch([row], EOS)
        log_probs = token_log_probs(model, batch.input_ids_BT, batch.targets_BT)[0].double()
        name = next(left)
        for before, target, log_prob in zip(row, row[1:], log_probs, strict=False):
            if before == EOS:
                name = next(left)
                continue
            mine = sums.setdefault(name, np.zeros(3))
            mine += [float(log_prob), 1, NUM_BYTES_V[target]]
    table = read_documents(out / "documents.parquet").table
    assert len(table) == 24
    for name, *found in table.drop("domain").iter_rows():
        assert found == pytest.approx(sums.get(name, np.zeros(3)).tolist(), rel=1e-5), name


def test_a_row_that_says_nothing_of_documents_stands_for_one(tmp_path):
    assert are_documents([["a"], ["a", "b"]], [1, 2], 2)
    assert not are_documents([["a"], ["a", "b"]], [1, 3], 2)
    assert not are_documents([["x:0#0", "x:0#1"], ["x:1#0"]], [2, 1], 2)
    assert not are_documents([["x:0#0"], ["x:0#0", "x:0#1"], ["x:1#0"]], [1, 2, 1], 2)
    shards = write_rows(tmp_path / "shards", random_rows(8), per_shard=5)
    scorer = ScoringModel(tiny_model(), "tiny", "0", "float32")
    outcome = evaluate_model(scorer, shards, NUM_BYTES_V, tmp_path / "out")
    documents = read_documents(tmp_path / "out/documents.parquet")
    assert outcome.facts["unit"] == documents.unit == "rows"
    assert documents.table["document"].to_list() == ["0", "2", "4", "6", "1", "3", "5", "7"]
    scores = pl.concat(
        [pl.read_parquet(tmp_path / f"out/scores/data_{n}.parquet") for n in (0, 1)]
    ).sort(pl.col("sequence_id") % 2, "sequence_id")
    for column in ("log_prob", "num_tokens", "num_bytes"):
        assert documents.table[column].to_list() == pytest.approx(scores[column].to_list())


def test_rows_that_were_split_stand_for_what_they_were(tmp_path):
    """In other tokens a row can be too long; both models are compared row by row."""
    whole = [np.arange(1, 31, dtype=np.int32), np.arange(31, 61, dtype=np.int32)]
    parts = [whole[0][:16], whole[0][15:], whole[1]]
    scorer, unit = ScoringModel(tiny_model(), "tiny", "0", "float32"), {}
    for name, rows, ids in (("whole", whole, [0, 1]), ("split", parts, [0, 1 << 40, 1])):
        sidecar = make_sidecar(
            np.array(ids, np.int64), ["law"] * len(ids), np.array([len(row) for row in rows]),
            np.array([len(row) for row in rows]), [[f"made:{i & 1}#0"] for i in ids],
        )  # fmt: skip
        write_shard(tmp_path / name / "data_0", rows, sidecar, vocab_size=128, eos_id=0,
                    max_length=64)  # fmt: skip
        evaluate_model(scorer, tmp_path / name, NUM_BYTES_V, tmp_path / f"of {name}")
        unit[name] = read_documents(tmp_path / f"of {name}/documents.parquet")
    assert [each.unit for each in unit.values()] == ["rows", "rows"]
    assert unit["split"].table["document"].to_list() == ["0", "1"]
    assert unit["split"].table["num_tokens"].to_list() == [29, 29]
    paired_documents([(unit["split"], unit["whole"])])


def test_tables_of_another_kind_are_refused(tmp_path, evaluated):
    with pytest.raises(ArtefactError, match="no such file"):
        read_documents(tmp_path / "documents.parquet")
    with pytest.raises(ArtefactError, match="no table of documents"):
        read_documents(evaluated[1] / "scores/data_0.parquet")
    (tmp_path / "bad.parquet").write_bytes(b"PAR1 nothing")
    with pytest.raises(ArtefactError, match="no table of documents"):
        read_documents(tmp_path / "bad.parquet")
    with pytest.raises(ArtefactError):
        held_out_documents(evaluated[0], tmp_path)


@given(st.lists(st.integers(0, 2), min_size=2, max_size=12), st.integers(0, 3))
def test_pieces_of_a_row(ids, padding):
    numbers, counts = segment_numbers(
        np.array([ids[:-1] + [EOS] * padding]), np.array([len(ids) - 1]), EOS
    )
    expected, piece = [], 0
    for before in ids[:-1]:
        piece += before == EOS
        expected.append(piece)
    assert numbers[0, : len(expected)].tolist() == expected
    assert counts[0] == expected[-1] + 1
    assert numbers.max() == expected[-1]


# --- intervals


def made_up(num_documents, seed=0, domains=("books", "law")):
    """Documents whose bits per byte are spread around 2 and 3."""
    generator = np.random.default_rng(seed)
    lines = []
    for level, domain in enumerate(domains, 2):
        sizes = generator.integers(50, 500, num_documents)
        nats = sizes * math.log(2) * (level + generator.normal(0, 0.5, num_documents))
        lines += [
            (domain, f"{domain}/{n}", -float(nats[n]), int(sizes[n]) // 3, int(sizes[n]))
            for n in range(num_documents)
        ]
    schema = ["domain", "document", "log_prob", "num_tokens", "num_bytes"]
    return Documents.of_pieces(pl.DataFrame(lines, schema, orient="row"))


def test_documents_are_known_by_their_names_in_any_order():
    def made(names, unit="documents"):
        return Documents.of_pieces(
            pl.DataFrame(
                [("books", name, -1.0, 2, 3) for name in names],
                schema=["domain", "document", *SUMS],
                orient="row",
            ),
            unit,
        ).digests()

    assert made(["a", "b"]) == made(["b", "a", "a"])
    assert made(["a", "b"]) != made(["a", "c"])
    assert made(["a"], "rows") == {}


def test_a_domain_that_a_model_cannot_be_measured_in_is_left_out_and_said(tmp_path, caplog):
    pieces = pl.DataFrame(
        [("books", "a", -2.0, 2, 3), ("law", "b", -1.0, 2, 3), ("noise", "c", -9.0, 3, 1)],
        schema=["domain", "document", *SUMS],
        orient="row",
    )
    both = {}
    for name, kept in {"one": pieces, "other": pieces.filter(pl.col("domain") != "law")}.items():
        Documents.of_pieces(kept).write(tmp_path / "evaluate" / name / DOCUMENTS_NAME)
        lines = [asdict(line) for line in summarise(kept, ["noise"])]
        both[name] = lines
        facts = {"held_out": lines}
        made = Manifest(f"evaluate/{name}", "", {}, {}, {}, 0, 0.0, facts, 0.0, "", {})
        write_json(tmp_path / "evaluate" / name / "manifest.json", asdict(made))
    run = RunFiles(tmp_path, tmp_path, "title", ["evaluate/one", "evaluate/other"],
                   dict.fromkeys(both, "made up"), {}, "")  # fmt: skip
    rows = {row.domain: row for row in held_out_rows(RunRecord(run))}
    assert list(rows) == ["books", "noise", AVERAGE, APART, OVERALL]
    for line in both["other"]:  # which measured nothing else
        row = rows[line["domain"]]
        for name in both:
            assert row.loss[name] == pytest.approx(line["loss"])
            assert row.bits_per_byte[name] == pytest.approx(line["bits_per_byte"])
        assert (row.num_bytes, row.set_apart) == (line["num_bytes"], line["set_apart"])
    assert "domain law is left out of the report: other has nothing" in caplog.text


def test_nothing_is_averaged_where_no_domain_is_common():
    lines = [asdict(line) for line in summarise(made_up(3).table)]
    with pytest.raises(ArtefactError, match="no held-out domain in which every model"):
        lines_over(lines, [])


def test_resampling_one_document_gives_it_back():
    drawn = resampled_sums(np.array([[1.0, 2.0]]), np.random.default_rng(0), 7)
    np.testing.assert_array_equal(drawn, np.tile([1.0, 2.0], (7, 1)))
    assert resampled_sums(np.empty((0, 2)), np.random.default_rng(0), 3).tolist() == [[0, 0]] * 3


@pytest.mark.parametrize("num_documents", [40, 5001])
def test_resampled_sums_have_the_spread_of_a_sum(num_documents):
    """Its standard error, sqrt(N) times the documents'; many are drawn in bundles."""
    values = np.random.default_rng(1).gamma(2.0, size=(num_documents, 1))
    drawn = resampled_sums(values, np.random.default_rng(2), 2000)
    assert drawn.mean() == pytest.approx(values.sum(), rel=0.01)
    assert drawn.std() == pytest.approx(values.std() * math.sqrt(num_documents), rel=0.08)


def test_models_on_the_same_documents_are_resampled_alike():
    sums = domain_sums(made_up(30).table)
    other = {name: 2 * values for name, values in reversed(sums.items())}
    first, second = resampled_domains(sums, num_resamples=50), resampled_domains(
        other, num_resamples=50
    )  # fmt: skip
    for name, values in first.items():
        np.testing.assert_allclose(second[name], 2 * values)
    assert not np.allclose(resampled_domains(sums, seed=1, num_resamples=50)["law"], first["law"])


def test_intervals_cover_the_truth_as_often_as_they_say():
    """95 %; of 200 made-up corpora of 60 documents a domain, give or take three standard errors."""
    covered = 0
    for seed in range(200):
        drawn = resampled_domains(domain_sums(made_up(60, seed).table), num_resamples=400)
        ratios = [-each[:, 0] / each[:, 2] / math.log(2) for each in drawn.values()]
        low, high = interval(np.mean(ratios, axis=0))
        covered += low <= 2.5 <= high
    assert 0.95 - 3 * 0.0154 - 0.01 <= covered / 200 <= 1.0


def test_every_line_has_its_interval():
    lines = {line.domain: line for line in summarise(made_up(40).table)}
    for line in lines.values():
        assert line.low < line.bits_per_byte < line.high
        assert line.loss_low < line.loss < line.loss_high
    widths = {name: line.high - line.low for name, line in lines.items()}
    assert widths[AVERAGE] < min(widths["books"], widths["law"])
    assert widths[AVERAGE] == pytest.approx(math.hypot(widths["books"], widths["law"]) / 2, rel=0.1)
    assert lines[OVERALL].num_documents == 80
    assert summarise(made_up(40).table) == summarise(made_up(40).table)
    few = {line.domain: line for line in summarise(made_up(4).table)}
    assert few["books"].low is None
    assert few[AVERAGE].low < few[AVERAGE].high
    domains = [f"d{n}" for n in range(9)]
    alone = {line.domain: line for line in summarise(made_up(1, domains=domains).table)}
    assert (alone[AVERAGE].low, alone[OVERALL].loss_high) == (None, None)
