"""What a run would do and cost, before anything starts.

Tokens are known once the corpus is tokenised and estimated from its bytes until then. FLOPs are
counted from the shapes. Hours divide them by the rate of a matrix product measured on this
machine times a stated utilisation, so they are good for a decision, not for a timetable.
"""

import math
import time
from dataclasses import dataclass

from miniplm.data.documents import estimate_bytes
from miniplm.data.shards import ids_dtype
from miniplm.manifest import read_manifest
from miniplm.model import ModelConfig, model_config, released_config
from miniplm.model_size import TRAINING_TO_FORWARD, ModelSize, model_size
from miniplm.recipe import CANDIDATES, Recipe
from miniplm.road import Road, Step
from miniplm.scaling.regime import TOKENS_PER_PARAM
from miniplm.training.config import TrainingConfig

UTILISATION = 0.25
"""Share of the measured matrix-product rate that whole models are assumed to reach."""

TOKENIZE_BYTES_PER_SECOND = 4e6
MANY_EPOCHS = 4
"""The paper's data-limited setting repeats text four times."""

_SCORE_BYTES_PER_ROW = 28
_TRAINING_BYTES_PER_PARAM = 4 + 2 * 12
"""The model, and two checkpoints of weights and both moments."""


@dataclass(frozen=True)
class _Cost:
    """What a step goes through and leaves; `seconds` only where FLOPs do not tell."""

    num_tokens: float | None
    flops: float | None
    num_bytes: float | None
    seconds: float | None
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
        hours: On this machine, roughly.
        note: Such as the tokens per parameter.
    """

    name: str
    state: str
    num_tokens: float | None
    flops: float | None
    num_bytes: float | None
    hours: float | None
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


def bytes_per_token(vocab_size: int) -> float:
    """Rough bytes of mixed English and code behind a token of a byte-level BPE.

    A straight line in log2 of the vocabulary, a rule of thumb: 2.6 bytes at 2,048 entries, 3.3 at
    8,192, 4.2 at 50,257. Once the corpus is tokenised, its tokens are counted instead.
    """
    return max(1.0, 0.35 * math.log2(vocab_size) - 1.25)


class _Planner:
    def __init__(self, recipe: Recipe) -> None:
        self.recipe = recipe
        self.road = Road(recipe)
        self._released_vocab_size: int | None = None
        self.warnings: list[str] = []
        self.rate = measured_matmul_rate()
        self.tokens = self._tokens_by_split()
        self.sizes: dict[str, ModelSize | None] = {}

    def plan(self) -> Plan:
        steps = [self._plan_step(step) for step in self.road.steps]
        assumptions = [
            f"a bfloat16 matrix product runs at {self.rate / 1e12:.2f} TFLOP/s here; hours assume "
            f"models reach {UTILISATION:.0%} of it",
        ]
        if not self.tokens_are_counted:
            assumptions.append("tokens are estimated from the corpus's bytes; tokenise to know")
        return Plan(steps, self.warnings, assumptions)

    def _tokens_by_split(self) -> dict[str, float]:
        tokenize = self.road.step("tokenize")
        self.tokens_are_counted = tokenize.is_complete
        if tokenize.is_complete:
            manifest = read_manifest(tokenize.folder)
            assert manifest is not None
            splits = manifest.facts["splits"]
            return {split: float(counts["num_tokens"]) for split, counts in splits.items()}
        per_token = bytes_per_token(self._vocab_size())
        total = estimate_bytes(self.recipe.corpus) / per_token
        shares = self.recipe.splits
        tokens = {
            "reference": total * shares.reference,
            "teacher": total * shares.teacher,
            "held_out": total * shares.held_out,
        }
        tokens["candidates"] = total - sum(tokens.values())
        if self.recipe.held_out_corpus:
            tokens["held_out"] = estimate_bytes(self.recipe.held_out_corpus) / per_token
        return tokens

    def _vocab_size(self) -> int:
        if self.recipe.tokenizer.name is None:
            return self.recipe.tokenizer.vocab_size
        if self._released_vocab_size is None:
            from miniplm.data.tokenizer import load_tokenizer

            self._released_vocab_size = len(load_tokenizer(self.recipe.tokenizer.name))
        return self._released_vocab_size

    def _size(self, name: str) -> ModelSize | None:
        if name not in self.sizes:
            self.sizes[name] = self._count(name)
        return self.sizes[name]

    def _count(self, name: str) -> ModelSize | None:
        recipe = self.recipe
        config: ModelConfig = recipe.students.get(name) or getattr(recipe, name)
        length = recipe.packing.max_length
        if config.from_scratch:
            return model_size(model_config(config, self._vocab_size(), length), length)
        return model_size(released_config(config), length)

    def _plan_step(self, step: Step) -> StepPlan:
        cost = self._cost(step)
        seconds = cost.seconds
        if cost.flops is not None:
            seconds = cost.flops / (self.rate * UTILISATION)
        return StepPlan(
            name=step.name,
            state=self._state(step),
            num_tokens=cost.num_tokens,
            flops=cost.flops,
            num_bytes=cost.num_bytes,
            hours=None if seconds is None else seconds / 3600,
            note=cost.note,
        )

    def _cost(self, step: Step) -> _Cost:
        if step.kind == "tokenize":
            return self._tokenize_cost()
        if step.kind == "train":
            return self._training_cost(step.instance)
        if step.kind in ("score", "evaluate"):
            split = "candidates" if step.kind == "score" else "held_out"
            return self._scoring_cost(step.instance, self.tokens[split])
        if step.kind == "export":
            ratio = self.recipe.selections[step.instance].ratio
            num_tokens = self.tokens["candidates"] * ratio
            return _Cost(num_tokens, None, num_tokens * self._bytes_per_id(), 0.0)
        return _Cost(None, None, None, 0.0)

    def _tokenize_cost(self) -> _Cost:
        size, num_tokens = estimate_bytes(self.recipe.corpus), sum(self.tokens.values())
        on_disk = num_tokens * self._bytes_per_id()
        note = f"{size / 1e6:,.1f} MB of text"
        return _Cost(num_tokens, None, on_disk, size / TOKENIZE_BYTES_PER_SECOND, note)

    def _bytes_per_id(self) -> int:
        return ids_dtype(self._vocab_size()).itemsize

    def _scoring_cost(self, name: str, num_tokens: float) -> _Cost:
        size = self._size(name)
        flops = size.forward_flops_per_token * num_tokens if size else None
        on_disk = _SCORE_BYTES_PER_ROW * num_tokens / self.recipe.packing.max_length
        return _Cost(num_tokens, flops, on_disk, None)

    def _state(self, step: Step) -> str:
        if step.is_complete:
            return "complete"
        return "again" if read_manifest(step.folder) else "missing"

    def _training_cost(self, name: str) -> _Cost:
        student = self.recipe.students.get(name)
        size = self._size(name)
        assert size is not None
        num_tokens = self._budget_tokens(self._training(name), size)
        available = self.tokens["candidates" if student else name]
        if student and student.corpus != CANDIDATES:
            available *= self.recipe.selections[student.corpus].ratio
        per_param, epochs = num_tokens / size.num_params, num_tokens / max(1.0, available)
        self._judge(name, "student" if student else name, per_param, epochs)
        return _Cost(
            num_tokens,
            TRAINING_TO_FORWARD * size.forward_flops_per_token * num_tokens,
            size.num_params * _TRAINING_BYTES_PER_PARAM,
            None,
            f"{size.num_params / 1e6:.2f}M parameters, {per_param:.1f} tokens each, "
            f"{epochs:.1f} epochs",
        )

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

    def _budget_tokens(self, training: TrainingConfig, size: ModelSize) -> float:
        budget = training.budget
        if budget.tokens is not None:
            return float(budget.tokens)
        if budget.flops is not None:
            return budget.flops / (TRAINING_TO_FORWARD * size.forward_flops_per_token)
        assert budget.steps is not None
        return float(budget.steps * training.global_batch_size * self.recipe.packing.max_length)


def measured_matmul_rate(seconds: float = 0.5) -> float:
    """FLOP/s of a bfloat16 matrix product on the device that models would run on."""
    import torch

    from miniplm.runtime.devices import best_device

    device = best_device()
    size = 1024 if device.type == "cpu" else 8192
    left = torch.randn(size, size, device=device).bfloat16()
    right = torch.randn(size, size, device=device).bfloat16()

    def synchronise() -> None:
        if device.type == "cuda":
            torch.cuda.synchronize()

    left @ right
    synchronise()
    started, count = time.monotonic(), 0
    while time.monotonic() - started < seconds:
        left @ right
        synchronise()
        count += 1
    return 2 * size**3 * count / (time.monotonic() - started)
