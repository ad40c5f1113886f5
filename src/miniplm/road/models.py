"""The models of a recipe: which step makes them, what tells them apart, how they are loaded."""

from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING

from miniplm.model import Dtype, load_model
from miniplm.recipe import Recipe, ScorerConfig
from miniplm.road.step import Step

if TYPE_CHECKING:
    import numpy as np
    from numpy.typing import NDArray
    from transformers import PreTrainedModel, PreTrainedTokenizerBase

    from miniplm.scoring.reencoding import OwnTokens
    from miniplm.scoring.scoring_model import ScoringModel


class Models:
    """Teacher, reference and students of a recipe.

    Args:
        recipe: Says where released ones come from.
        tokenizer: Folder of the run's tokenizer.
    """

    def __init__(self, recipe: Recipe, tokenizer: Path) -> None:
        self._recipe, self._tokenizer = recipe, tokenizer
        self._trained: dict[str, Step | None] = {}

    @property
    def names(self) -> list[str]:
        """Those added so far, in order."""
        return list(self._trained)

    @property
    def compared(self) -> list[str]:
        """Those that are evaluated: all but the students that a study holds apart."""
        return [name for name in self._trained if name not in self._recipe.held_apart]

    def add(self, name: str, step: Step | None) -> None:
        """Add the model that a step trains, or a released one."""
        self._trained[name] = step

    def needed(self, name: str, needs: dict[str, Step]) -> dict[str, Step]:
        """Needs of a step that runs a model: `needs`, and its training if it has one."""
        step = self._trained[name]
        return {**needs, "model": step} if step else needs

    def identity(self, name: str) -> dict[str, object]:
        """What tells a released model from another; nothing for one that a step trains."""
        if self._trained[name]:
            return {}
        config: ScorerConfig = getattr(self._recipe, name)
        own = {"tokenizer": config.tokenizer} if config.tokenizer == "own" else {}
        return {
            "name": config.name,
            "revision": config.revision,
            "origin": config.origin_fingerprint,
            **own,
        }

    def load(self, name: str, dtype: Dtype) -> "ScoringModel":
        """A model on its device, ready to score or to write.

        Raises:
            ModelError: It cannot be read, or its tokenizer is not that of the run.
        """
        from miniplm.runtime.devices import place
        from miniplm.scoring.scoring_model import ScoringModel
        from miniplm.training.student import MODEL_FOLDER

        step = self._trained[name]
        if step:
            model = load_model(step.folder / MODEL_FOLDER, dtype=dtype)
            return ScoringModel(place(model), name, step.spec.fingerprint, dtype)
        config: ScorerConfig = getattr(self._recipe, name)
        self._check_tokenizer(name, config)
        scorer = self._released(config, dtype)
        if config.tokenizer == "run":
            return scorer
        return replace(scorer, own=self._own_tokens(config, scorer.model))

    def load_with_tokenizer(
        self, name: str, dtype: Dtype
    ) -> "tuple[ScoringModel, PreTrainedTokenizerBase]":
        """A model on its device with its own tokenizer, whatever that of the run is.

        Raises:
            ModelError: One of them cannot be read.
        """
        from miniplm.data.tokenizer import load_configured_tokenizer, load_tokenizer
        from miniplm.training.student import MODEL_FOLDER

        step = self._trained[name]
        if step:
            return self.load(name, dtype), load_tokenizer(step.folder / MODEL_FOLDER)
        config: ScorerConfig = getattr(self._recipe, name)
        return self._released(config, dtype), load_configured_tokenizer(config)

    def _released(self, config: ScorerConfig, dtype: Dtype) -> "ScoringModel":
        from miniplm.runtime.devices import place
        from miniplm.scoring.scoring_model import ScoringModel

        assert config.name is not None
        model = load_model(
            config.name,
            dtype=dtype,
            revision=config.revision,
            trust_remote_code=config.trust_remote_code,
            device_map="auto" if self._recipe.scoring.placement == "spread" else None,
        )
        return ScoringModel(place(model), config.name, config.origin_fingerprint, dtype)

    def _check_tokenizer(self, name: str, config: ScorerConfig) -> None:
        from miniplm.data.tokenizer import check_same_tokenizer, load_tokenizer

        if config.tokenizer == "run" and config.name != self._recipe.tokenizer.name:
            check_same_tokenizer(load_tokenizer(self._tokenizer), config, name)

    def _own_tokens(self, config: ScorerConfig, model: "PreTrainedModel") -> "OwnTokens":
        from miniplm.data.tokenizer import load_configured_tokenizer, load_tokenizer
        from miniplm.scoring.reencoding import OwnTokens

        served = getattr(model.config, "max_position_embeddings", None)
        run, own = load_tokenizer(self._tokenizer), load_configured_tokenizer(config)
        return OwnTokens(run, own, served)


def token_bytes(tokenizer: Path) -> "NDArray[np.int64]":
    """Bytes of text that each id of a tokenizer stands for, `[V]`."""
    from miniplm.data.tokenizer import load_tokenizer, token_table

    return token_table(load_tokenizer(tokenizer)).num_bytes_V
