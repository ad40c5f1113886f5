"""The rows of the page are those of the run: losses, domains, texts, and what was kept."""

import numpy as np
import pyarrow as pa
import pytest

from conftest import random_rows, write_rows
from miniplm.data.parquet import write_parquet
from miniplm.errors import ArtefactError
from miniplm.report import sampled_rows
from miniplm.report.row_data import with_texts
from miniplm.report.sampled_rows import DrawnFrom, draw_rows
from miniplm.selection.sample import SAMPLE_NAME

ROWS = random_rows(60)


class OneTokenAWord:
    """Stands for a tokenizer: an id is a word."""

    @property
    def backend_tokenizer(self):
        return self

    def decode(self, ids, skip_special_tokens):
        assert not skip_special_tokens
        return " ".join(f"w{each}" for each in ids)


@pytest.fixture
def given(tmp_path, monkeypatch):
    """Sixty rows in three shards; one selection keeps even ids, another those below ten."""
    monkeypatch.setattr(sampled_rows, "load_tokenizer", lambda _: OneTokenAWord())
    write_rows(tmp_path / "shards", ROWS, per_shard=20)
    ids = np.arange(60)
    for name, kept in {"even": ids % 2 == 0, "first": ids < 10}.items():
        sample = {
            "sequence_id": ids,
            "shard": [f"data_{number // 20}" for number in ids],
            "teacher": np.where(ids == 7, np.nan, -ids / 10),
            "reference": -ids / 5,
        }
        write_parquet(tmp_path / name / SAMPLE_NAME, pa.table(sample), {})
        for shard in range(3):
            mine = ids[kept & (ids // 20 == shard)]
            table = pa.table({"sequence_id": mine})
            write_parquet(tmp_path / name / f"data_{shard}.parquet", table, {})
    folders = {name: tmp_path / name for name in ("even", "first")}
    return DrawnFrom(tmp_path / "shards", tmp_path, folders, "per_token", 60, {"even": 0.5})


def test_rows_say_what_the_tables_say(given):
    sampled = draw_rows(given)
    assert [row.sequence_id for row in sampled.rows] == [n for n in range(60) if n != 7]
    for row in sampled.rows:
        number = row.sequence_id
        assert row.domain == ("even" if number % 2 == 0 else "odd")
        assert row.source == f"source-{number}"
        assert row.teacher_loss == pytest.approx(number / 10)
        assert row.difference_score == pytest.approx(number / 10)
        assert row.kept == [number % 2 == 0, number < 10]
        words = [f"w{each}" for each in ROWS[number] if each]
        assert row.text.replace("[next document]", "").split() == words
    assert sampled.selections == ["even", "first"]
    assert sampled.thresholds == {"even": 0.5}


def test_few_rows_are_drawn_evenly_and_texts_by_domain_in_turn(given, monkeypatch):
    monkeypatch.setattr(sampled_rows, "MOST_ROWS", 20)
    monkeypatch.setattr(sampled_rows, "MOST_TEXTS", 6)
    monkeypatch.setattr(sampled_rows, "MOST_CHARACTERS", 12)
    sampled = draw_rows(given)
    assert len(sampled.rows) == 20
    assert (sampled.rows[0].sequence_id, sampled.rows[-1].sequence_id) == (0, 59)
    told = [row for row in sampled.rows if row.text is not None]
    assert sorted(row.domain for row in told) == ["even"] * 3 + ["odd"] * 3
    assert max(len(row.text) for row in told) <= 12 + len(" …")
    assert sum(row.text is not None for row in with_texts(sampled, 2).rows) == 2


def test_a_shard_that_lacks_a_row_is_named(given):
    write_rows(given.shards, ROWS[:40], per_shard=20)
    (given.shards / "data_2.parquet").write_bytes((given.shards / "data_1.parquet").read_bytes())
    with pytest.raises(ArtefactError, match=r"data_2\.parquet: lacks sequences"):
        draw_rows(given)
