"""The tokenise stage against the plainest way to do the same, id by id and row by row."""

import numpy as np
import pytest

from miniplm.data.documents import CorpusConfig, DocumentTally, read_documents
from miniplm.data.packing import PackingConfig
from miniplm.data.shards import open_shards
from miniplm.data.splits import SPLITS, SplitAssigner, SplitsConfig
from miniplm.data.tokenization import TokenizationConfig, tokenize_corpus
from miniplm.data.tokenizer import TokenizerConfig, load_tokenizer, token_bytes, token_table

MAX_LENGTH = 32
SEED = 5


def reference_rows(config, tokenizer, block):
    """Rows of each split as (ids, bytes, domain, document ids), in their final order."""
    backend = tokenizer.backend_tokenizer
    backend.encode_special_tokens = True
    texts, table = token_bytes(tokenizer), token_table(tokenizer)
    assigner = SplitAssigner(config.splits, config.seed)
    pending, rows = {}, {split: [] for split in SPLITS}

    def cut(split, domain, *, flush):
        stream = pending[split, domain]  # of (id, document id)
        while len(stream) > MAX_LENGTH or (flush and len(stream) > 1):
            window = stream[: MAX_LENGTH + 1]
            ends = [n for n in range(2, len(window) + 1) if table.ends_sentence_V[window[n - 1][0]]]
            end = ends[-1] if ends and len(window) > MAX_LENGTH else len(window)
            ids = [token for token, _ in window[:end]]
            names = list(dict.fromkeys(name for _, name in window[:end]))
            rows[split].append((ids, sum(len(texts[token]) for token in ids), domain, names))
            del stream[:end]

    for document in read_documents(config.corpus, DocumentTally()):
        split = assigner.assign(document.id, document.domain, len(document.text.encode()))
        ids = backend.encode(document.text, add_special_tokens=False).ids
        stream = pending.setdefault((split, document.domain), [])
        stream += [(token, document.id) for token in [*ids, tokenizer.eos_token_id]]
        if len(stream) >= block:
            cut(split, document.domain, flush=False)
    for split, domain in sorted(pending):
        cut(split, domain, flush=True)
    for number, split in enumerate(SPLITS):
        seed = np.random.SeedSequence([config.seed, number])
        order = np.random.Generator(np.random.PCG64(seed)).permutation(len(rows[split]))
        rows[split] = [rows[split][index] for index in order]
    return rows


@pytest.mark.parametrize(("block", "characters"), [(1 << 20, 1 << 20), (300, 1 << 20), (300, 500)])
def test_shards_hold_what_the_plain_way_gives(
    corpus_folder, tmp_path, monkeypatch, block, characters
):
    config = TokenizationConfig(
        corpus=CorpusConfig(paths=(str(corpus_folder),)),
        splits=SplitsConfig(reference=0.2, teacher=0.2, held_out=0.2),
        tokenizer=TokenizerConfig(vocab_size=320),
        packing=PackingConfig(max_length=MAX_LENGTH, sequences_per_shard=100),
        seed=SEED,
    )
    monkeypatch.setattr("miniplm.data.packing._BLOCK_IDS", block)
    # With few characters to a batch every document is a long one, encoded in pieces.
    monkeypatch.setattr("miniplm.data.corpus_packing._BATCH_CHARACTERS", characters)
    monkeypatch.setattr("miniplm.data.long_texts.PIECE_CHARACTERS", min(characters, 100))
    monkeypatch.setattr("miniplm.data.long_texts._SEARCHED_CHARACTERS", 90)
    monkeypatch.setattr("miniplm.data.long_texts._AROUND_CHARACTERS", 50)
    tokenize_corpus(config, tmp_path)
    expected = reference_rows(config, load_tokenizer(tmp_path / "tokenizer"), block)
    for split in SPLITS:
        assert len(expected[split]) > 20
        found = []
        for shard in open_shards(tmp_path / split):
            columns = [shard.sidecar[name].to_pylist() for name in ("num_bytes", "domain")]
            names = shard.sidecar["source_ids"].to_pylist()
            ids = [shard.row(index).tolist() for index in range(len(shard))]
            found += zip(ids, *columns, names, strict=True)
        assert found == expected[split]
