"""The corpora of a run: refined ones, text that the teacher writes, and other tokens of both."""

from collections.abc import Mapping
from pathlib import Path

from miniplm.data.splits import CANDIDATES
from miniplm.export.exporter import SHARDS_FOLDER, export_corpus
from miniplm.manifest import Outcome, require_manifest
from miniplm.recipe import Recipe
from miniplm.road.candidates import Candidates
from miniplm.road.forms import Forms
from miniplm.road.models import Models, token_bytes
from miniplm.road.retokenized import Retokenized
from miniplm.road.score_steps import require_scores_to_select_by
from miniplm.road.step import Corpus, Step
from miniplm.road.steps import Steps
from miniplm.road.tokenized import Tokenized

DESCRIPTION_FORMAT = 2
"""Raised when the same selection would from now on be described by other figures."""


class Corpora:
    """What students are trained on, by name, with the steps that make it.

    Args:
        recipe: Names them.
        steps: Theirs are added here.
        tokenized: What they are made from.
        candidates: Those that are scored.
        models: The teacher is among them.
        scores: Score tables of the candidates, by role.
    """

    def __init__(
        self,
        recipe: Recipe,
        steps: Steps,
        tokenized: Tokenized,
        candidates: Candidates,
        models: Models,
        scores: Mapping[str, Step],
    ) -> None:
        self._recipe, self._steps, self._tokenized = recipe, steps, tokenized
        self._candidates, self._models, self._scores = candidates, models, dict(scores)
        self._forms = Forms(recipe, steps, tokenized, scores)
        self._selected: dict[str, Step] = {}
        self._corpora = {CANDIDATES: candidates.corpus}
        self._corpora |= {name: self._add_selection(name) for name in recipe.selections}
        self._corpora |= {name: self._add_generation(name) for name in recipe.generations}
        retokenized = Retokenized(recipe, steps, tokenized, self._corpora).corpora
        self._corpora |= retokenized
        for name, corpus in retokenized.items():
            if (source := recipe.taken_from(name)) in recipe.selections:
                self._forms.add(name, corpus, self._selected[source], self._corpora[source].step)

    def __getitem__(self, name: str) -> Corpus:
        return self._corpora[name]

    def _add_selection(self, name: str) -> Corpus:
        """Selection and export of one refined corpus."""
        recipe, tokenized, candidates = self._recipe, self._tokenized, self._candidates
        config, shards = recipe.selections[name], candidates.corpus.shards
        tables, tables_needed = candidates.tables_for(config)
        mixed = self._selected[config.mix_of] if config.mix_of else None
        mix_needed = {"mix_of": mixed} if mixed else {}

        def select(folder: Path) -> Outcome:
            from miniplm.selection.mix_of import with_mix
            from miniplm.selection.selector import select_sequences

            chosen = config
            if mixed is not None:
                other = require_manifest(mixed.folder, "Run `miniplm select` first.")
                chosen = with_mix(config, other.facts["domains"])
            teacher, reference = self._scores["teacher"].folder, self._scores["reference"].folder
            require_scores_to_select_by(recipe, teacher, config, tables)
            return select_sequences(
                shards, teacher, reference, chosen, recipe.seed, folder, tables=tables
            )

        def export(folder: Path) -> Outcome:
            return export_corpus(shards, selected.folder, folder)

        selected = self._steps.add(
            f"select/{name}",
            {**config.fingerprinted(), "seed": recipe.seed},
            {**candidates.needs, **tables_needed, **mix_needed, **self._scores},
            select,
            candidates.inputs,
        )
        self._selected[name] = selected
        self._add_description(name, selected)
        exported = self._steps.add(
            f"export/{name}",
            {},
            {**candidates.needs, "selection": selected},
            export,
            candidates.inputs,
        )
        words = f"the refined corpus {name!r}"
        corpus = tokenized.corpus(exported, exported.folder / SHARDS_FOLDER, words)
        self._forms.add(name, corpus, selected, exported)
        return corpus

    def _add_description(self, name: str, selected: Step) -> None:
        """What a selection did, measured.

        The model that judges the text is counted on the reference's split where there is one, so
        that held-out text, which students are judged on, has no part in it.
        """
        recipe, tokenized = self._recipe, self._tokenized
        apart = "reference" if recipe.splits.reference else "held_out"
        from_held_out = tokenized.step.spec.fingerprint
        splits = tokenized.splits if recipe.splits.reference else from_held_out
        groups = self._candidates.groups

        def work(folder: Path) -> Outcome:
            from miniplm.data.tokenizer import load_tokenizer, token_bytes
            from miniplm.selection.effects import describe_selection

            texts = token_bytes(load_tokenizer(tokenized.tokenizer))
            shards, text_apart = self._candidates.corpus.shards, tokenized.split(apart)
            return describe_selection(
                shards, selected.folder, text_apart, texts, recipe.seed, folder,
                groups_folder=groups["groups"].folder if groups else None,
            )  # fmt: skip

        self._steps.add(
            f"describe/{name}",
            {"apart": apart, "seed": recipe.seed, "format": DESCRIPTION_FORMAT},
            {**self._candidates.needs, **groups, "selection": selected},
            work,
            {"tokenize": splits},
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
