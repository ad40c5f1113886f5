"""The effects of a selection, made up: what the tests of the page draw."""

from made_up_report import DOMAINS
from miniplm.report.effects_content import (
    Agreement,
    Change,
    Followed,
    SelectionEffects,
    TextFigures,
)


def figures(num_rows, compression, variety, **changes):
    values = {
        "num_rows": num_rows, "num_tokens": 240 * num_rows, "num_bytes": 560 * num_rows,
        "length": [201, 246, 257], "row_compression": compression and 0.8 * compression,
        "block_compression": compression, "distinct": [0.0019, 0.31 * variety, 0.9 * variety, 1.0],
        "self_similarity": 0.01 / variety, "loss": 4.0 + variety,
    }  # fmt: skip
    return TextFigures(**{**values, **changes})


UNMEASURED = {
    "row_compression": None, "block_compression": None, "distinct": [None] * 4,
    "self_similarity": None, "loss": None,
}  # fmt: skip


def effects(**changes):
    totals = [sum(row[i] for row in DOMAINS.values()) for i in (0, 1)]
    domains = [
        Change(
            name, figures(candidates, 2.2, 0.5),
            figures(kept, 2.6, 0.4, **({} if kept > 100 else UNMEASURED)),
        )
        for name, (candidates, kept, *_) in DOMAINS.items()
    ]  # fmt: skip
    values = {
        "overall": Change("", figures(totals[0], 2.5, 0.5), figures(totals[1], 3.0, 0.4)),
        "num_distinct_rows": totals[1], "domains": domains,
        "agreements": [Agreement("random", 0.5, 1 / 3), Agreement("teacher_only", 0.8, 0.667)],
        "followed": [Followed("teacher_loss", -0.72, 0.119), Followed("length", None, None)],
        "compressor": "zstd, level 9", "block_bytes": 32768,
    }  # fmt: skip
    return SelectionEffects(**{**values, **changes})
