"""Corpora, and the held-out text beside them, in the tokens of other tokenizers."""

from collections.abc import Mapping
from pathlib import Path

from miniplm.data.tokenization import TOKENIZER_FOLDER
from miniplm.export.exporter import SHARDS_FOLDER
from miniplm.manifest import Outcome
from miniplm.model import ModelConfig
from miniplm.recipe import Recipe
from miniplm.road.step import HELD_OUT, Corpus, Step
from miniplm.road.steps import Steps
from miniplm.road.tokenized import Tokenized


class Retokenized:
    """The retokenizations of a recipe.

    Args:
        recipe: Names them.
        steps: Theirs are added here.
        tokenized: The run's own tokens.
        sources: Corpora that they are made from, by name.

    Attributes:
        corpora: By name.
    """

    def __init__(
        self, recipe: Recipe, steps: Steps, tokenized: Tokenized, sources: Mapping[str, Corpus]
    ) -> None:
        self._recipe, self._steps, self._tokenized = recipe, steps, tokenized
        self._sources = sources
        self._made: dict[str, Step] = {}
        self._held_out: dict[tuple[str, int], Step] = {}
        names = sorted(recipe.retokenizations, key=lambda name: name != self._owner(name))
        self.corpora = {name: self._add(name) for name in names}

    def _owner(self, name: str) -> str:
        """The retokenization whose tokenizer this one has."""
        return self._recipe.tokenizer_of(name) or name

    def _tokenizer(self, name: str) -> Path:
        return self._steps.run_dir / f"retokenize/{self._owner(name)}" / TOKENIZER_FOLDER

    def _add(self, name: str) -> Corpus:
        config = self._recipe.retokenizations[name]
        source, owner, length = (
            self._sources[config.corpus], self._owner(name), self._recipe.max_length_of(name),
        )  # fmt: skip
        settings: dict[str, object] = {"max_length": length}
        needs = {"tokenize": self._tokenized.step, "corpus": source.step}
        inputs = self._tokenized.inputs_of(source)
        if owner != name:
            needs["tokenizer"] = self._made[owner]
        else:
            settings["tokenizer"] = config.tokenizer.fingerprinted()
            if config.tokenizer.name:
                origin = ModelConfig(name=config.tokenizer.name).origin_fingerprint
                inputs["tokenizer"] = origin
        tokenizer = self._tokenizer(name)

        def work(folder: Path) -> Outcome:
            from miniplm.export.corpus_tokenizer import make_tokenizer
            from miniplm.export.retokenize import retokenize_corpus

            if owner == name:
                make_tokenizer(config.tokenizer, source.shards, source.tokenizer, tokenizer)
            return retokenize_corpus(source.shards, source.tokenizer, tokenizer, length, folder)

        step = self._steps.add(f"retokenize/{name}", settings, needs, work, inputs)
        self._made[name] = step
        held_out = self._held_out_step(owner, length, name)
        return Corpus(
            step=step,
            shards=step.folder / SHARDS_FOLDER,
            words=f"{source.words}, retokenised ({name!r})",
            tokenizer=tokenizer,
            held_out=held_out.folder / SHARDS_FOLDER,
            held_out_step=held_out,
        )

    def _held_out_step(self, owner: str, length: int, name: str) -> Step:
        """The held-out text in the same tokens; of one tokenizer and length there is one."""
        if (owner, length) in self._held_out:
            return self._held_out[owner, length]
        tokenized, tokenizer = self._tokenized, self._tokenizer(owner)

        def work(folder: Path) -> Outcome:
            from miniplm.export.retokenize import retokenize_corpus

            return retokenize_corpus(
                tokenized.split("held_out"), tokenized.tokenizer, tokenizer, length, folder,
                long_rows="split",
            )  # fmt: skip

        needs = {"tokenize": tokenized.step, "tokenizer": self._made[owner]}
        step = self._steps.add(f"{HELD_OUT}/{name}", {"max_length": length}, needs, work)
        self._held_out[owner, length] = step
        return step
