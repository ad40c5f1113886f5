"""The tokenised text of a run: the step that makes it, its splits and its tokenizer."""

from pathlib import Path

from miniplm.data.documents import corpus_fingerprint
from miniplm.data.splits import CANDIDATES
from miniplm.data.token_splits import DEALING_FORMAT
from miniplm.data.tokenization import TOKENIZER_FOLDER, TokenizationConfig, tokenize_corpus
from miniplm.manifest import StageSpec
from miniplm.model import ModelConfig
from miniplm.recipe import Recipe
from miniplm.road.step import Corpus, Step
from miniplm.road.steps import Steps

_SECTIONS = ("corpus", "held_out_corpus", "splits", "tokenizer", "packing", "seed")


class Tokenized:
    """What tokenising gives.

    Attributes:
        step: Makes it.
        splits: Fingerprint of the splits but the held-out one: text that is only evaluated on does
            not change the others.
        tokenizer: Folder of the tokenizer.
    """

    def __init__(self, recipe: Recipe, steps: Steps) -> None:
        config = TokenizationConfig(
            corpus=recipe.corpus,
            splits=recipe.splits,
            tokenizer=recipe.tokenizer,
            packing=recipe.packing,
            seed=recipe.seed,
            held_out_corpus=recipe.held_out_corpus,
        )
        fingerprinted = recipe.fingerprinted()
        settings = {section: fingerprinted[section] for section in _SECTIONS}
        if recipe.corpus.source == "tokens":
            settings["dealing"] = DEALING_FORMAT
        inputs = _inputs(recipe)
        self.step = steps.add(
            "tokenize", settings, {}, lambda folder: tokenize_corpus(config, folder), inputs
        )
        self.splits = StageSpec(
            "tokenize",
            {name: value for name, value in settings.items() if name != "held_out_corpus"},
            {role: value for role, value in inputs.items() if role != "held_out_corpus"},
        ).fingerprint
        self.tokenizer = self.step.folder / TOKENIZER_FOLDER

    def split(self, name: str) -> Path:
        """Folder of a split's token shards."""
        return self.step.folder / name

    @property
    def candidates(self) -> Corpus:
        """All sequences of the split that is to be scored."""
        return self.corpus(self.step, self.split(CANDIDATES), "all candidates")

    def corpus(self, step: Step, shards: Path, words: str) -> Corpus:
        """A corpus with this tokenizer."""
        return Corpus(step, shards, words, self.tokenizer, self.split("held_out"), self.step)

    def inputs_of(self, corpus: Corpus) -> dict[str, str]:
        """Fingerprints of what a step on a corpus reads, which is no held-out text."""
        candidates = corpus.step is self.step
        fingerprint = self.splits if candidates else corpus.step.spec.fingerprint
        return {"tokenize": self.splits, "corpus": fingerprint}


def _inputs(recipe: Recipe) -> dict[str, str]:
    """Fingerprints of the files that tokenising reads."""
    inputs = {"corpus": corpus_fingerprint(recipe.corpus)}
    if recipe.held_out_corpus:
        inputs["held_out_corpus"] = corpus_fingerprint(recipe.held_out_corpus)
    if recipe.tokenizer.name:
        inputs["tokenizer"] = ModelConfig(name=recipe.tokenizer.name).origin_fingerprint
    return inputs
