"""The retokenize stage: token shards become token shards of another tokenizer.

Each shard gives one shard, with its rows in their order and under their old ids. One that is there
is not made again if it says that it was made from this shard, for this tokenizer, in this way. No
text is read but that of the rows: where the documents are still there, tokenising the text afresh
loses nothing, not even what rows that become too long lose here.

Rows look as those of any other tokenizer (`data.corpus_packing`): end-of-text behind each document,
nothing in front. A tokenizer that begins texts with a mark of its own (BOS) does not get it: most
rows begin inside a document, a mark would be predicted from end-of-text, which has no target, and
the first token behind it would be scored for these families and for no others.
"""

import json
from collections import Counter
from dataclasses import dataclass, replace
from functools import lru_cache, partial
from pathlib import Path
from typing import Any

from miniplm.data.encoder_check import choose_encoder
from miniplm.data.shards import (
    Shard,
    is_made_from,
    scored_hash,
    shard_prefixes,
    write_shard,
)
from miniplm.data.tokenizer import load_tokenizer
from miniplm.errors import ArtefactError
from miniplm.export.corpus_tokenizer import corpus_texts, tokenizer_fingerprint
from miniplm.export.cut_text import cut_bytes_by_place, fitting_length, without_places
from miniplm.export.exporter import SHARDS_FOLDER
from miniplm.export.retokenized_rows import (
    LongRows,
    NewRow,
    new_sidecar,
    retokenize_rows,
)
from miniplm.export.row_text import RowText
from miniplm.manifest import Outcome, write_json
from miniplm.runtime.executors import Executor, serial
from miniplm.runtime.log import logger
from miniplm.runtime.progress import progress

COUNTS_FOLDER = "counts"
_ROWS_AT_ONCE = 2048
_SAMPLE_BYTES = 100_000
_WARN_SHARE = 0.01


@dataclass(frozen=True)
class _Task:
    prefix: Path
    folder: Path


@dataclass(frozen=True)
class _Job:
    """What all shards have in common; goes to other processes as it is."""

    old: Path
    new: Path
    new_fingerprint: str
    max_length: int
    long_rows: LongRows
    sample: tuple[str, ...]
    """Texts of the corpus, on which the fast encoder is proven."""

    def origin(self, shard: Shard) -> dict[str, Any]:
        """What a shard that is made from this one says of where it comes from."""
        return {
            "shard_hash": scored_hash(shard),
            "retokenized": shard.info.shard_hash,
            "tokenizer": self.new_fingerprint,
            "max_length": self.max_length,
            "long_rows": self.long_rows,
        }


def retokenize_corpus(
    shards_folder: Path,
    old_tokenizer: Path,
    new_tokenizer: Path,
    max_length: int,
    folder: Path,
    *,
    long_rows: LongRows = "cut",
    executor: Executor[_Task, dict[str, int]] = serial,
) -> Outcome:
    """Write `folder/shards/data_N.*` and `folder/counts/data_N.json`.

    The text of every row is compared with what its new ids spell; what differs is counted, with
    the reason. That takes about a quarter of the time of the work (docs/families.md).

    Args:
        shards_folder: Token shards.
        old_tokenizer: Folder of their tokenizer.
        new_tokenizer: Folder of the other one.
        max_length: Most predicted tokens in a new row.
        folder: Where the new shards go.
        long_rows: Whether rows that become longer are cut, or split so that nothing is lost.
        executor: Runs the shards. Encoding is on all cores in itself; processes share what is
            left of the work.

    Raises:
        ArtefactError: A shard is damaged, or is not of the old tokenizer; or no row is left.
        ModelError: A tokenizer cannot be loaded, or its ids do not stand for bytes.
    """
    prefixes = shard_prefixes(shards_folder)
    fingerprint = tokenizer_fingerprint(new_tokenizer)
    sample = tuple(corpus_texts(shards_folder, old_tokenizer, _SAMPLE_BYTES))
    job = _Job(old_tokenizer, new_tokenizer, fingerprint, max_length, long_rows, sample)
    counts: Counter[str] = Counter()
    with progress("retokenize", len(prefixes), "shards") as advance:
        tasks = [_Task(prefix, folder) for prefix in prefixes]
        for found in executor(partial(_retokenize_shard, job), tasks):
            counts.update(found)
            advance(1)
    if counts["sequences"] == 0:
        raise ArtefactError(f"{shards_folder}: none of its rows is two tokens long in the other")
    _warn(folder.name, counts, max_length)
    return Outcome(
        counts=without_places(counts),
        num_tokens=counts["ids"] - counts["sequences"],
        facts={"max_length": max_length, "tokenizer": fingerprint},
    )


def _warn(name: str, counts: Counter[str], max_length: int) -> None:
    if counts["cut_bytes"] > _WARN_SHARE * counts["bytes_encoded"]:
        logger.warning(
            "retokenize: %.1f %% of the text of %s was cut off, the ends of the %d of %d sequences "
            "that became longer than %d. %s, or tokenise the documents afresh",
            100 * counts["cut_bytes"] / counts["bytes_encoded"],
            name, counts["cut_sequences"], counts["sequences_in"], max_length,
            _advice(name, counts),
        )  # fmt: skip
    different = {name: count for name, count in counts.items() if name.startswith("different")}
    if different:
        logger.warning("retokenize: not all text is the same (pieces of rows): %s", different)


def _advice(name: str, counts: Counter[str]) -> str:
    """Which length would have cut off less, where that was counted for all shards."""
    field, by_place = f"retokenizations.{name}.max_length", cut_bytes_by_place(counts)
    if sum(by_place.values()) != counts["cut_bytes"]:  # an earlier miniplm counted some of them
        return f"Raise {field}"
    all_of_it = fitting_length(by_place, 0)
    nearly = fitting_length(by_place, _WARN_SHARE * counts["bytes_encoded"])
    return (
        f"Set {field} to {all_of_it} to cut nothing, or to {nearly} to cut at most "
        f"{_WARN_SHARE:.0%} of it"
    )


def _retokenize_shard(job: _Job, task: _Task) -> dict[str, int]:
    """Retokenise one shard unless it is there; returns its counts."""
    shard = Shard(task.prefix)
    target = task.folder / SHARDS_FOLDER / task.prefix.name
    counted = task.folder / COUNTS_FOLDER / f"{task.prefix.name}.json"
    if is_made_from(target, job.origin(shard)):
        counts = _counts_of(counted, job.origin(shard))
        if counts is not None:
            return counts
    return dict(_make_shard(job, shard, target, counted))


def _counts_of(counted: Path, origin: dict[str, Any]) -> dict[str, int] | None:
    """What was counted when a shard was made from this `origin`, if that was kept."""
    if not counted.exists():
        return None
    kept = json.loads(counted.read_text(encoding="utf-8"))
    counts: dict[str, int] | None = kept["counts"] if kept.get("origin") == origin else None
    return counts


def _make_shard(job: _Job, shard: Shard, target: Path, counted: Path) -> Counter[str]:
    old, new = _tokenizers(job)
    old.check_shard(shard)
    rows: list[NewRow] = []
    counts: Counter[str] = Counter()
    for begin in range(0, len(shard), _ROWS_AT_ONCE):
        group = [shard.row(row) for row in range(begin, min(begin + _ROWS_AT_ONCE, len(shard)))]
        made, found = retokenize_rows(group, old, new, job.max_length, job.long_rows)
        rows += [replace(row, place=begin + row.place) for row in made]
        counts.update(found)
    counts.update(sequences=len(rows), ids=sum(len(row.ids) for row in rows))
    counted.parent.mkdir(parents=True, exist_ok=True)
    write_json(counted, {"origin": job.origin(shard), "counts": counts})
    write_shard(
        target,
        (row.ids for row in rows),
        new_sidecar(shard.sidecar, rows, new.num_bytes_V),
        vocab_size=new.vocab_size,
        eos_id=new.eos_id,
        max_length=job.max_length,
        origin=job.origin(shard),
    )
    return counts


@lru_cache(maxsize=2)
def _tokenizers(job: _Job) -> tuple[RowText, RowText]:
    """The old and the new one, loaded once in a process."""
    new = load_tokenizer(job.new)
    return RowText(load_tokenizer(job.old)), RowText(new, choose_encoder(new, job.sample))
