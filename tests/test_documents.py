import gzip
import json
import os

import pyarrow as pa
import pyarrow.parquet as pq
import pytest
import zstandard

from miniplm.config import validate
from miniplm.data.documents import (
    CorpusConfig,
    Document,
    DocumentTally,
    corpus_fingerprint,
    estimate_bytes,
    read_documents,
)
from miniplm.data.readers import TOO_LONG
from miniplm.data.streams import open_stream
from miniplm.errors import ConfigError, DocumentError


def corpus(*paths, **fields):
    return CorpusConfig(paths=tuple(str(path) for path in paths), **fields)


def read(config):
    tally = DocumentTally()
    return list(read_documents(config, tally)), tally


def write_lines(path, rows):
    lines = [row if isinstance(row, bytes) else json.dumps(row).encode() for row in rows]
    content = b"".join(line + b"\n" for line in lines)
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_bytes(compress(content, path.suffix))
    return path


def compress(content, suffix):
    if suffix == ".gz":
        return gzip.compress(content)
    return zstandard.compress(content) if suffix == ".zst" else content


def frozen_time(path, seconds=1_700_000_000):
    os.utime(path, (seconds, seconds))
    return path


# --- formats -----------------------------------------------------------------------------------


@pytest.mark.parametrize("suffix", ["", ".gz", ".zst"])
@pytest.mark.parametrize("extension", [".jsonl", ".ndjson", ".json", ".JSONL"])
def test_json_lines_give_their_texts_with_file_domain_and_line_ids(tmp_path, extension, suffix):
    rows = [{"text": "one"}, b"", {"text": "two\r\nlines", "id": "own#3"}, {"text": "\0", "id": 7}]
    path = write_lines(tmp_path / f"some-code-003{extension}{suffix}", rows)
    documents, tally = read(corpus(path))
    assert documents == [
        Document("one", "some-code", f"{path.name}:1"),
        Document("two\r\nlines", "some-code", "own#3"),
        Document("\0", "some-code", "7"),
    ]
    assert (tally.num_documents, tally.num_bytes, tally.dropped) == (3, 3 + 10 + 1, {})


@pytest.mark.parametrize("given", [1.5, True, None, "", ["a"]])
def test_an_id_that_is_no_string_or_whole_number_gives_way_to_the_line(tmp_path, given):
    path = write_lines(tmp_path / "a.jsonl", [{"text": "x", "id": given}])
    assert read(corpus(path))[0][0].id == "a.jsonl:1"
    assert read(corpus(path, id_field=None))[0][0].id == "a.jsonl:1"


def test_a_byte_order_mark_is_tolerated_at_the_start_of_a_file_only(tmp_path):
    mark, row = b"\xef\xbb\xbf", b'{"text": "x"}'
    path = write_lines(tmp_path / "a.jsonl", [mark + row, mark + row])
    (tmp_path / "b.txt").write_bytes(mark + b"y")
    documents, tally = read(corpus(tmp_path, max_bad_share=1))
    assert [document.text for document in documents] == ["x", "y"]
    assert tally.dropped == {"not valid JSON": 1}
    assert tally.places == {"not valid JSON": [f"{path}:2"]}


@pytest.mark.parametrize("suffix", ["", ".gz", ".zst"])
def test_a_text_file_is_one_document_byte_for_byte(tmp_path, suffix):
    content = "first\r\nsecond \0 é\n"
    path = tmp_path / "books" / f"novel.txt{suffix}"
    path.parent.mkdir()
    path.write_bytes(compress(content.encode(), suffix))
    expected = Document(content, "novel", f"books/novel.txt{suffix}")
    assert read(corpus(tmp_path))[0] == [expected]


def test_other_text_extensions_are_read_when_asked_for(tmp_path):
    (tmp_path / "a.md").write_text("# Title")
    assert read(corpus(tmp_path, text_suffixes=[".MD"]))[0] == [Document("# Title", "a", "a.md")]


@pytest.mark.parametrize("kind", [pa.string(), pa.large_string(), pa.string_view()])
def test_parquet_gives_what_json_lines_give(tmp_path, kind):
    rows = [{"text": f"text {n}", "id": f"s#{n}", "other": n} for n in range(600)]
    lines = write_lines(tmp_path / "a.jsonl", rows)
    table = pa.table(
        {"other": range(600), "text": pa.array([row["text"] for row in rows], kind)}
    ).append_column("id", [[row["id"] for row in rows]])
    pq.write_table(table, tmp_path / "a.parquet", row_group_size=250)
    assert read(corpus(tmp_path / "a.parquet"))[0] == read(corpus(lines))[0]


def test_nested_fields_are_reached_by_dotted_names(tmp_path):
    rows = [{"doc": {"text": "x"}, "meta": {"set": "wiki"}}]
    write_lines(tmp_path / "a.jsonl", rows)
    pq.write_table(pa.Table.from_pylist(rows), tmp_path / "a.parquet")
    fields = {"text_field": "doc.text", "domain_from": "field", "domain_field": "meta.set"}
    for name in ("a.jsonl", "a.parquet"):
        documents, _ = read(corpus(tmp_path / name, **fields))
        assert documents == [Document("x", "wiki", f"{name}:1")]


def test_gzip_members_and_zstd_frames_are_read_one_after_the_other(tmp_path):
    halves = [b'{"text": "a"}\n{"text": "b', b'c"}\n']
    skippable = bytes.fromhex("502a4d18") + (4).to_bytes(4, "little") + b"skip"
    (tmp_path / "a.jsonl.gz").write_bytes(b"".join(map(gzip.compress, halves)) + b"\0" * 512)
    frames = [zstandard.compress(half) for half in halves]
    (tmp_path / "b.jsonl.zst").write_bytes(skippable.join(frames))
    documents, _ = read(corpus(tmp_path))
    assert [document.text for document in documents] == ["a", "bc", "a", "bc"]


# --- bad records -------------------------------------------------------------------------------

GOOD = {"text": "good", "domain": "d"}


@pytest.mark.parametrize(
    ("row", "reason"),
    [
        (b'{"text": "x"', "not valid JSON"),
        (b"[" * 100_000, "not valid JSON"),
        (b'{"text": ' + b"1" * 5000 + b"}", "not valid JSON"),
        (b"[1, 2]", "not a JSON object"),
        (b'"text"', "not a JSON object"),
        (b'{"text": "\xff"}', "invalid UTF-8"),
        (rb'{"text": "\ud800"}', "invalid UTF-8"),
        (rb'{"text": "x", "id": "\udfff"}', "invalid UTF-8"),
        ({"txt": "x"}, "text is missing"),
        ({"text": None}, "text is missing"),
        ({"text": 5}, "text is not a string"),
        ({"text": ["x"]}, "text is not a string"),
        ({"text": ""}, "empty"),
        ({"text": " \n\t\u3000"}, "empty"),
    ],
)
def test_each_bad_line_is_counted_with_its_reason_and_place(tmp_path, row, reason):
    path = write_lines(tmp_path / "a.jsonl", [GOOD, row, GOOD])
    documents, tally = read(corpus(path, max_bad_share=0.5))
    assert [document.id for document in documents] == ["a.jsonl:1", "a.jsonl:3"]
    assert (tally.dropped, tally.places) == ({reason: 1}, {reason: [f"{path}:2"]})
    assert (tally.num_documents, tally.num_bytes, tally.num_dropped) == (2, 8, 1)


@pytest.mark.parametrize(
    ("row", "name"),
    [
        (b'{"text": "x", "id": 18446744073709551615}', "18446744073709551615"),
        (b'{"text": "x", "id": 123456789012345678901234567890}', "123456789012345678901234567890"),
        (b'{"text": "x", "id": -9223372036854775809}', "-9223372036854775809"),
        (b'{"text": "x", "id": "a", "score": NaN}', "a"),
        (b'{"text": "x", "id": "a", "score": 1e400}', "a"),
        (rb'{"text": "x", "id": "a", "other": "\ud800"}', "a"),
        (b'{"text": "y", "text": "x", "id": "a"}', "a"),
    ],
)
def test_what_the_fast_parser_refuses_or_rounds_is_read_all_the_same(tmp_path, row, name):
    path = write_lines(tmp_path / "a.jsonl", [row])
    assert read(corpus(path))[0] == [Document("x", "a", name)]


def test_a_long_whole_number_inside_another_field_is_an_id(tmp_path):
    row = b'{"text": "x", "meta": {"id": 123456789012345678901234567890}}'
    path = write_lines(tmp_path / "a.jsonl", [row])
    assert read(corpus(path, id_field="meta.id"))[0] == [
        Document("x", "a", "123456789012345678901234567890")
    ]


def test_a_surrogate_pair_is_one_character(tmp_path):
    path = write_lines(tmp_path / "a.jsonl", [rb'{"text": "\ud83d\ude00"}'])
    assert read(corpus(path))[0][0].text == "\U0001f600"


@pytest.mark.parametrize(
    ("row", "reason"),
    [
        ({"text": "x"}, "domain is missing"),
        ({"text": "x", "domain": ""}, "domain is missing"),
        ({"text": "x", "domain": 3}, "domain is not a string"),
        (rb'{"text": "x", "domain": "\ud800"}', "invalid UTF-8"),
    ],
)
def test_a_record_without_its_domain_is_bad_when_domains_come_from_records(tmp_path, row, reason):
    path = write_lines(tmp_path / "a.jsonl", [GOOD, row])
    documents, tally = read(corpus(path, domain_from="field", max_bad_share=0.5))
    assert [document.domain for document in documents] == ["d"]
    assert tally.dropped == {reason: 1}
    assert read(corpus(path, max_bad_share=0.5))[1].dropped in ({}, {"invalid UTF-8": 1})


def test_bad_text_files_are_counted(tmp_path):
    (tmp_path / "a.txt").write_bytes(b"\xff\xfe")
    (tmp_path / "b.txt").write_bytes(b" \n")
    (tmp_path / "c.txt").write_bytes(b"good")
    documents, tally = read(corpus(tmp_path, max_bad_share=0.9))
    assert [document.text for document in documents] == ["good"]
    assert tally.dropped == {"invalid UTF-8": 1, "empty": 1}
    assert tally.places["invalid UTF-8"] == [str(tmp_path / "a.txt")]


def test_bad_parquet_values_are_counted_row_by_row(tmp_path):
    raw = pa.array([b"good", None, b"\xff", b" ", b"fine"], pa.binary())
    text = pa.Array.from_buffers(pa.string(), 5, raw.buffers())
    path = tmp_path / "a.parquet"
    pq.write_table(pa.table({"text": text}), path)
    documents, tally = read(corpus(path, max_bad_share=0.9))
    assert [document.id for document in documents] == ["a.parquet:1", "a.parquet:5"]
    assert tally.dropped == {"text is missing": 1, "invalid UTF-8": 1, "empty": 1}
    assert tally.places["invalid UTF-8"] == [f"{path}:3"]


def test_a_parquet_column_of_another_type_makes_every_row_bad(tmp_path):
    pq.write_table(pa.table({"text": [1, 2]}), tmp_path / "a.parquet")
    with pytest.raises(DocumentError, match=r"2 of all 2 documents are bad \(100.00%\)"):
        read(corpus(tmp_path))


def test_what_is_too_long_for_memory_is_bad_and_the_next_line_is_found(tmp_path, monkeypatch):
    monkeypatch.setattr("miniplm.data.readers.MAX_LINE_BYTES", 1000)
    filler = b'{"text": "' + b"x" * 2500 + b'"}'
    path = write_lines(tmp_path / "a.jsonl.zst", [filler, GOOD])
    zeros = zstandard.compress(b"x" * 1001)
    (tmp_path / "b.txt.zst").write_bytes(zeros)
    documents, tally = read(corpus(tmp_path, max_bad_share=0.9))
    assert [document.id for document in documents] == ["a.jsonl.zst:2"]
    assert tally.places == {TOO_LONG: [f"{path}:1", str(tmp_path / "b.txt.zst")]}


# --- the limit ---------------------------------------------------------------------------------


def test_the_message_over_the_limit_names_places_reasons_counts_and_what_to_do(tmp_path):
    path = write_lines(tmp_path / "a.jsonl", [GOOD] * 96 + [b"{"] * 3 + [{"text": 1}])
    assert len(read(corpus(path, max_bad_share=0.04))[0]) == 96
    with pytest.raises(DocumentError) as caught:
        read(corpus(path, max_bad_share=0.039))
    assert str(caught.value).splitlines() == [
        "corpus: 4 of all 100 documents are bad (4.00%); the limit is 3.90%",
        f"  - 3 x not valid JSON, first at {path}:97, {path}:98, {path}:99",
        f"  - 1 x text is not a string, first at {path}:100",
        "Fix the files, or, in a recipe, raise corpus.max_bad_share to go on without them.",
    ]


def test_the_limit_is_judged_while_reading_from_a_thousand_documents_on(tmp_path):
    path = write_lines(tmp_path / "a.jsonl", [b"{"] * 20 + [GOOD] * 5000)
    tally = DocumentTally()
    with pytest.raises(DocumentError, match="20 of the first 1,000 documents are bad"):
        list(read_documents(corpus(path), tally))
    assert (tally.num_documents, tally.num_dropped) == (980, 20)
    assert len(read(corpus(path, max_bad_share=0.02))[0]) == 5000


def test_each_corpus_is_judged_alone_though_the_tally_is_shared(tmp_path):
    clean = write_lines(tmp_path / "clean.jsonl", [GOOD] * 2000)
    dirty = write_lines(tmp_path / "dirty.jsonl", [b"{", GOOD])
    tally = DocumentTally()
    list(read_documents(corpus(clean), tally))
    with pytest.raises(DocumentError, match="1 of all 2 documents"):
        list(read_documents(corpus(dirty), tally))
    assert (tally.num_documents, tally.num_dropped) == (2001, 1)


def test_a_corpus_without_a_single_document_is_refused(tmp_path):
    (tmp_path / "a.jsonl").touch()
    with pytest.raises(DocumentError, match="no document was found in "):
        read(corpus(tmp_path))


# --- damaged files -----------------------------------------------------------------------------


@pytest.mark.parametrize("suffix", [".gz", ".zst"])
@pytest.mark.parametrize("keep", [0.0, 0.5, 0.99, 1.0])
def test_a_truncated_archive_is_refused_by_name_whatever_the_limit(tmp_path, suffix, keep):
    rows = [{"text": os.urandom(20).hex()} for _ in range(20_000)]
    path = write_lines(tmp_path / f"a.jsonl{suffix}", rows)
    content = path.read_bytes()[:-1]
    path.write_bytes(content[: round(keep * len(content))])
    with pytest.raises(DocumentError, match=f"{path}: the compressed data stops in the middle"):
        read(corpus(path, max_bad_share=1))


@pytest.mark.parametrize("suffix", [".gz", ".zst"])
def test_a_damaged_archive_is_refused_by_name(tmp_path, suffix):
    path = tmp_path / f"a.txt{suffix}"
    path.write_bytes(b"this was never compressed")
    with pytest.raises(DocumentError, match=f"{path}: the compressed data is damaged"):
        read(corpus(path, max_bad_share=1))
    path.write_bytes(compress(b"good", suffix) + b"garbage")
    with pytest.raises(DocumentError, match=f"{path}: the compressed data is damaged"):
        read(corpus(path, max_bad_share=1))


def test_truncated_and_foreign_parquet_is_refused_by_name(tmp_path):
    path = tmp_path / "a.parquet"
    pq.write_table(pa.table({"text": ["x"] * 1000}), path)
    path.write_bytes(path.read_bytes()[:-10])
    with pytest.raises(DocumentError, match=f"{path}: cannot be read as Parquet after row 0"):
        read(corpus(path))
    with pytest.raises(DocumentError, match=f"{path}: cannot be read as Parquet"):
        estimate_bytes(corpus(path))


def test_a_parquet_file_without_the_text_column_names_its_columns(tmp_path):
    path = tmp_path / "a.parquet"
    pq.write_table(pa.table({"content": ["x"], "url": ["y"]}), path)
    with pytest.raises(DocumentError, match="no column 'text'; the columns are content, url"):
        read(corpus(path))
    assert read(corpus(path, text_field="content"))[0] == [Document("x", "a", "a.parquet:1")]


def test_a_file_that_cannot_be_opened_is_refused_by_name(tmp_path):
    with (
        pytest.raises(DocumentError, match=f"{tmp_path}: cannot be read"),
        open_stream(tmp_path, ""),
    ):
        pass


# --- paths -------------------------------------------------------------------------------------


def test_all_paths_that_lead_nowhere_are_named_at_once_and_before_reading(tmp_path):
    (tmp_path / "empty").mkdir()
    (tmp_path / "notes").mkdir()
    (tmp_path / "notes" / "a.docx").touch()
    (tmp_path / "b.bin").touch()
    names = ["missing.jsonl", "*.csv", "empty", "notes", "b.bin", "b.*"]
    with pytest.raises(DocumentError) as caught:
        read_documents(corpus(*(tmp_path / name for name in names)), DocumentTally())
    lines = str(caught.value).splitlines()
    expected = [
        "missing.jsonl: no such file or folder",
        "*.csv: no file matches",
        "empty: the folder is empty",
        "notes: holds no file of a known format, only a.docx",
        "b.bin: is of no known format",
        "b.*: holds no file of a known format, only b.bin",
    ]
    assert lines[0] == "corpus.paths: 6 faults"
    for line, fault in zip(lines[1:7], expected, strict=True):
        assert line.startswith(f"  - {tmp_path}/{fault}")
    assert ".jsonl, .ndjson, .json" in lines[7]


def test_folders_are_read_to_the_bottom_in_order_and_other_files_are_counted(tmp_path):
    for name in ("b/2.jsonl", "b/10.jsonl", "a.jsonl", ".hidden/x.jsonl", "c/.x.jsonl"):
        write_lines(tmp_path / name, [GOOD])
    (tmp_path / "README.md").write_text("x")
    (tmp_path / "b" / "loop").symlink_to(tmp_path)
    documents, tally = read(corpus(tmp_path))
    assert [document.id for document in documents] == [
        "a.jsonl:1", "b/10.jsonl:1", "b/2.jsonl:1"
    ]  # fmt: skip
    assert tally.num_other_files == 1


def test_given_order_is_kept_and_a_file_reached_twice_is_read_once(tmp_path):
    paths = [write_lines(tmp_path / name, [GOOD]) for name in ("a.jsonl", "b.jsonl")]
    documents, _ = read(corpus(paths[1], tmp_path, f"{tmp_path}/**"))
    assert [document.id for document in documents] == ["b.jsonl:1", "a.jsonl:1"]


def test_names_below_a_glob_start_where_its_magic_does(tmp_path):
    write_lines(tmp_path / "x" / "a.jsonl", [GOOD])
    write_lines(tmp_path / "y" / "a.jsonl", [GOOD])
    documents, _ = read(corpus(f"{tmp_path}/[xy]/*.jsonl"))
    assert [document.id for document in documents] == ["x/a.jsonl:1", "y/a.jsonl:1"]


def test_a_path_that_exists_is_taken_literally(tmp_path):
    path = write_lines(tmp_path / "a[1].jsonl", [GOOD])
    assert read(corpus(path))[0][0].id == "a[1].jsonl:1"


def test_files_of_the_same_name_in_two_folders_get_ids_of_their_own(tmp_path):
    paths = [write_lines(tmp_path / name / "a.jsonl", [GOOD]) for name in "xy"]
    documents, _ = read(corpus(*paths))
    assert [document.id for document in documents] == [f"{path}:1" for path in paths]


def test_a_hash_in_a_file_name_makes_no_parts_of_one_source(tmp_path):
    path = write_lines(tmp_path / "c#.jsonl", [GOOD, GOOD])
    assert [document.id for document in read(corpus(path))[0]] == ["c%23.jsonl:1", "c%23.jsonl:2"]


@pytest.mark.parametrize(
    ("name", "domain"),
    [
        ("code-python-000.jsonl.zst", "code-python"),
        ("code-python.jsonl", "code-python"),
        ("books_012.parquet", "books"),
        ("train-00000-of-00010.parquet", "train"),
        ("train-00000-of-00010-0123456789abcdef.parquet", "train"),
        ("c4-train.00003-of-01024.json.gz", "c4-train"),
        ("shard_7.txt", "shard"),
        ("wiki.en.jsonl", "wiki.en"),
        ("007.jsonl", "folder"),
        ("000_00001.parquet", "folder"),
    ],
)
def test_the_domain_is_the_file_name_without_extensions_and_shard_number(tmp_path, name, domain):
    path = tmp_path / "folder" / name
    path.parent.mkdir()
    if ".parquet" in name:
        pq.write_table(pa.table({"text": ["x"]}), path)
    else:
        write_lines(path, [GOOD])
    assert read(corpus(path))[0][0].domain == domain


def test_the_domain_may_be_the_folder_a_field_or_a_constant(tmp_path):
    path = write_lines(tmp_path / "books" / "a.jsonl", [GOOD])
    for domain_from, domain in [("folder", "books"), ("field", "d"), ("constant", "mine")]:
        documents, _ = read(corpus(path, domain_from=domain_from, domain="mine"))
        assert documents[0].domain == domain


# --- the slice ---------------------------------------------------------------------------------


def test_slices_are_deterministic_nested_and_keep_sources_whole(tmp_path):
    rows = [{"text": "x", "id": f"source {n // 2}#{n % 2}"} for n in range(4000)]
    path = write_lines(tmp_path / "a.jsonl", rows)
    slices = {
        share: [document.id for document in read(corpus(path, share=share))[0]]
        for share in (0.1, 0.5, 1.0)
    }
    assert slices[0.1] == [document.id for document in read(corpus(path, share=0.1))[0]]
    assert set(slices[0.1]) < set(slices[0.5]) < set(slices[1.0])
    assert len(slices[1.0]) == 4000
    assert abs(len(slices[0.1]) - 400) < 100
    assert abs(len(slices[0.5]) - 2000) < 200
    sources = [name.partition("#")[0] for name in slices[0.5]]
    assert sources[::2] == sources[1::2]


def test_bad_records_outside_the_slice_do_not_count(tmp_path):
    path = write_lines(tmp_path / "a.jsonl", [b"{"] * 1000 + [GOOD] * 1000)
    _, tally = read(corpus(path, share=0.5, max_bad_share=0.9))
    assert abs(tally.num_dropped - 500) < 100
    assert abs(tally.num_documents - 500) < 100


# --- datasets ----------------------------------------------------------------------------------


@pytest.fixture
def _offline(monkeypatch):
    monkeypatch.setenv("HF_HUB_OFFLINE", "1")
    monkeypatch.setattr("huggingface_hub.constants.HF_HUB_OFFLINE", True)
    monkeypatch.setattr("datasets.config.HF_HUB_OFFLINE", True)


def dataset(folder, **fields):
    return CorpusConfig(source="datasets", dataset=str(folder), **fields)


@pytest.mark.usefixtures("_offline")
def test_a_local_dataset_folder_is_streamed(tmp_path):
    folder = tmp_path / "mine"
    rows = [{"text": "one", "id": "s#1", "domain": "d"}, {"text": None, "domain": "e"}]
    write_lines(folder / "data" / "train.jsonl", [*rows, {"text": "two", "domain": "f"}])
    documents, tally = read(dataset(folder, max_bad_share=0.5))
    assert documents == [Document("one", "mine", "s#1"), Document("two", "mine", "mine:3")]
    assert (tally.dropped, tally.places) == (
        {"text is missing": 1},
        {"text is missing": ["mine:2"]},
    )
    by_field, _ = read(dataset(folder, max_bad_share=0.5, domain_from="field"))
    assert [document.domain for document in by_field] == ["d", "f"]
    constant, _ = read(dataset(folder, max_bad_share=0.5, domain_from="constant"))
    assert {document.domain for document in constant} == {"text"}
    assert estimate_bytes(dataset(folder)) == (folder / "data" / "train.jsonl").stat().st_size


@pytest.mark.usefixtures("_offline")
def test_a_folder_of_save_to_disk_is_read(tmp_path):
    from datasets import Dataset, DatasetDict

    rows = Dataset.from_list([{"text": "one", "id": 5}, {"text": "two", "id": 6}])
    rows.save_to_disk(str(tmp_path / "one"))
    DatasetDict({"train": rows}).save_to_disk(str(tmp_path / "dict"))
    expected = [("one", "5"), ("two", "6")]
    for name in ("one", "dict"):
        documents, _ = read(dataset(tmp_path / name))
        assert [(document.text, document.id) for document in documents] == expected
        assert estimate_bytes(dataset(tmp_path / name)) > 0
    with pytest.raises(DocumentError, match="no split 'test'; the splits are train"):
        read(dataset(tmp_path / "dict", dataset_split="test"))


@pytest.mark.usefixtures("_offline")
def test_what_datasets_cannot_read_is_our_error_with_its_reason(tmp_path):
    write_lines(tmp_path / "good" / "train.jsonl", [{"text": "x", "url": "y"}])
    write_lines(tmp_path / "bad" / "train.jsonl", [{"text": "x"}, b"{oops"])
    with pytest.raises(DocumentError, match=r"split 'test'\).*Available splits: \['train'\]"):
        read(dataset(tmp_path / "good", dataset_split="test"))
    with pytest.raises(DocumentError, match="no column 'body'; the columns are text, url"):
        read(dataset(tmp_path / "good", text_field="body"))
    with pytest.raises(DocumentError, match="no column 'domain'; the columns are text, url"):
        read(dataset(tmp_path / "good", domain_from="field"))
    with pytest.raises(DocumentError, match="JSON parse error"):
        read(dataset(tmp_path / "bad"))
    with pytest.raises(DocumentError, match=r"dataset 'nobody/nothing'.*Couldn't reach"):
        read(dataset("nobody/nothing"))


# --- fingerprint and size ----------------------------------------------------------------------


def test_the_fingerprint_follows_content_names_and_fields_but_not_the_place(tmp_path):
    for folder in ("here", "there"):
        frozen_time(write_lines(tmp_path / folder / "a.jsonl", [GOOD]))
    first = corpus_fingerprint(corpus(tmp_path / "here"))
    assert first == corpus_fingerprint(corpus(tmp_path / "there"))
    assert first == corpus_fingerprint(corpus(tmp_path / "here", max_bad_share=0.5))
    changed = [
        corpus(tmp_path),
        corpus(tmp_path / "here", text_field="body"),
        corpus(tmp_path / "here", share=0.5),
        corpus(tmp_path / "here", domain_from="folder"),
    ]
    frozen_time(tmp_path / "there" / "a.jsonl", 1_700_000_001)
    changed.append(corpus(tmp_path / "there"))
    assert len({first, *map(corpus_fingerprint, changed)}) == 1 + len(changed)


def test_where_text_lies_does_not_count_but_where_token_shards_lie_does():
    def fields(source, path):
        return CorpusConfig(source=source, paths=(path,)).fingerprinted()

    assert fields("files", "here") == fields("files", "there")
    assert fields("tokens", "here") != fields("tokens", "there")
    assert dataset("a/b").fingerprinted() == dataset("a/c").fingerprinted()
    assert dataset("a/b").origin["dataset"] == "a/b"


def test_the_fingerprint_of_a_dataset_follows_its_revision_or_its_files(tmp_path):
    hub = [dataset("a/b"), dataset("a/c"), dataset("a/b", dataset_revision="v1")]
    assert len(set(map(corpus_fingerprint, hub))) == 3
    path = frozen_time(write_lines(tmp_path / "mine" / "a.jsonl", [GOOD]))
    first = corpus_fingerprint(dataset(tmp_path / "mine"))
    assert first == corpus_fingerprint(dataset(tmp_path / "mine"))
    write_lines(path, [GOOD, GOOD])
    assert first != corpus_fingerprint(dataset(tmp_path / "mine"))


@pytest.mark.parametrize("suffix", [".jsonl", ".jsonl.gz", ".jsonl.zst", ".parquet"])
def test_the_estimate_is_near_the_bytes_that_are_read(tmp_path, suffix):
    rows = [{"text": os.urandom(100).hex() + "word " * 50, "id": f"{n}"} for n in range(5000)]
    for number in range(3):
        path = tmp_path / f"a-{number}{suffix}"
        if suffix == ".parquet":
            pq.write_table(pa.Table.from_pylist(rows), path, use_dictionary=False)
        else:
            write_lines(path, rows)
    _, tally = read(corpus(tmp_path))
    assert estimate_bytes(corpus(tmp_path)) == pytest.approx(tally.num_bytes, rel=0.02)
    half = estimate_bytes(corpus(tmp_path, share=0.5))
    assert half == pytest.approx(tally.num_bytes / 2, rel=0.02)


def test_the_estimate_of_plain_text_files_is_their_size_however_many_they_are(tmp_path):
    for number in range(100):
        (tmp_path / f"{number}.txt").write_text("x" * 50)
    assert estimate_bytes(corpus(tmp_path)) == 5000


# --- config ------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("fields", "fault"),
    [
        ({}, "corpus: paths is empty; source: files needs"),
        ({"source": "datasets"}, "corpus: dataset is missing; source: datasets needs"),
        ({"source": "embedded", "paths": ["a"]}, "paths is given, but source is embedded"),
        ({"paths": ["a"], "dataset": "b"}, "dataset is given, but source is files"),
        ({"paths": ["a"], "text_suffixes": ["md"]}, "an extension begins with a dot"),
        ({"paths": ["a"], "share": 0}, "corpus.share: input should be greater than 0"),
        ({"paths": ["a"], "max_bad_share": 2}, "corpus.max_bad_share"),
    ],
)
def test_faults_of_the_config_say_what_to_do(fields, fault):
    with pytest.raises(ConfigError) as caught:
        validate(CorpusConfig, fields, "recipe.yaml", "corpus")
    assert len(caught.value.faults) == 1
    assert fault in caught.value.faults[0]


def test_one_path_may_be_given_without_a_list():
    assert CorpusConfig(paths="data").paths == ("data",)


def test_every_field_is_described():
    assert [
        name for name, field in CorpusConfig.model_fields.items() if not field.description
    ] == []
