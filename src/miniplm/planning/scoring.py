"""What it costs to score the candidates, with a proxy or without."""

from dataclasses import replace

from miniplm.planning.basis import Basis
from miniplm.planning.cost import SCORE_BYTES_PER_ROW, Cost, Load
from miniplm.planning.forward import forward_cost
from miniplm.scoring.proxy_config import ProxyConfig
from miniplm.scoring.proxy_features import features_per_row
from miniplm.scoring.proxy_inputs import MOST_SAMPLED

_FIT_SECONDS_PER_ROW = {"hidden": 3e-4, "ngrams": 2e-3}
_PREDICTED_IDS_PER_SECOND = {"hidden": 100e6, "ngrams": 6e6}
"""Of a proxy, measured on two cores with rows of 256 tokens (docs/scoring.md)."""


def scoring_cost(basis: Basis, name: str) -> Cost:
    """Of the teacher's or the reference's scores."""
    scoring = basis.recipe.scoring
    if scoring.proxy is not None and name == "teacher":
        return _predicted_cost(basis, scoring.proxy)
    cost = forward_cost(basis, name, basis.candidate_tokens, scoring.dtype)
    if scoring.proxy is None:
        return cost
    return replace(cost, num_bytes=(cost.num_bytes or 0.0) + _state_bytes(basis, scoring.proxy))


def diagnosis_cost(basis: Basis, _: str) -> Cost:
    """Of the rows that a study's students held apart score, both alike."""
    study, held_apart = basis.recipe.study, list(basis.recipe.held_apart)
    if study is None or not held_apart:
        return Cost()
    rows = min(float(study.gain_rows), basis.num_rows(basis.candidate_tokens))
    num_tokens = rows * basis.recipe.packing.max_length
    one = forward_cost(basis, held_apart[0], num_tokens, basis.recipe.scoring.dtype)

    def load() -> Load:
        cost = one.load()
        return Load(len(held_apart) * cost.seconds, cost.memory)

    return replace(
        one,
        num_tokens=len(held_apart) * num_tokens,
        flops=len(held_apart) * (one.flops or 0.0),
        num_bytes=len(held_apart) * (one.num_bytes or 0.0),
        load=load,
    )


def _state_bytes(basis: Basis, proxy: ProxyConfig) -> float:
    """Bytes of the hidden states beside the reference's scores."""
    width = basis.shape("reference").hidden_size if proxy.features == "hidden" else 0
    return 2.0 * width * basis.num_rows(basis.candidate_tokens)


def _predicted_cost(basis: Basis, proxy: ProxyConfig) -> Cost:
    """The teacher on a sample, and a head on the rest."""
    num_tokens = basis.candidate_tokens
    sampled = forward_cost(basis, "teacher", proxy.share * num_tokens, basis.recipe.scoring.dtype)
    num_rows = basis.num_rows(num_tokens)
    predicted = (1 - proxy.share) * num_rows
    length = basis.recipe.packing.max_length
    width = basis.shape("reference").hidden_size
    multiplied = features_per_row(proxy.features, width, length)

    def load() -> Load:
        scoring = sampled.load()
        fitted = min(MOST_SAMPLED, proxy.share * num_rows)
        seconds = fitted * _FIT_SECONDS_PER_ROW[proxy.features]
        seconds += predicted * length / _PREDICTED_IDS_PER_SECOND[proxy.features]
        return Load(scoring.seconds + seconds, scoring.memory)

    return replace(
        sampled,
        flops=(sampled.flops or 0.0) + 2.0 * multiplied * predicted,
        num_bytes=SCORE_BYTES_PER_ROW * (1 + proxy.share) * num_rows,
        load=load,
        note=f"scores {proxy.share:.1%}, predicts the rest",
    )
