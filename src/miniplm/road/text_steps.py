"""The steps that measure models on further texts."""

from collections.abc import Mapping
from pathlib import Path
from typing import TYPE_CHECKING

from miniplm.data.documents import corpus_fingerprint
from miniplm.manifest import Outcome
from miniplm.recipe import Recipe, ScorerConfig
from miniplm.road.models import Models
from miniplm.road.step import TEXTS, Corpus, Step
from miniplm.road.steps import Steps

if TYPE_CHECKING:
    from transformers import PreTrainedTokenizerBase

TEXTS_FORMAT = 1
"""Raised when texts would from now on be measured in another way."""


def add_text_steps(
    recipe: Recipe, steps: Steps, models: Models, read: Mapping[str, Corpus]
) -> list[Step]:
    """A step for each model, if there are texts.

    Args:
        recipe: Names them.
        steps: These are added here.
        models: Those that are measured.
        read: A corpus with the tokens that each model reads.
    """
    if not recipe.evaluation.texts:
        return []
    return [_add(recipe, steps, models, name, read[name]) for name in models.compared]


def _add(recipe: Recipe, steps: Steps, models: Models, name: str, read: Corpus) -> Step:
    evaluation = recipe.evaluation
    student = recipe.students.get(name)
    length = recipe.max_length_of(next(iter(student.corpora)) if student else "")

    def work(folder: Path) -> Outcome:
        from miniplm.evaluation.text_scorer import TextScorer
        from miniplm.evaluation.texts import evaluate_texts

        scorer = models.load(name, evaluation.dtype)
        tokenizer = _tokenizer(recipe, name, read)
        texts = TextScorer(
            scorer, tokenizer, length, evaluation.window_stride, recipe.scoring.memory_gb
        )
        return evaluate_texts(texts, evaluation.texts, folder, evaluation.set_apart)

    needs = {"tokenize": read.held_out_step}
    return steps.add(
        f"{TEXTS}/{name}",
        {
            "texts": evaluation.fingerprinted()["texts"],
            "window_stride": evaluation.window_stride,
            "max_length": length,
            "dtype": evaluation.dtype,
            "set_apart": evaluation.set_apart,
            "format": TEXTS_FORMAT,
            **models.identity(name),
        },
        models.needed(name, needs),
        work,
        {f"texts/{text}": corpus_fingerprint(corpus) for text, corpus in evaluation.texts.items()},
    )


def _tokenizer(recipe: Recipe, name: str, read: Corpus) -> "PreTrainedTokenizerBase":
    """What a model reads text by; that of the run puts no marks around it, as in its corpus."""
    from miniplm.data.tokenizer import load_configured_tokenizer, load_tokenizer, put_no_marks

    scorer = getattr(recipe, name, None)
    if isinstance(scorer, ScorerConfig) and scorer.tokenizer == "own":
        return load_configured_tokenizer(scorer)
    tokenizer = load_tokenizer(read.tokenizer)
    put_no_marks(tokenizer)
    return tokenizer
