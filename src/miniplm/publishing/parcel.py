"""What may go out: a student's model folder, or one form of a refined corpus, file by file.

Only files of known names go. A folder with others in it is refused, so that no checkpoint, log or
secret is published because it lay beside.
"""

import re
from collections.abc import Sequence
from dataclasses import dataclass
from fnmatch import fnmatchcase
from pathlib import Path
from typing import Literal, get_args

from miniplm.errors import HubError, StageNotReadyError
from miniplm.export.config import Form
from miniplm.manifest import MANIFEST_NAME
from miniplm.road.forms import form_folder

RepoType = Literal["model", "dataset"]

_MODEL_FOLDER = "model"
_TOKENIZER_FILES = (
    "tokenizer.json", "tokenizer_config.json", "special_tokens_map.json", "added_tokens.json",
    "vocab.json", "vocab.txt", "merges.txt", "tokenizer.model", "chat_template.jinja",
)  # fmt: skip
_STUDENT_FILES = (
    "README.md", "config.json", "generation_config.json", "model.safetensors",
    "model-*-of-*.safetensors", "model.safetensors.index.json", *_TOKENIZER_FILES,
)  # fmt: skip
_IDS_FILES = ("README.md", *(f"tokenizer/{name}" for name in _TOKENIZER_FILES))
_CORPUS_FILES: dict[Form, tuple[str, ...]] = {
    "tokens": ("data_*.bin", "data_*.idx", "data_*.parquet", *_IDS_FILES),
    "megatron": ("*_text_document.bin", "*_text_document.idx", "data_args.txt", *_IDS_FILES),
    "input_ids": ("data_*.parquet", *_IDS_FILES),
    "jsonl": ("data_*.jsonl.zst", "README.md"),
    "parquet": ("data_*.parquet", "README.md"),
}
_STAYS = (MANIFEST_NAME,)
"""Known, and of no use to others."""

_READ_FOR_SECRETS = ("*.md", "*config.json", "*.txt", "*.jinja")
_HUB_TOKEN = re.compile(r"\bhf_[A-Za-z0-9]{20,}")


@dataclass(frozen=True)
class Parcel:
    """Files that are to go out.

    Args:
        repo_type: Kind of repository that they go to.
        what: They are, in a few words.
        folder: They are in.
        names: Of the files in it, with `/` between folders, sorted.
        warning: What to consider before they go; may be empty.
    """

    repo_type: RepoType
    what: str
    folder: Path
    names: Sequence[str]
    warning: str = ""

    @property
    def sizes(self) -> dict[str, int]:
        """Bytes of each file."""
        return {name: (self.folder / name).stat().st_size for name in self.names}


def student_parcel(run_dir: Path, name: str) -> Parcel:
    """The model folder of a student, or of a teacher or reference trained from scratch.

    Raises:
        StageNotReadyError: It is not trained.
        HubError: There is no such run, or there is something in the folder that must not go out.
    """
    _require_made(run_dir, f"train/{name}", f"Run `miniplm train RECIPE --only {name}` first.")
    folder = run_dir / "train" / name / _MODEL_FOLDER
    return Parcel("model", f"the model {name!r}", folder, _names(folder, _STUDENT_FILES, run_dir))


def corpus_parcel(run_dir: Path, name: str, form: Form | None = None) -> Parcel:
    """A refined corpus in one form; the form may be left out where there is only one.

    Raises:
        StageNotReadyError: The corpus is not exported in this form.
        HubError: There is no such run, no form is given, or there is something in the folder that
            must not go out.
    """
    form = form or _only_form(run_dir, name)
    step = _form_step(run_dir, form, name)
    command = step.partition("-")[0]
    _require_made(run_dir, step, f"Run `miniplm {command} RECIPE export.forms=[{form}]` first.")
    folder = run_dir / step
    return Parcel(
        "dataset",
        f"the refined corpus {name!r} as {form}",
        folder,
        _names(folder, _CORPUS_FILES[form], run_dir),
        "a refined corpus holds the text of its source corpus (ids can be decoded) and the ids of "
        "its documents; publish it only where the source's license allows that",
    )


def _require_made(run_dir: Path, step: str, hint: str) -> None:
    """Refuse what is not complete in a run, with what is."""
    _require_run(run_dir)
    kind, _, name = step.partition("/")
    made = sorted(path.parent.name for path in (run_dir / kind).glob(f"*/{MANIFEST_NAME}"))
    if name not in made:
        raise StageNotReadyError(
            f"{run_dir / step} is not complete; of {kind} there is {', '.join(made) or 'nothing'} "
            f"in this run. {hint}"
        )


def _require_run(run_dir: Path) -> None:
    if not run_dir.is_dir():
        raise HubError(f"{run_dir}: there is no such folder; give the run_dir of a recipe")


def _form_step(run_dir: Path, form: Form, name: str) -> str:
    return form_folder(form, name, retokenized=(run_dir / "retokenize" / name).is_dir())


def _only_form(run_dir: Path, name: str) -> Form:
    _require_run(run_dir)
    forms: list[Form] = [
        form
        for form in get_args(Form)
        if (run_dir / _form_step(run_dir, form, name) / MANIFEST_NAME).exists()
    ]
    if len(forms) != 1:
        there = ", ".join(forms) or "none; run `miniplm export RECIPE export.forms=[input_ids]`"
        raise HubError(f"corpus {name!r}: say which form with --form (there are: {there})")
    return forms[0]


def _names(folder: Path, patterns: Sequence[str], run_dir: Path) -> list[str]:
    """Names of the files to send.

    Raises:
        HubError: A file is none of the known ones, or tells of this machine.
    """
    found = sorted(path for path in folder.rglob("*") if not path.is_dir())
    names = [path.relative_to(folder).as_posix() for path in found]
    names = [name for name in names if name not in _STAYS]
    if unknown := [name for name in names if not _is_among(name, patterns)]:
        raise HubError(
            f"{folder}: holds {', '.join(unknown[:5])}, which miniplm did not write there; nothing "
            "is sent. Move away what does not belong to it."
        )
    for name in names:
        if any(fnmatchcase(name, pattern) for pattern in _READ_FOR_SECRETS):
            _refuse_secrets(folder / name, run_dir)
    return names


def _is_among(name: str, patterns: Sequence[str]) -> bool:
    # '*' of a pattern does not lead into another folder
    return any(
        fnmatchcase(name, pattern) and name.count("/") == pattern.count("/") for pattern in patterns
    )


def _refuse_secrets(path: Path, run_dir: Path) -> None:
    text = path.read_text(encoding="utf-8", errors="replace")
    private = [str(run_dir.absolute()), str(Path.home())]
    for secret in (place for place in private if len(Path(place).parts) > 1):
        if secret in text:
            raise HubError(
                f"{path}: names {secret}, a folder of this machine; nothing is sent. Take it out."
            )
    if _HUB_TOKEN.search(text):
        raise HubError(f"{path}: holds an access token of the hub; nothing is sent. Take it out.")
