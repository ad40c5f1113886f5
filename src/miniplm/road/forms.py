"""Steps that write a refined corpus in further forms."""

from collections.abc import Callable, Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Protocol

from miniplm.export.config import ExportConfig, Form
from miniplm.export.exporter import SHARDS_FOLDER
from miniplm.manifest import Manifest, Outcome, require_manifest
from miniplm.road.step import Step

if TYPE_CHECKING:
    from miniplm.export.card import CorpusHistory

CARD_FORMAT = 1
"""Raised when dataset cards say more from the same results."""

_MATERIALIZED: tuple[Form, ...] = ("tokens", "megatron")


class AddStep(Protocol):
    """`Road._add`."""

    def __call__(
        self,
        name: str,
        config: dict[str, object],
        needs: dict[str, Step],
        work: Callable[[Path], Outcome],
        inputs: dict[str, str] | None = None,
    ) -> Step:
        """Add a step."""


def form_folder(form: str, name: str) -> str:
    """The step, and the folder, of a form of a refined corpus.

    Example:
        >>> form_folder("megatron", "refined")
        'export-megatron/refined'
    """
    return f"export-{form}/{name}"


def add_forms(
    add: AddStep,
    config: ExportConfig,
    name: str,
    *,
    tokenize: Step,
    tokenizer: Path,
    scores: Mapping[str, Step],
    selected: Step,
    exported: Step,
    inputs: dict[str, str],
) -> None:
    """Add a step for each form that is asked for.

    Args:
        add: Adds a step to the road.
        config: Which forms.
        name: Of the refined corpus.
        tokenize: The step that tokenised the corpus.
        tokenizer: Folder of its tokenizer.
        scores: The steps that scored it, by role.
        selected: The step that selected.
        exported: The step that wrote the token shards.
        inputs: Fingerprints instead of those of the steps.
    """
    for form in config.forms:
        materialize = config.materialize_repeats and form in _MATERIALIZED

        def work(folder: Path, form: Form = form, materialize: bool = materialize) -> Outcome:
            from miniplm.export.forms import export_form

            return export_form(
                form,
                name,
                exported.folder / SHARDS_FOLDER,
                tokenizer,
                _history(tokenize, scores, selected, exported),
                folder,
                materialize_repeats=materialize,
            )

        add(
            form_folder(form, name),
            {"form": form, "materialize_repeats": materialize, "card": CARD_FORMAT},
            {"tokenize": tokenize, "corpus": exported},
            work,
            inputs,
        )


def _history(
    tokenize: Step, scores: Mapping[str, Step], selected: Step, exported: Step
) -> "CorpusHistory":
    from miniplm.export.card import CorpusHistory

    trainings = {
        role: needed for role, step in scores.items() for needed in step.needs
        if needed.kind == "train"
    }  # fmt: skip
    return CorpusHistory(
        tokenize=_manifest(tokenize),
        select=_manifest(selected),
        export=_manifest(exported),
        scores={role: _manifest(step) for role, step in scores.items()},
        trainings={role: _manifest(step) for role, step in trainings.items()},
    )


def _manifest(step: Step) -> Manifest:
    return require_manifest(step.folder, f"Run `miniplm {step.kind}` first.")
