"""The corpora of a run: refined ones, text that the teacher writes, and other tokens of both."""

from collections.abc import Mapping
from pathlib import Path

from miniplm.export.config import TextForm
from miniplm.export.exporter import SHARDS_FOLDER, export_corpus
from miniplm.manifest import Outcome
from miniplm.recipe import CANDIDATES, Recipe
from miniplm.road.models import Models, token_bytes
from miniplm.road.retokenized import Retokenized
from miniplm.road.step import TEXT, Corpus, Step
from miniplm.road.steps import Steps
from miniplm.road.tokenized import Tokenized


class Corpora:
    """What students are trained on, by name, with the steps that make it.

    Args:
        recipe: Names them.
        steps: Theirs are added here.
        tokenized: What they are made from.
        models: The teacher is among them.
        scores: Score tables of the candidates, by role.
    """

    def __init__(
        self,
        recipe: Recipe,
        steps: Steps,
        tokenized: Tokenized,
        models: Models,
        scores: Mapping[str, Step],
    ) -> None:
        self._recipe, self._steps, self._tokenized = recipe, steps, tokenized
        self._models, self._scores = models, dict(scores)
        self._corpora = {CANDIDATES: tokenized.candidates}
        self._corpora |= {name: self._add_selection(name) for name in recipe.selections}
        self._corpora |= {name: self._add_generation(name) for name in recipe.generations}
        self._corpora |= Retokenized(recipe, steps, tokenized, self._corpora).corpora

    def __getitem__(self, name: str) -> Corpus:
        return self._corpora[name]

    def _add_selection(self, name: str) -> Corpus:
        """Selection and export of one refined corpus."""
        recipe, tokenized = self._recipe, self._tokenized
        config = recipe.selections[name]
        candidates = tokenized.split(CANDIDATES)

        def select(folder: Path) -> Outcome:
            from miniplm.selection.selector import select_sequences

            teacher, reference = self._scores["teacher"].folder, self._scores["reference"].folder
            return select_sequences(candidates, teacher, reference, config, recipe.seed, folder)

        def export(folder: Path) -> Outcome:
            return export_corpus(candidates, selected.folder, folder)

        selected = self._steps.add(
            f"select/{name}",
            {**config.fingerprinted(), "seed": recipe.seed},
            {"tokenize": tokenized.step, **self._scores},
            select,
            {"tokenize": tokenized.splits},
        )
        exported = self._steps.add(
            f"export/{name}",
            {},
            {"tokenize": tokenized.step, "selection": selected},
            export,
            {"tokenize": tokenized.splits},
        )
        if recipe.export.text is not None:
            self._add_text(name, exported, recipe.export.text)
        return tokenized.corpus(
            exported, exported.folder / SHARDS_FOLDER, f"the refined corpus {name!r}"
        )

    def _add_text(self, name: str, exported: Step, form: TextForm) -> None:
        """The text of a refined corpus."""
        tokenized = self._tokenized

        def work(folder: Path) -> Outcome:
            from miniplm.export.text import export_text

            return export_text(exported.folder / SHARDS_FOLDER, tokenized.tokenizer, form, folder)

        self._steps.add(
            f"{TEXT}/{name}",
            {"form": form},
            {"tokenize": tokenized.step, "corpus": exported},
            work,
            {"tokenize": tokenized.splits},
        )

    def _add_generation(self, name: str) -> Corpus:
        """Text that the teacher writes."""
        recipe, models = self._recipe, self._models
        config = recipe.generations[name]
        prompts = self._corpora[config.prompts]

        def work(folder: Path) -> Outcome:
            from miniplm.generation.generator import generate_corpus

            scorer = models.load("teacher", recipe.scoring.dtype)
            return generate_corpus(
                scorer, prompts.shards, token_bytes(prompts.tokenizer), config, folder, recipe.seed
            )

        step = self._steps.add(
            f"generate/{name}",
            {
                **config.fingerprinted(),
                "dtype": recipe.scoring.dtype,
                "seed": recipe.seed,
                **models.identity("teacher"),
            },
            models.needed("teacher", {"tokenize": self._tokenized.step, "corpus": prompts.step}),
            work,
            self._tokenized.inputs_of(prompts),
        )
        return self._tokenized.corpus(
            step, step.folder / SHARDS_FOLDER, f"text that the teacher wrote ({name!r})"
        )
