"""How many tokens the corpora of a recipe hold: counted where they are made, else estimated."""

import math
from functools import cache
from pathlib import Path

from miniplm.data.documents import CorpusConfig, estimate_bytes, token_sources
from miniplm.data.splits import CANDIDATES
from miniplm.data.token_corpus import count_tokens
from miniplm.data.tokenizer import TokenizerConfig, load_configured_tokenizer
from miniplm.generation.config import GenerationConfig, num_new_tokens
from miniplm.manifest import read_manifest
from miniplm.recipe import Recipe
from miniplm.road.road import Road
from miniplm.road.step import HELD_OUT
from miniplm.selection.config import SelectionConfig


def bytes_per_token(vocab_size: int) -> float:
    """Rough bytes of mixed English and code behind a token of a byte-level BPE.

    A straight line in log2 of the vocabulary, a rule of thumb: 2.6 bytes at 2,048 entries, 3.3 at
    8,192, 4.2 at 50,257. Once the corpus is tokenised, its tokens are counted instead.
    """
    return max(1.0, 0.35 * math.log2(vocab_size) - 1.25)


class CorpusSizes:
    """Tokens of splits and corpora.

    Args:
        recipe: Names them.
        road: Its tokenize step may be complete.

    Attributes:
        splits: Tokens of each split, in the run's own tokens.
        are_counted: Whether the corpus has been tokenised, so that they are no estimates.
        from_shards: Whether all that is given is token shards, whose tokens are counted: before it
            is tokenised, only what a split gets of them is estimated.
    """

    def __init__(self, recipe: Recipe, road: Road) -> None:
        self._recipe = recipe
        self._road = road
        tokenize = road.step("tokenize")
        self.are_counted = tokenize.is_complete
        given = [recipe.corpus, *([recipe.held_out_corpus] if recipe.held_out_corpus else [])]
        self.from_shards = all(corpus.source == "tokens" for corpus in given)
        self.splits = self._counted(tokenize.folder) if self.are_counted else self._estimated()

    def vocab_size(self, corpus: str = CANDIDATES) -> int:
        """Entries of the tokenizer that a corpus is cut with."""
        owner = self._recipe.tokenizer_of(corpus)
        if owner is None:
            return _vocab_size(self._recipe.tokenizer)
        return _vocab_size(self._recipe.retokenizations[owner].tokenizer)

    def of(self, corpus: str) -> float:
        """Tokens of a corpus that students are trained on."""
        recipe = self._recipe
        if corpus in recipe.retokenizations:
            return self._retokenized(corpus)
        if corpus in recipe.generations:
            generation = recipe.generations[corpus]
            num_rows, num_new = self.generated(generation)
            kept = generation.prompt_tokens - 1 if generation.keep_prompt else 0
            return num_rows * (kept + num_new)
        num_candidates = self._candidates()
        if corpus in recipe.selections:
            return _kept(recipe.selections[corpus], num_candidates)
        return num_candidates

    def _candidates(self) -> float:
        """Those that are scored; with near-duplicates, until they have been left out."""
        config = self._recipe.near_duplicates
        if config is not None and config.keep == "first":
            step = self._road.step("distinct")
            manifest = read_manifest(step.folder) if step.is_complete else None
            if manifest:
                return float(manifest.num_tokens)
        return self.splits[CANDIDATES]

    def held_out(self, corpus: str = CANDIDATES) -> float:
        """Held-out tokens for a model that reads the tokens of a corpus."""
        for step in self._road.steps:
            if step.name in self._held_out_names(corpus) and step.is_complete:
                manifest = read_manifest(step.folder)
                assert manifest is not None
                return float(manifest.num_tokens)
        return self.splits["held_out"] * self._growth(corpus)

    def _held_out_names(self, corpus: str) -> set[str]:
        """Names that the step for a corpus's held-out text may have: one tokenizer and length."""

        def kind(name: str) -> tuple[str | None, int]:
            return self._recipe.tokenizer_of(name), self._recipe.max_length_of(name)

        names = self._recipe.retokenizations
        return {f"{HELD_OUT}/{name}" for name in names if kind(name) == kind(corpus)}

    def generated(self, config: GenerationConfig) -> tuple[float, int]:
        """Rows that are generated, and new tokens of each if no text ends early."""
        length = self._recipe.packing.max_length
        num_new = num_new_tokens(config.prompt_tokens, config.new_tokens, length, "generations")
        num_rows = self.of(config.prompts) / length
        return min(num_rows, (config.tokens or math.inf) / num_new), num_new

    def mean_length(self, corpus: str) -> float:
        """Tokens of a row, about: rows are filled when they are first packed."""
        length = self._recipe.packing.max_length * self._growth(corpus)
        return min(length, self._recipe.max_length_of(corpus))

    def _growth(self, corpus: str) -> float:
        """Tokens of a corpus for one token of the same text in the run's tokens."""
        return bytes_per_token(self.vocab_size()) / bytes_per_token(self.vocab_size(corpus))

    def _retokenized(self, corpus: str) -> float:
        step = self._road.step(f"retokenize/{corpus}")
        manifest = read_manifest(step.folder) if step.is_complete else None
        if manifest:
            return float(manifest.num_tokens)
        kept = self.mean_length(corpus) / self._recipe.packing.max_length
        return self.of(self._recipe.taken_from(corpus)) * kept

    def _counted(self, folder: Path) -> dict[str, float]:
        manifest = read_manifest(folder)
        assert manifest is not None
        splits = manifest.facts["splits"]
        return {split: float(counts["num_tokens"]) for split, counts in splits.items()}

    def _estimated(self) -> dict[str, float]:
        recipe, per_token = self._recipe, bytes_per_token(self.vocab_size())
        total = _tokens_in(recipe.corpus, per_token)
        shares = recipe.splits
        tokens = {
            "reference": total * shares.reference,
            "teacher": total * shares.teacher,
            "held_out": total * shares.held_out,
        }
        tokens[CANDIDATES] = total - sum(tokens.values())
        if recipe.held_out_corpus:
            tokens["held_out"] = _tokens_in(recipe.held_out_corpus, per_token)
        return tokens


def _tokens_in(corpus: CorpusConfig, per_token: float) -> float:
    """Tokens of a corpus: counted where it is token shards, else estimated from its bytes."""
    if corpus.source == "tokens":
        return count_tokens(token_sources(corpus)) * corpus.share
    return estimate_bytes(corpus) / per_token


def _kept(config: SelectionConfig, num_tokens: float) -> float:
    """Tokens that a selection keeps of so many; of a threshold, a guess."""
    if config.tokens is not None:
        return min(num_tokens, config.tokens)
    return num_tokens * max(config.ratios)


@cache
def _vocab_size(tokenizer: TokenizerConfig) -> int:
    if tokenizer.name is None:
        return tokenizer.vocab_size
    return len(load_configured_tokenizer(tokenizer))
