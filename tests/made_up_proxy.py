"""Scores predicted by a proxy, made up: what the tests of the page draw."""

from made_up_report import DOMAINS
from miniplm.report.proxy_content import PredictedDomain, PredictedScores
from miniplm.scoring.agreement import Estimate
from miniplm.scoring.proxy_bar import Comparison, Judgement


def judgement(agreement=0.878, ratio=0.5, *, within=False, allowed=False):
    return Judgement(
        Comparison(ratio, "per_token", "domain" if within else "corpus"),
        Estimate(agreement, agreement - 0.03, agreement + 0.02),
        by_chance=ratio,
        bar=0.5 if within else 0.7,
        allowed=allowed,
    )


def predicted(**changes):
    values = {
        "features": "ngrams", "num_sequences": 41_000, "num_scored": 2_061, "num_held_out": 410,
        "spearman": Estimate(0.908, 0.893, 0.921),
        "shown": [
            judgement(0.878), judgement(0.775, within=True), judgement(0.757, 0.25),
            judgement(0.644, 0.25, within=True),
        ],
        "selections": {
            "miniplm": judgement(0.878), "by-domain": judgement(0.7, within=True, allowed=True),
            "chance": None,
        },
        "domains": [
            PredictedDomain(name, row[0] // 100, 0.1 + place / 12, 0.5 + place / 25)
            for place, (name, row) in enumerate(DOMAINS.items())
        ],
        "flops": 4.72e12, "flops_in_full": 2.41e13,
    }  # fmt: skip
    return PredictedScores(**{**values, **changes})
