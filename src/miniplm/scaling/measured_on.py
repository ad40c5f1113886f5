"""The held-out text that a curve was measured on: losses of another one do not compare."""

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import yaml

from miniplm.data.shards import open_shards
from miniplm.errors import ArtefactError
from miniplm.manifest import Manifest, read_manifest

TOKENIZE, HELD_OUT = "tokenize", "held_out"
_RECIPE_NAME = "used_recipe.yaml"


@dataclass(frozen=True)
class HeldOutText:
    """Held-out text in the tokens of one tokenizer.

    Args:
        fingerprint: Of the stage that made its token shards.
        folder: Of these; in a folder that was copied for its figures they may be missing.
        sample: What of it is looked at along the way, as the manifest says; None: not known.
        is_retokenized: Whether its tokens are those of a tokenizer other than the run's.
    """

    fingerprint: str
    folder: Path
    sample: str | None = None
    is_retokenized: bool = False

    def is_same_as(self, other: "HeldOutText") -> bool:
        """Whether losses per token on both compare."""
        if None not in (self.sample, other.sample) and self.sample != other.sample:
            return False
        if self.fingerprint == other.fingerprint:
            return True
        hashes = _hashes(self.folder)
        return bool(hashes) and hashes == _hashes(other.folder)


def _hashes(folder: Path) -> list[str]:
    return [shard.info.shard_hash for shard in open_shards(folder)] if folder.is_dir() else []


def held_out_text(run_dir: Path, manifest: Manifest | None, student: str) -> HeldOutText | None:
    """What a student of a run is measured on.

    Args:
        run_dir: The run's folder.
        manifest: Of the student's training; None while it is not finished.
        student: Its name.

    Returns:
        None where that is not known: of an unfinished student that reads another tokenizer.

    Raises:
        ArtefactError: A manifest or the recipe that was used is damaged.
    """
    run_folder = run_dir / TOKENIZE / HELD_OUT
    if manifest is None:
        made = read_manifest(run_dir / TOKENIZE)
        if made is None or _reads_another_tokenizer(run_dir, student):
            return None
        return HeldOutText(made.fingerprint, run_folder)
    sample = str(manifest.config.get("held_out"))
    if retokenized := manifest.inputs.get(HELD_OUT):
        return HeldOutText(retokenized, _made_by(run_dir, retokenized), sample, True)
    return HeldOutText(manifest.inputs.get(TOKENIZE, ""), run_folder, sample)


def _made_by(run_dir: Path, fingerprint: str) -> Path:
    """The shards of the held-out text that a stage of this fingerprint made."""
    for folder in sorted((run_dir / HELD_OUT).glob("*")):
        made = read_manifest(folder)
        if made and made.fingerprint == fingerprint:
            return folder / "shards"
    return run_dir / HELD_OUT / "shards"


def _reads_another_tokenizer(run_dir: Path, student: str) -> bool:
    recipe = used_recipe(run_dir)
    corpus = (recipe.get("students") or {}).get(student, {}).get("corpus") or ()
    corpora = [corpus] if isinstance(corpus, str) else list(corpus)
    return any(each in (recipe.get("retokenizations") or {}) for each in corpora)


def used_recipe(run_dir: Path) -> Mapping[str, Any]:
    """The recipe that a run was last started with, as plain values; empty where there is none.

    Raises:
        ArtefactError: It is damaged.
    """
    path = run_dir / _RECIPE_NAME
    if not path.is_file():
        return {}
    try:
        found = yaml.safe_load(path.read_text(encoding="utf-8"))
    except (yaml.YAMLError, UnicodeDecodeError) as error:
        raise ArtefactError(f"{path} is damaged ({error}). Run the recipe again.") from error
    return found if isinstance(found, dict) else {}
