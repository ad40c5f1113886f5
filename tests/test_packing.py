from dataclasses import dataclass

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from miniplm.data import packing
from miniplm.data.packing import DomainPacker, row_ends
from miniplm.data.splits import SPLITS, SplitAssigner, SplitsConfig, source_of

EOS, STOP = 0, 1
ENDS_SENTENCE = np.zeros(64, dtype=bool)
ENDS_SENTENCE[[EOS, STOP]] = True


@dataclass
class Row:
    ids: list
    sources: list


def rows_of(blocks):
    for block in filter(None, blocks):
        ids = np.split(block.ids_N, np.cumsum(block.lengths_R))[:-1]
        sources = np.split(block.sources_S, np.cumsum(block.num_sources_R))[:-1]
        for row, numbers in zip(ids, sources, strict=True):
            yield Row(row.tolist(), [f"d{number}" for number in numbers])


def add(packer, index, ids, part):
    """Rows that come while a document is added in parts."""
    array = np.array(ids, dtype=np.int32)
    parts = [array[begin : begin + part] for begin in range(0, len(ids), part)] or [array]
    blocks = [packer.add(piece, index, is_last=piece is parts[-1]) for piece in parts]
    return list(rows_of(blocks))


def packed(documents, max_length, ends=ENDS_SENTENCE, part=1000):
    packer = DomainPacker(ends, EOS, max_length)
    rows = []
    for index, ids in enumerate(documents):
        rows += add(packer, index, ids, part)
    rows += rows_of([packer.flush()])
    return rows, packer


def test_rows_are_cut_back_to_the_last_sentence_end():
    documents = [[5, 6, STOP, 7, 8, 9], [10, 11, STOP, 12]]
    # stream: 5 6 . 7 8 9 eos 10 11 . 12 eos, in windows of 5
    rows, _ = packed(documents, max_length=4)
    assert [row.ids for row in rows] == [[5, 6, 1], [7, 8, 9, 0], [10, 11, 1, 12, 0]]
    assert [row.sources for row in rows] == [["d0"], ["d0"], ["d1"]]


def test_a_window_without_a_sentence_end_is_kept_whole():
    rows, _ = packed([[5, 6, 7, 8, 9, 10, 11]], max_length=2)
    assert [row.ids for row in rows] == [[5, 6, 7], [8, 9, 10], [11, 0]]


def test_a_row_of_one_id_is_never_cut():
    # behind id 5 a sentence ends, but a row of one id predicts nothing
    rows, _ = packed([[STOP, 5, 6, 7]], max_length=2)
    assert [row.ids for row in rows] == [[1, 5, 6], [7, 0]]


def test_a_single_id_left_over_is_dropped_and_counted():
    rows, packer = packed([[5, 6, 7, 8, 9]], max_length=4)
    assert [row.ids for row in rows] == [[5, 6, 7, 8, 9]]
    assert packer.num_dropped_ids == 1  # the eos behind the last document


def test_a_row_over_several_documents_names_them_in_order():
    rows, _ = packed([[5], [6, 7], [8, 9]], max_length=10)
    assert [row.ids for row in rows] == [[5, 0, 6, 7, 0, 8, 9, 0]]
    assert rows[0].sources == ["d0", "d1", "d2"]


def test_row_ends_by_hand():
    ends = np.array([0, 0, 1, 0, 0, 0, 0, 0, 1, 0], dtype=bool)
    assert row_ends(ends, 4) == [3, 7]
    assert row_ends(ends, 10) == [9]
    assert row_ends(ends, 11) == []


@settings(deadline=None, max_examples=60)
@given(
    st.lists(st.lists(st.integers(1, 20), min_size=0, max_size=40), min_size=1, max_size=20),
    st.integers(2, 12),
    st.integers(1, 60),
    st.integers(1, 9),
)
def test_packing_loses_nothing_and_does_not_depend_on_blocks(documents, max_length, block, part):
    rows, packer = packed(documents, max_length)
    joined = [token for row in rows for token in row.ids]
    stream = [token for ids in documents for token in [*ids, EOS]]
    assert len(joined) + packer.num_dropped_ids == len(stream)
    assert joined == stream[: len(joined)]
    assert all(2 <= len(row.ids) <= max_length + 1 for row in rows)
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(packing, "_BLOCK_IDS", block)
        in_blocks, _ = packed(documents, max_length, part=part)
    assert [row.ids for row in in_blocks] == [row.ids for row in rows]
    assert [row.sources for row in in_blocks] == [row.sources for row in rows]


@settings(deadline=None, max_examples=30)
@given(
    st.lists(st.lists(st.integers(1, 20), min_size=0, max_size=40), min_size=1, max_size=20),
    st.integers(1, 60),
)
def test_rows_come_behind_the_same_documents_however_ids_are_divided(documents, block):
    def counts(part):
        packer = DomainPacker(ENDS_SENTENCE, EOS, 5)
        for index, ids in enumerate(documents):
            yield len(add(packer, index, ids, part))

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(packing, "_BLOCK_IDS", block)
        assert list(counts(part=3)) == list(counts(part=1000))


def deal(config, documents, seed=1):
    """Split of each (id, domain, bytes)."""
    assigner = SplitAssigner(config, seed)
    return [assigner.assign(*document) for document in documents]


def test_parts_of_one_source_share_a_split():
    config = SplitsConfig(reference=0.3, teacher=0.3, held_out=0.2)
    assert source_of("book#012") == source_of("book#007") == "book"
    documents = [(f"book-{n % 50}#{n}", "books", 100 + n) for n in range(400)]
    found = {}
    for (name, _, _), split in zip(documents, deal(config, documents), strict=True):
        found.setdefault(source_of(name), set()).add(split)
    assert all(len(splits) == 1 for splits in found.values())
    assert len(set().union(*found.values())) == 4


def test_a_source_without_parts_and_its_parts_stay_together():
    config = SplitsConfig(reference=0.3, teacher=0.2, held_out=0.2)
    documents = [(f"d{n}{part}", "text", 100) for n in range(300) for part in ("", "#1", "")]
    splits = deal(config, documents)
    assert all(len(set(splits[place : place + 3])) == 1 for place in range(0, 900, 3))


def test_every_domain_gets_its_shares_even_with_sources_of_odd_sizes():
    config = SplitsConfig(reference=0.3, teacher=0.1, held_out=0.2)
    generator = np.random.default_rng(0)
    sizes = {"even": [1000] * 3000, "odd": generator.pareto(1.5, 3000) * 1000 + 10}
    documents = [(f"{d}-{n}", d, int(size)) for d in sizes for n, size in enumerate(sizes[d])]
    splits = deal(config, documents)
    for domain in sizes:
        here = [(s, size) for (_, d, size), s in zip(documents, splits, strict=True) if d == domain]
        total = sum(size for _, size in here)
        shares = [sum(size for s, size in here if s == split) / total for split in SPLITS]
        assert shares == pytest.approx([0.4, 0.3, 0.1, 0.2], abs=0.01)


def test_the_seed_decides_and_a_share_of_zero_gets_nothing():
    config = SplitsConfig(reference=0.3, teacher=0.0, held_out=0.2)
    documents = [(f"d{n}", "text", 100) for n in range(500)]
    first = deal(config, documents, seed=1)
    assert first == deal(config, documents, seed=1)
    assert first != deal(config, documents, seed=2)
    assert "teacher" not in first


def test_shares_that_leave_no_candidates_are_refused():
    with pytest.raises(ValueError, match=r"add up to 1\.1; nothing is left"):
        SplitsConfig(reference=0.5, teacher=0.5, held_out=0.1)
