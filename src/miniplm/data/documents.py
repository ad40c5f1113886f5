"""Documents in: which text, or token shards, a corpus is, reading it, its fingerprint and its size.

Bad records are passed over, counted with their reason in a `DocumentTally`, and refused as a whole
when they are too many. Files are read in sorted order and streamed, so order and memory depend
neither on the machine nor on the size of the corpus.
"""

from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import replace
from typing import Annotated, Any, Literal

from pydantic import Field, field_validator, model_validator

from miniplm.config import NOT_FINGERPRINTED, Config
from miniplm.data.embedded import embedded_bytes, embedded_documents, embedded_fingerprint
from miniplm.data.estimates import estimate_text_bytes
from miniplm.data.files import CorpusFile, find_files
from miniplm.data.hub import DatasetPlace, dataset_bytes, dataset_listing, dataset_rows
from miniplm.data.readers import NOT_UTF8, Row, lookup, read_rows
from miniplm.data.records import Document, DocumentTally, in_share
from miniplm.data.shard_views import SourceShard
from miniplm.data.splits import source_of
from miniplm.data.token_corpus import find_token_shards, source_files
from miniplm.errors import DocumentError
from miniplm.known_files import fingerprint_files
from miniplm.manifest import fingerprint

__all__ = [
    "CorpusConfig",
    "Document",
    "DocumentTally",
    "corpus_fingerprint",
    "estimate_bytes",
    "read_documents",
    "token_sources",
]

EMPTY = "empty"


class CorpusConfig(Config):
    """Which text to read and how its fields are called."""

    source: Literal["embedded", "files", "datasets", "tokens"] = Field(
        "files",
        description="embedded (text that Python itself carries), files, datasets (Hugging Face), "
        "or tokens (folders of token shards, such as the authors released)",
    )
    paths: tuple[str, ...] = Field(
        (),
        description="for files: files, folders (read to the bottom) or globs; JSON lines "
        "(.jsonl, .ndjson, .json) and text, also .gz and .zst, and Parquet; for tokens: folders "
        "with data_0.bin, data_0.idx, ...",
    )
    dataset: str | None = Field(None, description="for datasets: hub name or local folder")
    dataset_config: str | None = Field(None, description="its configuration, if it has several")
    dataset_split: str = Field("train", description="the split of the dataset to read")
    dataset_revision: str | None = Field(
        None,
        description="commit or tag on the hub; without one, a change there goes unnoticed",
    )
    text_field: str = Field("text", description="field with the text; a.b is b inside a")
    id_field: str | None = Field(
        "id",
        description="field with the document's id; where it is missing, file:line. Ids that "
        "differ only after a # are parts of one source and stay in one split",
    )
    domain_from: Literal["file", "folder", "field", "constant"] = Field(
        "file",
        description="where a document's domain comes from: the file's name without extensions and "
        "shard number (code-python-000.jsonl.zst is code-python; for datasets the dataset's "
        "name; for tokens what the shards say, else the folder's name), the folder's name, "
        "domain_field, or the constant below",
    )
    domain_field: str = Field("domain", description="the field for domain_from: field")
    domain: str = Field("text", min_length=1, description="the domain for domain_from: constant")
    text_suffixes: tuple[str, ...] = Field(
        (".txt",), description="extensions of files that are one document each (.md, .py, ...)"
    )
    share: float = Field(
        1.0, gt=0, le=1, description="share of all sources to read; smaller shares lie in larger"
    )
    max_bad_share: Annotated[float, NOT_FINGERPRINTED] = Field(
        0.01, ge=0, le=1, description="stop when more than this share of all documents is bad"
    )

    @field_validator("paths", "text_suffixes", mode="before")
    @classmethod
    def _one_is_a_list_of_one(cls, value: object) -> object:
        return (value,) if isinstance(value, str) else value

    @field_validator("text_suffixes")
    @classmethod
    def _suffixes_begin_with_a_dot(cls, value: tuple[str, ...]) -> tuple[str, ...]:
        if any(not suffix.startswith(".") or len(suffix) < 2 for suffix in value):
            raise ValueError("an extension begins with a dot, for example .md")
        return tuple(suffix.lower() for suffix in value)

    @model_validator(mode="after")
    def _source_is_given(self) -> "CorpusConfig":
        if self.source == "files" and not self.paths:
            raise ValueError("paths is empty; source: files needs files, folders or globs")
        if self.source == "datasets" and not self.dataset:
            raise ValueError("dataset is missing; source: datasets needs a hub name or a folder")
        if self.source == "tokens" and not self.paths:
            raise ValueError("paths is empty; source: tokens needs folders of token shards")
        if self.source == "tokens" and self.domain_from == "field":
            raise ValueError("domain_from is field; token shards have no fields, give constant")
        if self.source not in ("files", "tokens") and self.paths:
            raise ValueError(f"paths is given, but source is {self.source}; set source: files")
        if self.source != "datasets" and self.dataset:
            raise ValueError(f"dataset is given, but source is {self.source}; set source: datasets")
        return self

    def fingerprinted(self) -> dict[str, Any]:
        """The fields that results depend on, without the place where the text lies.

        What lies there counts by `corpus_fingerprint`. Token shards are read where they are, by
        all that is made of them, so that their place counts, too.
        """
        fields = super().fingerprinted()
        if self.source != "tokens":
            del fields["paths"], fields["dataset"]
        return fields

    @property
    def origin(self) -> dict[str, Any]:
        """Where the text is from, as plain JSON values: for manifests and cards."""
        return self.model_dump(mode="json", include={"source", "paths", "dataset", "dataset_split"})


def read_documents(config: CorpusConfig, tally: DocumentTally) -> Iterator[Document]:
    """Read a corpus document by document; paths are looked up at once, text as it is asked for.

    Args:
        config: The corpus.
        tally: Is added to while the documents are read.

    Returns:
        The good documents, in an order that depends on the corpus alone.

    Raises:
        DocumentError: A path leads to nothing readable, a file is damaged, a table lacks the
            text column, or more than `config.max_bad_share` of the documents is bad (judged on
            this corpus alone, from 1,000 documents on and at the end), or it is token shards.
    """
    if config.source == "tokens":
        raise DocumentError(
            f"corpus: {', '.join(config.paths)} holds token shards, not text (corpus.source: "
            "tokens). Give the text itself where text is needed."
        )
    if config.source == "embedded":
        return embedded_documents(tally, config.share)
    if config.source == "datasets":
        return _judged(_dataset_records(config), config, tally)
    files, num_others = find_files(config.paths, config.text_suffixes)
    tally.num_other_files += num_others
    return _judged(_file_records(config, files), config, tally)


def corpus_fingerprint(config: CorpusConfig) -> str:
    """Fingerprint of a corpus and of how it is read, without reading it.

    Files count by name, size and time of change, wherever they lie; the embedded corpus by
    Python's version and files; a hub dataset by its name and revision only.

    Raises:
        DocumentError: A path leads to nothing readable.
    """
    fields = config.fingerprinted()
    if config.source == "tokens":
        sources = token_sources(config)
        shards = [[source.name, source.domain] for source in sources]
        content = fingerprint_files([path for one in sources for path in source_files(one)])
        return fingerprint({**fields, "paths": shards, "content": content})
    if config.source == "embedded":
        return fingerprint({"share": config.share, "embedded": embedded_fingerprint()})
    if config.source == "datasets":
        place = _place(config)
        listing = dataset_listing(place)
        name = place.short_name if listing is not None else config.dataset
        return fingerprint({**fields, "dataset": name, "listing": listing})
    files, _ = find_files(config.paths, config.text_suffixes)
    domains = [_file_domain(config, file) for file in files]
    names = [[file.name, domain] for file, domain in zip(files, domains, strict=True)]
    content = fingerprint_files([file.path for file in files])
    return fingerprint({**fields, "paths": names, "content": content})


def estimate_bytes(config: CorpusConfig, *, rough: bool = False) -> int:
    """About how many bytes of UTF-8 text a corpus has, from file sizes and the head of a few files.

    Args:
        config: The corpus.
        rough: Take a hundredth of the time; good enough for a progress bar.

    Returns:
        Bytes, times `config.share`; 0 where a dataset on the hub does not say. For token shards
        the bytes of their ids.

    Raises:
        DocumentError: A path leads to nothing readable, or a sampled file is damaged.
    """
    if config.source == "tokens":
        files = [source.prefix.with_suffix(".bin") for source in token_sources(config)]
        return round(sum(path.stat().st_size for path in files) * config.share)
    if config.source == "embedded":
        return round(embedded_bytes() * config.share)
    if config.source == "datasets":
        return round(dataset_bytes(_place(config)) * config.share)
    text_files, _ = find_files(config.paths, config.text_suffixes)
    return round(estimate_text_bytes(text_files, config.text_field, rough=rough) * config.share)


def token_sources(config: CorpusConfig) -> list[SourceShard]:
    """The token shards of a corpus with `source: tokens`.

    Raises:
        DocumentError: A path leads to no token shards.
    """
    constant = config.domain if config.domain_from == "constant" else None
    sources = find_token_shards(config.paths, constant)
    if config.domain_from == "folder":
        return [replace(source, domain=source.prefix.parent.name) for source in sources]
    return sources


Record = tuple[str, str, str, Row]
"""The id where the row has none, the place to show, the domain by place, and the row."""


def _file_records(config: CorpusConfig, files: Sequence[CorpusFile]) -> Iterator[Record]:
    for file in files:
        domain = _file_domain(config, file)
        for number, row in read_rows(file, config.text_field, _other_fields(config)):
            at = f":{number}" if number else ""
            yield f"{file.name}{at}", f"{file.path}{at}", domain, row


def _dataset_records(config: CorpusConfig) -> Iterator[Record]:
    place = _place(config)
    domain = config.domain if config.domain_from == "constant" else place.short_name.split("/")[-1]
    needed = [config.text_field, *([config.domain_field] if _by_field(config) else [])]
    others = [config.id_field] if config.id_field else []
    for number, row in dataset_rows(place, needed, others):
        name = f"{place.short_name}:{number}"
        yield name, name, domain, row


def _judged(
    records: Iterable[Record], config: CorpusConfig, tally: DocumentTally
) -> Iterator[Document]:
    """Documents out of records; the limit is for these records, whatever the tally held before."""
    own = DocumentTally()
    for default_id, place, domain, row in records:
        document_id = _document_id(row, config) or default_id
        if config.share < 1 and not in_share(source_of(document_id), config.share):
            continue
        try:
            document = _document(row, document_id, domain, config)
        except _BadRecordError as error:
            for counter in (own, tally):
                counter.drop(str(error), place)
        else:
            own.num_documents += 1
            tally.add(document.num_bytes)
            yield document
        if own.dropped:
            own.check(config.max_bad_share)
    own.check(config.max_bad_share, finished=True)
    if not own.num_documents:
        raise DocumentError(
            f"corpus: no document was found in {config.dataset or ', '.join(config.paths)} "
            f"({own.num_dropped} bad ones, corpus.share {config.share:g}). "
            f"Give other text, or a larger share."
        )


class _BadRecordError(Exception):
    """Says why a record is no document; never leaves this module."""


def _document(row: Row, document_id: str, domain: str, config: CorpusConfig) -> Document:
    if isinstance(row, str):
        raise _BadRecordError(row)
    text = _string(row, config.text_field)
    if not text or text.isspace():
        raise _BadRecordError(EMPTY)
    if _by_field(config):
        domain = _string(row, config.domain_field)
        if not domain:
            raise _BadRecordError(f"{config.domain_field} is missing")
    for value in (text, domain, document_id):
        if not value.isascii():
            _check_encodable(value)
    return Document(text, domain, document_id)


def _check_encodable(value: str) -> None:
    # Half a surrogate pair, which JSON can spell, is in no valid UTF-8 text.
    try:
        value.encode()
    except UnicodeEncodeError:
        raise _BadRecordError(NOT_UTF8) from None


def _string(row: Mapping[str, Any], name: str) -> str:
    value = lookup(row, name)
    if value is None:
        raise _BadRecordError(f"{name} is missing")
    if not isinstance(value, str):
        raise _BadRecordError(f"{name} is not a string")
    return value


def _document_id(row: Row, config: CorpusConfig) -> str | None:
    """The row's own id if it is a string or a whole number, else None."""
    if config.id_field is None or isinstance(row, str):
        return None
    value = lookup(row, config.id_field)
    if isinstance(value, str) or (isinstance(value, int) and not isinstance(value, bool)):
        return str(value)
    return None


def _by_field(config: CorpusConfig) -> bool:
    return config.domain_from == "field"


def _other_fields(config: CorpusConfig) -> list[str]:
    fields = [config.id_field] if config.id_field else []
    return [*fields, config.domain_field] if _by_field(config) else fields


def _file_domain(config: CorpusConfig, file: CorpusFile) -> str:
    if config.domain_from == "folder":
        return file.folder_domain
    return file.file_domain if config.domain_from == "file" else config.domain


def _place(config: CorpusConfig) -> DatasetPlace:
    assert config.dataset is not None
    return DatasetPlace(
        config.dataset, config.dataset_config, config.dataset_split, config.dataset_revision
    )
