"""Questions to a run's scores, asked in SQL or as Polars frames."""

from collections.abc import Mapping, Sequence
from typing import Any

import polars as pl

from miniplm.errors import ConfigError


def collect(frame: pl.LazyFrame) -> pl.DataFrame:
    """The result of a query, by the engine that reads and works a part at a time."""
    return frame.collect(engine="streaming")


def query(tables: Mapping[str, pl.LazyFrame], sql: str, most_rows: int | None) -> pl.DataFrame:
    """The answer to an SQL query; nothing can be written with it.

    Args:
        tables: By name.
        sql: A SELECT, which may begin with WITH.
        most_rows: Rows of the answer that are fetched, if not all.

    Raises:
        ConfigError: The query is no SELECT or cannot be understood; names the columns there are.
    """
    if (sql.split() or [""])[0].lower() not in ("select", "with"):
        raise ConfigError("--sql", [f"expected a SELECT, was given {sql!r}", *_columns(tables)])
    try:
        answer = pl.SQLContext(frames=dict(tables)).execute(sql)
        return collect(answer if most_rows is None else answer.head(most_rows))
    except pl.exceptions.PolarsError as error:
        reason = str(error).partition("\n")[0]
        raise ConfigError("--sql", [reason, *_columns(tables)]) from None


def _columns(tables: Mapping[str, pl.LazyFrame]) -> list[str]:
    def described(frame: pl.LazyFrame) -> str:
        return ", ".join(f"{name} ({kind})" for name, kind in frame.collect_schema().items())

    return [f"the table {name} has {described(frame)}" for name, frame in tables.items()]


def as_rows(frame: pl.DataFrame) -> Sequence[dict[str, Any]]:
    """Rows as plain values; what is not a number becomes None."""
    floats = pl.selectors.float()
    return frame.with_columns(floats.fill_nan(None)).to_dicts()
