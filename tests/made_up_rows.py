"""A made-up sample of candidates: what the tests of scatter and browser show."""

import math

from made_up_report import DOMAINS, TEXTS
from miniplm.report.rows_content import SampledRow, SampledRows

THRESHOLD = 1.25


def sampled_rows(number=120):
    """Rows of all domains in turn; every second one has a text, with a word of its own."""
    rows = []
    for place in range(number):
        domain = list(DOMAINS)[place % len(DOMAINS)]
        reference = 4.5 + 0.9 * math.sin(place * 1.7)
        score = DOMAINS[domain][2] + 0.8 * math.sin(place * 0.9)
        text = f"word{place} of {domain}\n{TEXTS['top']}" if place % 2 else None
        rows.append(
            SampledRow(
                sequence_id=1000 + place, domain=domain, source=f"{domain}.jsonl#{place}",
                teacher_loss=reference - score, reference_loss=reference,
                kept=[score >= THRESHOLD, place % 3 == 0], text=text,
            )
        )  # fmt: skip
    return SampledRows("per_token", 36_998, ["miniplm", "random"], rows, {"miniplm": THRESHOLD})
