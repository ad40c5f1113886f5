"""The tokenise stage: files of JSON lines in, token shards out, with a vocabulary of 50k.

What is timed is the whole way from files to finished shards, loading the tokenizer included;
not timed are the start of the interpreter, imports, and a first look at the files that brings them
into the system's cache, for all contenders alike. All use all cores.
"""

import json
import multiprocessing
import os
import random
import tempfile
from collections.abc import Iterable
from pathlib import Path

import numpy as np

from benchmarks.harness import Bench, Clock, Contender
from benchmarks.setting import Setting

MAX_LENGTH = 1024
DOMAINS = {
    "small": ["textbook", "encyclopedia", "news", "math-word-problems"],
    "full": [
        "textbook", "encyclopedia", "news", "math-word-problems",
        "code-javascript", "code-cpp", "dialog",
    ],
}  # fmt: skip
_EMBEDDED_VOCABULARY = 16_384
_TRAIN_BYTES = 10_000_000


def benches(setting: Setting) -> list[Bench]:
    """One bench: English and code of the shared corpus, or the embedded corpus."""
    if setting.data is not None:
        files = [setting.data / "corpus" / f"{d}-000.jsonl.zst" for d in DOMAINS[setting.size]]
        tokenizer, prepare = setting.data / "tokenizers" / "gpt2", None
        name = f"tokenise, {len(files)} domains of the shared corpus, vocabulary 50k"
    else:
        place = setting.folder / f"embedded-{setting.size}"
        files, tokenizer = [place / "corpus"], place / "tokenizer"
        prepare = f"tokenization:prepare_{setting.size}"
        name = f"tokenise, embedded corpus, vocabulary {_EMBEDDED_VOCABULARY // 1024}k"
    return [
        Bench(
            name=name,
            unit="bytes",
            baseline="authors",
            contenders={
                "authors": Contender("tokenization:authors", environment=_ONE_THREAD_EACH),
                "tokenizers": Contender("tokenization:plain"),
                "miniplm": Contender("tokenization:ours"),
                "limit": Contender("tokenization:encoding_alone"),
            },
            arguments={
                "paths": [str(path) for path in files],
                "tokenizer": str(tokenizer),
            },
            goal=">= 12x authors; >= 8x tokenizers",
            prepare=prepare,
            peer="tokenizers",
        )
    ]


_ONE_THREAD_EACH = {"TOKENIZERS_PARALLELISM": "false"}  # the pool uses the cores


def prepare_small(clock: Clock, paths: list[str], tokenizer: str) -> float:
    """Half of the embedded corpus."""
    return _prepare(clock, paths, tokenizer, share=0.5)


def prepare_full(clock: Clock, paths: list[str], tokenizer: str) -> float:
    """All of the embedded corpus."""
    return _prepare(clock, paths, tokenizer, share=1.0)


def _prepare(clock: Clock, paths: list[str], tokenizer: str, *, share: float) -> float:
    """Write the embedded corpus to files and train a tokenizer on it, unless it is there."""
    from miniplm.data.documents import CorpusConfig, DocumentTally, read_documents
    from miniplm.data.tokenizer import train_tokenizer

    folder = Path(paths[0])
    if (Path(tokenizer) / "tokenizer.json").exists():
        return 0
    folder.mkdir(parents=True, exist_ok=True)
    with clock:
        texts = []
        files = {}
        corpus = CorpusConfig(source="embedded", share=share)
        for document in read_documents(corpus, DocumentTally()):
            if document.domain not in files:
                files[document.domain] = (folder / f"{document.domain}.jsonl").open("w")
            row = {"text": document.text, "domain": document.domain, "id": document.id}
            files[document.domain].write(json.dumps(row) + "\n")
            texts.append(document.text)
        for file in files.values():
            file.close()
        random.Random(0).shuffle(texts)  # noqa: S311  (a sample, no secret)
        budget = _TRAIN_BYTES // (sum(map(len, texts)) // len(texts))
        train_tokenizer(texts[:budget], _EMBEDDED_VOCABULARY, Path(tokenizer))
    return 0


# --- miniplm, with its own choice of encoder and with tokenizers ------------------------------


def ours(clock: Clock, paths: list[str], tokenizer: str) -> float:
    """The stage as it is."""
    return _stage(clock, paths, tokenizer)


def plain(clock: Clock, paths: list[str], tokenizer: str) -> float:
    """The stage with the batch encoding of `tokenizers`: what anyone gets who packs well."""
    from miniplm.data import corpus_packing
    from miniplm.data.encoders import TokenizersEncoder

    corpus_packing.choose_encoder = lambda tokenizer, sample: TokenizersEncoder(tokenizer)
    return _stage(clock, paths, tokenizer)


def _stage(clock: Clock, paths: list[str], tokenizer: str) -> float:
    from miniplm.data.documents import CorpusConfig
    from miniplm.data.packing import PackingConfig
    from miniplm.data.shards import open_shards
    from miniplm.data.splits import SplitsConfig
    from miniplm.data.tokenization import TokenizationConfig, tokenize_corpus
    from miniplm.data.tokenizer import TokenizerConfig

    _warm_up(paths, tokenizer)
    config = TokenizationConfig(
        corpus=CorpusConfig(paths=tuple(paths)),
        splits=SplitsConfig(reference=0, teacher=0, held_out=0),
        tokenizer=TokenizerConfig(name=tokenizer),
        packing=PackingConfig(max_length=MAX_LENGTH),
        seed=1,
    )
    with tempfile.TemporaryDirectory() as folder:
        with clock:
            outcome = tokenize_corpus(config, Path(folder))
        clock.facts = {
            "tokens": outcome.num_tokens,
            "encoder": outcome.facts["encoder"],
            # Has to be the same for both encoders: every id of the corpus goes into it.
            "shard_hash": open_shards(Path(folder) / "candidates")[0].info.shard_hash,
        }
    return outcome.counts["bytes"]


def encoding_alone(clock: Clock, paths: list[str], tokenizer: str) -> float:
    """The fast encoder alone, on text already in memory, in batches as large as the stage's."""
    from miniplm.data.corpus_packing import _batches
    from miniplm.data.documents import CorpusConfig, DocumentTally, read_documents
    from miniplm.data.encoder_check import choose_encoder
    from miniplm.data.tokenizer import load_tokenizer

    tally = DocumentTally()
    documents = read_documents(CorpusConfig(paths=tuple(paths)), tally)
    batches = [[document.text for document in batch] for batch in _batches(documents)]
    encoder = choose_encoder(load_tokenizer(tokenizer), batches[0])
    with clock:
        num_ids = sum(len(encoder(batch).ids_N) for batch in batches)
    clock.facts = {"ids": num_ids, "encoder": encoder.name}
    return tally.num_bytes


# --- the authors' way -------------------------------------------------------------------------


def authors(clock: Clock, paths: list[str], tokenizer: str) -> float:
    """Our own re-implementation of the cost of the authors' data preparation.

    A pool of processes parses and encodes one document at a time and sends lists of ids back. The
    main process joins the documents of a file with eos, cuts each window of 1,025 ids back to the
    last sentence end, which it looks for by decoding one id after another from the window's end,
    shuffles the rows and writes them one by one in Megatron's format.
    """
    from miniplm.data.tokenizer import load_tokenizer

    _warm_up(paths, tokenizer)
    num_bytes = 0
    rows: list[list[int]] = []
    with clock, tempfile.TemporaryDirectory() as folder:
        loaded = load_tokenizer(tokenizer)
        context = multiprocessing.get_context("fork")
        with context.Pool(os.cpu_count(), _load_in_worker, (tokenizer,)) as pool:
            for path in _files(paths):
                encoded = pool.imap(_encode_line, _lines(path), chunksize=16)
                num_bytes += _cut_into_rows(loaded, encoded, rows)
        random.Random(1).shuffle(rows)  # noqa: S311
        _write_rows(rows, len(loaded), Path(folder))
    clock.facts = {"tokens": sum(map(len, rows)) - len(rows)}
    return num_bytes


def _load_in_worker(tokenizer: str) -> None:
    from miniplm.data.tokenizer import load_tokenizer

    global _worker_tokenizer  # noqa: PLW0603  (how a pool's initializer hands things on)
    _worker_tokenizer = load_tokenizer(tokenizer)


def _encode_line(line: bytes) -> tuple[int, list[int]]:
    text = json.loads(line)["text"]
    ids = _worker_tokenizer.encode(text, add_special_tokens=False, split_special_tokens=True)
    return len(text.encode()), ids


def _cut_into_rows(
    tokenizer, encoded: Iterable[tuple[int, list[int]]], rows: list[list[int]]
) -> int:
    """Join the documents of a file and add their rows; returns their bytes."""
    num_bytes = 0
    left: list[int] = []
    for size, ids in encoded:
        num_bytes += size
        left += ids
        left.append(tokenizer.eos_token_id)
        while len(left) > MAX_LENGTH:
            end = _sentence_end(tokenizer, left[: MAX_LENGTH + 1])
            rows.append(left[:end])
            left = left[end:]
    if len(left) > 1:
        rows.append(left)
    return num_bytes


def _sentence_end(tokenizer, window: list[int]) -> int:
    for index in range(len(window) - 1, 0, -1):
        token = window[index]
        if token == tokenizer.eos_token_id or tokenizer.decode([token])[-1:] in ".!?\n":
            return index + 1
    return len(window)


def _write_rows(rows: list[list[int]], vocab_size: int, folder: Path) -> None:
    from miniplm.data.shards import ids_dtype, index_bytes

    dtype = ids_dtype(vocab_size)
    with (folder / "data_0.bin").open("wb") as file:
        for row in rows:
            file.write(np.array(row, dtype=dtype).tobytes(order="C"))
    lengths = np.array([len(row) for row in rows], dtype=np.int32)
    (folder / "data_0.idx").write_bytes(index_bytes(lengths, dtype))


# --- what all do --------------------------------------------------------------------------------


def _warm_up(paths: list[str], tokenizer: str) -> None:
    """Imports, and files in the system's cache."""
    import awkward  # noqa: F401  (gigatoken imports it when it is first used)
    import orjson  # noqa: F401

    from miniplm.data.tokenizer import load_tokenizer

    load_tokenizer(tokenizer).encode("warm")
    for path in _files(paths):
        path.read_bytes()


def _files(paths: list[str]) -> list[Path]:
    places = [Path(path) for path in paths]
    return [
        file
        for place in places
        for file in (sorted(place.iterdir()) if place.is_dir() else [place])
    ]


def _lines(path: Path):
    from miniplm.data.streams import open_stream

    with open_stream(path, ".zst" if path.suffix == ".zst" else "") as stream:
        yield from stream
