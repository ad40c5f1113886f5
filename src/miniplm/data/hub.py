"""Rows through the `datasets` library: hub names, local folders, folders of `save_to_disk`.

Hub datasets and local folders are streamed, so nothing is copied to a cache and the order is that
of the files. `datasets` decides here what a bad record is; where files of your own should be read
past their bad lines, `source: files` reads the same JSON lines and Parquet itself.
"""

import json
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from miniplm.data.files import listed_files
from miniplm.data.readers import column_of, missing_column
from miniplm.errors import DocumentError
from miniplm.known_files import change_times


@dataclass(frozen=True, slots=True)
class DatasetPlace:
    """Which dataset to read.

    Args:
        name: Hub name or local folder.
        config: Name of the dataset's configuration, or None for its only or default one.
        split: Name of the split.
        revision: Commit, tag or branch on the hub, or None for the newest.
    """

    name: str
    config: str | None
    split: str
    revision: str | None

    @property
    def folder(self) -> Path | None:
        """The local folder, or None for a hub name."""
        path = Path(self.name).expanduser()
        return path if path.is_dir() else None

    @property
    def short_name(self) -> str:
        """The hub name, or the folder's own name; the start of ids."""
        folder = self.folder
        return (folder.resolve().name if folder else self.name).replace("#", "%23")


def dataset_rows(
    place: DatasetPlace, needed: Sequence[str], others: Sequence[str]
) -> Iterator[tuple[int, Mapping[str, Any]]]:
    """Rows of a dataset with their number from 1.

    Args:
        place: The dataset.
        needed: Fields whose column has to be there; names may be dotted paths.
        others: Fields to read where they are there.

    Raises:
        DocumentError: The dataset, its configuration or its split is not there or cannot be
            read, or a needed column is missing.
    """
    with _readable(place):
        dataset = _open(place)
        columns = dataset.column_names or list(next(iter(dataset), {}))
    for name in needed:
        if column_of(name, columns) is None:
            raise missing_column(place.name, name, columns)
    wanted = {column_of(name, columns) for name in (*needed, *others)}
    with _readable(place):
        # Only these columns: decoding the images or sounds beside a text would cost most.
        yield from enumerate(dataset.select_columns(sorted(filter(None, wanted))), start=1)


def dataset_listing(place: DatasetPlace) -> object:
    """What a local dataset consists of, as (name, bytes, time of change); None for a hub name."""
    if place.folder is None:
        return None
    files = list(listed_files(place.folder))
    times = change_times([path for _, path in files])
    return [
        [name, path.stat().st_size, time] for (name, path), time in zip(files, times, strict=True)
    ]


def dataset_bytes(place: DatasetPlace) -> int:
    """Bytes of the split as its metadata states them, else of the local files; 0 where unknown.

    Raises:
        DocumentError: As `dataset_rows`.
    """
    folder = place.folder
    if folder and _saved_split(folder, place.split):
        return _arrow_bytes(folder, place.split)
    with _readable(place):
        from datasets import load_dataset_builder

        builder = load_dataset_builder(place.name, place.config, revision=place.revision)
        split = (builder.info.splits or {}).get(place.split)
    if split and split.num_bytes:
        return int(split.num_bytes)
    return sum(path.stat().st_size for _, path in listed_files(folder)) if folder else 0


@contextmanager
def _readable(place: DatasetPlace) -> Iterator[None]:
    """Turn what `datasets` raises on bad names, networks and files into our error."""
    from datasets.exceptions import DatasetsError

    try:
        yield
    except (DatasetsError, OSError, ValueError, RuntimeError) as error:
        where = f"dataset {place.name!r} (config {place.config!r}, split {place.split!r})"
        raise DocumentError(
            f"{where}: the datasets library cannot read it: {type(error).__name__}: {error}\n"
            f"Check corpus.dataset, dataset_config, dataset_split and dataset_revision; a hub "
            f"name needs the network, a folder of JSON lines or Parquet can also be given as "
            f"corpus.paths with source: files."
        ) from error


def _open(place: DatasetPlace) -> Any:  # noqa: ANN401  (datasets has no types)
    from datasets import load_dataset, load_from_disk

    saved = _saved_split(place.folder, place.split) if place.folder else None
    if saved:
        return load_from_disk(str(saved))
    name = str(place.folder or place.name)
    return load_dataset(
        name, place.config, split=place.split, revision=place.revision, streaming=True
    )


def _saved_split(folder: Path, split: str) -> Path | None:
    """The folder that `save_to_disk` wrote the split to, or None for any other kind of folder."""
    if (folder / "state.json").exists():
        return folder
    if not (folder / "dataset_dict.json").exists():
        return None
    splits = json.loads((folder / "dataset_dict.json").read_text(encoding="utf-8"))["splits"]
    if split not in splits:
        raise DocumentError(
            f"{folder}: there is no split {split!r}; the splits are {', '.join(splits)}. "
            f"Set corpus.dataset_split to one of them."
        )
    return folder / split


def _arrow_bytes(folder: Path, split: str) -> int:
    saved = _saved_split(folder, split)
    assert saved is not None
    return sum(path.stat().st_size for path in saved.glob("*.arrow"))
