"""The figures of the describe stage: one record for all rows and one for each domain."""

from collections.abc import Mapping
from dataclasses import asdict
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq

from miniplm.manifest import atomic_path
from miniplm.selection.compression import BLOCK_BYTES, ZSTD_LEVEL
from miniplm.selection.mix import PARTS, Extent, Mix
from miniplm.selection.text_measures import ORDERS, Compared, TextMeasures

EFFECTS_NAME = "effects.parquet"
_UNMEASURED = TextMeasures(0, None, None, (None,) * len(ORDERS), None, None)
_QUANTILES = {"p10": 0.1, "p50": 0.5, "p90": 0.9}


def facts_of(
    mixes: Mapping[str, Mix], compared: Mapping[str | None, Compared]
) -> dict[str, dict[str, Any]]:
    """The figures as JSON values.

    Args:
        mixes: How much there is of each domain.
        compared: The text of all (None) and of the domains that were sampled.

    Returns:
        `measured` says how; `overall` is one record and `domains` one for each: `candidates` and
        `kept`, each with counts, row lengths and the `TextMeasures`, and the sizes compared at.
    """
    everything = sum(mixes.values(), Mix())
    return {
        "measured": {
            "compressor": f"zstd, level {ZSTD_LEVEL}",
            "block_bytes": BLOCK_BYTES,
            "orders": list(ORDERS),
        },
        "overall": _record(everything, compared.get(None)),
        "domains": {domain: _record(mix, compared.get(domain)) for domain, mix in mixes.items()},
    }


def _record(mix: Mix, compared: Compared | None) -> dict[str, Any]:
    texts = (compared.candidates, compared.kept) if compared else (_UNMEASURED, _UNMEASURED)
    parts: dict[str, Any] = {
        part: {**_counts(mix.part(part)), **asdict(text), "distinct": list(text.distinct)}
        for part, text in zip(PARTS, texts, strict=True)
    }
    return {
        **parts,
        "num_distinct_rows": mix.num_distinct,
        "num_ngrams": list(compared.num_ngrams) if compared else [0] * len(ORDERS),
    }


def _counts(extent: Extent) -> dict[str, Any]:
    return {
        "num_rows": extent.num_rows,
        "num_tokens": extent.num_tokens,
        "num_bytes": extent.num_bytes,
        "length": {name: extent.length_quantile(share) for name, share in _QUANTILES.items()},
    }


def write_effects(folder: Path, facts: Mapping[str, Any]) -> None:
    """Write the figures as a table: a row for each domain, and one for all of them (null), twice.

    The columns are `domain`, `part` (`candidates` or `kept`) and the figures by their names.
    """
    records = {None: facts["overall"], **facts["domains"]}
    lines = [
        {"domain": domain, "part": part, **_flat(record[part])}
        for domain, record in records.items()
        for part in PARTS
    ]
    folder.mkdir(parents=True, exist_ok=True)
    with atomic_path(folder / EFFECTS_NAME) as temporary:
        pq.write_table(pa.Table.from_pylist(lines), temporary)


def _flat(record: Mapping[str, Any]) -> dict[str, Any]:
    figures = dict(record)
    lengths, distinct = figures.pop("length"), figures.pop("distinct")
    figures |= {f"length_{name}": value for name, value in lengths.items()}
    return figures | {f"distinct_{n}": value for n, value in zip(ORDERS, distinct, strict=True)}
