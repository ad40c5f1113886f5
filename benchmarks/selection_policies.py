"""What the other policies and calibrations of selection cost beside the plain top share."""

from benchmarks import selection
from benchmarks.harness import Bench, Contender
from benchmarks.setting import Setting

TOKENS_A_ROW = 862
"""The mean of what `selection.prepare` deals out."""


def benches(setting: Setting) -> list[Bench]:
    """One selection each over the same tables, of half of the rows or nearly so."""
    num_rows = selection.rows(setting)
    budget = num_rows // 2 * TOKENS_A_ROW
    ways = {
        "top ratio": {"ratio": selection.RATIO},
        "top ratio, within domains": {"within": "domain"},
        "token budget": {"policy": "token_budget", "tokens": budget},
        "band": {"policy": "band"},
        "sample": {"policy": "sample"},
        "sample, with replacement": {"policy": "sample", "replacement": True},
        "quota, a floor of 0.2": {"policy": "quota", "floor": 0.2},
        "random": {"policy": "random"},
        "top ratio of residuals": {"calibration": "residual"},
        "top ratio of z-scores": {"calibration": "zscore"},
    }
    return [
        Bench(
            name=f"select, policies, {num_rows / 1e6:.0f}M rows",
            unit="rows",
            baseline="top ratio",
            contenders={
                name: Contender("selection:miniplm", {"selection": way})
                for name, way in ways.items()
            },
            arguments={"folder": str(setting.folder / "select"), "num_rows": num_rows},
            prepare="selection:prepare",
        )
    ]
