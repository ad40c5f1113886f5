"""Steps that write a refined corpus in further forms, in its own tokens or in others."""

from collections.abc import Mapping
from pathlib import Path
from typing import TYPE_CHECKING

from miniplm.export.config import Form
from miniplm.manifest import Manifest, Outcome, require_manifest
from miniplm.recipe import Recipe
from miniplm.road.step import Corpus, Step
from miniplm.road.steps import Steps
from miniplm.road.tokenized import Tokenized

if TYPE_CHECKING:
    from miniplm.export.corpus_history import CorpusHistory, OtherTokens

CARD_FORMAT = 2
"""Raised when forms, or their dataset cards, say more from the same results."""

_MATERIALIZED: tuple[Form, ...] = ("tokens", "megatron")
_TEXT: tuple[Form, ...] = ("jsonl", "parquet")


def form_folder(form: str, name: str, *, retokenized: bool = False) -> str:
    """The step, and the folder, of a form of a refined corpus.

    Those of a retokenised one belong to the stage that retokenises, since exporting comes before.

    Example:
        >>> form_folder("megatron", "refined"), form_folder("megatron", "new", retokenized=True)
        ('export-megatron/refined', 'retokenize-megatron/new')
    """
    return f"{'retokenize' if retokenized else 'export'}-{form}/{name}"


class Forms:
    """Adds the forms that a recipe asks for.

    Args:
        recipe: Names the forms.
        steps: Theirs are added here.
        tokenized: What the corpora were selected from.
        scores: The steps that scored it, by role.
    """

    def __init__(
        self, recipe: Recipe, steps: Steps, tokenized: Tokenized, scores: Mapping[str, Step]
    ) -> None:
        self._recipe, self._steps, self._tokenized = recipe, steps, tokenized
        self._scores = scores

    def add(self, name: str, corpus: Corpus, selected: Step, exported: Step) -> None:
        """Add a step for each form of a refined corpus.

        The text of a retokenised one is that of the corpus it was made from, so it is not written
        again.

        Args:
            name: Of the corpus.
            corpus: Its token shards and their tokenizer.
            selected: The step that selected.
            exported: The step that wrote it in the tokens it was selected in.
        """
        retokenized = corpus.step is not exported
        config = self._recipe.export
        for form in config.forms:
            if retokenized and form in _TEXT:
                continue
            materialize = config.materialize_repeats and form in _MATERIALIZED

            def work(folder: Path, form: Form = form, materialize: bool = materialize) -> Outcome:
                from miniplm.export.forms import export_form

                return export_form(
                    form,
                    name,
                    corpus.shards,
                    corpus.tokenizer,
                    self._history(name, corpus, selected, exported),
                    folder,
                    materialize_repeats=materialize,
                )

            self._steps.add(
                form_folder(form, name, retokenized=retokenized),
                {"form": form, "materialize_repeats": materialize, "card": CARD_FORMAT},
                {"tokenize": self._tokenized.step, "corpus": corpus.step},
                work,
                {"tokenize": self._tokenized.splits},
            )

    def _history(
        self, name: str, corpus: Corpus, selected: Step, exported: Step
    ) -> "CorpusHistory":
        from miniplm.export.corpus_history import CorpusHistory

        trainings = {
            role: needed for role, step in self._scores.items() for needed in step.needs
            if needed.kind == "train"
        }  # fmt: skip
        return CorpusHistory(
            tokenize=_manifest(self._tokenized.step),
            select=_manifest(selected),
            export=_manifest(exported),
            scores={role: _manifest(step) for role, step in self._scores.items()},
            trainings={role: _manifest(step) for role, step in trainings.items()},
            retokenized=self._other_tokens(name, corpus) if corpus.step is not exported else None,
        )

    def _other_tokens(self, name: str, corpus: Corpus) -> "OtherTokens":
        from miniplm.data.shards import open_shards
        from miniplm.export.corpus_history import OtherTokens

        owner = self._recipe.retokenizations[self._recipe.tokenizer_of(name) or name]
        return OtherTokens(
            owner.tokenizer.name, open_shards(corpus.shards)[0].info, _manifest(corpus.step)
        )


def _manifest(step: Step) -> Manifest:
    return require_manifest(step.folder, f"Run `miniplm {step.kind}` first.")
