"""What forward passes of a model cost: evaluating, capturing, generating, and one by itself."""

from dataclasses import replace

import numpy as np

from miniplm.corpus_sizes import bytes_per_token
from miniplm.data.documents import estimate_bytes
from miniplm.data.tokenizer import load_configured_tokenizer
from miniplm.generation.cost import generation_cost
from miniplm.model import Dtype
from miniplm.planning.basis import Basis
from miniplm.planning.cost import (
    DISK_BYTES_PER_SECOND,
    GENERATING_TO_SCORING,
    SCORE_BYTES_PER_ROW,
    Cost,
    Load,
)
from miniplm.recipe import ScorerConfig

_CAPTURING_TO_SCORING = 2.0
"""Seconds of a token against those of scoring it: rough."""


def forward_cost(basis: Basis, name: str, num_tokens: float, dtype: Dtype) -> Cost:
    """Of scoring so many of the run's tokens with a model.

    Args:
        basis: Of the recipe.
        name: Of the model.
        num_tokens: In the run's tokens; a model with a tokenizer of its own reads more or less.
        dtype: That it computes in.
    """
    size = basis.size(name)
    num_tokens *= _own_tokens(basis, name)

    def load() -> Load:
        cost = basis.calibration.scoring(basis.shape(name), dtype)
        weights = size.num_params * (2 if dtype == "bfloat16" else 4)
        seconds = cost.seconds * num_tokens + weights / DISK_BYTES_PER_SECOND
        return Load(seconds, weights + cost.num_bytes)

    return Cost(
        num_tokens=num_tokens,
        flops=size.forward_flops_per_token * num_tokens,
        num_bytes=SCORE_BYTES_PER_ROW * basis.num_rows(num_tokens),
        load=load,
    )


def _own_tokens(basis: Basis, name: str) -> float:
    """Tokens of its own that a model reads for one of the run's, about."""
    if name not in ("teacher", "reference"):
        return 1.0
    config: ScorerConfig = getattr(basis.recipe, name)
    if config.tokenizer == "run":
        return 1.0
    own = len(load_configured_tokenizer(config))
    return bytes_per_token(basis.corpora.vocab_size()) / bytes_per_token(own)


def evaluation_cost(basis: Basis, name: str) -> Cost:
    """Of the held-out text under a model."""
    num_tokens = basis.corpora.held_out(basis.read_by(name))
    return forward_cost(basis, name, num_tokens, basis.recipe.evaluation.dtype)


def texts_cost(basis: Basis, name: str) -> Cost:
    """Of further texts under a model; windows that overlap are read more than once."""
    evaluation, read_by = basis.recipe.evaluation, basis.read_by(name)
    size = sum(estimate_bytes(corpus) for corpus in evaluation.texts.values())
    num_tokens = size / bytes_per_token(basis.corpora.vocab_size(read_by))
    length = basis.recipe.max_length_of(read_by)
    windows = length / min(length, evaluation.window_stride or length)
    return forward_cost(basis, name, num_tokens * windows, evaluation.dtype)


def capture_cost(basis: Basis, name: str) -> Cost:
    """Of keeping the teacher's probabilities."""
    config = basis.recipe.captures[name]
    num_tokens = basis.corpora.of(config.corpus)
    forward = forward_cost(basis, "teacher", num_tokens, basis.recipe.scoring.dtype)
    on_disk = config.most_bytes_per_token(basis.corpora.vocab_size()) * num_tokens

    def load() -> Load:
        scoring = forward.load()
        return Load(_CAPTURING_TO_SCORING * scoring.seconds, scoring.memory)

    return replace(forward, num_bytes=on_disk, load=load, note="at most so many bytes")


def generate_cost(basis: Basis, name: str) -> Cost:
    """Of text that the teacher writes."""
    config = basis.recipe.generations[name]
    num_rows, num_new = basis.corpora.generated(config)
    forward = forward_cost(basis, "teacher", num_rows * num_new, basis.recipe.scoring.dtype)
    per_row = generation_cost(basis.size("teacher")).flops(
        config.prompt_tokens, np.array([num_new])
    )

    def load() -> Load:
        scoring = forward.load()
        return Load(GENERATING_TO_SCORING * scoring.seconds, scoring.memory)

    num_tokens = basis.corpora.of(name)
    return Cost(
        num_tokens=num_tokens,
        flops=num_rows * per_row,
        num_bytes=num_tokens * basis.bytes_per_id(),
        load=load,
        note="a token at a time; the hours are a rough guess",
    )
