"""What a run would do and cost, before anything starts.

Tokens are known once the corpus is tokenised and estimated from its bytes until then. FLOPs are
counted from the shapes. Hours come from doing each kind of work for a moment on this machine
(`calibration`), memory from what a batch keeps alive. Selecting, exporting and disks are small
beside that and taken from constants.
"""

from collections.abc import Callable
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING

import numpy as np

from miniplm.calibration import Calibration
from miniplm.corpus_sizes import CorpusSizes, bytes_per_token
from miniplm.data.documents import estimate_bytes
from miniplm.data.shards import ids_dtype
from miniplm.data.text_costs import text_costs
from miniplm.data.tokenizer import load_configured_tokenizer
from miniplm.generation.cost import generation_cost
from miniplm.manifest import read_manifest
from miniplm.model import Dtype, ModelConfig, model_config, released_config
from miniplm.model_size import ModelSize, model_size
from miniplm.recipe import CANDIDATES, Recipe, ScorerConfig, StudentConfig
from miniplm.road.road import Road
from miniplm.road.step import Step
from miniplm.runtime.memory import resident_bytes
from miniplm.scaling.regime import TOKENS_PER_PARAM
from miniplm.scoring.proxy_config import ProxyConfig
from miniplm.scoring.proxy_features import features_per_row
from miniplm.scoring.proxy_inputs import MOST_SAMPLED
from miniplm.training.compute import new_tokens, training_flops_per_token
from miniplm.training.config import TAUGHT, TrainingConfig
from miniplm.training.trainer import EVALUATIONS

if TYPE_CHECKING:
    from transformers import PretrainedConfig

MANY_EPOCHS = 4
"""The paper's data-limited setting repeats text four times."""

_SCORE_BYTES_PER_ROW = 28
_CAPTURING_TO_SCORING = 2.0
_GENERATING_TO_SCORING = 8.0
"""Seconds of a token against those of scoring it: rough."""

_SELECTED_ROWS_PER_SECOND = 10e6
_DESCRIBED_ROWS_PER_SECOND = 3e6
_DESCRIBED_TOKENS_PER_SECOND = 0.9e6
_MOST_DESCRIBED_TOKENS = 8e6
"""Describing counts all rows and looks at samples of a fixed size (`selection.text_sample`)."""
_DESCRIBING_BYTES_PER_TOKEN = 90

_EXPORTED_BYTES_PER_SECOND = 300e6
_RETOKENIZED_PER_SECOND = 1e6
_DISK_BYTES_PER_SECOND = 500e6
_FIT_SECONDS_PER_ROW = {"hidden": 3e-4, "ngrams": 2e-3}
_PREDICTED_IDS_PER_SECOND = {"hidden": 100e6, "ngrams": 6e6}
"""Of a proxy, measured on two cores with rows of 256 tokens (docs/scoring.md)."""
_VIEWED_BYTES_PER_SECOND = 350e6
_STAGE_SECONDS = 0.5
"""Opening, checking and closing a stage."""

_CHECKPOINT_BYTES_PER_PARAM = 12
_TRAINED_BYTES_PER_PARAM = 4 * 4
"""In memory: weights, gradients and both moments."""

_TRAINING_BYTES_PER_PARAM = 4 + 2 * _CHECKPOINT_BYTES_PER_PARAM
"""The model, and two checkpoints of weights and both moments."""


@dataclass(frozen=True)
class _Load:
    """Seconds that a step takes, and bytes that it holds in memory."""

    seconds: float = 0.0
    memory: float = 0.0


@dataclass(frozen=True)
class _Cost:
    """What a step goes through and leaves; `load` measures what that takes, if it is asked."""

    num_tokens: float | None = None
    flops: float | None = None
    num_bytes: float | None = None
    load: Callable[[], _Load] = _Load
    note: str = ""


@dataclass(frozen=True)
class StepPlan:
    """A step's state and cost; figures that are not known are None.

    Args:
        name: Of the step.
        state: `complete`, `missing`, or `again` where the output is of another recipe.
        num_tokens: Tokens it goes through.
        flops: FLOPs, counted from the shapes.
        num_bytes: Bytes it leaves on disk, roughly.
        hours: On this machine; what it took, if it is complete.
        memory: Bytes that the process holds at the most, roughly, models included wherever they
            are; None if the step is complete.
        note: Such as the tokens per parameter.
    """

    name: str
    state: str
    num_tokens: float | None
    flops: float | None
    num_bytes: float | None
    hours: float
    memory: float | None
    note: str


@dataclass(frozen=True)
class Plan:
    """Steps in order, what to know about them, and what was assumed."""

    steps: list[StepPlan]
    warnings: list[str]
    assumptions: list[str]


def make_plan(recipe: Recipe) -> Plan:
    """Plan a recipe. Raises what reading the corpus's size and the models' shapes raises."""
    return _Planner(recipe).plan()


class _Planner:
    def __init__(self, recipe: Recipe) -> None:
        self.recipe = recipe
        self.road = Road(recipe)
        self.warnings: list[str] = []
        self.calibration = Calibration(recipe.packing.max_length)
        self.corpora = CorpusSizes(recipe, self.road)
        self.tokens = self.corpora.splits
        self.sizes: dict[str, ModelSize] = {}

    def plan(self) -> Plan:
        steps = [self._plan_step(step) for step in self.road.steps]
        # libraries, and what the allocator keeps: a run comes to hold as much as this process now
        held = resident_bytes()
        steps = [
            step if step.memory is None else replace(step, memory=held + step.memory)
            for step in steps
        ]
        assumptions = [
            "times are those of a moment of each kind of work on this machine, with nothing else "
            f"running (a bfloat16 matrix product: {self.calibration.rate / 1e12:.2f} TFLOP/s)",
        ]
        if not self.corpora.are_counted:
            assumptions.append("tokens are estimated from the corpus's bytes; tokenise to know")
        return Plan(steps, self.warnings, assumptions)

    def _size(self, name: str) -> ModelSize:
        if name not in self.sizes:
            length = self.recipe.max_length_of(self._read_by(name))
            self.sizes[name] = model_size(self._shape(name), length)
        return self.sizes[name]

    def _read_by(self, model: str) -> str:
        """A corpus with the tokens that a model reads."""
        student = self.recipe.students.get(model)
        return next(iter(student.corpora)) if student else CANDIDATES

    def _shape(self, name: str) -> "PretrainedConfig":
        recipe = self.recipe
        config: ModelConfig = recipe.students.get(name) or getattr(recipe, name)
        if config.from_scratch:
            corpus = self._read_by(name)
            vocab_size = self.corpora.vocab_size(corpus)
            return model_config(config, vocab_size, recipe.max_length_of(corpus))
        return released_config(config)

    def _plan_step(self, step: Step) -> StepPlan:
        cost = self._cost(step)
        manifest = read_manifest(step.folder) if step.is_complete else None
        load = cost.load() if manifest is None else _Load()
        return StepPlan(
            name=step.name,
            state=self._state(step),
            num_tokens=cost.num_tokens,
            flops=cost.flops,
            num_bytes=cost.num_bytes,
            hours=(manifest.seconds if manifest else load.seconds + _STAGE_SECONDS) / 3600,
            memory=None if manifest else load.memory,
            note=cost.note,
        )

    def _cost(self, step: Step) -> _Cost:
        by_kind: dict[str, Callable[[str], _Cost]] = {
            "tokenize": self._tokenize_cost,
            "train": self._training_cost,
            "score": self._scoring_cost,
            "evaluate": self._evaluation_cost,
            "select": self._selection_cost,
            "describe": self._description_cost,
            "export": self._export_cost,
            "generate": self._generation_cost,
            "retokenize": self._retokenization_cost,
            "capture": self._capture_cost,
        }
        if step.kind not in by_kind:
            return _Cost()
        return by_kind[step.kind](step.instance)

    def _selection_cost(self, name: str) -> _Cost:
        rows = self.tokens[CANDIDATES] / self.recipe.packing.max_length
        on_disk = _SCORE_BYTES_PER_ROW * self.corpora.of(name) / self.recipe.packing.max_length
        load = _Load(rows / _SELECTED_ROWS_PER_SECOND)
        return _Cost(num_bytes=on_disk, load=lambda: load)

    def _description_cost(self, _: str) -> _Cost:
        rows = self.tokens[CANDIDATES] / self.recipe.packing.max_length
        looked_at = min(2 * self.tokens[CANDIDATES], _MOST_DESCRIBED_TOKENS)
        seconds = rows / _DESCRIBED_ROWS_PER_SECOND + looked_at / _DESCRIBED_TOKENS_PER_SECOND
        load = _Load(seconds, _DESCRIBING_BYTES_PER_TOKEN * looked_at)
        return _Cost(load=lambda: load)

    def _export_cost(self, name: str) -> _Cost:
        num_tokens = self.corpora.of(name)
        size = num_tokens * self._bytes_per_id()
        load = _Load(size / _EXPORTED_BYTES_PER_SECOND)
        return _Cost(num_tokens, num_bytes=size, load=lambda: load)

    def _retokenization_cost(self, name: str) -> _Cost:
        num_tokens = self.corpora.of(name)
        size = num_tokens * ids_dtype(self.corpora.vocab_size(name)).itemsize
        load = _Load(num_tokens / _RETOKENIZED_PER_SECOND)
        return _Cost(num_tokens, num_bytes=size, load=lambda: load)

    def _tokenize_cost(self, _: str) -> _Cost:
        size, num_tokens = estimate_bytes(self.recipe.corpus), sum(self.tokens.values())
        if self.recipe.corpus.source == "tokens":
            views = _Load(size / _VIEWED_BYTES_PER_SECOND)
            note = f"{size / 1e6:,.1f} MB of ids, which stay where they are"
            return _Cost(num_tokens, load=lambda: views, note=note)
        if self.recipe.held_out_corpus:
            size += estimate_bytes(self.recipe.held_out_corpus)
        on_disk = num_tokens * self._bytes_per_id()

        def load() -> _Load:
            return _Load(text_costs(self.recipe.corpus, self.recipe.tokenizer).seconds(size))

        note = f"{size / 1e6:,.1f} MB of text"
        return _Cost(num_tokens, num_bytes=on_disk, load=load, note=note)

    def _bytes_per_id(self) -> int:
        return ids_dtype(self.corpora.vocab_size()).itemsize

    def _scoring_cost(self, name: str) -> _Cost:
        scoring, num_tokens = self.recipe.scoring, self.tokens[CANDIDATES]
        if scoring.proxy is None:
            return self._forward_cost(name, num_tokens, scoring.dtype)
        num_rows = self._rows(num_tokens)
        if name == "reference":
            scored = self._forward_cost(name, num_tokens, scoring.dtype)
            states = (
                2.0 * self._shape(name).hidden_size if scoring.proxy.features == "hidden" else 0
            )
            return replace(scored, num_bytes=(scored.num_bytes or 0.0) + states * num_rows)
        return self._predicted_cost(scoring.proxy, num_rows)

    def _predicted_cost(self, proxy: ProxyConfig, num_rows: float) -> _Cost:
        """The teacher on a sample, and a head on the rest."""
        sampled = self._forward_cost(
            "teacher", proxy.share * self.tokens[CANDIDATES], self.recipe.scoring.dtype
        )
        predicted = (1 - proxy.share) * num_rows
        width = self._shape("reference").hidden_size
        length = self.recipe.packing.max_length
        multiplied = features_per_row(proxy.features, width, length)

        def load() -> _Load:
            scoring = sampled.load()
            fitted = min(MOST_SAMPLED, proxy.share * num_rows)
            seconds = fitted * _FIT_SECONDS_PER_ROW[proxy.features]
            seconds += predicted * length / _PREDICTED_IDS_PER_SECOND[proxy.features]
            return _Load(scoring.seconds + seconds, scoring.memory)

        return replace(
            sampled,
            flops=(sampled.flops or 0.0) + 2.0 * multiplied * predicted,
            num_bytes=_SCORE_BYTES_PER_ROW * (1 + proxy.share) * num_rows,
            load=load,
            note=f"scores {proxy.share:.1%}, predicts the rest",
        )

    def _evaluation_cost(self, name: str) -> _Cost:
        num_tokens = self.corpora.held_out(self._read_by(name))
        return self._forward_cost(name, num_tokens, self.recipe.evaluation.dtype)

    def _forward_cost(self, name: str, num_tokens: float, dtype: Dtype) -> _Cost:
        size = self._size(name)
        num_tokens *= self._own_tokens(name)

        def load() -> _Load:
            cost = self.calibration.scoring(self._shape(name), dtype)
            weights = size.num_params * (2 if dtype == "bfloat16" else 4)
            return _Load(
                cost.seconds * num_tokens + weights / _DISK_BYTES_PER_SECOND,
                weights + cost.num_bytes,
            )

        return _Cost(
            num_tokens=num_tokens,
            flops=size.forward_flops_per_token * num_tokens,
            num_bytes=_SCORE_BYTES_PER_ROW * num_tokens / self.recipe.packing.max_length,
            load=load,
        )

    def _own_tokens(self, name: str) -> float:
        """Tokens of its own that a model reads for one of the run's, about."""
        if name not in ("teacher", "reference"):
            return 1.0
        config: ScorerConfig = getattr(self.recipe, name)
        if config.tokenizer == "run":
            return 1.0
        own = len(load_configured_tokenizer(config))
        return bytes_per_token(self.corpora.vocab_size()) / bytes_per_token(own)

    def _capture_cost(self, name: str) -> _Cost:
        config = self.recipe.captures[name]
        num_tokens = self.corpora.of(config.corpus)
        forward = self._forward_cost("teacher", num_tokens, self.recipe.scoring.dtype)
        on_disk = config.most_bytes_per_token(self.corpora.vocab_size()) * num_tokens

        def load() -> _Load:
            scoring = forward.load()
            return _Load(_CAPTURING_TO_SCORING * scoring.seconds, scoring.memory)

        return replace(forward, num_bytes=on_disk, load=load, note="at most so many bytes")

    def _generation_cost(self, name: str) -> _Cost:
        config = self.recipe.generations[name]
        num_rows, num_new = self.corpora.generated(config)
        num_tokens = self.corpora.of(name)
        forward = self._forward_cost("teacher", num_rows * num_new, self.recipe.scoring.dtype)
        cost = generation_cost(self._size("teacher"))
        flops = num_rows * cost.flops(config.prompt_tokens, np.array([num_new]))

        def load() -> _Load:
            scoring = forward.load()
            return _Load(_GENERATING_TO_SCORING * scoring.seconds, scoring.memory)

        on_disk = num_tokens * self._bytes_per_id()
        note = "a token at a time; the hours are a rough guess"
        return replace(
            forward, num_tokens=num_tokens, flops=flops, num_bytes=on_disk, load=load, note=note
        )

    def _state(self, step: Step) -> str:
        if step.is_complete:
            return "complete"
        return "again" if read_manifest(step.folder) else "missing"

    def _training_cost(self, name: str) -> _Cost:
        student = self.recipe.students.get(name)
        size, training = self._size(name), self._training(name)
        num_tokens = self._budget_tokens(name, training, size)
        num_rows = num_tokens / self._tokens_per_row(name, training)
        available = self._available_rows(student) if student else self._rows(self.tokens[name])
        per_param, epochs = num_tokens / size.num_params, num_rows / max(1.0, available)
        self._judge(name, "student" if student else name, per_param, epochs)
        return _Cost(
            num_tokens,
            self._training_flops(training, size) * num_tokens,
            size.num_params * _TRAINING_BYTES_PER_PARAM,
            lambda: self._training_load(name, training, num_tokens, size.num_params),
            f"{size.num_params / 1e6:.2f}M parameters, {per_param:.1f} tokens each, "
            f"{epochs:.1f} epochs",
        )

    def _available_rows(self, student: StudentConfig) -> float:
        """Rows of training after which the first of the student's corpora has been seen once."""
        return min(
            self.corpora.of(corpus) / self.corpora.mean_length(corpus) / share
            for corpus, share in student.corpora.items()
        )

    def _rows(self, num_tokens: float) -> float:
        return num_tokens / self.recipe.packing.max_length

    def _tokens_per_row(self, name: str, training: TrainingConfig) -> float:
        """Tokens that a model is trained on for each row."""
        if training.method != "minillm":
            return self.corpora.mean_length(self._read_by(name))
        num_new = new_tokens(training, self.recipe.packing.max_length)
        return training.on_policy.prompt_tokens + num_new - 1

    def _training_flops(self, training: TrainingConfig, size: ModelSize) -> float:
        """FLOPs of training for a token."""
        taught = training.method in TAUGHT
        return training_flops_per_token(training, size, self._size("teacher") if taught else None)

    def _training_load(
        self, name: str, training: TrainingConfig, num_tokens: float, num_params: int
    ) -> _Load:
        costs = self.calibration.training(self._shape(name), training)
        length = self.recipe.packing.max_length
        steps = num_tokens / (training.global_batch_size * self._tokens_per_row(name, training))
        evaluations = (
            steps / training.eval_every_steps if training.eval_every_steps else EVALUATIONS
        )
        evaluated = min(
            self.recipe.evaluation.held_out_sequences_while_training * length,
            self.corpora.held_out(self._read_by(name)),
        )
        taught = 0.0
        if training.method in TAUGHT:
            taught = self.calibration.scoring(self._shape("teacher"), training.precision).seconds
        if training.method == "minillm":
            read = self.calibration.scoring(self._shape(name), training.precision)
            taught += _GENERATING_TO_SCORING * read.seconds
        checkpoint_bytes = _CHECKPOINT_BYTES_PER_PARAM * num_params
        seconds = (
            num_tokens * (costs.token.seconds + taught)
            + steps * costs.step.seconds
            + evaluations * evaluated * costs.evaluated_token.seconds
            + steps / training.checkpoint_every_steps * checkpoint_bytes / _DISK_BYTES_PER_SECOND
        )
        return _Load(seconds, _TRAINED_BYTES_PER_PARAM * num_params + costs.token.num_bytes)

    def _judge(self, name: str, role: str, per_param: float, epochs: float) -> None:
        wanted = TOKENS_PER_PARAM[role]
        if per_param < wanted:
            self.warnings.append(
                f"{name}: {per_param:.1f} tokens per parameter; under {wanted} a comparison says "
                "little (docs/architecture.md)"
            )
        if epochs > MANY_EPOCHS:
            self.warnings.append(
                f"{name}: sees its text {epochs:,.1f} times; over {MANY_EPOCHS} it learns it by "
                "heart. Give more text, a larger share, or a smaller budget"
            )
        training = self._training(name)
        steps = training.budget.steps
        if steps is not None and steps <= training.warmup_steps:
            self.warnings.append(
                f"{name}: {training.warmup_steps} steps of warm-up, {steps} steps in all; the "
                "learning rate never gets to its peak"
            )

    def _training(self, name: str) -> TrainingConfig:
        if name in self.recipe.students:
            return self.recipe.student_training(name)
        training: TrainingConfig = getattr(self.recipe, name).training
        return training

    def _budget_tokens(self, name: str, training: TrainingConfig, size: ModelSize) -> float:
        budget = training.budget
        if budget.tokens is not None:
            return float(budget.tokens)
        if budget.flops is not None:
            return budget.flops / self._training_flops(training, size)
        assert budget.steps is not None
        return float(
            budget.steps * training.global_batch_size * self._tokens_per_row(name, training)
        )
