"""The candidates of a run: near-duplicates among them, and groups of them."""

from pathlib import Path

from miniplm.export.exporter import SHARDS_FOLDER, export_corpus
from miniplm.manifest import Outcome
from miniplm.recipe import Recipe
from miniplm.road.step import Corpus, Step
from miniplm.road.steps import Steps
from miniplm.road.tokenized import Tokenized
from miniplm.selection.config import SelectionConfig
from miniplm.selection.duplicates_config import NearDuplicatesConfig
from miniplm.selection.grouping_config import GroupingConfig
from miniplm.selection.row_tables import RowTables

DUPLICATES, GROUP = "duplicates", "group"
"""Names of steps, and of their folders."""
_KEPT_FOLDER = "kept"


class Candidates:
    """The sequences that are scored, and what is known of them beside their scores.

    Args:
        recipe: Says whether near-duplicates are looked for, and whether rows are grouped.
        steps: Steps that do so are added here.
        tokenized: What they work on.

    Attributes:
        corpus: The sequences; without near-duplicates, if the recipe asks for that.
    """

    def __init__(self, recipe: Recipe, steps: Steps, tokenized: Tokenized) -> None:
        self._steps, self._tokenized = steps, tokenized
        self.corpus: Corpus = tokenized.candidates
        self._clusters = self._groups = None
        if recipe.near_duplicates is not None:
            self._clusters = self._add_duplicates(recipe.near_duplicates)
        if recipe.grouping is not None:
            self._groups = self._add_group(recipe.grouping, recipe.seed)

    @property
    def needs(self) -> dict[str, Step]:
        """What a step on the candidates needs."""
        tokenize, step = self._tokenized.step, self.corpus.step
        return {"tokenize": tokenize} | ({"candidates": step} if step is not tokenize else {})

    @property
    def inputs(self) -> dict[str, str]:
        """Fingerprints of what a step on the candidates reads, which is no held-out text."""
        return {"tokenize": self._tokenized.splits}

    @property
    def origin(self) -> dict[str, str]:
        """Fingerprints of all that the candidates follow from."""
        return {role: step.spec.fingerprint for role, step in self.needs.items()} | self.inputs

    def tables_for(self, config: SelectionConfig) -> tuple[RowTables, dict[str, Step]]:
        """The tables that a selection looks at, and the steps that make them."""
        needs = {}
        if config.within == "group" and self._groups:
            needs["groups"] = self._groups
        if config.one_per_cluster and self._clusters:
            needs["clusters"] = self._clusters
        folders: dict[str, Path] = {role: step.folder for role, step in needs.items()}
        return RowTables(**folders), needs

    @property
    def groups(self) -> dict[str, Step]:
        """The step that groups them, if one does."""
        return {"groups": self._groups} if self._groups else {}

    def _add_duplicates(self, config: NearDuplicatesConfig) -> Step:
        """Find near-duplicates, and leave them out if that is asked for."""
        given = self.corpus

        def work(folder: Path) -> Outcome:
            from miniplm.selection.near_duplicates import find_near_duplicates

            found = find_near_duplicates(
                given.shards, config, folder, tokenizer_folder=given.tokenizer
            )
            return found if config.keep == "all" else _leave_out(given.shards, folder, found)

        step = self._steps.add(DUPLICATES, config.fingerprinted(), self.needs, work, self.inputs)
        if config.keep == "first":
            words = "all candidates but near-duplicates"
            self.corpus = self._tokenized.corpus(step, step.folder / SHARDS_FOLDER, words)
        return step

    def _add_group(self, config: GroupingConfig, seed: int) -> Step:
        given = self.corpus

        def work(folder: Path) -> Outcome:
            from miniplm.selection.grouping import group_sequences

            return group_sequences(
                given.shards, config, folder, seed, tokenizer_folder=given.tokenizer
            )

        settings = {**config.fingerprinted(), "seed": seed}
        return self._steps.add(GROUP, settings, self.needs, work, self.inputs)


def _leave_out(shards: Path, folder: Path, found: Outcome) -> Outcome:
    """Write the first row of each cluster as token shards of their own."""
    from miniplm.selection.cluster_tables import keep_one

    kept = keep_one(shards, folder, folder / _KEPT_FOLDER)
    exported = export_corpus(shards, folder / _KEPT_FOLDER, folder)
    return Outcome(
        counts={**found.counts, **kept.counts},
        num_tokens=exported.num_tokens,
        facts=found.facts,
        obsolete=(*found.obsolete, _KEPT_FOLDER),
    )
