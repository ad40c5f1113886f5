import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from miniplm.data import parquet
from miniplm.data.parquet import ColumnFile, follows_from, places_of, write_parquet
from miniplm.errors import ArtefactError


def table(ids, **columns):
    return pa.table({"sequence_id": np.array(ids, dtype=np.int64), **columns})


@pytest.mark.parametrize(
    ("ids", "ranges"),
    [
        (range(5, 12), [(5, 8), (8, 11), (11, 12)]),
        ([5, 6, 8], None),  # a gap
        ([6, 5, 7], None),  # another order
        ([5, 5, 7], None),  # as far apart as a range, and as many
        ([5, 6, 7, 9, 10, 11], [(5, 8), (9, 12)]),
    ],
)
def test_ids_without_a_gap_need_not_be_read(tmp_path, monkeypatch, ids, ranges):
    monkeypatch.setattr(parquet, "ROWS_PER_GROUP", 3)
    write_parquet(tmp_path / "t.parquet", table(ids), {})
    file = ColumnFile(tmp_path / "t.parquet")
    assert file.id_ranges() == ranges
    assert file.sequence_ids().tolist() == list(ids)


def test_other_writers_ids_are_read(tmp_path):
    write_parquet(tmp_path / "ours.parquet", table(range(4)), {})
    notes = ColumnFile(tmp_path / "ours.parquet")._file.metadata.metadata
    shuffled = table([2, 0, 1, 3]).replace_schema_metadata(notes)
    pq.write_table(shuffled, tmp_path / "theirs.parquet")
    file = ColumnFile(tmp_path / "theirs.parquet")
    assert file.id_ranges() is None
    assert file.sequence_ids().tolist() == [2, 0, 1, 3]


@pytest.mark.parametrize("options", [{}, {"compression": "none", "use_dictionary": False}])
@pytest.mark.parametrize("dtype", [np.int32, np.int64, np.float32, np.float64])
def test_columns_are_what_parquet_says(tmp_path, monkeypatch, dtype, options):
    monkeypatch.setattr(parquet, "ROWS_PER_GROUP", 700)
    values = np.random.default_rng(0).integers(-99, 99, 1000).astype(dtype)
    ours, theirs = tmp_path / "ours.parquet", tmp_path / "theirs.parquet"
    write_parquet(ours, table(range(1000), x=values), {})
    content = pq.read_table(ours).replace_schema_metadata({b"miniplm": b"{}"})
    pq.write_table(content, theirs, row_group_size=700, data_page_size=128, **options)
    for path in (ours, theirs):
        file = ColumnFile(path)
        read = [file.array("x", group) for group in range(file.num_groups)]
        np.testing.assert_array_equal(np.concatenate(read), values)
        np.testing.assert_array_equal(file.array("x"), values)
    assert ColumnFile(ours)._stored_plainly("x", 0) is not None


def test_numbers_are_read_into_the_room_they_are_given(tmp_path):
    write_parquet(tmp_path / "t.parquet", table(range(3), x=np.array([1.0, 2.0, 3.0])), {})
    room = np.zeros(3)
    assert ColumnFile(tmp_path / "t.parquet").array("x", 0, lambda size, dtype: room) is room
    assert room.tolist() == [1.0, 2.0, 3.0]


def test_what_is_missing_is_named(tmp_path):
    path = tmp_path / "t.parquet"
    pq.write_table(pa.table({"x": [1.0, None]}).replace_schema_metadata({b"miniplm": b"{}"}), path)
    with pytest.raises(ArtefactError, match="has no column y"):
        ColumnFile(path).array("y")
    with pytest.raises(ArtefactError, match="has no x for some sequences"):
        ColumnFile(path).array("x", 0)
    with pytest.raises(ArtefactError, match="no such file"):
        ColumnFile(tmp_path / "other.parquet")
    pq.write_table(pa.table({"x": [1.0]}), path)
    with pytest.raises(ArtefactError, match="is not a table written by miniplm"):
        ColumnFile(path)


def test_notes_are_read_back(tmp_path):
    write_parquet(tmp_path / "t.parquet", table([1]), {"a": 1}, origin={"b": [2]})
    file = ColumnFile(tmp_path / "t.parquet")
    assert (file.metadata, file.origin) == ({"a": 1}, {"b": [2]})


def test_a_table_follows_from_what_it_says(tmp_path):
    path, damaged = tmp_path / "t.parquet", tmp_path / "damaged.parquet"
    write_parquet(path, table(range(3)), {"seed": 1})
    damaged.write_bytes(path.read_bytes()[:-9])
    assert follows_from(path, {"seed": 1})
    assert not follows_from(path, {"seed": 2})
    assert not follows_from(damaged, {"seed": 1})
    assert not follows_from(tmp_path / "nothing.parquet", {"seed": 1})


def test_categories_are_names_and_numbers_of_all_groups_or_one(tmp_path, monkeypatch):
    monkeypatch.setattr(parquet, "ROWS_PER_GROUP", 2)
    domains = ["news", "news", "code", "law", "code"]
    write_parquet(
        tmp_path / "t.parquet", table(range(5), domain=pa.array(domains).dictionary_encode()), {}
    )
    file = ColumnFile(tmp_path / "t.parquet")
    for group, expected in ((None, domains), (1, domains[2:4])):
        names, numbers = file.categories("domain", group)
        assert len(names) == len(set(names))
        assert [names[number] for number in numbers] == expected


def test_places_of_ids():
    ids = np.array([9, 4, 7])
    assert places_of(np.array([7, 9]), ids).tolist() == [2, 0]
    assert places_of(ids, ids).tolist() == [0, 1, 2]
    assert places_of(np.array([7, 8]), ids) is None
    assert places_of(np.array([1]), np.array([], dtype=np.int64)) is None
