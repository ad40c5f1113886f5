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

DUPLICATES, DISTINCT, GROUP = "duplicates", "distinct", "group"
"""Names of steps, and of their folders."""
GROUP_FORMAT = 2
"""Raised when the same rows and settings would from now on give other groups."""
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
            if recipe.near_duplicates.keep == "first":
                self.corpus = self._add_distinct(self._clusters)
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
        """Find near-duplicates; what becomes of them has no part in it."""
        given = self.corpus

        def work(folder: Path) -> Outcome:
            from miniplm.selection.near_duplicates import find_near_duplicates

            return find_near_duplicates(
                given.shards, config, folder, tokenizer_folder=given.tokenizer
            )

        return self._steps.add(DUPLICATES, config.clustered_by(), self.needs, work, self.inputs)

    def _add_distinct(self, clusters: Step) -> Corpus:
        """Leave out all but the first row of each cluster."""
        shards = self.corpus.shards
        step = self._steps.add(
            DISTINCT,
            {},
            {**self.needs, "clusters": clusters},
            lambda folder: _leave_out(shards, clusters.folder, folder),
            self.inputs,
        )
        words = "all candidates but near-duplicates"
        return self._tokenized.corpus(step, step.folder / SHARDS_FOLDER, words)

    def _add_group(self, config: GroupingConfig, seed: int) -> Step:
        given = self.corpus

        def work(folder: Path) -> Outcome:
            from miniplm.selection.grouping import group_sequences

            return group_sequences(
                given.shards, config, folder, seed, tokenizer_folder=given.tokenizer
            )

        settings = {**config.fingerprinted(), "seed": seed, "format": GROUP_FORMAT}
        return self._steps.add(GROUP, settings, self.needs, work, self.inputs)


def _leave_out(shards: Path, clusters: Path, folder: Path) -> Outcome:
    """Write the first row of each cluster as token shards of their own."""
    from miniplm.selection.cluster_tables import keep_one

    kept = keep_one(shards, clusters, folder / _KEPT_FOLDER)
    exported = export_corpus(shards, folder / _KEPT_FOLDER, folder)
    return Outcome(kept.counts, exported.num_tokens, obsolete=(_KEPT_FOLDER,))
