"""Models to measure by name, without a recipe: hub names, or folders with weights and tokenizer."""

import re
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

from miniplm.errors import ConfigError
from miniplm.manifest import fingerprint
from miniplm.model import Dtype, ModelConfig, load_model, released_config

if TYPE_CHECKING:
    from transformers import PreTrainedTokenizerBase

    from miniplm.scoring.scoring_model import ScoringModel

_NO_FOLDER_NAME = re.compile(r"[^A-Za-z0-9._-]+")
_LONGEST_FOLDER = 80


@dataclass(frozen=True)
class MeasuredModel:
    """A model by its name.

    Args:
        name: Hub name or folder, as it was given.
    """

    name: str

    @property
    def config(self) -> ModelConfig:
        """As a released one."""
        return ModelConfig(name=self.name)

    @property
    def folder_name(self) -> str:
        """A folder's name that tells it from others: the end of its name, and a hash of all of it.

        Example:
            >>> MeasuredModel("runs/a/train/plain/model").folder_name
            'runs-a-train-plain-model-373060'
        """
        words = _NO_FOLDER_NAME.sub("-", self.name).strip("-.")[-_LONGEST_FOLDER:]
        return f"{words}-{fingerprint(self.name)[:6]}"

    def load(self, dtype: Dtype) -> "ScoringModel":
        """The model on its device.

        Raises:
            ModelError: It cannot be found or read.
        """
        from miniplm.runtime.devices import place
        from miniplm.scoring.scoring_model import ScoringModel

        model = place(load_model(self.name, dtype=dtype))
        return ScoringModel(model, self.name, self.config.origin_fingerprint, dtype)

    def tokenizer(self) -> "PreTrainedTokenizerBase":
        """Its own.

        Raises:
            ModelError: It cannot be found or read.
        """
        from miniplm.data.tokenizer import load_configured_tokenizer

        return load_configured_tokenizer(self.config)


def measured_models(names: Sequence[str]) -> list[MeasuredModel]:
    """The models of these names, each once, whose configs and tokenizers can be read.

    Raises:
        ConfigError: No name is given.
        ModelError: A config or tokenizer cannot be found or read.
    """
    models = [MeasuredModel(name) for name in dict.fromkeys(names)]
    if not models:
        raise ConfigError("measure", ["give at least one model: a hub name or a folder"])
    for model in models:
        released_config(model.config)
        model.tokenizer()
    return models


def short_names(names: Sequence[str]) -> list[str]:
    """Names for a table: without the beginning and the end that all of them share.

    Example:
        >>> short_names(["runs/a/model", "runs/b/model"])
        ['a', 'b']
    """
    parts = [Path(name).parts for name in names]
    shared = range(min(map(len, parts)) - 1)
    head = next((n for n in shared if len({part[n] for part in parts}) > 1), len(shared))
    tail = next((n for n in shared if len({part[-1 - n] for part in parts}) > 1), len(shared))
    short = ["/".join(part[head : len(part) - tail]) for part in parts]
    return short if len(set(short)) == len(names) > 1 and all(short) else list(names)
