"""What all costs of a recipe follow from: tokens of its corpora, shapes and speed of its models."""

from typing import TYPE_CHECKING

from miniplm.calibration import Calibration
from miniplm.corpus_sizes import CorpusSizes
from miniplm.data.shards import ids_dtype
from miniplm.data.splits import CANDIDATES
from miniplm.model import ModelConfig, model_config, released_config
from miniplm.model_size import ModelSize, model_size
from miniplm.recipe import Recipe
from miniplm.road.road import Road

if TYPE_CHECKING:
    from transformers import PretrainedConfig


class Basis:
    """Corpora and models of a recipe, each looked at once.

    Args:
        recipe: Names them.
        road: Its steps.

    Attributes:
        calibration: Seconds that models take on this machine, measured when it is asked.
        corpora: Tokens of every corpus.
    """

    def __init__(self, recipe: Recipe, road: Road) -> None:
        self.recipe = recipe
        self.calibration = Calibration(recipe.packing.max_length)
        self.corpora = CorpusSizes(recipe, road)
        self._sizes: dict[str, ModelSize] = {}

    @property
    def candidate_tokens(self) -> float:
        """Tokens that are scored."""
        return self.corpora.of(CANDIDATES)

    @property
    def tokenized_candidates(self) -> float:
        """The same before near-duplicates are left out."""
        return self.corpora.splits[CANDIDATES]

    def num_rows(self, num_tokens: float) -> float:
        """Rows that so many tokens fill."""
        return num_tokens / self.recipe.packing.max_length

    def bytes_per_id(self, corpus: str = CANDIDATES) -> int:
        """Bytes of an id on disk, in the tokens of a corpus."""
        return ids_dtype(self.corpora.vocab_size(corpus)).itemsize

    def read_by(self, model: str) -> str:
        """A corpus with the tokens that a model reads."""
        student = self.recipe.students.get(model)
        return next(iter(student.corpora)) if student else CANDIDATES

    def shape(self, name: str) -> "PretrainedConfig":
        """The shape of a model. Raises what reading a released model's shape raises."""
        recipe = self.recipe
        config: ModelConfig = recipe.config_of(name)
        if config.from_scratch:
            corpus = self.read_by(name)
            vocab_size = self.corpora.vocab_size(corpus)
            return model_config(config, vocab_size, recipe.max_length_of(corpus))
        return released_config(config)

    def size(self, name: str) -> ModelSize:
        """Parameters and FLOPs of a model. Raises what `shape` raises."""
        if name not in self._sizes:
            length = self.recipe.max_length_of(self.read_by(name))
            self._sizes[name] = model_size(self.shape(name), length)
        return self._sizes[name]
